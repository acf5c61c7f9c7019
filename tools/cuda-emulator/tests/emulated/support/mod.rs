//! Code that all cases share: numbers, buffers that detect writes outside of them, and how kernels run.

pub mod adamw;
pub mod attention_decode;
pub mod backward;
pub mod clip_grad_norm;
pub mod cross_entropy;
pub mod elementwise;
pub mod layer_norm;
pub mod log_softmax;
pub mod masked;
pub mod norm;
pub mod norm_backward;
pub mod qk_norm_rope;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod softmax;
pub mod swiglu_backward;

use evenkeel::cuda::Launch;
use evenkeel::{Element, report};
use evenkeel_cuda_emulator::{Emulator, Order};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeSet;

/// Row lengths around the sizes of vectors, warps, tiles and blocks, and row lengths of models.
pub const COLS: &[usize] = &[
    1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 72, 96, 100, 127, 128, 129, 136, 160,
    192, 200, 255, 256, 257, 264, 320, 384, 400, 500, 504, 511, 512, 513, 520, 600, 640, 768, 1000, 1016, 1023, 1024,
    1025, 1032, 1280, 1536, 2000, 2040, 2047, 2048, 2049, 2056, 3000, 3072, 4088, 4095, 4096, 4097, 4104, 5000, 6144,
    8184, 8191, 8192, 8193, 8200, 10_000, 16_384, 16_392, 32_768, 32_776, 33_000,
];

/// The test of each op must cover at least this number of shapes. With so many shapes, every remainder modulo the sizes
/// of vectors, warps and tiles can occur. The shapes can also include both sides of each size at which the kernel or
/// its code path changes.
pub const LEAST_SHAPES: usize = 200;

/// Shapes that an op ran on: rows, columns, and anything else that determines the memory layout.
#[derive(Default)]
pub struct Shapes(BTreeSet<Vec<usize>>);

impl Shapes {
    pub fn add(&mut self, shape: &[usize]) {
        self.0.insert(shape.to_vec());
    }

    /// Fails if there are fewer than [`LEAST_SHAPES`] shapes. The argument `of` is a description of the cases for the
    /// output.
    pub fn are_enough(&self, of: impl std::fmt::Display) {
        println!("{of}: {} shapes", self.0.len());
        assert!(
            self.0.len() >= LEAST_SHAPES,
            "{of}: expected at least {LEAST_SHAPES} tested shapes, got {}",
            self.0.len()
        );
    }
}

/// Checks the four integers that a kernel updates: the numbers of rows with NaN, of rows with +inf and of fully masked
/// rows, and the index of the first fully masked row. The index is `u64::MAX` if there is no such row.
pub fn same_guards(guards: [u64; 4], counts: report::Counts, first: u64) -> Result<(), String> {
    let expected = [counts.nan, counts.infinite, counts.fully_masked, first];
    if guards == expected {
        return Ok(());
    }
    Err(format!(
        "[rows with NaN, rows with +inf, fully masked rows, index of the first fully masked row]: \
         expected {expected:?}, got {guards:?}"
    ))
}

/// Returns the index of the first row whose elements are all `-inf`, or `u64::MAX` if there is none.
pub fn first_masked<E: Element>(x: &[E], cols: usize) -> u64 {
    let first = x.chunks(cols.max(1)).position(|row| row.iter().all(|z| z.widen() == f64::NEG_INFINITY));
    first.map_or(u64::MAX, |row| row as u64)
}

/// Distribution of the numbers in a row.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Normal,
    /// Some numbers are more than 87 below the largest number. The kernels then cannot use their exponential for rows
    /// with a small range.
    Wide,
    /// Numbers near 3000.
    Far,
    /// Some or all numbers are -inf.
    Masked,
    /// Numbers of widely varying magnitude, with a few NaN, +inf and extremes of the type.
    Any,
}

pub const KINDS: [Kind; 5] = [Kind::Normal, Kind::Wide, Kind::Far, Kind::Masked, Kind::Any];

