//! Interpreter that runs programs operator by operator in f32. If a program does something that devices must not do,
//! the interpreter returns an error.

#![forbid(unsafe_code)]

use super::execute::{self, Execute};
use super::graph::{Binary, Comparison, F32, Graph, Node, Operator, Type, Unary, Value};
use super::program::{ElementType, Program};
use crate::error::{Error, Result};
use half::{bf16, f16};

/// Executor on the CPU. It rejects operations that programs must avoid on devices: arithmetic with a NaN operand or
/// result, and logarithms, roots or divisions of numbers outside the range that devices support.
///
/// Elementwise functions are correctly rounded, sums are pairwise, and subnormal f32 numbers are flushed to 0.
///
/// ```
/// use evenkeel::neuron::{self, Interpreter};
/// use evenkeel::{Rows, Softmax};
/// let x = [f32::MAX, f32::MIN, 0.0, f32::NEG_INFINITY];
/// let y = neuron::run::softmax(&Interpreter, Rows::new(&x, 1, 4)?, &Softmax::default())?;
/// assert_eq!(y, [1.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is created by its name")]
pub struct Interpreter;

impl Execute for Interpreter {
    fn execute(&self, program: &Program, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        execute::check("input", program.inputs(), inputs.iter().map(|bytes| bytes.len()))?;
        let graph = program.graph();
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(graph.nodes.len());
        for (place, node) in graph.nodes.iter().enumerate() {
            let made = match node.operator {
                Operator::Parameter(index) => read(node.dtype, inputs[index]),
                _ => evaluate(graph, node, &values),
            };
            let made = if node.dtype == F32 { made.into_iter().map(flush).collect() } else { made };
            guard(node, &made, &values).map_err(|fault| {
                Error::failed("neuron interpreter", format!("value {place} of {}: {fault}", program.name()))
            })?;
            values.push(made);
        }
        Ok(graph.outputs.iter().map(|v| write(graph.node(*v).dtype, &values[v.0])).collect())
    }
}

fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

/// Converts the bytes of a tensor of any type to f32. Integers below 2^24 are exact, and booleans become 0 and 1.
fn read(dtype: Type, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Type::Of(ElementType::F32) => execute::elements(bytes),
        Type::Of(ElementType::F16) => execute::elements::<f16>(bytes).iter().map(|x| x.to_f32()).collect(),
        Type::Of(ElementType::BF16) => execute::elements::<bf16>(bytes).iter().map(|x| x.to_f32()).collect(),
        Type::Of(ElementType::S32) => execute::integers(bytes).map(|x| x as f32).collect(),
        Type::Of(ElementType::U8) | Type::Pred => bytes.iter().map(|x| f32::from(*x)).collect(),
    }
}

