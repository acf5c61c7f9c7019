//! Common parts of the benchmarks. Each benchmark first checks results. Then it times Evenkeel, candle-nn and a memory
//! copy of the same number of bytes.
//!
//! Run with `RAYON_NUM_THREADS=1` to compare kernels rather than thread pools.

use candle_core::{Device, Result, Shape, Tensor, Var, WithDType};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use evenkeel::Element;
use evenkeel::accuracy::{self, Bound, Unit};
pub use evenkeel::testing::workloads::numbers;
use evenkeel::testing::{ulp, workloads::ACTIVATIONS};
use std::hint::black_box;
use std::time::Duration;

/// Returns two shapes, each as a number of rows and a number of columns. The first fits in the L2 cache, and the second
/// does not.
pub fn shapes() -> Vec<(usize, usize)> {
    to_run(ACTIVATIONS[..2].iter().map(|rows| rows.shape()).collect())
}

/// Returns the shapes to run. With `--test`, benchmarks run once and only on the first shape, because candle may then
/// be compiled without optimisation.
pub fn to_run<S>(mut shapes: Vec<S>) -> Vec<S> {
    if std::env::args().any(|argument| argument == "--test") {
        shapes.truncate(1);
    }
    shapes
}

/// Storage type that both Evenkeel and candle support.
pub trait Timed: Element + WithDType {}
impl<E: Element + WithDType> Timed for E {}

/// Returns settings for kernels that take microseconds to milliseconds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .without_plots()
        .configure_from_args()
}

/// Creates a tensor of the given numbers.
pub fn tensor<E: Timed>(data: &[E], shape: impl Into<Shape>) -> Tensor {
    Tensor::from_slice(data, shape, &Device::Cpu).unwrap()
}

/// Computes a function of a tensor and, by candle's autograd, its gradient. `dy` is the gradient of the result.
pub fn gradient(xs: &Var, dy: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let gradients = (f(xs)? * dy)?.sum_all()?.backward()?;
    Ok(gradients.get(xs).expect("candle's backward pass must give a gradient for the variable `xs`").clone())
}

/// Comparison of several implementations of one op, for one storage type and shape.
pub struct Race<'c, E: Element> {
    group: BenchmarkGroup<'c, WallTime>,
    op: &'static str,
    bound: &'static Bound,
    /// Exact results of the first elements. Later elements are not checked.
    exact: Vec<E::Exact>,
}

impl<'c, E: Element> Race<'c, E> {
    /// Starts the comparison, and times a memory copy of as many elements as the shape has.
    pub fn new(c: &'c mut Criterion, op: &'static str, (rows, cols): (usize, usize), exact: Vec<E::Exact>) -> Self {
        let mut group = c.benchmark_group(format!("{op}/{}/{rows}x{cols}", E::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let source = numbers::<E>(rows * cols);
        let mut copy = source.clone();
        group.bench_function("copy", |b| b.iter(|| copy.copy_from_slice(black_box(&source))));
        Race { group, op, bound: accuracy::bound(op, E::DTYPE).unwrap(), exact }
    }

    /// Checks the first results of a call that writes to a slice, and times the call.
    pub fn slices(&mut self, y: &mut [E], mut run: impl FnMut(&mut [E]) -> evenkeel::Result<()>) -> &mut Self {
        run(y).unwrap();
        let worst = self.largest_error(y);
        assert!(
            worst <= self.bound.ulps,
            "{} in {}: expected an error of at most {} ULP, got {worst}",
            self.op,
            self.bound.dtype,
            self.bound.ulps
        );
        self.group.bench_function("slices", |b| b.iter(|| run(y)));
        self
    }

    /// Times the separate ops that the benchmarked op fuses, and prints their error without checking it.
    pub fn unfused(&mut self, y: &mut [E], mut run: impl FnMut(&mut [E]) -> evenkeel::Result<()>) {
        run(y).unwrap();
        println!("{} in {}: largest error unfused {:.3} ULP", self.op, self.bound.dtype, self.largest_error(y));
        self.group.bench_function("unfused", |b| b.iter(|| run(y)));
    }

    /// Times Evenkeel's function and candle's function, both on tensors, and prints their errors. Each call allocates
    /// its result.
    pub fn tensors(&mut self, ours: impl Fn() -> Result<Tensor>, theirs: impl Fn() -> Result<Tensor>)
    where
        E: WithDType,
    {
        let of = |xs: Tensor| xs.flatten_all().and_then(|xs| xs.to_vec1::<E>()).unwrap();
        let (op, dtype) = (self.op, self.bound.dtype);
        println!("{op} in {dtype}: largest error of drop-in {:.3} ULP", self.largest_error(&of(ours().unwrap())));
        self.group.bench_function("drop-in", |b| b.iter(|| ours().unwrap()));
        self.candle(theirs);
    }

    /// Times candle's function and prints its error in ULP. If candle does not support the op, prints candle's message.
    pub fn candle(&mut self, theirs: impl Fn() -> Result<Tensor>)
    where
        E: WithDType,
    {
        let (op, dtype) = (self.op, self.bound.dtype);
        match theirs() {
            Ok(xs) => {
                let xs = xs.flatten_all().and_then(|xs| xs.to_vec1::<E>()).unwrap();
                println!("{op} in {dtype}: largest error of candle {:.3} ULP", self.largest_error(&xs));
                self.group.bench_function("candle", |b| b.iter(|| theirs().unwrap()));
            }
            Err(refused) => {
                println!(
                    "{op} in {dtype}: candle does not support it: {}",
                    refused.to_string().lines().next().unwrap_or("")
                )
            }
        }
    }

    /// Returns the largest error, in ULP of the exact result. If an op's terms may cancel, the unit is the ULP of the
    /// largest exact result instead.
    fn largest_error(&self, got: &[E]) -> f64 {
        let largest = self.exact.iter().map(|&exact| ulp::toward_zero(exact)).fold(0.0, f64::max);
        let error = |(&got, &exact): (&E, &E::Exact)| match self.bound.unit {
            Unit::LargestTerm => ulp::error_at(got, exact, largest),
            _ => ulp::error(got, exact),
        };
        got.iter().zip(&self.exact).map(error).fold(0.0, f64::max)
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
