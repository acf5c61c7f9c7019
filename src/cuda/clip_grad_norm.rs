//! Gradient clipping by the global norm of all gradients, on a device.

use super::device::{self, Launch};
use super::workspace;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::math::sum::TILE;
use crate::ops::clip_grad_norm::{ClipGradNorm, ClipMode, NormType, OP, refusal};
use cudarc::driver::{CudaStream, CudaViewMut, DeviceRepr};
use half::{bf16, f16};
use std::sync::Arc;

/// Description of a tensor for the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tensor {
    address: u64,
    len: u64,
    first_run: u64,
    dtype: u64,
}

/// Arguments of the kernels, passed as one struct.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    tensors: u64,
    count: u64,
    runs: u64,
    tiles: u64,
    parts: u64,
    norm: u64,
    scale: u64,
    refuses: u64,
    torch: u64,
    max_norm: f64,
}

// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Tensor {}
// SAFETY: the struct has plain integers and a float in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}

/// All elements of one gradient.
#[derive(Debug)]
#[non_exhaustive]
pub enum Gradient<'a> {
    /// A gradient of f32.
    F32(CudaViewMut<'a, f32>),
    /// A gradient of f16.
    F16(CudaViewMut<'a, f16>),
    /// A gradient of bf16.
    BF16(CudaViewMut<'a, bf16>),
}

macro_rules! from_view {
    ($element:ident, $variant:ident) => {
        impl<'a> From<CudaViewMut<'a, $element>> for Gradient<'a> {
            fn from(view: CudaViewMut<'a, $element>) -> Self {
                Gradient::$variant(view)
            }
        }
    };
}
from_view!(f32, F32);
from_view!(f16, F16);
from_view!(bf16, BF16);

/// Computes [`clip_grad_norm`](crate::clip_grad_norm()) of gradients on the stream's device. The results are
/// bit-identical to the CPU's. Writes the norm to `norm`, which has one element. Only norms of type 2 are supported.
///
/// The list of the gradients' addresses and lengths is copied to the device, unless it equals the stream's previous
/// list.
///
/// # Errors
/// [`Error::InvalidArgument`] as on the CPU, and for other norm types; [`Error::ShapeMismatch`] unless `norm` has one
/// element; [`Error::Failed`] if the device fails. With [`error_if_nonfinite`](ClipGradNorm::error_if_nonfinite), the
/// host waits for the stream and returns [`Error::NonFiniteInput`] as on the CPU. Without it, the host does not wait.
pub fn clip_grad_norm(
    stream: &Arc<CudaStream>,
    grads: &mut [Gradient<'_>],
    mut norm: CudaViewMut<'_, f64>,
    options: &ClipGradNorm,
) -> Result<()> {
    if norm.len() != 1 {
        return Err(Error::shape(OP, "norm", format!("{} elements", norm.len()), "1".to_string()));
    }
    let _caller = device::CallerContext::save();
    let parts = {
        let (mut list, mut uses) = (Vec::new(), Vec::new());
        for grad in grads.iter_mut() {
            let (len, dtype, (address, used)) = match grad {
                Gradient::F32(view) => (view.len(), DType::F32, device::write((OP, "gradients"), view, stream)?),
                Gradient::F16(view) => (view.len(), DType::F16, device::write((OP, "gradients"), view, stream)?),
                Gradient::BF16(view) => (view.len(), DType::BF16, device::write((OP, "gradients"), view, stream)?),
            };
            list.push((address, len, dtype));
            uses.push(used);
        }
        let plan = Plan::new(&list, options)?;
        let (norm, _written) = device::write((OP, "norm"), &mut norm, stream)?;
        workspace::with(stream, |workspace| {
            // The sums of squares are at the start of the workspace, because the host reads the workspace's first
            // words.
            let count = plan.tensors.len();
            let parts = workspace.words(OP, count + 2 + plan.tiles())?;
            let behind = |words: usize| parts + (words * size_of::<f64>()) as u64;
            let (scale, tiles) = (behind(count), behind(count + 2));
            let memory = Memory { tensors: workspace.list(OP, &plan.tensors)?, tiles, parts, norm, scale };
            let (launches, arguments) = plan.launches(memory);
            for launch in launches {
                // SAFETY: the tensors come from the views, the workspace has the lengths of the plan, and all are used
                // on this stream.
                unsafe { device::run(stream, &launch, &arguments)? };
            }
            if options.error_if_nonfinite { workspace.read_words(count) } else { Ok(Vec::new()) }
        })?
    };
    if let Some(tensor) = parts.iter().position(|part| !f64::from_bits(*part).is_finite()) {
        return Err(match &grads[tensor] {
            Gradient::F32(view) => refusal(OP, "tensor", tensor, Floats::F32(&device::to_host(stream, view)?))?,
            Gradient::F16(view) => refusal(OP, "tensor", tensor, Floats::F16(&device::to_host(stream, view)?))?,
            Gradient::BF16(view) => refusal(OP, "tensor", tensor, Floats::BF16(&device::to_host(stream, view)?))?,
        });
    }
    Ok(())
}

/// Addresses of the memory that the kernels use in addition to the tensors.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Copy of [`Plan::tensors`] on the device.
    pub tensors: u64,
    /// Workspace for the sum of each tile, an array of [`Plan::tiles`] f64 values.
    pub tiles: u64,
    /// Output: one f64 for each tensor, the sum of the squares of its elements.
    pub parts: u64,
    /// Output: the norm, as one f64.
    pub norm: u64,
    /// Output: two f64. The first is the clipping factor. The second is 1 if elements are multiplied by the factor,
    /// else 0.
    pub scale: u64,
}

/// Kernels that clip a list of gradients.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tensors; the kernels read a copy of this list.
    pub tensors: Vec<Tensor>,
    runs: u64,
    options: ClipGradNorm,
}

