//! What every benchmark does: check first, then time Evenkeel beside candle-nn and beside a memory copy of the same
//! bytes.
//!
//! Run with `RAYON_NUM_THREADS=1` to compare kernels rather than thread pools.

#![allow(dead_code)] // each benchmark uses its part

use candle_core::{Device, Result, Shape, Tensor, WithDType};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use evenkeel::Element;
use evenkeel::accuracy::{self, Of};
use evenkeel::reference::Real;
use std::hint::black_box;
use std::time::Duration;

/// Rows and columns: what fits the second-level cache, and what does not.
pub const SHAPES: [(usize, usize); 2] = [(8, 4096), (1024, 4096)];

/// A storage type that both sides have.
pub trait Timed: Element + WithDType {}
impl<E: Element + WithDType> Timed for E {}

/// Times that suit kernels of microseconds to milliseconds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .without_plots()
        .configure_from_args()
}

/// Numbers with mean 0 and standard deviation 3, the same on every run.
pub fn numbers<E: Element>(len: usize) -> Vec<E> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    // A sum of twelve uniform numbers has variance 1, and is near enough to normal.
    (0..len).map(|_| E::from_wide(3.0 * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0))).collect()
}

/// A tensor of the given numbers.
pub fn tensor<E: Timed>(data: &[E], shape: impl Into<Shape>) -> Tensor {
    Tensor::from_slice(data, shape, &Device::Cpu).unwrap()
}

/// The contenders for one op, storage type and shape.
pub struct Race<'c> {
    group: BenchmarkGroup<'c, WallTime>,
}

impl<'c> Race<'c> {
    /// Starts with a copy of as many elements.
    pub fn new<E: Element>(c: &'c mut Criterion, op: &str, (rows, cols): (usize, usize)) -> Self {
        let mut group = c.benchmark_group(format!("{op}/{}/{rows}x{cols}", E::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let source = numbers::<E>(rows * cols);
        let mut copy = source.clone();
        group.bench_function("copy", |b| b.iter(|| copy.copy_from_slice(black_box(&source))));
        Race { group }
    }

    /// Times a call on slices.
    pub fn slices<T>(&mut self, mut run: impl FnMut() -> T) -> &mut Self {
        self.group.bench_function("slices", |b| b.iter(&mut run));
        self
    }

    /// Times Evenkeel's function of tensors and then candle's, which both allocate what they return.
    pub fn tensors(&mut self, ours: impl Fn() -> Result<Tensor>, theirs: impl Fn() -> Result<Tensor>) {
        self.group.bench_function("drop-in", |b| b.iter(|| ours().unwrap()));
        self.group.bench_function("candle", |b| b.iter(|| theirs().unwrap()));
    }
}

/// Fails unless every value is as near to the exact one, from the reference, as the accuracy table says.
pub fn check<E: Element>(op: &str, got: &[E], exact: impl IntoIterator<Item = impl Real>) {
    let bound = accuracy::bound(op, E::DTYPE).unwrap();
    for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
        let exact = exact.to_f64();
        let scale = match bound.of {
            Of::Result => exact.abs().max(E::LIMITS.min_normal),
            // The terms of sums of these numbers are less than 16.
            Of::LargestTerm => 16.0,
        };
        // An exact result in f64 is half an ULP off itself.
        let error = (got.widen() - exact).abs() / (scale * E::LIMITS.epsilon);
        assert!(error <= bound.ulps + 0.5, "{op} in {}: element {i} is {:e}, not {exact:e}", E::DTYPE, got.widen());
    }
}

/// Runs a generic function for each storage type.
#[macro_export]
macro_rules! each_dtype {
    ($c:expr, $f:ident) => {
        $f::<f32>($c);
        $f::<half::bf16>($c);
        $f::<half::f16>($c);
        $f::<f64>($c);
    };
}
