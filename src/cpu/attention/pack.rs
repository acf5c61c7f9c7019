//! Keys and values as products take them: panels of sixteen columns, widened to f32.

use crate::element::Element;
use crate::simd::{Isa, LANES, padded};

/// The panels of sixteen keys, one behind the other: `[keys / 16][features][16]`. Behind the last key there are zeros.
#[inline(always)]
pub fn keys<'a, I: Isa, E: Element>(
    isa: I,
    rows: impl Fn(usize) -> &'a [E],
    count: usize,
    features: usize,
    panels: &mut [[f32; LANES]],
) {
    for (panel, to) in panels.chunks_exact_mut(features.max(1)).take(count.div_ceil(LANES)).enumerate() {
        let first = panel * LANES;
        for feature in (0..features).step_by(LANES) {
            let block = sixteen_keys(isa, &rows, first, count, feature);
            for (i, to) in to[feature..].iter_mut().take(LANES).enumerate() {
                *to = isa.array_f32(block[i]);
            }
        }
    }
}

/// Sixteen features of sixteen keys, a block of keys for each feature; behind the last key and feature there are zeros.
#[inline(always)]
pub fn sixteen_keys<'a, I: Isa, E: Element>(
    isa: I,
    rows: &impl Fn(usize) -> &'a [E],
    first: usize,
    count: usize,
    feature: usize,
) -> [I::F32; LANES] {
    let mut block = [isa.f32(0.0); LANES];
    for i in 0..LANES {
        if first + i < count {
            let row = &rows(first + i)[feature..];
            block[i] = match row.first_chunk() {
                Some(row) => E::load(isa, row),
                None => E::load(isa, &padded(row, E::ZERO)),
            };
        }
    }
    isa.transpose(block)
}

/// The panels of sixteen features, one behind the other: `[features / 16][count][16]`. Behind the last feature there
/// are zeros.
#[inline(always)]
pub fn values<'a, I: Isa, E: Element>(
    isa: I,
    rows: impl Fn(usize) -> &'a [E],
    count: usize,
    features: usize,
    panels: &mut [[f32; LANES]],
) {
    for i in 0..count {
        let (blocks, rest) = rows(i)[..features].as_chunks::<LANES>();
        for (panel, block) in blocks.iter().enumerate() {
            panels[panel * count + i] = isa.array_f32(E::load(isa, block));
        }
        if !rest.is_empty() {
            panels[blocks.len() * count + i] = isa.array_f32(E::load(isa, &padded(rest, E::ZERO)));
        }
    }
}
