//! Steps of [`AdamW`] on a device, bit-identical to those of [`train::Optimizer`](crate::train::Optimizer).
//!
//! A step is a call of [`begin`], and then a call of [`step`] for each parameter. The host does not wait, so it does
//! not know whether a gradient is finite. On the CPU, a NaN or an infinity in a gradient is an error, and the step
//! changes nothing. Here, [`begin`] takes the norm of all gradients. [`clip_grad_norm`](super::clip_grad_norm()) writes
//! this norm to device memory, and does not wait under `error_if_nonfinite(false)`. If the norm is not finite, at least
//! one gradient is not finite. The step then changes nothing, and [`Progress::counts`] reports it as skipped. Without a
//! norm, a gradient that is not finite makes its weights and their state NaN or infinite.
//!
//! A CUDA graph can capture both functions. If it captures only the calls of [`step`], the caller may begin each step
//! with another learning rate before it replays the graph.
//!
//! ```no_run
//! use evenkeel::cuda::adamw::{Parameter, Progress, Rounding, begin, step};
//! use evenkeel::train::AdamW;
//! use evenkeel::{ClipGradNorm, cuda};
//!
//! let stream = cuda::device(0)?.default_stream();
//! let mut weights = stream.clone_htod(&[1.0f32, -2.0])?;
//! let (mut mean, mut root_mean_square) = (stream.alloc_zeros::<f32>(2)?, stream.alloc_zeros::<f32>(2)?);
//! let mut progress = Progress::new(&stream, 0)?;
//! let mut norm = stream.alloc_zeros::<f64>(1)?;
//! for _ in 0..100 {
//!     let mut gradient = stream.clone_htod(&[0.5f32, -0.5])?;
//!     let clip = ClipGradNorm::new(1.0).error_if_nonfinite(false);
//!     cuda::clip_grad_norm(&stream, &mut [gradient.as_view_mut().into()], norm.as_view_mut(), &clip)?;
//!     begin(&stream, &mut progress, &AdamW::default(), Some(norm.as_view()))?;
//!     let parameter = Parameter {
//!         weights: weights.as_view_mut().into(),
//!         rounding: Rounding::None,
//!         mean: mean.as_view_mut(),
//!         root_mean_square: root_mean_square.as_view_mut(),
//!         gradient: gradient.as_view().into(),
//!     };
//!     step(&stream, &progress, parameter)?;
//! }
//! assert_eq!(progress.counts()?.taken, 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::device::{self, CallerContext, Launch};
use super::guards::refuse_capture;
use super::operand::{Operand, OperandMut, TypedDevicePtr};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::power;
use crate::simd::in_default;
use crate::train::AdamW;
use crate::train::init::Stream;
use crate::train::optimizer::sealed::Advance;
use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DeviceRepr};
use std::sync::Arc;

const OP: &str = <AdamW as Advance>::OP;
/// Host actions during which the stream must not be captured, for error messages.
const WHILE: &str = "its progress is created or read";
/// Number of threads of a block.
const THREADS: usize = 256;
/// Number of consecutive elements that a thread processes at a time.
const PER_THREAD: usize = 4;
/// Maximum number of blocks. In larger calls, a thread processes several groups of elements.
const MOST_BLOCKS: usize = 1 << 20;

/// Number of steps, and factors of the current step, in device memory. Parameters that have gradients in the same steps
/// share one `Progress`.
///
/// A `Progress` must live as long as a graph that captured it.
#[derive(Debug)]
pub struct Progress {
    words: CudaSlice<u64>,
}

/// Number of 64-bit words of a [`Progress`]: the numbers of steps and of skipped steps, the number of steps before the
/// current one, whether the current step is skipped, and five factors.
pub const PROGRESS_WORDS: usize = 9;

/// Numbers of steps of a [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of steps that changed the parameters, including the earlier steps passed to [`Progress::new`].
    pub taken: u64,
    /// Number of steps that changed nothing, because the norm was not finite.
    pub skipped: u64,
}

impl Progress {
    /// Allocates memory on the stream. `steps` is the number of earlier steps, which is 0 for new parameters. Until the
    /// first call of [`begin`], [`step`] changes nothing.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stream is captured; [`Error::Failed`] if the device fails.
    pub fn new(stream: &Arc<CudaStream>, steps: u64) -> Result<Self> {
        let _caller = CallerContext::save();
        refuse_capture(OP, stream, WHILE)?;
        Ok(Progress { words: device::check(stream.clone_htod(&progress(steps)))? })
    }

    /// Waits for the stream on which the memory was allocated, and returns the numbers of steps.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stream is captured; [`Error::Failed`] if the device fails.
    pub fn counts(&self) -> Result<Counts> {
        let _caller = CallerContext::save();
        let stream = self.words.stream();
        refuse_capture(OP, stream, WHILE)?;
        let words = device::to_host(stream, &self.words)?;
        let word = |index: usize| words.get(index).copied().unwrap_or_default();
        Ok(Counts { taken: word(0), skipped: word(1) })
    }
}

