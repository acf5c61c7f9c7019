//! Programs that Neuron devices run: one for each op, type and shape.

#![forbid(unsafe_code)]

use super::graph::{Graph, Type, Value};
use super::{hlo, stablehlo};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;

/// Element type of a program's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an [`F32`](ElementType::F32).
    BF16,
    /// Unsigned 8-bit integers, used for keep flags.
    U8,
    /// Signed 32-bit integers, used for class and token indices and for row statuses.
    S32,
}

impl ElementType {
    /// Returns the element type for a storage type.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] for f64, which Neuron devices do not support.
    pub(super) fn of(op: &'static str, dtype: DType) -> Result<Self> {
        match dtype {
            DType::F64 => Err(Error::UnsupportedDType { op, dtype: dtype.to_string(), backend: "neuron" }),
            DType::F32 => Ok(ElementType::F32),
            DType::F16 => Ok(ElementType::F16),
            DType::BF16 => Ok(ElementType::BF16),
        }
    }

    /// Returns the number of bytes of an element.
    pub fn size(self) -> usize {
        match self {
            ElementType::F32 | ElementType::S32 => 4,
            ElementType::F16 | ElementType::BF16 => 2,
            ElementType::U8 => 1,
        }
    }
}

/// Type and row-major shape of a program's input or output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TensorSpec {
    /// Type of the elements.
    pub dtype: ElementType,
    /// Length of each dimension.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Creates a specification from a type and a shape.
    pub fn new(dtype: ElementType, shape: &[usize]) -> Self {
        TensorSpec { dtype, shape: shape.to_vec() }
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |elements: usize, dim| elements.saturating_mul(*dim))
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }
}

/// A program of static shapes, as HLO and as StableHLO. Neuron's compiler reportedly accepts both.
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
    /// Creates a program from a graph, if no operator or output of the graph has a wrong shape or type.
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

    /// Returns a copy of the program whose outputs are replaced by one f32 output of shape `[1, n]`. This output has
    /// one flag for each f32 value that the program computes: 0 if all elements are finite, 1 if some are infinite but
    /// none is NaN, and 2 if some are NaN.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a program created by [`Program::from_parts`].
    pub fn instrumented(&self) -> Result<Program> {
        Program::new("instrumented", format!("{}_instrumented", self.name), self.graph.instrumented())
    }

    #[cfg(feature = "testing")]
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Creates a program from external HLO, StableHLO or both. A form that is empty cannot be compiled.
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

    /// Returns the name, made of op, type and shape, such as `softmax_bf16_8x1024`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the specifications of the inputs, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// Returns the specifications of the outputs, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Returns the program as a serialised `HloModuleProto`, the documented input of Neuron's compiler.
    pub fn hlo(&self) -> &[u8] {
        &self.hlo
    }

    /// Returns the program as StableHLO text.
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

/// Checked type and shape of the rows of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub dtype: ElementType,
    pub rows: usize,
    pub cols: usize,
}

impl Matrix {
    /// Checks the type and shape.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] for f64; [`Error::EmptyInput`] for no elements; [`Error::InvalidArgument`] for more
    /// than 2^21 columns, or more than 2^31 - 1 elements.
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

    /// Returns the name of an op's program, such as `softmax_bf16_8x1024`.
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
