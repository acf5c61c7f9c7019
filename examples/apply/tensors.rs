//! Converts tensors of safetensors files to operands, and results of ops to tensors of such files.

use evenkeel::{Floats, Mask};
use half::{bf16, f16};
use safetensors::Dtype;
use std::any::Any;

/// Elements of one of the float types.
pub enum Values {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// Evaluates an expression for the vector inside a [`Values`], whatever its type.
macro_rules! each_type {
    ($values:expr, $x:ident => $e:expr) => {
        match $values {
            $crate::tensors::Values::F64($x) => $e,
            $crate::tensors::Values::F32($x) => $e,
            $crate::tensors::Values::F16($x) => $e,
            $crate::tensors::Values::BF16($x) => $e,
        }
    };
}
pub(crate) use each_type;

impl Values {
    /// Reads the elements from the bytes of a file. Returns `None` if they are not floats.
    pub fn read(dtype: Dtype, bytes: &[u8]) -> Option<Self> {
        match dtype {
            Dtype::F64 => Some(Values::F64(read(bytes, f64::from_le_bytes))),
            Dtype::F32 => Some(Values::F32(read(bytes, f32::from_le_bytes))),
            Dtype::F16 => Some(Values::F16(read(bytes, f16::from_le_bytes))),
            Dtype::BF16 => Some(Values::BF16(read(bytes, bf16::from_le_bytes))),
            _ => None,
        }
    }

    /// Returns the elements if they have type `T`.
    pub fn of<T: 'static>(&self) -> Option<&[T]> {
        each_type!(self, x => (x as &dyn Any).downcast_ref::<Vec<T>>().map(Vec::as_slice))
    }

    /// Returns the elements as an operand of any float type.
    pub fn floats(&self) -> Floats<'_> {
        each_type!(self, x => x.into())
    }
}

/// Reads little-endian elements of `N` bytes each.
pub fn read<T, const N: usize>(bytes: &[u8], element: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| element(bytes)).collect()
}

pub struct Input {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// A mask input: flags or biases.
pub struct MaskInput<'a> {
    pub shape: Vec<usize>,
    pub part: MaskPart<'a>,
}

/// Kind and elements of a mask input.
pub enum MaskPart<'a> {
    Keep(&'a [u8]),
    Bias(Values),
}

impl MaskInput<'_> {
    /// Returns the mask for an op.
    pub fn mask(&self) -> Mask<'_> {
        match &self.part {
            MaskPart::Keep(flags) => Mask::keep(*flags, &self.shape),
            MaskPart::Bias(values) => Mask::bias(values.floats(), &self.shape),
        }
    }
}

/// Result of an op.
pub struct Output {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Output {
    /// Stores values with this shape.
    pub fn new<T: Stored>(shape: &[usize], values: &[T]) -> Self {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.append_to(&mut bytes));
        Output { dtype: T::DTYPE, shape: shape.to_vec(), bytes }
    }
}

/// Element type of a result.
pub trait Stored {
    const DTYPE: Dtype;
    fn append_to(&self, bytes: &mut Vec<u8>);
}

macro_rules! stored {
    ($($type:ty => $dtype:ident),*) => {$(
        impl Stored for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            fn append_to(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
stored!(f64 => F64, f32 => F32, f16 => F16, bf16 => BF16, i64 => I64);
