//! What a Neuron device is given to run: one program for each op, type and shape.

#![forbid(unsafe_code)]

use super::graph::{Graph, Type, Value};
use super::{hlo, stablehlo};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;

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
    /// The type of a tensor's elements.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] for f64, which these devices have not.
    pub(super) fn of(op: &'static str, dtype: DType) -> Result<Self> {
        match dtype {
            DType::F64 => Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "neuron" }),
            DType::F32 => Ok(ElementType::F32),
            DType::F16 => Ok(ElementType::F16),
            DType::BF16 => Ok(ElementType::BF16),
        }
    }

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
        self.shape.iter().fold(1, |elements: usize, dim| elements.saturating_mul(*dim))
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }
}

/// A program of static shapes, in both forms that Neuron's compiler is said to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    name: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    hlo: Vec<u8>,
    stablehlo: String,
    graph: Graph,
}

impl Program {
    /// What a graph computes, if all in it fits.
    pub(super) fn new(op: &'static str, name: String, graph: Graph) -> Result<Self> {
        let graph = graph.finish(op)?;
        let specs = |values: &[Value]| values.iter().filter_map(|value| spec(&graph, *value)).collect();
        Ok(Program {
            inputs: specs(&graph.parameters),
            outputs: specs(&graph.outputs),
            hlo: hlo::encode(&name, &graph),
            stablehlo: stablehlo::write(&name, &graph),
            name,
            graph,
        })
    }

    /// The program with one output instead, `[1, n]` in f32: for each f32 that it computes on the way, 0 if all of it
    /// is finite, 1 if some is infinite, 2 if some is NaN.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] of a program that was made elsewhere.
    pub fn instrumented(&self) -> Result<Program> {
        Program::new("instrumented", format!("{}_instrumented", self.name), self.graph.instrumented())
    }

    #[cfg(feature = "testing")]
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A program that was made elsewhere, in one or both forms; a form that is empty can't be compiled.
    pub fn from_parts(
        name: impl Into<String>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        hlo: Vec<u8>,
        stablehlo: impl Into<String>,
    ) -> Self {
        let (name, stablehlo) = (name.into(), stablehlo.into());
        Program { name, inputs: inputs.to_vec(), outputs: outputs.to_vec(), hlo, stablehlo, graph: Graph::default() }
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

fn spec(graph: &Graph, value: Value) -> Option<TensorSpec> {
    let node = graph.node(value);
    match node.dtype {
        Type::Of(dtype) => Some(TensorSpec::new(dtype, &node.dims)),
        Type::Pred => None,
    }
}

/// What programs of rows are of, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub dtype: ElementType,
    pub rows: usize,
    pub cols: usize,
}

impl Matrix {
    /// # Errors
    /// [`Error::UnsupportedDType`] for f64, [`Error::EmptyInput`] for no elements, [`Error::InvalidArgument`] for more
    /// than 2^21 columns or more elements than 31 bits count.
    pub fn new(op: &'static str, dtype: DType, rows: usize, cols: usize) -> Result<Self> {
        let dtype = ElementType::of(op, dtype)?;
        if rows == 0 || cols == 0 {
            return Err(Error::EmptyInput { op });
        }
        if cols > MAX_TERMS {
            return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
        }
        if rows.checked_mul(cols).is_none_or(|elements| elements > i32::MAX as usize) {
            return Err(Error::invalid(op, "rows", rows, format!("at most {}", i32::MAX as usize / cols)));
        }
        Ok(Matrix { dtype, rows, cols })
    }

    /// The name of an op's program: `softmax_bf16_8x1024`.
    pub fn name(&self, op: &str) -> String {
        let dtype = match self.dtype {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::BF16 => "bf16",
            ElementType::U8 => "u8",
            ElementType::S32 => "s32",
        };
        format!("{op}_{dtype}_{}x{}", self.rows, self.cols)
    }

    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }
}
