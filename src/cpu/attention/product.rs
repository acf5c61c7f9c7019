//! Products of two matrices in f32. Each result is a sum of products, which is cut into chains of [`CHAIN`] terms. The
//! first chain starts at the first term. A chain is a sequence of fused multiply-adds, and the chain sums are added in
//! order. A term thus passes through at most [`CHAIN`] roundings in its chain, and then through at most one for each
//! chain sum. The number of elements computed at a time does not affect the result.

// Allows loops over indices, because each index addresses several arrays.
#![allow(clippy::needless_range_loop)]

use super::CHAIN;
use crate::simd::{BLOCK, Float, Isa, Kernel};
use std::ops::Range;

/// Computes `out[r][16 * c + i] = sum over t of a[r][t] * panels[c][t][i]`, for `rows` rows and `terms` terms.
pub struct Product<'a> {
    /// Left matrix by rows, which begin `a_stride` elements apart.
    pub a: &'a [f32],
    pub a_stride: usize,
    pub terms: usize,
    /// Right matrix, in panels of sixteen columns. Consecutive panels begin `panel_len` terms apart.
    pub panels: &'a [[f32; BLOCK]],
    pub panel_len: usize,
    pub rows: usize,
    /// Result by rows. Each row has one block for each panel.
    pub out: &'a mut [[f32; BLOCK]],
    pub out_stride: usize,
    pub columns: usize,
}

/// Number of rows computed at a time.
pub const ROWS: usize = 6;

/// Number of terms that one unrolled iteration adds.
const TURN: usize = 4;

impl Kernel for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let whole = self.rows - self.rows % ROWS;
        // Six rows by four panels fill the registers of AVX-512. Six rows by one panel fill the registers of AVX2.
        if I::REGISTERS >= 32 {
            self.block::<I, ROWS, 4>(isa, 0..whole);
        } else {
            self.block::<I, ROWS, 1>(isa, 0..whole);
        }
        self.block::<I, 1, 4>(isa, whole..self.rows);
    }
}

impl Product<'_> {
    /// Computes complete groups of `R` rows: first `C` panels at a time, then the remaining panels one at a time.
    #[inline(always)]
    fn block<I: Isa, const R: usize, const C: usize>(&mut self, isa: I, rows: Range<usize>) {
        let wide = self.columns - self.columns % C;
        for column in (0..wide).step_by(C) {
            for row in rows.clone().step_by(R) {
                self.part::<I, R, C>(isa, row, column);
            }
        }
        for column in wide..self.columns {
            for row in rows.clone().step_by(R) {
                self.part::<I, R, 1>(isa, row, column);
            }
        }
    }

    #[inline(always)]
    fn part<I: Isa, const R: usize, const C: usize>(&mut self, isa: I, row: usize, column: usize) {
        let terms = self.terms;
        let mut a = [&self.a[..0]; R];
        for r in 0..R {
            a[r] = &self.a[(row + r) * self.a_stride..][..terms];
        }
        let mut panels = [&self.panels[..0]; C];
        for c in 0..C {
            panels[c] = &self.panels[(column + c) * self.panel_len..][..terms];
        }
        let mut first = 0;
        loop {
            let some = CHAIN.min(terms - first);
            let mut part_a = [&a[0][..0]; R];
            for r in 0..R {
                part_a[r] = &a[r][first..][..some];
            }
            let mut part_b = [&panels[0][..0]; C];
            for c in 0..C {
                part_b[c] = &panels[c][first..][..some];
            }
            let sums = chain(isa, part_a, part_b, some);
            for r in 0..R {
                let out = &mut self.out[(row + r) * self.out_stride + column..][..C];
                for c in 0..C {
                    let sum = if first == 0 { sums[r][c] } else { isa.load_f32(&out[c]) + sums[r][c] };
                    out[c] = isa.array_f32(sum);
                }
            }
            first += some;
            if first == terms {
                return;
            }
        }
    }
}

/// Returns a sum of `terms` products for each row and column. The products are added in order.
#[inline(always)]
fn chain<I: Isa, const R: usize, const C: usize>(
    isa: I,
    a: [&[f32]; R],
    panels: [&[[f32; BLOCK]]; C],
    terms: usize,
) -> [[I::F32; C]; R] {
    let mut sums = [[isa.f32(0.0); C]; R];
    // The loop is unrolled, so that addresses are computed less often.
    let turns = terms / TURN;
    let mut turns_a = [a[0].as_chunks::<TURN>().0; R];
    for r in 0..R {
        turns_a[r] = &a[r].as_chunks().0[..turns];
    }
    let mut turns_b = [panels[0].as_chunks::<TURN>().0; C];
    for c in 0..C {
        turns_b[c] = &panels[c].as_chunks().0[..turns];
    }
    for i in 0..turns {
        for t in 0..TURN {
            sums = step(isa, sums, |r| turns_a[r][i][t], |c| &turns_b[c][i][t]);
        }
    }
    for t in turns * TURN..terms {
        sums = step(isa, sums, |r| a[r][t], |c| &panels[c][t]);
    }
    sums
}

/// Adds one term to each sum. There is one sum for each pair of a row and a column.
#[inline(always)]
fn step<'b, I: Isa, const R: usize, const C: usize>(
    isa: I,
    mut sums: [[I::F32; C]; R],
    a: impl Fn(usize) -> f32,
    b: impl Fn(usize) -> &'b [f32; BLOCK],
) -> [[I::F32; C]; R] {
    let mut column = [isa.f32(0.0); C];
    for c in 0..C {
        column[c] = isa.load_f32(b(c));
    }
    for r in 0..R {
        let a = isa.f32(a(r));
        for c in 0..C {
            sums[r][c] = a.mul_add(column[c], sums[r][c]);
        }
    }
    sums
}
