//! Products of two f64 matrices, added to a third matrix. Sums are cut into chains of [`CHAIN`] fused multiply-adds,
//! counted from the first term. The chain sums are added to the result in order.

use crate::cpu::attention::CHAIN;
use crate::simd::{BLOCK, Float, Isa, Kernel};

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
        // A block takes two registers of AVX-512 or four of AVX2. The sums of six rows take 12 of the 32 registers of
        // AVX-512. The sums of two rows take 8 of the 16 registers of AVX2.
        if I::REGISTERS >= 32 {
            self.by::<I, 6>(isa);
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
            for row in (0..whole).step_by(R) {
                self.part::<I, R>(isa, row, column);
            }
            for row in whole..self.rows {
                self.part::<I, 1>(isa, row, column);
            }
        }
    }

    #[inline(always)]
    fn part<I: Isa, const R: usize>(&mut self, isa: I, row: usize, column: usize) {
        let mut a = [&self.a[..0]; R];
        for (r, a) in a.iter_mut().enumerate() {
            *a = &self.a[(row + r) * self.a_stride..][..self.terms];
        }
        let panel = &self.panels[column * self.panel_len..][..self.terms];
        for (chain, panel) in panel.chunks(CHAIN).enumerate() {
            let mut part = [&a[0][..0]; R];
            for r in 0..R {
                part[r] = &a[r][chain * CHAIN..][..panel.len()];
            }
            let mut sums = [isa.f64(0.0); R];
            for t in 0..panel.len() {
                let b = isa.load_f64(&panel[t]);
                for r in 0..R {
                    sums[r] = isa.f64(part[r][t]).mul_add(b, sums[r]);
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                let out = &mut self.out[(row + r) * self.out_stride + column];
                *out = isa.array_f64(isa.load_f64(out) + sum);
            }
        }
    }
}