/// Returns the initial words of a [`Progress`] after `steps` earlier steps.
pub fn progress(steps: u64) -> [u64; PROGRESS_WORDS] {
    [steps, 0, steps, 1, 0, 0, 0, 0, 0]
}

/// Rounding of a [`Parameter`]'s updated weights to their type.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rounding<'a> {
    /// Weights of f32 need no rounding.
    None,
    /// Weights of f16 or bf16 are the rounded values of these master weights.
    Master(CudaViewMut<'a, f32>),
    /// Weights of f16 or bf16 have no master weights, and are rounded stochastically with random bits of this stream;
    /// see [`Optimizer::stochastic_rounding`](crate::train::Optimizer::stochastic_rounding), which uses
    /// `Stream::numbered(seed, index)` for the parameter with this index.
    Stochastic(Stream),
}

/// A parameter, its gradient and its state, which all have the same length.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "callers create it")]
pub struct Parameter<'a> {
    /// Weights, which the step changes.
    pub weights: OperandMut<'a>,
    /// Rounding of the updated weights.
    pub rounding: Rounding<'a>,
    /// Mean gradient; zeros before the first step.
    pub mean: CudaViewMut<'a, f32>,
    /// Root of the mean square of the gradients; zeros before the first step.
    pub root_mean_square: CudaViewMut<'a, f32>,
    /// Gradient of the weights, of any type.
    pub gradient: Operand<'a>,
}

/// Begins a step: counts it, and computes its factors for [`step`]. `norm` is the norm of all gradients, as one f64. If
/// the norm is not finite, the step is skipped.
///
/// # Errors
/// [`Error::InvalidArgument`] for settings that the CPU rejects too; [`Error::ShapeMismatch`] unless the norm has one
/// element; [`Error::Failed`] if the device fails.
pub fn begin(
    stream: &Arc<CudaStream>,
    progress: &mut Progress,
    options: &AdamW,
    norm: Option<CudaView<'_, f64>>,
) -> Result<()> {
    if let Some(len) = norm.as_ref().map(CudaView::len).filter(|len| *len != 1) {
        return Err(Error::shape(OP, "norm", format!("{len} elements"), "1".to_string()));
    }
    let _caller = CallerContext::save();
    let norm = norm.as_ref().map(|norm| device::read((OP, "norm"), norm, stream)).transpose()?;
    let (progress, _written) = device::write((OP, "progress"), &mut progress.words, stream)?;
    let (launch, arguments) = launch_begin(progress, norm.as_ref().map_or(0, |(norm, _)| *norm), options)?;
    // SAFETY: the memory has `PROGRESS_WORDS` words, the norm has one element, and both are used on this stream.
    unsafe { device::run(stream, &launch, &arguments) }
}

/// Updates a parameter and its state in place, in the step that [`begin`] began.
///
/// # Errors
/// [`Error::ShapeMismatch`] if lengths differ; [`Error::InvalidArgument`] for weights of f16 or bf16 without rounding,
/// and for master weights of f32 weights; [`Error::Failed`] if the device fails.
pub fn step(stream: &Arc<CudaStream>, progress: &Progress, parameter: Parameter<'_>) -> Result<()> {
    let Parameter { mut weights, mut rounding, mut mean, mut root_mean_square, gradient } = parameter;
    let len = weights.len();
    let mut lengths = vec![("mean", mean.len()), ("root_mean_square", root_mean_square.len())];
    lengths.push(("gradient", gradient.len()));
    if let Rounding::Master(master) = &rounding {
        lengths.push(("master", master.len()));
    }
    for (argument, got) in lengths {
        if got != len {
            return Err(Error::shape(OP, argument, format!("{got} elements"), len.to_string()));
        }
    }
    let _caller = CallerContext::save();
    let (progress, _progress_read) = device::read((OP, "progress"), &progress.words, stream)?;
    let (weights, _weights_written) = weights.at((OP, "weights"), stream)?;
    let mut _master_written = None;
    let rounding = match &mut rounding {
        Rounding::None => RoundingAt::None,
        Rounding::Stochastic(random) => RoundingAt::Stochastic(*random),
        Rounding::Master(master) => {
            let (address, written) = device::write((OP, "master"), master, stream)?;
            _master_written = Some(written);
            RoundingAt::Master(address)
        }
    };
    let (mean, _mean_written) = device::write((OP, "mean"), &mut mean, stream)?;
    let (root_mean_square, _root_written) = device::write((OP, "root_mean_square"), &mut root_mean_square, stream)?;
    let (gradient, _gradient_read) = gradient.at((OP, "gradient"), stream)?;
    match launch(Memory { progress, weights, rounding, mean, root_mean_square, gradient }, len)? {
        // SAFETY: the views have equal lengths, and are used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

/// [`Rounding`] with the address of the master weights.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RoundingAt {
    /// [`Rounding::None`].
    None,
    /// [`Rounding::Master`].
    Master(u64),
    /// [`Rounding::Stochastic`].
    Stochastic(Stream),
}

/// Addresses of a parameter, its gradient and its state, and of a [`Progress`]'s words.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "callers create it")]
pub struct Memory {
    /// The [`PROGRESS_WORDS`] words of a [`Progress`].
    pub progress: u64,
    /// Weights, which the step changes.
    pub weights: TypedDevicePtr,
    /// Rounding of the updated weights.
    pub rounding: RoundingAt,
    /// Mean gradient, in f32.
    pub mean: u64,
    /// Root of the mean square of the gradients, in f32.
    pub root_mean_square: u64,
    /// Gradient of the weights.
    pub gradient: TypedDevicePtr,
}

/// Arguments of the kernel that begins a step.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BeginArguments {
    progress: u64,
    norm: u64,
    beta1: f64,
    beta2: f64,
    keep: f64,
    lr: f64,
    eps: f64,
    log1: [f64; 2],
    log2: [f64; 2],
}

