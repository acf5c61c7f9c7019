//! Elementwise functions of one or two operands over flat slices on a device, and their gradients.
//!
//! The operands of a gradient are x and dy, the gradient of the function's result. With [`launch`], the results may
//! replace an operand.
//!
//! ```no_run
//! use evenkeel::cuda;
//!
//! let stream = cuda::device(0)?.default_stream();
//! let (x, dy) = (stream.clone_htod(&[1.0f32, -1.2784646])?, stream.clone_htod(&[1.0f32, 1.0])?);
//! let mut dx = stream.alloc_zeros::<f32>(2)?;
//! cuda::silu_backward_into(&stream, x.as_view(), dy.as_view(), dx.as_view_mut())?;
//! assert_eq!(stream.clone_dtoh(&dx)?, [0.92767054, -2.8270397e-9]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::device::{self, Launch};
use super::rows::DeviceElement;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::ops::clamped_exp::ClampedExp;
use crate::ops::clamped_log::ClampedLog;
use crate::ops::elementwise::as_long;
use crate::ops::safe_div::SafeDiv;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DeviceRepr};
use std::sync::Arc;

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    x: u64,
    other: u64,
    y: u64,
    len: u64,
    options: [f64; 2],
}

// SAFETY: the struct has plain integers and floats in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// Passes the list of functions, each with its CUDA source, to a macro. Gradients also name their kernel, because some
/// use the kernel of another gradient.
macro_rules! each_function {
    ($then:ident) => {
        $then! {
            of_one {
                Erf erf erf_into "elementwise_normal";
                Exp exp exp_into "elementwise_exp";
                Exp2 exp2 exp2_into "elementwise_exp";
                Expm1 expm1 expm1_into "elementwise_exp";
                Gelu gelu gelu_into "elementwise_normal";
                GeluTanh gelu_tanh gelu_tanh_into "elementwise_logistic";
                Log log log_into "elementwise_log";
                Log1p log1p log1p_into "elementwise_log";
                Log2 log2 log2_into "elementwise_log";
                LogSigmoid log_sigmoid log_sigmoid_into "elementwise_softplus";
                Reciprocal reciprocal reciprocal_into "elementwise_root";
                Rsqrt rsqrt rsqrt_into "elementwise_root";
                Sigmoid sigmoid sigmoid_into "elementwise_logistic";
                Silu silu silu_into "elementwise_logistic";
                Softplus softplus softplus_into "elementwise_softplus";
                Sqrt sqrt sqrt_into "elementwise_root";
                Tanh tanh tanh_into "elementwise_logistic";
            }
            of_two {
                LogAddExp log_add_exp log_add_exp_into "elementwise_softplus" a b;
                Swiglu swiglu swiglu_into "elementwise_swiglu" gate up;
            }
            of_one_by {
                ClampedExp clamped_exp clamped_exp_into "elementwise_exp";
                ClampedLog clamped_log clamped_log_into "elementwise_log";
            }
            of_two_by { SafeDiv safe_div safe_div_into "elementwise_root"; }
            gradients {
                ErfBackward erf_backward erf_backward_into erf_backward "elementwise_backward_exp";
                ExpBackward exp_backward exp_backward_into exp_backward "elementwise_backward_exp";
                Exp2Backward exp2_backward exp2_backward_into exp2_backward "elementwise_backward_exp";
                Expm1Backward expm1_backward expm1_backward_into exp_backward "elementwise_backward_exp";
                GeluBackward gelu_backward gelu_backward_into gelu_backward "elementwise_backward_exp";
                GeluTanhBackward gelu_tanh_backward gelu_tanh_backward_into gelu_tanh_backward
                    "elementwise_backward_logistic";
                LogBackward log_backward log_backward_into log_backward "elementwise_backward_root";
                Log1pBackward log1p_backward log1p_backward_into log1p_backward "elementwise_backward_root";
                Log2Backward log2_backward log2_backward_into log2_backward "elementwise_backward_root";
                LogSigmoidBackward log_sigmoid_backward log_sigmoid_backward_into log_sigmoid_backward
                    "elementwise_backward_logistic";
                ReciprocalBackward reciprocal_backward reciprocal_backward_into reciprocal_backward
                    "elementwise_backward_root";
                RsqrtBackward rsqrt_backward rsqrt_backward_into rsqrt_backward "elementwise_backward_root";
                SigmoidBackward sigmoid_backward sigmoid_backward_into sigmoid_backward
                    "elementwise_backward_logistic";
                SiluBackward silu_backward silu_backward_into silu_backward "elementwise_backward_logistic";
                SoftplusBackward softplus_backward softplus_backward_into softplus_backward
                    "elementwise_backward_logistic";
                SqrtBackward sqrt_backward sqrt_backward_into sqrt_backward "elementwise_backward_root";
                TanhBackward tanh_backward tanh_backward_into tanh_backward "elementwise_backward_logistic";
            }
            gradients_by {
                ClampedExpBackward ClampedExp clamped_exp_backward clamped_exp_backward_into clamped_exp_backward
                    "elementwise_backward_exp";
                ClampedLogBackward ClampedLog clamped_log_backward clamped_log_backward_into log_backward
                    "elementwise_backward_root";
            }
        }
    };
}

