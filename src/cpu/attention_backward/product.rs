//! Products of two f64 matrices, added to a third matrix. Sums are cut into chains of [`CHAIN`] fused multiply-adds,
//! counted from the first term. The chain sums are added to the result in order.

use crate::cpu::attention::CHAIN;
use crate::simd::{BLOCK, Float, Isa, Kernel};
use std::ops::Range;

/// Computes `out[r][16 * c + i] += sum over t of a[r][t] * panels[c][t][i]`.
pub struct Product<'a> {
    /// Left matrix by rows, which begin `a_stride` elements apart.
    pub a: &'a [f64],
    pub a_stride: usize,
    pub terms: usize,
    /// Right matrix, in panels of sixteen columns. Panel `c` begins at index `c * panel_len`.
    pub panels: &'a [[f64; BLOCK]],
    pub panel_len: usize,
    pub rows: usize,
    /// Result by rows, which begin `out_stride` blocks apart.
    pub out: &'a mut [[f64; BLOCK]],
    pub out_stride: usize,
    pub columns: usize,
}

impl Kernel for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        // A block takes two registers of AVX-512 or four of AVX2. The sums of eight rows take 16 of the 32 registers of
        // AVX-512. The sums of two rows take 8 of the 16 registers of AVX2. Most products have a multiple of eight
        // rows.
        if I::REGISTERS >= 32 {
            self.by::<I, 8>(isa);
        } else {
            self.by::<I, 2>(isa);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn by<I: Isa, const R: usize>(&mut self, isa: I) {
        let whole = self.rows - self.rows % R;
        for column in 0..self.columns {
            // The part of a panel that belongs to one chain stays in the first cache while all rows use it.
            for start in (0..self.terms).step_by(CHAIN) {
                let terms = start..self.terms.min(start + CHAIN);
                for row in (0..whole).step_by(R) {
                    self.chain::<I, R>(isa, row, column, terms.clone());
                }
                for row in whole..self.rows {
                    self.chain::<I, 1>(isa, row, column, terms.clone());
                }
            }
        }
    }

    /// Adds one chain to the sums of `R` rows.
    #[inline(always)]
    fn chain<I: Isa, const R: usize>(&mut self, isa: I, row: usize, column: usize, terms: Range<usize>) {
        let panel = &self.panels[column * self.panel_len..][terms.clone()];
        let mut a = [&self.a[..0]; R];
        for (r, a) in a.iter_mut().enumerate() {
            *a = &self.a[(row + r) * self.a_stride..][terms.clone()][..panel.len()];
        }
        let mut sums = [isa.f64(0.0); R];
        for t in 0..panel.len() {
            let b = isa.load_f64(&panel[t]);
            for r in 0..R {
                sums[r] = isa.f64(a[r][t]).mul_add(b, sums[r]);
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            let out = &mut self.out[(row + r) * self.out_stride + column];
            *out = isa.array_f64(isa.load_f64(out) + sum);
        }
    }
}
