//! Rows of tensors in f64 as products take them: as they are, and in panels of sixteen columns.

use crate::element::Element;
use crate::simd::{Isa, LANES, Span};

/// Widens rows one behind the other, times `factor`.
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
        Span::in_place(to).map_from_wide(
            isa,
            of(i),
            #[inline(always)]
            |_, x| x * factor,
        );
    }
}

/// The panels of sixteen rows, one behind the other: `[rows / 16][features][16]`. Behind the last row there are zeros.
pub fn across(rows: &[f64], features: usize, panels: &mut [[f64; LANES]]) {
    panels.fill([0.0; LANES]);
    for (i, row) in rows.chunks_exact(features.max(1)).enumerate() {
        let panel = &mut panels[i / LANES * features..][..features];
        for (to, x) in panel.iter_mut().zip(row) {
            to[i % LANES] = *x;
        }
    }
}

/// The panels of sixteen features, one behind the other: `[features / 16][rows][16]`, times `factor`. Behind the last
/// feature there are zeros, and also in place of what is not finite: where it counts, its factor is NaN.
pub fn along(rows: &[f64], features: usize, factor: f64, panels: &mut [[f64; LANES]]) {
    let count = rows.len() / features.max(1);
    for (i, row) in rows.chunks_exact(features.max(1)).enumerate() {
        for (panel, part) in row.chunks(LANES).enumerate() {
            let to = &mut panels[panel * count + i];
            *to = [0.0; LANES];
            for (to, &x) in to.iter_mut().zip(part) {
                *to = if x.is_finite() { x * factor } else { 0.0 };
            }
        }
    }
}
