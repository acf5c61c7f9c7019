//! What softmax, log_softmax and logsumexp share on the host.

use super::device;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::mask::FullyMasked;
use crate::math::sum::MAX_TERMS;
use crate::ops::softmax::Softmax;
use cudarc::driver::{CudaStream, DevicePtrMut};
use std::sync::Arc;

/// Blocks take more than one row beyond this.
pub const MOST_BLOCKS: usize = 1 << 20;

/// Whether scores are not their own logits.
pub fn has_options(options: &Softmax<'_>) -> bool {
    options.scale != 1.0 || options.softcap.is_some()
}

/// Checks options of rows without masks, scale and softcap.
pub fn check_plain(op: &'static str, cols: usize, options: &Softmax<'_>) -> Result<()> {
    options.check(op)?;
    if options.mask.is_some_and(|mask| !mask.is_none()) {
        return Err(Error::invalid(
            op,
            "mask",
            "in the host's memory",
            "an argument of a function for masked rows, if any",
        ));
    }
    let unmet = |argument, value: f64| Err(Error::invalid(op, argument, value, "left out, but for masked rows"));
    if options.scale != 1.0 {
        return unmet("scale", options.scale);
    }
    if let Some(cap) = options.softcap {
        return unmet("softcap", cap);
    }
    if cols > MAX_TERMS {
        return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
    }
    Ok(())
}

/// The index of a type's kernels, and how many of its elements are sixteen bytes.
pub fn of_type(op: &'static str, dtype: DType) -> Result<(usize, usize)> {
    match dtype {
        DType::F32 => Ok((0, 4)),
        DType::F16 => Ok((1, 8)),
        DType::BF16 => Ok((2, 8)),
        DType::F64 => Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "cuda" }),
    }
}

/// The kernels of an op whose result is the logarithm of a sum, or made of it; by type, and for rows that are read one
/// element at a time, that a warp or a block holds in its registers, and that are longer.
pub type Names = [[&'static str; 4]; 3];

/// The smallest kernel that holds a row in its registers, and how many threads its blocks have.
pub fn kernel(
    op: &'static str,
    names: &Names,
    dtype: DType,
    cols: usize,
    addresses: &[u64],
) -> Result<(&'static str, u32)> {
    let (index, lanes) = of_type(op, dtype)?;
    let names = names[index];
    let is_aligned = addresses.iter().all(|address| address.is_multiple_of(16)) && cols.is_multiple_of(lanes);
    let held = |threads: usize| threads * 4 * lanes;
    Ok(match cols {
        _ if !is_aligned => (names[0], 256),
        cols if cols <= held(32) => (names[1], 32),
        cols if cols <= held(256) => (names[2], 256),
        _ => (names[3], 1024),
    })
}

/// Calls `f` with the address of what counts the rows that are met, if the policy asks for it, and refuses what it
/// refuses: then the host waits for the stream.
pub fn refusing(
    op: &'static str,
    stream: &Arc<CudaStream>,
    policy: FullyMasked,
    f: impl FnOnce(u64) -> Result<()>,
) -> Result<()> {
    if policy != FullyMasked::Error {
        return f(0);
    }
    let mut met = device::check(stream.clone_htod(&[0, 0, 0, u64::MAX]))?;
    {
        let (at, _written) = met.device_ptr_mut(stream);
        f(at)?;
    }
    let counts = device::check(stream.clone_dtoh(&met))?;
    if counts[2] > 0 {
        return Err(Error::FullyMasked { op, row: counts[3] as usize });
    }
    Ok(())
}