fn write(dtype: Type, values: &[f32]) -> Vec<u8> {
    match dtype {
        Type::Of(ElementType::F32) => execute::to_bytes(values),
        Type::Of(ElementType::F16) => execute::to_bytes(&values.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>()),
        Type::Of(ElementType::BF16) => {
            execute::to_bytes(&values.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
        }
        Type::Of(ElementType::S32) => values.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
        Type::Of(ElementType::U8) | Type::Pred => values.iter().map(|x| *x as u8).collect(),
    }
}

fn evaluate(graph: &Graph, node: &Node, values: &[Vec<f32>]) -> Vec<f32> {
    let of = |i: usize| &values[node.operands[i].0][..];
    let map = |f: &dyn Fn(f32) -> f32| of(0).iter().map(|x| f(*x)).collect();
    let both = |f: &dyn Fn(f32, f32) -> f32| of(0).iter().zip(of(1)).map(|(a, b)| f(*a, *b)).collect();
    let truth = |is: bool| f32::from(u8::from(is));
    let cols = node.dims.last().copied().unwrap_or(1);
    match &node.operator {
        Operator::Parameter(_) => Vec::new(),
        Operator::Constant(value) => vec![*value],
        Operator::Broadcast(axes) => {
            let x = of(0);
            (0..node.elements())
                .map(|i| x[if axes == &[1] { i % cols } else { i / (node.elements() / x.len()) }])
                .collect()
        }
        Operator::Reshape => of(0).to_vec(),
        Operator::Convert => match node.dtype {
            Type::Of(ElementType::F16) => map(&|x| f16::from_f32(x).to_f32()),
            Type::Of(ElementType::BF16) => map(&|x| bf16::from_f32(x).to_f32()),
            _ => of(0).to_vec(),
        },
        Operator::Iota(_) => (0..node.elements()).map(|i| (i % cols) as f32).collect(),
        Operator::Concatenate(_) => {
            let width = |v: &Value| graph.node(*v).dims.last().copied().unwrap_or(1);
            let part = |row: usize, v: &Value| values[v.0][row * width(v)..][..width(v)].to_vec();
            (0..node.elements() / cols).flat_map(|row| node.operands.iter().flat_map(move |v| part(row, v))).collect()
        }
        Operator::Unary(Unary::Abs) => map(&f32::abs),
        Operator::Unary(Unary::Exp) => map(&|x| f64::from(x).exp() as f32),
        Operator::Unary(Unary::Log) => map(&|x| f64::from(x).ln() as f32),
        Operator::Unary(Unary::Rsqrt) => map(&|x| (1.0 / f64::from(x).sqrt()) as f32),
        Operator::Unary(Unary::Tanh) => map(&|x| f64::from(x).tanh() as f32),
        Operator::Binary(function) => both(&|a, b| apply(*function, a, b)),
        Operator::Compare(comparison) => both(&|a, b| {
            truth(match comparison {
                Comparison::Eq => a == b,
                Comparison::Ne => a != b,
                Comparison::Lt => a < b,
                Comparison::Le => a <= b,
                Comparison::Gt => a > b,
                Comparison::Ge => a >= b,
            })
        }),
        Operator::And => both(&|a, b| a * b),
        Operator::Not => map(&|a| 1.0 - a),
        Operator::Select => {
            of(0).iter().zip(of(1).iter().zip(of(2))).map(|(c, (a, b))| if *c == 1.0 { *a } else { *b }).collect()
        }
        Operator::Reduce(function) => {
            let (x, from) = (of(0), of(1)[0]);
            let rows = node.elements();
            x.chunks(x.len() / rows).map(|row| apply(*function, from, by_halves(*function, row))).collect()
        }
    }
}

fn by_halves(function: Binary, row: &[f32]) -> f32 {
    match row {
        [x] => *x,
        _ => {
            let (first, rest) = row.split_at(row.len() / 2);
            apply(function, by_halves(function, first), by_halves(function, rest))
        }
    }
}

fn apply(function: Binary, a: f32, b: f32) -> f32 {
    match function {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::Maximum => a.max(b),
        Binary::Minimum => a.min(b),
    }
}

/// Returns an error if a node does arithmetic with a NaN operand or result, or if an operand is outside the range that
/// devices support.
fn guard(node: &Node, made: &[f32], values: &[Vec<f32>]) -> std::result::Result<(), String> {
    let of = |i: usize| &values[node.operands[i].0][..];
    let within = |x: &[f32], low: i32, high: i32| {
        let is_within = |x: &f32| (2f32.powi(low)..=2f32.powi(high)).contains(&x.abs());
        match x.iter().find(|x| !is_within(x)) {
            None => Ok(()),
            Some(x) => {
                Err(format!("the operand of {:?} is {x:e}; its magnitude must be 2^{low} to 2^{high}", node.operator))
            }
        }
    };
    let computes = matches!(node.operator, Operator::Binary(_) | Operator::Reduce(_))
        || matches!(node.operator, Operator::Unary(function) if function != Unary::Abs);
    if computes && made.iter().chain(node.operands.iter().flat_map(|v| &values[v.0])).any(|x| x.is_nan()) {
        return Err(format!("{:?} has a NaN operand or result", node.operator));
    }
    match node.operator {
        Operator::Unary(Unary::Log) => within(of(0), -64, 64),
        Operator::Unary(Unary::Rsqrt) => within(of(0), -87, 97),
        Operator::Binary(Binary::Divide) => within(of(1), -42, 42),
        _ => Ok(()),
    }
}
