//! Building blocks of stable training: initialisation, loss scaling, unscaling with clipping, and optimisers.
//!
//! | item | purpose |
//! |---|---|
//! | [`init`] | initialises weights, with the same numbers on every machine |
//! | [`LossScale`], [`LossScaler`] | prevents gradients from vanishing in f16, and skips steps whose gradients overflow |
//! | [`LossScaler::unscale`] | checks, unscales and clips gradients before any weight changes |
//! | [`AdaptiveClip`] | limits gradients relative to the norm of their weights |
//! | [`Accumulator`] | sums f16 and bf16 gradients without stalling |
//! | [`Optimizer`] with [`AdamW`] or [`Sgd`] | updates weights, with f32 master weights, moments that neither overflow nor vanish, and typed errors for non-finite values |
//! | [`stochastic_round`] | rounds weights to 16 bits without bias, so that small changes accumulate without master weights |
//! | [`precision`] | lists the types in which the parts of a step are stored and computed |
//! | [`Monitor`] | logs losses, norms and layers, and warns about them |
//!
//! All items of the table work on slices. `evenkeel::candle` has the equivalents for candle tensors: the modules `init`
//! and `optim`; the functions `guarded::unscale` and `guarded::adaptive_clip`; and a complete step in the module
//! `train`. Results have the same bits for every number of threads and on every instruction set.
//!
//! A step has a fixed order: scale the loss, run the backward pass, unscale and clip the gradients, update the weights,
//! update the scale. The scaler rejects any other order.
//!
//! ```
//! use evenkeel::ClipGradNorm;
//! use evenkeel::train::init::{Init, Stream, fill};
//! use evenkeel::train::{AdamW, Accumulator, LossScale, Optimizer, Unscaled};
//! use half::f16;
//!
//! let mut weight = vec![f16::ZERO; 8];
//! fill(&mut weight, &[2, 4], &Init::xavier_uniform(0.5), Stream::named(42, "weight"))?;
//! let mut optimizer = Optimizer::new(AdamW::default().lr(1e-2), &[(&weight).into()])?;
//! let mut scaler = LossScale::dynamic().init(1024.0).validate()?;
//! let clip = ClipGradNorm::new(1.0);
//!
//! for step in 0..100 {
//!     // The backward pass of a model, for a loss that is multiplied by the scale. Here the loss is half the sum of
//!     // squares, and one step overflows.
//!     let scale = if step == 7 { f32::INFINITY } else { scaler.scale() };
//!     let grad: Vec<f16> = weight.iter().map(|w| f16::from_f32(w.to_f32() * scale)).collect();
//!
//!     let mut grads = Accumulator::new(&[8])?;
//!     grads.add(&[Some((&grad).into())])?;
//!     match scaler.unscale(&mut grads.grads_mut(), &clip)? {
//!         Unscaled::Ready { norm, .. } => assert!(norm < 1.0),
//!         Unscaled::Skip { why, .. } => assert_eq!((step, why.row()), (7, Some(0))),
//!     }
//!     if scaler.step()? {
//!         optimizer.step(&mut [(&mut weight).into()], &[Some((&grads.grads()[0]).into())])?;
//!     }
//!     scaler.update()?;
//! }
//! assert_eq!((scaler.taken(), scaler.skipped(), scaler.scale()), (99, 1, 512.0));
//! assert!(weight.iter().all(|w| w.to_f32().abs() < 0.05));
//! # Ok::<(), evenkeel::Error>(())
//! ```

#![forbid(unsafe_code)]

mod accumulator;
mod adamw;
mod adaptive_clip;
pub mod init;
mod loss_scale;
mod loss_scaler;
mod monitor;
pub(crate) mod optimizer;
pub mod precision;
mod sgd;
mod stochastic_round;
pub(crate) mod unscale;

pub use accumulator::Accumulator;
pub use adamw::AdamW;
pub use adaptive_clip::AdaptiveClip;
pub use loss_scale::LossScale;
pub use loss_scaler::{LossScaler, LossScalerState};
#[cfg(feature = "jsonl")]
pub use monitor::Jsonl;
#[cfg(feature = "tensorboard")]
pub use monitor::TensorBoard;
#[cfg(feature = "tracing")]
pub use monitor::Tracing;
pub use monitor::{Bin, Histogram, Layer, Limits, Monitor, Record, Sink, Step, Summary, Warning};
pub use optimizer::{Numbers, Optimizer, ParameterState, Rule};
pub use sgd::Sgd;
pub use stochastic_round::stochastic_round;
pub use unscale::Unscaled;
