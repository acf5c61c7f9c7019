//! What a Neuron device is given to run: one program for each op, type and shape.

#![forbid(unsafe_code)]

/// A type that tensors of programs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an [`F32`](ElementType::F32).
    BF16,
    /// Bytes, of masks.
    U8,
    /// Integers, of indices and flags.
    S32,
}

impl ElementType {
    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            ElementType::F32 | ElementType::S32 => 4,
            ElementType::F16 | ElementType::BF16 => 2,
            ElementType::U8 => 1,
        }
    }
}

/// Type and shape of a program's input or output, row-major.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    /// What its elements are.
    pub dtype: ElementType,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor of these.
    pub fn new(dtype: ElementType, shape: &[usize]) -> Self {
        TensorSpec { dtype, shape: shape.to_vec() }
    }

    /// Elements it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

/// A program of static shapes, in both forms that Neuron's compiler is said to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub(super) name: String,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) hlo: Vec<u8>,
    pub(super) stablehlo: String,
}

impl Program {
    /// A program that was made elsewhere, in one or both forms; a form that is empty can't be compiled.
    pub fn from_parts(
        name: impl Into<String>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        hlo: Vec<u8>,
        stablehlo: impl Into<String>,
    ) -> Self {
        let (name, stablehlo) = (name.into(), stablehlo.into());
        Program { name, inputs: inputs.to_vec(), outputs: outputs.to_vec(), hlo, stablehlo }
    }

    /// The op and what it is of, such as `softmax_bf16_8x1024`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it takes, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What it gives, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// As a serialised `HloModuleProto`, which Neuron's compiler is documented to read.
    pub fn hlo(&self) -> &[u8] {
        &self.hlo
    }

    /// As StableHLO text.
    pub fn stablehlo(&self) -> &str {
        &self.stablehlo
    }
}
