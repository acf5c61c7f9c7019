//! Rows of tensors widened to f64 and packed for matrix products: as rows, or in panels of sixteen columns.

use crate::element::Element;
use crate::simd::{BLOCK, Isa, Span};

/// Widens rows, multiplies them by `factor`, and writes them to consecutive rows of `to`.
#[inline(always)]
pub fn widen<'a, I: Isa, E: Element>(
    isa: I,
    of: impl Fn(usize) -> &'a [E],
    features: usize,
    factor: f64,
    to: &mut [f64],
) {
    let factor = isa.f64(factor);
    for (i, to) in to.chunks_exact_mut(features.max(1)).enumerate() {
        Span::in_place(to).reading(of(i)).map(
            isa,
            #[inline(always)]
            |_, x: I::F64| x * factor,
        );
    }
}

/// Packs rows into consecutive panels of sixteen rows, `[rows / 16][features][16]`, with zeros past the last row.
pub fn across(rows: &[f64], features: usize, panels: &mut [[f64; BLOCK]]) {
    panels.fill([0.0; BLOCK]);
    for (i, row) in rows.chunks_exact(features.max(1)).enumerate() {
        let panel = &mut panels[i / BLOCK * features..][..features];
        for (to, x) in panel.iter_mut().zip(row) {
            to[i % BLOCK] = *x;
        }
    }
}

/// Packs rows into consecutive panels of sixteen features, `[features / 16][rows][16]`, multiplied by `factor`. Zeros
/// are stored past the last feature, and in place of non-finite elements. If such an element is unmasked, the caller
/// multiplies the zero by NaN, so the result is still NaN.
pub fn along(rows: &[f64], features: usize, factor: f64, panels: &mut [[f64; BLOCK]]) {
    let count = rows.len() / features.max(1);
    for (i, row) in rows.chunks_exact(features.max(1)).enumerate() {
        for (panel, part) in row.chunks(BLOCK).enumerate() {
            let to = &mut panels[panel * count + i];
            *to = [0.0; BLOCK];
            for (to, &x) in to.iter_mut().zip(part) {
                *to = if x.is_finite() { x * factor } else { 0.0 };
            }
        }
    }
}