pub fn row<E: Element>(rng: &mut StdRng, kind: Kind, cols: usize) -> Vec<E> {
    let all_masked = rng.random_bool(0.3);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let numbers: Vec<f64> = (0..cols).map(|_| normal()).collect();
    let mut draw = |share: f64| rng.random_bool(share);
    let numbers = numbers.into_iter().map(|z| match kind {
        Kind::Normal => z * 3.0,
        Kind::Wide => z * 60.0,
        Kind::Far => z * 2.0 + 3000.0,
        Kind::Masked if all_masked || draw(0.3) => f64::NEG_INFINITY,
        Kind::Masked => z,
        Kind::Any if draw(0.002) => [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN][(z.abs() * 3.0) as usize % 4],
        Kind::Any => z * 10f64.powf(z * 3.0),
    });
    numbers.map(E::from_wide).collect()
}

/// Returns a row with one number that is `gap` above 5. The others are below 3, so they hardly contribute to the sum of
/// exponentials if the gap is large.
pub fn peaked_row<E: Element>(rng: &mut StdRng, gap: f64, cols: usize) -> Vec<E> {
    let at = rng.random_range(0..cols);
    let number = |i| if i == at { 5.0 + gap } else { rng.random_range(-9.0..3.0) };
    (0..cols).map(number).map(E::from_wide).collect()
}

/// Returns a copy of the values, with `number` at the index `at`.
pub fn with<E: Element>(values: &[E], at: usize, number: E) -> Vec<E> {
    let mut values = values.to_vec();
    values[at] = number;
    values
}

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Offset of the rows from a multiple of 16 bytes, in elements.
    pub shift: usize,
    /// Whether a single block processes all rows. This block has less shared memory than the launch requests, so some
    /// pieces of long rows are neither in registers nor in shared memory.
    pub one_block: bool,
    pub order: Order,
}

impl How {
    /// Runs a planned kernel.
    ///
    /// # Safety
    /// The requirements of [`Emulator::run`] apply.
    pub unsafe fn run<A: Copy>(self, emulator: &Emulator, (mut launch, arguments): (Launch, A)) -> Result<(), String> {
        if self.one_block {
            launch.blocks = 1;
            launch.shared = launch.shared / 8 * 5;
        }
        // SAFETY: the caller guarantees what `Emulator::run` requires.
        unsafe { emulator.run(&launch, &arguments, self.order) }.map_err(|error| error.to_string())
    }
}

/// Numbers between guard elements that kernels must not overwrite.
pub struct Guarded<E> {
    all: Vec<E>,
    start: usize,
    len: usize,
}

const GUARD: usize = 16;

impl<E: Element> Guarded<E> {
    fn poison() -> E {
        E::from_wide(-7.0)
    }

    /// Copies the values to memory that starts `shift` elements after a multiple of 16 bytes.
    pub fn of(values: &[E], shift: usize) -> Self {
        // The start moves by at most 16 elements: up to eight for the alignment, and up to eight for `shift`.
        let mut all = vec![Self::poison(); values.len() + 2 * GUARD + 16];
        let start = all.as_ptr().align_offset(16) + GUARD + shift;
        all[start..][..values.len()].copy_from_slice(values);
        Guarded { all, start, len: values.len() }
    }

    /// Creates an output buffer of `len` elements.
    pub fn unwritten(len: usize, shift: usize) -> Self {
        Self::of(&vec![Self::poison(); len], shift)
    }

    pub fn address(&mut self) -> u64 {
        self.all[self.start..].as_mut_ptr() as u64
    }

    pub fn values(&self) -> &[E] {
        &self.all[self.start..][..self.len]
    }

    pub fn values_mut(&mut self) -> &mut [E] {
        &mut self.all[self.start..][..self.len]
    }

    /// Fails if a value differs from the expected bits, or if a guard element was overwritten.
    pub fn compare(&self, expected: &[E]) -> Result<(), String> {
        let got = self.values();
        assert_eq!(got.len(), expected.len());
        if let Some(i) = (0..got.len()).find(|&i| got[i].bits() != expected[i].bits()) {
            return Err(format!("element {i} of the result: expected {:?}, got {:?}", expected[i], got[i]));
        }
        let beside = self.all[..self.start].iter().chain(&self.all[self.start + self.len..]);
        if beside.into_iter().any(|v| v.bits() != Self::poison().bits()) {
            return Err("the kernel must not change a value outside the result".to_string());
        }
        Ok(())
    }
}