macro_rules! define {
    (
        of_one { $($One:ident $one:ident $one_into:ident $one_source:literal;)* }
        of_two { $($Two:ident $two:ident $two_into:ident $two_source:literal $first:ident $second:ident;)* }
        of_one_by { $($OneBy:ident $one_by:ident $one_by_into:ident $one_by_source:literal;)* }
        of_two_by { $($TwoBy:ident $two_by:ident $two_by_into:ident $two_by_source:literal;)* }
        gradients { $($Of:ident $of:ident $of_into:ident $of_kernel:ident $of_source:literal;)* }
        gradients_by {
            $($OfBy:ident $Options:ident $of_by:ident $of_by_into:ident $of_by_kernel:ident $of_by_source:literal;)*
        }
    ) => {
        /// An elementwise function with its options, if any.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Function {
            $(#[doc = concat!("[`", stringify!($one), "`](crate::", stringify!($one), ").")] $One,)*
            $(#[doc = concat!("[`", stringify!($two), "`](crate::", stringify!($two), "), with two operands.")] $Two,)*
            $(#[doc = concat!("[`", stringify!($one_by), "`](crate::", stringify!($one_by), ").")] $OneBy($OneBy),)*
            $(
                #[doc = concat!("[`", stringify!($two_by), "`](crate::", stringify!($two_by), "), with two operands.")]
                $TwoBy($TwoBy),
            )*
            $(
                #[doc = concat!("[`", stringify!($of), "`](crate::", stringify!($of), "), of x and a gradient.")]
                $Of,
            )*
            $(
                #[doc = concat!("[`", stringify!($of_by), "`](crate::", stringify!($of_by), "), of x and a gradient.")]
                $OfBy($Options),
            )*
        }

        impl Function {
            /// Returns the name of the function's source, the name of the function, and its kernels for f32, f16 and
            /// bf16.
            fn names(&self) -> (&'static str, &'static str, [&'static str; 3]) {
                match self {
                    $(Function::$One => ($one_source, stringify!($one), kernels!($one)),)*
                    $(Function::$Two => ($two_source, stringify!($two), kernels!($two)),)*
                    $(Function::$OneBy(_) => ($one_by_source, stringify!($one_by), kernels!($one_by)),)*
                    $(Function::$TwoBy(_) => ($two_by_source, stringify!($two_by), kernels!($two_by)),)*
                    $(Function::$Of => ($of_source, stringify!($of), kernels!($of_kernel)),)*
                    $(Function::$OfBy(_) => ($of_by_source, stringify!($of_by), kernels!($of_by_kernel)),)*
                }
            }

            /// Returns the function of one operand, or the gradient, that has this name and no options. Returns `None`
            /// if no kernel computes it.
            #[cfg(feature = "candle-cuda")]
            pub(crate) fn named(name: &str) -> Option<Function> {
                match name {
                    $(stringify!($one) => Some(Function::$One),)*
                    $(stringify!($of) => Some(Function::$Of),)*
                    _ => None,
                }
            }

            /// Returns the name of the first operand.
            fn first(&self) -> &'static str {
                match self {
                    $(Function::$Two => stringify!($first),)*
                    _ => "x",
                }
            }

            /// Returns whether the function is a gradient.
            fn is_gradient(&self) -> bool {
                matches!(self, $(Function::$Of)|* | $(Function::$OfBy(_))|*)
            }

            /// Returns whether the function takes two operands.
            pub fn is_of_two(&self) -> bool {
                self.is_gradient() || matches!(self, $(Function::$Two)|* | $(Function::$TwoBy(_))|*)
            }
        }

        $(
            #[doc = concat!("Computes [`", stringify!($one), "`](crate::", stringify!($one), ").")]
            /// The results are computed on the stream's device, and are bit-identical to the CPU's.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the lengths differ; [`Error::Failed`] if the device fails.
            pub fn $one_into<E: DeviceElement>(
                stream: &Arc<CudaStream>,
                x: CudaView<'_, E>,
                out: CudaViewMut<'_, E>,
            ) -> Result<()> {
                apply(stream, &Function::$One, x, None, out)
            }
        )*
        $(
            #[doc = concat!("Computes [`", stringify!($two), "`](crate::", stringify!($two), ").")]
            /// The results are computed on the stream's device, and are bit-identical to the CPU's.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the lengths differ; [`Error::Failed`] if the device fails.
            pub fn $two_into<E: DeviceElement>(
                stream: &Arc<CudaStream>,
                $first: CudaView<'_, E>,
                $second: CudaView<'_, E>,
                out: CudaViewMut<'_, E>,
            ) -> Result<()> {
                apply(stream, &Function::$Two, $first, Some((stringify!($second), $second)), out)
            }
        )*
        $(
            #[doc = concat!("Computes [`", stringify!($one_by), "`](crate::", stringify!($one_by), ").")]
            /// The results are computed on the stream's device, and are bit-identical to the CPU's.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the lengths differ; [`Error::InvalidArgument`] as on the CPU;
            /// [`Error::Failed`] if the device fails.
            pub fn $one_by_into<E: DeviceElement>(
                stream: &Arc<CudaStream>,
                x: CudaView<'_, E>,
                out: CudaViewMut<'_, E>,
                options: &$OneBy,
            ) -> Result<()> {
                apply(stream, &Function::$OneBy(*options), x, None, out)
            }
        )*
        $(
            #[doc = concat!("Computes [`", stringify!($two_by), "`](crate::", stringify!($two_by), ").")]
            /// The results are computed on the stream's device, and are bit-identical to the CPU's.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the lengths differ; [`Error::InvalidArgument`] as on the CPU;
            /// [`Error::Failed`] if the device fails.
            pub fn $two_by_into<E: DeviceElement>(
                stream: &Arc<CudaStream>,
                x: CudaView<'_, E>,
                d: CudaView<'_, E>,
                out: CudaViewMut<'_, E>,
                options: &$TwoBy,
            ) -> Result<()> {
                apply(stream, &Function::$TwoBy(*options), x, Some(("d", d)), out)
            }
        )*
        $(
            #[doc = concat!("Computes [`", stringify!($of), "`](crate::", stringify!($of), ").")]
            /// The results are computed on the stream's device, and are bit-identical to the CPU's. All slices have the
            /// same length.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the lengths differ; [`Error::Failed`] if the device fails.
            pub fn $of_into<E: DeviceElement>(
                stream: &Arc<CudaStream>,
                x: CudaView<'_, E>,
                dy: CudaView<'_, E>,
                dx: CudaViewMut<'_, E>,
            ) -> Result<()> {
                apply(stream, &Function::$Of, x, Some(("dy", dy)), dx)
            }
        )*
        $(
            #[doc = concat!("Computes [`", stringify!($of_by), "`](crate::", stringify!($of_by), ").")]
            /// The results are computed on the stream's device, and are bit-identical to the CPU's. All slices have the
            /// same length.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the lengths differ; [`Error::InvalidArgument`] as on the CPU;
            /// [`Error::Failed`] if the device fails.
            pub fn $of_by_into<E: DeviceElement>(
                stream: &Arc<CudaStream>,
                x: CudaView<'_, E>,
                dy: CudaView<'_, E>,
                dx: CudaViewMut<'_, E>,
                options: &$Options,
            ) -> Result<()> {
                apply(stream, &Function::$OfBy(*options), x, Some(("dy", dy)), dx)
            }
        )*
    };
}

macro_rules! kernels {
    ($name:ident) => {
        [concat!(stringify!($name), "_f32"), concat!(stringify!($name), "_f16"), concat!(stringify!($name), "_bf16")]
    };
}

each_function!(define);

/// Applies the function to one or two slices, and writes the results to another slice of the same length.
pub(crate) fn apply<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    function: &Function,
    x: CudaView<'_, E>,
    other: Option<(&'static str, CudaView<'_, E>)>,
    mut out: CudaViewMut<'_, E>,
) -> Result<()> {
    let (_, name, _) = function.names();
    let len = x.len();
    if let Some((argument, other)) = &other {
        as_long(name, argument, other.len(), len)?;
    }
    let result = if function.is_gradient() { "dx" } else { "out" };
    as_long(name, result, out.len(), len)?;
    let _caller = device::CallerContext::save();
    let (x, _read) = device::read((name, function.first()), &x, stream)?;
    let other = other.as_ref().map(|(argument, other)| device::read((name, argument), other, stream)).transpose()?;
    let (y, _written) = device::write((name, result), &mut out, stream)?;
    let addresses = [x, other.as_ref().map_or(0, |(at, _)| *at), y];
    match launch(E::DTYPE, function, addresses, len)? {
        // SAFETY: the views have equal lengths, and are used on this stream.
        Some((launch, arguments)) => unsafe { device::run(stream, &launch, &arguments) },
        None => Ok(()),
    }
}

/// Returns the kernel that computes the function of `len` elements, and its arguments; `None` if there are no elements.
///
/// Takes three addresses: of the first operand, of the second operand, and of the results. Each has `len` elements.
/// Functions of one operand ignore the second address. The operands of a gradient are x and the gradient of the
/// function's result. Results may be at the address of an operand. If all addresses are multiples of 16, the kernel
/// moves 16 bytes at a time.
///
/// # Errors
/// [`Error::InvalidArgument`] for options that the CPU rejects too; [`Error::UnsupportedDType`] for f64.
///
/// # Example
/// ```
/// use evenkeel::DType;
/// use evenkeel::cuda::elementwise::{Function, launch};
///
/// let (x, dy) = (0x10_0000, 0x20_0000); // addresses on the device
/// let (launch, _arguments) = launch(DType::BF16, &Function::SiluBackward, [x, dy, dy], 4096 * 11008)?.unwrap();
/// assert_eq!(launch.kernel, "silu_backward_bf16");
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn launch(
    dtype: DType,
    function: &Function,
    [x, other, y]: [u64; 3],
    len: usize,
) -> Result<Option<(Launch, Arguments)>> {
    let (source, name, kernels) = function.names();
    // `per_thread` is the number of elements that a thread processes at a time: `Piece::COUNT` of the kernels.
    let (kernel, per_thread) = match dtype {
        DType::F32 => (kernels[0], 4),
        DType::F16 => (kernels[1], 16),
        DType::BF16 => (kernels[2], 16),
        DType::F64 => return Err(Error::UnsupportedDType { op: name, dtype: dtype.to_string(), backend: "cuda" }),
    };
    let limits = dtype.limits();
    let options = match function {
        Function::ClampedExp(options) | Function::ClampedExpBackward(options) => options.ends(name, &limits)?.into(),
        Function::ClampedLog(options) => [options.checked(name, &limits)?, 0.0],
        Function::ClampedLogBackward(options) => [options.checked(name, &limits)?, f64::INFINITY],
        Function::SafeDiv(options) => [options.checked(&limits)?, limits.max],
        // The kernels of gradients set the result to 0 if x is outside of a range. Here, the range includes every x.
        function if function.is_gradient() => [f64::NEG_INFINITY, f64::INFINITY],
        _ => [0.0; 2],
    };
    if len == 0 {
        return Ok(None);
    }
    let blocks = len.div_ceil(THREADS as usize * per_thread).min(MOST_BLOCKS) as u32;
    let launch = Launch { source, kernel, blocks, threads: THREADS, shared: 0 };
    Ok(Some((launch, Arguments { x, other, y, len: len as u64, options })))
}

pub(super) const THREADS: u32 = 256;
/// Maximum number of blocks. In larger calls, a block processes several tiles of `THREADS * per_thread` elements.
pub(super) const MOST_BLOCKS: usize = 1 << 20;
