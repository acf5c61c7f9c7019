//! Weights and biases in a device's memory.

use super::device;
use crate::element::DType;
use crate::error::{Error, Result};
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, SyncOnDrop};
use half::{bf16, f16};

/// A weight or bias, with one number for each column. The numbers have any type that kernels support, which may differ
/// from the rows' type.
#[derive(Debug)]
#[non_exhaustive]
pub enum Operand<'a> {
    /// binary32
    F32(CudaView<'a, f32>),
    /// binary16
    F16(CudaView<'a, f16>),
    /// bfloat16
    BF16(CudaView<'a, bf16>),
}

impl<'a> From<CudaView<'a, f32>> for Operand<'a> {
    fn from(values: CudaView<'a, f32>) -> Self {
        Operand::F32(values)
    }
}

impl<'a> From<CudaView<'a, f16>> for Operand<'a> {
    fn from(values: CudaView<'a, f16>) -> Self {
        Operand::F16(values)
    }
}

impl<'a> From<CudaView<'a, bf16>> for Operand<'a> {
    fn from(values: CudaView<'a, bf16>) -> Self {
        Operand::BF16(values)
    }
}

impl Operand<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Operand::F32(values) => values.len(),
            Operand::F16(values) => values.len(),
            Operand::BF16(values) => values.len(),
        }
    }

    /// Returns the address and type for a kernel on this stream, and a guard that marks the end of the read when
    /// dropped. Fails as [`device::read`] does.
    pub(super) fn at<'s>(
        &'s self,
        of: (&'static str, &'static str),
        stream: &'s CudaStream,
    ) -> Result<(TypedDevicePtr, SyncOnDrop<'s>)> {
        let (dtype, (address, read)) = match self {
            Operand::F32(values) => (DType::F32, device::read(of, values, stream)?),
            Operand::F16(values) => (DType::F16, device::read(of, values, stream)?),
            Operand::BF16(values) => (DType::BF16, device::read(of, values, stream)?),
        };
        Ok((TypedDevicePtr { address, dtype }, read))
    }
}

/// An [`Operand`] that a kernel writes, such as the gradient of a weight.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperandMut<'a> {
    /// binary32
    F32(CudaViewMut<'a, f32>),
    /// binary16
    F16(CudaViewMut<'a, f16>),
    /// bfloat16
    BF16(CudaViewMut<'a, bf16>),
}

impl<'a> From<CudaViewMut<'a, f32>> for OperandMut<'a> {
    fn from(values: CudaViewMut<'a, f32>) -> Self {
        OperandMut::F32(values)
    }
}

impl<'a> From<CudaViewMut<'a, f16>> for OperandMut<'a> {
    fn from(values: CudaViewMut<'a, f16>) -> Self {
        OperandMut::F16(values)
    }
}

impl<'a> From<CudaViewMut<'a, bf16>> for OperandMut<'a> {
    fn from(values: CudaViewMut<'a, bf16>) -> Self {
        OperandMut::BF16(values)
    }
}

impl OperandMut<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            OperandMut::F32(values) => values.len(),
            OperandMut::F16(values) => values.len(),
            OperandMut::BF16(values) => values.len(),
        }
    }

    /// Returns the address, type and guard as [`Operand::at`] does, for writing.
    pub(super) fn at<'s>(
        &'s mut self,
        of: (&'static str, &'static str),
        stream: &'s CudaStream,
    ) -> Result<(TypedDevicePtr, SyncOnDrop<'s>)> {
        let (dtype, (address, written)) = match self {
            OperandMut::F32(values) => (DType::F32, device::write(of, values, stream)?),
            OperandMut::F16(values) => (DType::F16, device::write(of, values, stream)?),
            OperandMut::BF16(values) => (DType::BF16, device::write(of, values, stream)?),
        };
        Ok((TypedDevicePtr { address, dtype }, written))
    }
}

/// Checks that an operand has one value for each column.
pub(super) fn one_a_column(op: &'static str, argument: &'static str, len: Option<usize>, cols: usize) -> Result<()> {
    match len {
        Some(len) if len != cols => {
            let (got, expected) = (format!("{len} elements"), format!("one for each of {cols} columns"));
            Err(Error::shape(op, argument, got, expected))
        }
        _ => Ok(()),
    }
}

/// Address and type of an operand on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypedDevicePtr {
    /// Address on the device.
    pub address: u64,
    /// Type of the numbers; f64 is not supported.
    pub dtype: DType,
}

/// Returns the address and the type code that kernels take, or zeros for `None`.
pub(super) fn given(op: &'static str, at: Option<TypedDevicePtr>) -> Result<(u64, u32)> {
    let Some(TypedDevicePtr { address, dtype }) = at else { return Ok((0, 0)) };
    let which = match dtype {
        DType::F32 => 1,
        DType::F16 => 2,
        DType::BF16 => 3,
        DType::F64 => return Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "cuda" }),
    };
    Ok((address, which))
}