/// Arguments of the kernels that update a parameter.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    progress: u64,
    weights: u64,
    master: u64,
    mean: u64,
    root: u64,
    gradient: u64,
    gradient_type: u64,
    len: u64,
    random: [u64; 2],
}

// SAFETY: the struct has plain integers and floats in C layout, as the kernel declares it.
unsafe impl DeviceRepr for BeginArguments {}
// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Returns the kernel that begins a step, and its arguments. `progress` is the address of [`PROGRESS_WORDS`] words,
/// which [`progress`] must have initialised. `norm` is the address of the norm, or 0 if there is no norm.
///
/// # Errors
/// [`Error::InvalidArgument`] for settings that the CPU rejects too.
pub fn launch_begin(progress: u64, norm: u64, options: &AdamW) -> Result<(Launch, BeginArguments)> {
    options.check()?;
    let &AdamW { lr, beta1, beta2, eps, weight_decay } = options;
    let arguments = in_default(|| {
        // The kernel does not use the logarithm of 0.
        let [log1, log2] =
            [beta1, beta2].map(|beta| if beta == 0.0 { power::Pair::from(0.0) } else { power::log(beta) });
        let (log1, log2) = ([log1.0, log1.1], [log2.0, log2.1]);
        BeginArguments { progress, norm, beta1, beta2, keep: 1.0 - lr * weight_decay, lr, eps, log1, log2 }
    });
    Ok((Launch { source: OP, kernel: "adamw_begin", blocks: 1, threads: 32, shared: 0 }, arguments))
}

/// Returns the kernel that updates a parameter of `len` elements, and its arguments; `None` if there are no elements.
///
/// # Errors
/// [`Error::InvalidArgument`] as [`step`]; [`Error::UnsupportedDType`] for f64.
pub fn launch(memory: Memory, len: usize) -> Result<Option<(Launch, Arguments)>> {
    let unsupported = |dtype: DType| Error::UnsupportedDType { op: OP, dtype: dtype.to_string(), backend: "cuda" };
    let Memory { progress, weights, rounding, mean, root_mean_square: root, gradient } = memory;
    let is_f32 = weights.dtype == DType::F32;
    let kernel = match weights.dtype {
        DType::F32 => "adamw_f32",
        DType::F16 => "adamw_f16",
        DType::BF16 => "adamw_bf16",
        DType::F64 => return Err(unsupported(DType::F64)),
    };
    let gradient_type = match gradient.dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        DType::F64 => return Err(unsupported(DType::F64)),
    };
    let (master, random) = match rounding {
        RoundingAt::None if !is_f32 => {
            let expected = format!("Master or Stochastic for weights of {}", weights.dtype);
            return Err(Error::invalid(OP, "rounding", "None", expected));
        }
        RoundingAt::Master(_) if is_f32 => {
            return Err(Error::invalid(OP, "rounding", "Master", "None for weights of F32"));
        }
        RoundingAt::None => (0, [0; 2]),
        RoundingAt::Master(master) => (master, [0; 2]),
        RoundingAt::Stochastic(stream) => (0, stream.words()),
    };
    if len == 0 {
        return Ok(None);
    }
    let blocks = len.div_ceil(THREADS * PER_THREAD).min(MOST_BLOCKS) as u32;
    let launch = Launch { source: OP, kernel, blocks, threads: THREADS as u32, shared: 0 };
    let (weights, gradient) = (weights.address, gradient.address);
    let arguments =
        Arguments { progress, weights, master, mean, root, gradient, gradient_type, len: len as u64, random };
    Ok(Some((launch, arguments)))
}
