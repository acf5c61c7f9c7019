//! The macro that generates an adapter for any version or fork of candle.

#![forbid(unsafe_code)]

/// Generates ops on candle tensors for a fork of candle, or for a version that the feature `candle` does not support.
///
/// The argument is the path of candle-core in your crate. The macro supports candle-core from 0.8 on. It also supports
/// forks in which `CustomOp1`, `CustomOp2`, `CustomOp3`, `CpuStorage` and `Layout` are unchanged. It needs only
/// Evenkeel's default features. Call it once, in a module of its own:
///
#[cfg_attr(feature = "candle", doc = "```")]
#[cfg_attr(not(feature = "candle"), doc = "```ignore")]
/// mod numerics {
///     evenkeel::candle_adapter!(candle_core); // or, for example, attention_candle
/// }
///
/// use candle_core::{D, DType, Device, Tensor};
/// use evenkeel::{Draw, Error, Mask, Request, SamplerConfig, Softmax};
/// use numerics::{guarded, ops};
///
/// # fn main() -> candle_core::Result<()> {
/// let scores = Tensor::zeros((2, 3, 3), DType::F16, &Device::Cpu)?;
/// let probs = ops::softmax(&scores, D::Minus1)?; // as candle_nn::ops::softmax
/// let mask = Mask::causal().and_lengths(&[3, 2]);
/// let masked = guarded::softmax(&scores, 2, &Softmax::default().mask(&mask).scale(0.125))?;
/// assert_eq!(probs.dims(), masked.dims());
///
/// // One request for each row. A row with NaN is an error of its request alone.
/// let logits = Tensor::new(&[[0f32, 2., 1.], [0., f32::NAN, 0.]], &Device::Cpu)?;
/// let sampler = SamplerConfig::default().temperature(0.0).validate().map_err(numerics::error)?;
/// let request = |row| Request { sampler: &sampler, step: Draw { seed: 1, row, draw: 0 }.into() };
/// let tokens = numerics::sample_rows(&logits, None, &[request(0), request(1)])?;
/// assert_eq!(tokens[0].as_ref().map(|sampled| sampled.token), Ok(1));
/// assert!(matches!(tokens[1], Err(Error::NonFiniteInput { row: 1, index: 1, .. })));
/// # Ok(())
/// # }
/// ```
///
/// # What the module has
///
/// | name | as |
/// |---|---|
/// | `ops::{softmax, softmax_last_dim, log_softmax, rms_norm, layer_norm, sigmoid, silu}` | `candle_nn::ops` |
/// | `rotary_emb::{rope, rope_i, rope_thd}` | `candle_nn::rotary_emb` |
/// | `guarded::{softmax, log_softmax}`, with mask, scale and other options | [`softmax`](crate::softmax()), [`log_softmax`](crate::log_softmax()) |
/// | `guarded::attention` | [`attention`](crate::attention()) |
/// | `sample_rows` | [`sample_rows`](crate::sample_rows()) |
/// | `error`, `typed` | see below |
///
/// Arguments and shapes of `ops`, `rotary_emb` and `guarded` are as in `evenkeel::candle`. With a second argument, as
/// in `candle_adapter!(candle_core, candle_nn)`, `ops` and `rotary_emb` also re-export all other items of candle-nn's
/// modules with these names. An engine then adopts Evenkeel's ops by changing only its imports of the two modules.
///
/// Tensors may be f64, f32, f16 or bf16, in any layout. Results have the same bits as those of the functions on slices.
/// A tensor that is not contiguous is copied first; attention copies it only if its last axis is not contiguous.
///
/// # Gradients
///
/// All ops have gradients, as computed by Evenkeel's `_backward` functions. The rotary embedding has no gradient for
/// `cos` and `sin`; the backward pass returns an error if candle tracks one of them. A gradient cannot be
/// differentiated again; an attempt returns an error.
///
/// # Devices
///
/// The ops take tensors on the CPU. For a tensor on another device they return [`Error::Unavailable`], and the engine
/// can call its own kernel. `sample_rows` copies logits to the CPU.
///
/// # Errors
///
/// All functions return candle's `Result`. `error` wraps an error of Evenkeel in candle's error. `typed` returns the
/// wrapped error, even if candle has added contexts. The wrapped error is inside a [`std::io::Error`], because candle's
/// own wrapper cannot be downcast before 0.9.2. For an integer type or a dimension out of range, the functions return
/// candle's own errors.
///
/// [`Error::Unavailable`]: crate::Error::Unavailable
#[macro_export]
macro_rules! candle_adapter {
    ($candle:path $(, $nn:path)? $(,)?) => {
        use $candle as framework;
        use framework::{CpuStorage, Device, Error, Layout, Result, Shape, Storage, Tensor};
        use $crate::adapter::{Op, Values, View};

        /// Softmax, norms and activations, as in `candle_nn::ops`.
        #[allow(dead_code, unused_imports, reason = "the caller may not need all")]
        pub mod ops {
            $(pub use $nn::{ops::*};)?
            use super::framework::{D, Result, Tensor, shape::Dim};
            use super::{Op, apply, guarded};

            /// Computes softmax along a dimension. A row that contains only -inf gives zeros.
            pub fn softmax<D: Dim>(xs: &Tensor, dim: D) -> Result<Tensor> {
                guarded::softmax(xs, dim, &Default::default())
            }

            /// Computes softmax along the last dimension.
            pub fn softmax_last_dim(xs: &Tensor) -> Result<Tensor> {
                softmax(xs, D::Minus1)
            }

            /// Computes the logarithm of softmax along a dimension.
            pub fn log_softmax<D: Dim>(xs: &Tensor, d: D) -> Result<Tensor> {
                guarded::log_softmax(xs, d, &Default::default())
            }

            /// Computes root-mean-square normalisation along the last dimension, multiplied by `alpha`.
            pub fn rms_norm(xs: &Tensor, alpha: &Tensor, eps: f32) -> Result<Tensor> {
                apply(Op::rms_norm(eps), &xs.contiguous()?, &[alpha.contiguous()?])
            }

            /// Computes layer normalisation along the last dimension, multiplied by `alpha`, plus `beta`.
            pub fn layer_norm(xs: &Tensor, alpha: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
                apply(Op::layer_norm(eps), &xs.contiguous()?, &[alpha.contiguous()?, beta.contiguous()?])
            }

            /// Computes 1 / (1 + e^-x) of each element.
            pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
                apply(Op::sigmoid(), &xs.contiguous()?, &[])
            }

            /// Computes x / (1 + e^-x) of each element.
            pub fn silu(xs: &Tensor) -> Result<Tensor> {
                apply(Op::silu(), &xs.contiguous()?, &[])
            }
        }

        /// Rotary embedding, as in `candle_nn::rotary_emb`.
        #[allow(dead_code, unused_imports, reason = "the caller may not need all")]
        pub mod rotary_emb {
            $(pub use $nn::{rotary_emb::*};)?
            use super::framework::{Result, Tensor};
            use super::{Op, apply};

            /// Rotates the pairs (i, i + cols / 2) of `[batch, heads, positions, cols]`.
            pub fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
                apply(Op::rope(false, 1), &xs.contiguous()?, &[cos.contiguous()?, sin.contiguous()?])
            }

            /// Rotates the pairs (2i, 2i + 1) of `[batch, heads, positions, cols]`.
            pub fn rope_i(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
                apply(Op::rope(true, 1), &xs.contiguous()?, &[cos.contiguous()?, sin.contiguous()?])
            }

            /// Rotates the pairs (i, i + cols / 2) of `[batch, positions, heads, cols]`.
            pub fn rope_thd(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
                apply(Op::rope(false, 2), &xs.contiguous()?, &[cos.contiguous()?, sin.contiguous()?])
            }
        }

        /// Ops with Evenkeel's options.
        #[allow(dead_code, reason = "the caller may not need it")]
        pub mod guarded {
            use super::framework::{Result, Tensor, shape::Dim};
            use super::{Op, apply};
            use $crate::{Attention, Softmax};

            /// Computes softmax along a dimension. A mask in the options broadcasts to the tensor's shape.
            pub fn softmax<D: Dim>(xs: &Tensor, dim: D, options: &Softmax<'_>) -> Result<Tensor> {
                let axis = dim.to_index(xs.shape(), "softmax")?;
                apply(Op::softmax(axis, options), &xs.contiguous()?, &[])
            }

            /// Computes the logarithm of softmax along a dimension.
            pub fn log_softmax<D: Dim>(xs: &Tensor, dim: D, options: &Softmax<'_>) -> Result<Tensor> {
                let axis = dim.to_index(xs.shape(), "log_softmax")?;
                apply(Op::log_softmax(axis, options), &xs.contiguous()?, &[])
            }

            /// Computes attention of queries `[batch, heads, queries, features]` over keys and values
            /// `[batch, heads of keys, keys, ..]`.
            pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Attention<'_>) -> Result<Tensor> {
                let readable = |xs: &Tensor| match xs.stride().last() {
                    Some(1) => Ok(xs.clone()),
                    _ => xs.contiguous(),
                };
                apply(Op::attention(options), &readable(q)?, &[readable(k)?, readable(v)?])
            }
        }

        /// Draws a token from each row of logits `[.., vocabulary]`. Logits on another device are copied to the CPU.
        #[allow(dead_code, reason = "the caller may not need it")]
        pub fn sample_rows(
            logits: &Tensor,
            mask: Option<&$crate::Mask<'_>>,
            requests: &[$crate::Request<'_>],
        ) -> Result<Vec<$crate::Result<$crate::Sampled>>> {
            let logits = logits.to_device(&Device::Cpu)?.contiguous()?;
            with_views("sample", &[&logits], |views| $crate::adapter::sample_rows(views[0], mask, requests))
        }

        /// Wraps an error of Evenkeel in candle's error.
        pub fn error(error: $crate::Error) -> Error {
            Error::from(::std::io::Error::other(error)).bt()
        }

        /// Returns the error of Evenkeel that candle's error wraps, if there is one.
        #[allow(dead_code, reason = "the caller may not need it")]
        pub fn typed(error: &Error) -> Option<&$crate::Error> {
            match error {
                Error::Io(error) => error.get_ref()?.downcast_ref(),
                Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => {
                    typed(inner)
                }
                _ => None,
            }
        }

        /// Implementation of candle's traits for all ops.
        struct Custom<'a>(Op<'a>);

        impl Custom<'_> {
            fn forward(&self, args: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
                let views = args.iter().map(|(storage, layout)| view(self.0.name(), storage, layout));
                let (values, dims) = self.0.forward(&views.collect::<Result<Vec<_>>>()?).map_err(error)?;
                Ok((storage(values), dims.into()))
            }

            /// Returns a gradient for each argument that candle tracks.
            fn backward<const N: usize>(&self, args: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]> {
                let op = self.0.name();
                let grad = grad.to_dtype(args[0].dtype())?.contiguous()?;
                let tensors: Vec<&Tensor> = args.into_iter().chain([&grad]).collect();
                let found = with_views(op, &tensors, |views| self.0.backward(&views[..N], views[N]))?;
                let found = found.into_iter().chain(::std::iter::repeat_with(|| None));
                let mut gradients = [const { None }; N];
                for ((arg, values), gradient) in args.into_iter().zip(found).zip(&mut gradients) {
                    if arg.track_op() {
                        let values = values.ok_or_else(|| Error::BackwardNotSupported { op }.bt())?;
                        let values = ::std::sync::Mutex::new(Some(storage(values)));
                        *gradient = Some(arg.apply_op1(Gradient { op, values })?);
                    }
                }
                Ok(gradients)
            }
        }

        /// Op that returns an already computed gradient. Second derivatives are not supported, so a backward pass
        /// through this op returns an error. If the gradient were an untracked tensor instead, a second backward pass
        /// would treat it as a constant, without an error.
        struct Gradient {
            op: &'static str,
            values: ::std::sync::Mutex<Option<CpuStorage>>,
        }

        impl framework::CustomOp1 for Gradient {
            fn name(&self) -> &'static str {
                self.op
            }

            fn cpu_fwd(&self, _: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
                // The values are present, because candle runs the op only once.
                let values = self.values.lock().ok().and_then(|mut values| values.take());
                values.map(|values| (values, layout.shape().clone())).ok_or_else(|| self.no_gradient())
            }

            fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
                Err(self.no_gradient())
            }
        }

        impl Gradient {
            fn no_gradient(&self) -> Error {
                Error::BackwardNotSupported { op: self.op }.bt()
            }
        }

        impl framework::CustomOp1 for Custom<'_> {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout) -> Result<(CpuStorage, Shape)> {
                self.forward(&[(s1, l1)])
            }

            fn bwd(&self, a1: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
                self.backward([a1], grad).map(|[d1]| d1)
            }
        }

        impl framework::CustomOp2 for Custom<'_> {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn cpu_fwd(
                &self,
                s1: &CpuStorage,
                l1: &Layout,
                s2: &CpuStorage,
                l2: &Layout,
            ) -> Result<(CpuStorage, Shape)> {
                self.forward(&[(s1, l1), (s2, l2)])
            }

            fn bwd(
                &self,
                a1: &Tensor,
                a2: &Tensor,
                _: &Tensor,
                grad: &Tensor,
            ) -> Result<(Option<Tensor>, Option<Tensor>)> {
                self.backward([a1, a2], grad).map(|[d1, d2]| (d1, d2))
            }
        }

        impl framework::CustomOp3 for Custom<'_> {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn cpu_fwd(
                &self,
                s1: &CpuStorage,
                l1: &Layout,
                s2: &CpuStorage,
                l2: &Layout,
                s3: &CpuStorage,
                l3: &Layout,
            ) -> Result<(CpuStorage, Shape)> {
                self.forward(&[(s1, l1), (s2, l2), (s3, l3)])
            }

            fn bwd(
                &self,
                a1: &Tensor,
                a2: &Tensor,
                a3: &Tensor,
                _: &Tensor,
                grad: &Tensor,
            ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
                self.backward([a1, a2, a3], grad).map(|[d1, d2, d3]| (d1, d2, d3))
            }
        }

        /// Applies an op to a tensor and up to two operands. The op copies its mask only if candle keeps the op for the
        /// backward pass.
        fn apply(op: Op<'_>, xs: &Tensor, operands: &[Tensor]) -> Result<Tensor> {
            if !xs.device().is_cpu() {
                return Err(error($crate::adapter::not_on_cpu(op.name(), xs.device().location())));
            }
            let is_tracked = xs.track_op() || operands.iter().any(Tensor::track_op);
            match (operands, is_tracked) {
                ([], false) => xs.apply_op1_no_bwd(&Custom(op)),
                ([a], false) => xs.apply_op2_no_bwd(a, &Custom(op)),
                ([a, b, ..], false) => xs.apply_op3_no_bwd(a, b, &Custom(op)),
                ([], true) => xs.apply_op1(Custom(op.into_owned())),
                ([a], true) => xs.apply_op2(a, Custom(op.into_owned())),
                ([a, b, ..], true) => xs.apply_op3(a, b, Custom(op.into_owned())),
            }
        }

        fn view<'a>(op: &'static str, storage: &'a CpuStorage, layout: &'a Layout) -> Result<View<'a>> {
            let floats: $crate::Floats<'a> = match storage {
                CpuStorage::F64(data) => data.into(),
                CpuStorage::F32(data) => data.into(),
                CpuStorage::F16(data) => data.into(),
                CpuStorage::BF16(data) => data.into(),
                other => {
                    let dtype = framework::backend::BackendStorage::dtype(other);
                    return Err(Error::UnsupportedDTypeForOp(dtype, op).bt());
                }
            };
            let range = layout.contiguous_offsets().unwrap_or((layout.start_offset(), floats.len()));
            Ok(View::new(floats, range, layout.dims(), layout.stride()))
        }

        /// Calls `f` with views of tensors on the CPU.
        fn with_views<R>(
            op: &'static str,
            tensors: &[&Tensor],
            f: impl FnOnce(&[View<'_>]) -> $crate::Result<R>,
        ) -> Result<R> {
            // A storage that several tensors share is locked only once. A second read lock would wait forever if
            // another thread requested a write lock after the first read lock.
            let address = |xs: &&Tensor| ::std::ptr::from_ref(&*xs.storage_and_layout().0);
            let addresses: Vec<_> = tensors.iter().map(address).collect();
            let first = |i: usize| addresses[..i].iter().position(|other| *other == addresses[i]).unwrap_or(i);
            let lock = |i: usize| (first(i) == i).then(|| tensors[i].storage_and_layout().0);
            let locked: Vec<_> = (0..tensors.len()).map(lock).collect();
            let views = tensors.iter().enumerate().map(|(i, xs)| match locked[first(i)].as_deref() {
                Some(Storage::Cpu(storage)) => view(op, storage, xs.layout()),
                _ => Err(error($crate::adapter::not_on_cpu(op, xs.device().location()))),
            });
            f(&views.collect::<Result<Vec<_>>>()?).map_err(error)
        }

        fn storage(values: Values) -> CpuStorage {
            match values {
                Values::F64(values) => CpuStorage::F64(values),
                Values::F32(values) => CpuStorage::F32(values),
                Values::F16(values) => CpuStorage::F16(values),
                Values::BF16(values) => CpuStorage::BF16(values),
            }
        }
    };
}
