//! Kernels for CUDA devices: the same bits as on the CPU, from PTX that is part of this crate. Neither building nor
//! starting a program needs CUDA; the driver is looked for when a device is asked for.
//!
//! Slices are those of [`cudarc`], which is re-exported. For pointers that come from elsewhere, each op has a `launch`
//! that says which kernel of [`PTX`] is to run with which arguments.
//!
//! What rows were met is not reported: the host does not wait for the device.
//!
//! ```no_run
//! use evenkeel::Softmax;
//! use evenkeel::cuda::{self, Rows, RowsMut};
//!
//! let stream = cuda::device(0)?.default_stream();
//! let x = stream.clone_htod(&[1.0f32, 2.0, 3.0, 4.0])?;
//! let mut y = stream.alloc_zeros::<f32>(4)?;
//! let (from, to) = (Rows::new(x.as_view(), 2, 2)?, RowsMut::new(y.as_view_mut(), 2, 2)?);
//! cuda::softmax_into(&stream, from, to, &Softmax::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod device;
pub mod layer_norm;
pub mod layer_norm_backward;
mod norm;
mod norm_backward;
mod operand;
pub mod rms_norm;
pub mod rms_norm_backward;
mod rows;
pub mod softmax;

pub use cudarc;
pub use device::{Launch, PTX, device};
pub use layer_norm::layer_norm_into;
pub use layer_norm_backward::layer_norm_backward_into;
pub use operand::{At, Operand, OperandMut};
pub use rms_norm::{rms_norm_into, rms_norm_residual_into};
pub use rms_norm_backward::rms_norm_backward_into;
pub use rows::{DeviceElement, Rows, RowsMut};
pub use softmax::softmax_into;
