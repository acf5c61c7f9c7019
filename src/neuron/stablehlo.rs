//! Writer of a graph as StableHLO text.

#![forbid(unsafe_code)]

use super::graph::{Graph, Node, Operator, Type, Value};
use super::program::ElementType;
use std::fmt::Write;

fn element(dtype: Type) -> &'static str {
    match dtype {
        Type::Pred => "i1",
        Type::Of(ElementType::S32) => "i32",
        Type::Of(ElementType::U8) => "ui8",
        Type::Of(ElementType::F16) => "f16",
        Type::Of(ElementType::F32) => "f32",
        Type::Of(ElementType::BF16) => "bf16",
    }
}

fn tensor(node: &Node) -> String {
    let dims: String = node.dims.iter().map(|dim| format!("{dim}x")).collect();
    format!("tensor<{dims}{}>", element(node.dtype))
}

fn list<'a>(values: impl IntoIterator<Item = &'a Value>, show: impl Fn(&Value) -> String) -> String {
    values.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

pub fn write(name: &str, graph: &Graph) -> String {
    let tensor_of = |value: &Value| tensor(graph.node(*value));
    let value = |value: &Value| match graph.node(*value).operator {
        Operator::Parameter(index) => format!("%arg{index}"),
        _ => format!("%{}", value.0),
    };
    let arguments = list(&graph.parameters, |v| format!("{}: {}", value(v), tensor_of(v)));
    let results = list(&graph.outputs, tensor_of);
    let mut text = format!("module @{name} {{\n  func.func public @main({arguments}) -> ({results}) {{\n");
    for (i, node) in graph.nodes.iter().enumerate() {
        let operands = list(&node.operands, value);
        let types = list(&node.operands, tensor_of);
        let result = tensor(node);
        let made = match &node.operator {
            Operator::Parameter(_) => continue,
            Operator::Constant(value) => format!("constant dense<0x{:08X}> : {result}", value.to_bits()),
            Operator::Broadcast(axes) => {
                format!("broadcast_in_dim {operands}, dims = {axes:?} : ({types}) -> {result}")
            }
            Operator::Reshape => format!("reshape {operands} : ({types}) -> {result}"),
            Operator::Convert => format!("convert {operands} : ({types}) -> {result}"),
            Operator::Iota(axis) => format!("iota dim = {axis} : {result}"),
            Operator::Concatenate(axis) => format!("concatenate {operands}, dim = {axis} : ({types}) -> {result}"),
            Operator::Unary(function) => format!("{} {operands} : {result}", function.name()),
            Operator::Binary(function) => format!("{} {operands} : {result}", function.name()),
            Operator::Compare(comparison) => {
                format!("compare {}, {operands}, FLOAT : ({types}) -> {result}", comparison.name())
            }
            Operator::And => format!("and {operands} : {result}"),
            Operator::Not => format!("not {operands} : {result}"),
            Operator::Select => {
                let condition = list(&node.operands[..1], tensor_of);
                format!("select {operands} : {condition}, {result}")
            }
            Operator::Reduce(function) => {
                let [x, from] = [0, 1].map(|i| value(&node.operands[i]));
                let (function, axis) = (function.name(), node.dims.len());
                format!(
                    "reduce({x} init: {from}) applies stablehlo.{function} across dimensions = [{axis}] : ({types}) \
                     -> {result}"
                )
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    %{i} = stablehlo.{made}");
    }
    let _ = writeln!(text, "    return {} : {results}\n  }}\n}}", list(&graph.outputs, value));
    text
}