impl Plan {
    /// Plans the clipping of tensors with these addresses, lengths and types.
    ///
    /// # Errors
    /// The errors of [`clip_grad_norm`]; [`Error::UnsupportedDType`] for f64.
    pub fn new(tensors: &[(u64, usize, DType)], options: &ClipGradNorm) -> Result<Self> {
        options.check()?;
        if options.norm_type != NormType::Two {
            let norm_type = format!("{:?}", options.norm_type);
            return Err(Error::invalid(OP, "norm_type", norm_type, "Two on CUDA devices"));
        }
        let mut runs = 0;
        let tensors = tensors.iter().map(|&(address, len, dtype)| {
            let first_run = runs;
            runs += len.div_ceil(TILES_OF_RUN * TILE) as u64;
            let dtype = match dtype {
                DType::F32 => 0,
                DType::F16 => 1,
                DType::BF16 => 2,
                DType::F64 => {
                    let dtype = dtype.to_string();
                    return Err(Error::UnsupportedDType { op: OP, dtype, backend: "cuda" });
                }
            };
            Ok(Tensor { address, len: len as u64, first_run, dtype })
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        Ok(Plan { tensors, runs, options: *options })
    }

    /// Returns the number of f64 that [`Memory::tiles`] must hold.
    pub fn tiles(&self) -> usize {
        self.runs as usize * TILES_OF_RUN
    }

    /// Returns the kernels in launch order, and the arguments that all of them take.
    pub fn launches(&self, memory: Memory) -> (Vec<Launch>, Arguments) {
        let count = self.tensors.len() as u64;
        let of_runs = self.runs.min(MOST_BLOCKS) as u32;
        let each = [
            ("clip_grad_norm_tiles", of_runs, 256),
            ("clip_grad_norm_parts", count.min(MOST_BLOCKS) as u32, 64),
            ("clip_grad_norm_settle", 1, 64),
            ("clip_grad_norm_multiply", of_runs, 256),
        ];
        let launches = each.into_iter().filter(|(_, blocks, _)| *blocks > 0);
        let launches =
            launches.map(|(kernel, blocks, threads)| Launch { source: OP, kernel, blocks, threads, shared: 0 });
        let Memory { tensors, tiles, parts, norm, scale } = memory;
        let ClipGradNorm { max_norm, mode, error_if_nonfinite, .. } = self.options;
        let (refuses, torch) = (u64::from(error_if_nonfinite), u64::from(mode == ClipMode::Torch));
        let runs = self.runs;
        let arguments = Arguments { tensors, count, runs, tiles, parts, norm, scale, refuses, torch, max_norm };
        (launches.collect(), arguments)
    }
}

/// Number of tiles in a run, the part of a tensor that a block processes at a time.
const TILES_OF_RUN: usize = 32;
/// Maximum number of blocks. If there are more runs or tensors than blocks, a block processes several.
const MOST_BLOCKS: u64 = 1 << 20;
