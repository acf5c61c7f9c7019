//! Encoder of a graph as a serialised `HloModuleProto`.
//!
//! Field numbers are from XLA's `hlo.proto` and `xla_data.proto`. Ids count from 1, so they fit in 32 bits. Neuron's
//! compiler rejects larger ids, which newer versions of XLA produce.

#![forbid(unsafe_code)]

use super::graph::{Binary, Graph, Node, Operator, Type, Value};
use super::program::ElementType;

/// A protocol buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: usize) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// Appends a packed repeated field of numbers.
    fn numbers(self, field: u64, values: impl IntoIterator<Item = usize>) -> Self {
        let mut packed = Message::default();
        values.into_iter().for_each(|value| packed.varint(value as u64));
        if packed.0.is_empty() { self } else { self.message(field, packed) }
    }
}

/// Returns XLA's number for a type.
fn primitive(dtype: Type) -> usize {
    match dtype {
        Type::Pred => 1,
        Type::Of(ElementType::S32) => 4,
        Type::Of(ElementType::U8) => 6,
        Type::Of(ElementType::F16) => 10,
        Type::Of(ElementType::F32) => 11,
        Type::Of(ElementType::BF16) => 16,
    }
}

fn shape(dtype: Type, dims: &[usize]) -> Message {
    let layout = Message::default().numbers(1, (0..dims.len()).rev());
    Message::default().number(2, primitive(dtype)).numbers(3, dims.iter().copied()).message(5, layout)
}

fn shape_of(node: &Node) -> Message {
    shape(node.dtype, &node.dims)
}

fn tuple(graph: &Graph) -> Message {
    const TUPLE: usize = 13;
    let add = |tuple: Message, value: &Value| tuple.message(4, shape_of(graph.node(*value)));
    graph.outputs.iter().fold(Message::default().number(2, TUPLE), add)
}

fn opcode(operator: &Operator) -> &'static str {
    match operator {
        Operator::Parameter(_) => "parameter",
        Operator::Constant(_) => "constant",
        Operator::Broadcast(_) => "broadcast",
        Operator::Reshape => "reshape",
        Operator::Convert => "convert",
        Operator::Iota(_) => "iota",
        Operator::Concatenate(_) => "concatenate",
        Operator::Unary(function) => function.name(),
        Operator::Binary(function) => function.name(),
        Operator::Compare(_) => "compare",
        Operator::And => "and",
        Operator::Not => "not",
        Operator::Select => "select",
        Operator::Reduce(_) => "reduce",
    }
}

/// Generator of unique ids for instructions and computations.
struct Ids(usize);

impl Ids {
    fn next(&mut self) -> usize {
        self.0 += 1;
        self.0
    }
}

fn instruction(id: usize, opcode: &str, shape: Message) -> Message {
    Message::default().text(1, &format!("{opcode}.{id}")).text(2, opcode).message(3, shape).number(35, id)
}

/// Returns a computation with two scalar operands for use in a reduction, and the id of the computation.
fn scalar_computation(ids: &mut Ids, function: Binary) -> (Message, usize) {
    let f32 = || shape(Type::Of(ElementType::F32), &[]);
    let [id, a, b, root] = [0; 4].map(|_| ids.next());
    let program_shape = Message::default().message(1, f32()).message(1, f32()).message(2, f32());
    let computation = Message::default()
        .text(1, &format!("{}.{id}", function.name()))
        .message(2, instruction(a, "parameter", f32()).number(9, 0))
        .message(2, instruction(b, "parameter", f32()).number(9, 1))
        .message(2, instruction(root, function.name(), f32()).numbers(36, [a, b]))
        .message(4, program_shape.text(3, "a").text(3, "b"))
        .number(5, id)
        .number(6, root);
    (computation, id)
}

pub fn encode(name: &str, graph: &Graph) -> Vec<u8> {
    let mut ids = Ids(0);
    let mut module = Message::default().text(1, name).text(2, "main");
    let mut called: Vec<(Binary, usize)> = Vec::new();
    for node in &graph.nodes {
        if let Operator::Reduce(function) = node.operator
            && !called.iter().any(|(f, _)| *f == function)
        {
            let (computation, id) = scalar_computation(&mut ids, function);
            module = module.message(3, computation);
            called.push((function, id));
        }
    }
    let main = ids.next();
    let first = ids.0 + 1;
    let mut computation = Message::default().text(1, "main");
    for node in &graph.nodes {
        let mut made = instruction(ids.next(), opcode(&node.operator), shape_of(node))
            .numbers(36, node.operands.iter().map(|value| first + value.0));
        made = match &node.operator {
            Operator::Parameter(index) => made.number(9, *index),
            Operator::Constant(value) => {
                let literal = Message::default().message(1, shape_of(node)).bytes(8, &value.to_le_bytes());
                made.message(8, literal)
            }
            Operator::Broadcast(axes) => made.numbers(14, axes.iter().copied()),
            Operator::Iota(axis) | Operator::Concatenate(axis) => made.numbers(14, [*axis]),
            Operator::Compare(comparison) => made.text(63, comparison.name()),
            Operator::Reduce(function) => {
                let called = called.iter().filter(|(f, _)| f == function).map(|(_, id)| *id);
                made.numbers(14, [node.dims.len()]).numbers(38, called)
            }
            _ => made,
        };
        computation = computation.message(2, made);
    }
    let root = ids.next();
    let outputs = graph.outputs.iter().map(|value| first + value.0);
    let parameters = |into: Message| graph.parameters.iter().fold(into, |m, v| m.message(1, shape_of(graph.node(*v))));
    let names = |into: Message| (0..graph.parameters.len()).fold(into, |m, i| m.text(3, &format!("input{i}")));
    let program_shape = || names(parameters(Message::default()).message(2, tuple(graph)));
    let computation = computation
        .message(2, instruction(root, "tuple", tuple(graph)).numbers(36, outputs))
        .message(4, program_shape())
        .number(5, main)
        .number(6, root);
    module.message(3, computation).message(4, program_shape()).number(5, 1).number(6, main).0
}
