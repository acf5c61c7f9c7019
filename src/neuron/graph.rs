//! Graphs of programs. A graph consists of typed values with static shapes, and the few operators that all devices
//! support.
//!
//! Operands of an operator are broadcast to a common shape. A scalar broadcasts to any shape. One value for each row
//! broadcasts to all elements of its row.

#![forbid(unsafe_code)]

use super::program::ElementType;
use crate::error::{Error, Result};

/// Type of a value within a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Boolean, which is never an input or output of a program.
    Pred,
    Of(ElementType),
}

pub const F32: Type = Type::Of(ElementType::F32);

/// A value of a graph: the index of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Abs,
    Exp,
    Log,
    Rsqrt,
    Tanh,
}

impl Unary {
    /// Returns the name in HLO and StableHLO.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Abs => "abs",
            Unary::Exp => "exponential",
            Unary::Log => "log",
            Unary::Rsqrt => "rsqrt",
            Unary::Tanh => "tanh",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Maximum,
    Minimum,
}

impl Binary {
    /// Returns the name in HLO and StableHLO.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Subtract => "subtract",
            Binary::Multiply => "multiply",
            Binary::Divide => "divide",
            Binary::Maximum => "maximum",
            Binary::Minimum => "minimum",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    /// Returns the name in HLO and StableHLO.
    pub fn name(self) -> &'static str {
        match self {
            Comparison::Eq => "EQ",
            Comparison::Ne => "NE",
            Comparison::Lt => "LT",
            Comparison::Le => "LE",
            Comparison::Gt => "GT",
            Comparison::Ge => "GE",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    Parameter(usize),
    Constant(f32),
    /// Broadcast to the node's shape. For each axis of the operand, the list has the index of this axis in the result.
    Broadcast(Vec<usize>),
    Reshape,
    Convert,
    /// Index of each element along this axis.
    Iota(usize),
    /// Concatenation along this axis.
    Concatenate(usize),
    Unary(Unary),
    Binary(Binary),
    Compare(Comparison),
    And,
    Not,
    /// Takes the second operand where the first operand is true, and the third operand elsewhere.
    Select,
    /// Reduction of the first operand along its last axis; the second operand is the initial value.
    Reduce(Binary),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub operator: Operator,
    pub operands: Vec<Value>,
    pub dtype: Type,
    pub dims: Vec<usize>,
}

impl Node {
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// A graph whose nodes are ordered so that each node follows its operands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub parameters: Vec<Value>,
    pub outputs: Vec<Value>,
    /// Description of the first operator or output with a wrong shape or type. Such an error is a bug in the code that
    /// builds the graph.
    misfit: Option<String>,
}

impl Graph {
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.0]
    }

    fn dims(&self, value: Value) -> &[usize] {
        &self.node(value).dims
    }

    fn push(&mut self, operator: Operator, operands: &[Value], dtype: Type, dims: &[usize]) -> Value {
        self.nodes.push(Node { operator, operands: operands.to_vec(), dtype, dims: dims.to_vec() });
        Value(self.nodes.len() - 1)
    }

    fn expect(&mut self, fits: bool, what: impl FnOnce(&Self) -> String) {
        if !fits && self.misfit.is_none() {
            self.misfit = Some(what(self));
        }
    }

    pub fn parameter(&mut self, dtype: ElementType, dims: &[usize]) -> Value {
        let value = self.push(Operator::Parameter(self.parameters.len()), &[], Type::Of(dtype), dims);
        self.parameters.push(value);
        value
    }

    /// Adds a node for a scalar constant.
    pub fn f32(&mut self, value: f32) -> Value {
        self.push(Operator::Constant(value), &[], F32, &[])
    }

    /// Broadcasts a scalar, or one value for each row, to this shape.
    pub fn broadcast(&mut self, value: Value, dims: &[usize]) -> Value {
        if self.dims(value) == dims {
            return value;
        }
        let axes: Vec<usize> = (0..self.dims(value).len()).collect();
        self.expect(dims.starts_with(self.dims(value)), |g| format!("{:?} broadcast to {dims:?}", g.dims(value)));
        self.push(Operator::Broadcast(axes), &[value], self.node(value).dtype, dims)
    }

    /// Broadcasts a row, which has one value for each column, to this number of rows.
    pub fn in_each_row(&mut self, value: Value, rows: usize) -> Value {
        let [cols] = *self.dims(value) else {
            self.expect(false, |g| {
                format!("a value of shape {:?} to broadcast to rows; it must have one axis", g.dims(value))
            });
            return value;
        };
        self.push(Operator::Broadcast(vec![1]), &[value], self.node(value).dtype, &[rows, cols])
    }

    /// Broadcasts all operands to the shape of the operand that has the most axes.
    fn alike<const N: usize>(&mut self, operands: [Value; N]) -> [Value; N] {
        let dims = operands.iter().map(|v| self.dims(*v)).max_by_key(|d| d.len()).unwrap_or_default().to_vec();
        operands.map(|value| self.broadcast(value, &dims))
    }

    pub fn reshape(&mut self, value: Value, dims: &[usize]) -> Value {
        let elements: usize = dims.iter().product();
        self.expect(self.node(value).elements() == elements, |g| format!("{:?} reshaped to {dims:?}", g.dims(value)));
        self.push(Operator::Reshape, &[value], self.node(value).dtype, dims)
    }

    pub fn convert(&mut self, value: Value, dtype: ElementType) -> Value {
        let Node { dtype: from, dims, .. } = self.node(value).clone();
        if from == Type::Of(dtype) {
            return value;
        }
        self.push(Operator::Convert, &[value], Type::Of(dtype), &dims)
    }

    pub fn in_f32(&mut self, value: Value) -> Value {
        self.convert(value, ElementType::F32)
    }

    /// Adds a node for the column index of each element as f32, which is exact because a program has at most 2^21
    /// columns.
    pub fn columns(&mut self, rows: usize, cols: usize) -> Value {
        let columns = self.push(Operator::Iota(1), &[], Type::Of(ElementType::S32), &[rows, cols]);
        self.in_f32(columns)
    }

    /// Concatenates matrices side by side. Their numbers of rows must be equal.
    pub fn concatenate(&mut self, parts: &[Value]) -> Value {
        let rows = parts.first().map_or(0, |v| self.dims(*v).first().copied().unwrap_or(0));
        let cols = parts.iter().map(|v| self.dims(*v).get(1).copied().unwrap_or(0)).sum();
        let fits = parts.iter().all(|v| self.dims(*v).first() == Some(&rows) && self.dims(*v).len() == 2);
        self.expect(fits && !parts.is_empty(), |_| {
            "a concatenation of no values, or of values that are not matrices with the same number of rows".into()
        });
        let dtype = parts.first().map_or(F32, |v| self.node(*v).dtype);
        self.push(Operator::Concatenate(1), parts, dtype, &[rows, cols])
    }

    fn unary(&mut self, function: Unary, x: Value) -> Value {
        self.expect(self.node(x).dtype == F32, |g| format!("{function:?} of {:?}", g.node(x).dtype));
        let dims = self.dims(x).to_vec();
        self.push(Operator::Unary(function), &[x], F32, &dims)
    }

    pub fn abs(&mut self, x: Value) -> Value {
        self.unary(Unary::Abs, x)
    }

    pub fn exp(&mut self, x: Value) -> Value {
        self.unary(Unary::Exp, x)
    }

    /// Adds a node for the natural logarithm of `x`, which must be from 2^-64 to 2^64.
    pub fn log(&mut self, x: Value) -> Value {
        self.unary(Unary::Log, x)
    }

    /// Adds a node for the reciprocal square root of `x`, which must be from 2^-87 to 2^97.
    pub fn rsqrt(&mut self, x: Value) -> Value {
        self.unary(Unary::Rsqrt, x)
    }

    pub fn tanh(&mut self, x: Value) -> Value {
        self.unary(Unary::Tanh, x)
    }

    fn binary(&mut self, function: Binary, a: Value, b: Value) -> Value {
        let [a, b] = self.alike([a, b]);
        let fits = [a, b].iter().all(|v| self.node(*v).dtype == F32);
        self.expect(fits, |g| format!("{function:?} of {:?} and {:?}", g.node(a).dtype, g.node(b).dtype));
        let dims = self.dims(a).to_vec();
        self.push(Operator::Binary(function), &[a, b], F32, &dims)
    }

    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Add, a, b)
    }

    pub fn subtract(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Subtract, a, b)
    }

    pub fn multiply(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Multiply, a, b)
    }

    /// Adds a node for the quotient `a / b`. The magnitude of `b` must be from 2^-42 to 2^42.
    pub fn divide(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Divide, a, b)
    }

    pub fn maximum(&mut self, a: Value, b: Value) -> Value {
        self.binary(Binary::Maximum, a, b)
    }

    pub fn times(&mut self, a: Value, factor: f32) -> Value {
        let factor = self.f32(factor);
        self.multiply(a, factor)
    }

    pub fn clamp(&mut self, x: Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.f32(low), self.f32(high));
        let raised = self.maximum(x, low);
        self.binary(Binary::Minimum, raised, high)
    }

    pub fn compare(&mut self, comparison: Comparison, a: Value, b: Value) -> Value {
        let [a, b] = self.alike([a, b]);
        let fits = [a, b].iter().all(|v| self.node(*v).dtype == F32);
        self.expect(fits, |g| format!("{comparison:?} of {:?} and {:?}", g.node(a).dtype, g.node(b).dtype));
        let dims = self.dims(a).to_vec();
        self.push(Operator::Compare(comparison), &[a, b], Type::Pred, &dims)
    }

    /// Compares with a constant, as [`Graph::compare`] does.
    pub fn is(&mut self, a: Value, comparison: Comparison, b: f32) -> Value {
        let b = self.f32(b);
        self.compare(comparison, a, b)
    }

    pub fn and(&mut self, a: Value, b: Value) -> Value {
        let [a, b] = self.alike([a, b]);
        let fits = [a, b].iter().all(|v| self.node(*v).dtype == Type::Pred);
        self.expect(fits, |_| "an `and` of operands that are not boolean".into());
        let dims = self.dims(a).to_vec();
        self.push(Operator::And, &[a, b], Type::Pred, &dims)
    }

    pub fn not(&mut self, a: Value) -> Value {
        let fits = self.node(a).dtype == Type::Pred;
        self.expect(fits, |_| "a `not` of an operand that is not boolean".into());
        let dims = self.dims(a).to_vec();
        self.push(Operator::Not, &[a], Type::Pred, &dims)
    }

    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let [condition, a, b] = self.alike([condition, a, b]);
        let fits = self.node(condition).dtype == Type::Pred && self.node(a).dtype == self.node(b).dtype;
        self.expect(fits, |g| {
            format!(
                "a `select` whose condition is not boolean, or whose values have different types ({:?} and {:?})",
                g.node(a).dtype,
                g.node(b).dtype
            )
        });
        let Node { dtype, dims, .. } = self.node(a).clone();
        self.push(Operator::Select, &[condition, a, b], dtype, &dims)
    }

    /// Selects `a` where the condition is true, and a constant elsewhere.
    pub fn select_or(&mut self, condition: Value, a: Value, otherwise: f32) -> Value {
        let otherwise = self.f32(otherwise);
        self.select(condition, a, otherwise)
    }

    /// Selects 1 where the condition is true, and 0 elsewhere.
    pub fn one_if(&mut self, condition: Value) -> Value {
        let one = self.f32(1.0);
        self.select_or(condition, one, 0.0)
    }

    fn reduce(&mut self, function: Binary, x: Value, from: f32) -> Value {
        let from = self.f32(from);
        let Node { dtype, dims, .. } = self.node(x).clone();
        self.expect(dtype == F32 && !dims.is_empty(), |_| format!("{function:?} reduction of {dtype:?} {dims:?}"));
        let rest = &dims[..dims.len().saturating_sub(1)];
        self.push(Operator::Reduce(function), &[x, from], F32, rest)
    }

    /// Computes the sum of each row.
    pub fn sum(&mut self, x: Value) -> Value {
        self.reduce(Binary::Add, x, 0.0)
    }

    /// Computes the maximum of each row. The initial value is the lowest finite number.
    pub fn largest(&mut self, x: Value) -> Value {
        self.reduce(Binary::Maximum, x, f32::MIN)
    }

    /// Computes the minimum of each row. The initial value is the largest finite number.
    pub fn smallest(&mut self, x: Value) -> Value {
        self.reduce(Binary::Minimum, x, f32::MAX)
    }

    pub fn output(&mut self, value: Value) {
        let fits = self.node(value).dtype != Type::Pred;
        self.expect(fits, |_| "a boolean output".into());
        self.outputs.push(value);
    }

    /// Returns the graph if no shape or type is wrong.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if an operator or output has a wrong shape or type.
    pub fn finish(self, op: &'static str) -> Result<Self> {
        match &self.misfit {
            None => Ok(self),
            Some(misfit) => Err(Error::shape(op, "program", misfit.clone(), "a graph of matching shapes and types")),
        }
    }

    /// Returns a copy of the graph whose only output is a list of flags: one for each computed f32 value, in node
    /// order. The flag is 0 if all elements are finite, 1 if some are infinite but none is NaN, and 2 if some are NaN.
    pub fn instrumented(&self) -> Self {
        let mut graph = Graph { outputs: Vec::new(), ..self.clone() };
        let flags: Vec<Value> = self
            .watched()
            .map(|value| {
                let (one, two) = (graph.f32(1.0), graph.f32(2.0));
                let magnitude = graph.abs(value);
                let is_finite = graph.is(magnitude, Comparison::Le, f32::MAX);
                let is_number = graph.compare(Comparison::Eq, value, value);
                let lost = graph.select(is_number, one, two);
                let zero = graph.f32(0.0);
                let mut flag = graph.select(is_finite, zero, lost);
                while !graph.dims(flag).is_empty() {
                    flag = graph.largest(flag);
                }
                graph.reshape(flag, &[1, 1])
            })
            .collect();
        let flags = graph.concatenate(&flags);
        graph.output(flags);
        graph
    }

    /// Returns the values for which the graph of [`Graph::instrumented`] has a flag, in the order of the flags.
    pub fn watched(&self) -> impl Iterator<Item = Value> + '_ {
        let is_computed = |node: &Node| {
            !matches!(node.operator, Operator::Parameter(_) | Operator::Constant(_) | Operator::Broadcast(_))
        };
        let watched = self.nodes.iter().enumerate().filter(move |(_, node)| node.dtype == F32 && is_computed(node));
        watched.map(|(i, _)| Value(i))
    }
}
