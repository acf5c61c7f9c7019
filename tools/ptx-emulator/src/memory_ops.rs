//! Decodes loads, stores and atomic operations.

use crate::decode::{Decoder, Result, inst};
use crate::op::{Access, Atom, Bank, Inst, Int, NONE, Op, Space, Type};

/// Modifiers without effect in the interpreter: caching, ordering between blocks, and volatility.
const HINTS: [&str; 16] = [
    "volatile", "relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "weak", "nc", "ca", "cg", "cs", "lu",
    "cv", "wb",
];

pub fn decode(d: &mut Decoder, base: &str, flags: &[&str], types: &[Type], operands: &[&str]) -> Result<Inst> {
    let &[of] = types else { return Err(d.unknown()) };
    let mut space = Space::Generic;
    let mut count = 1;
    let mut operation = None;
    for &flag in flags {
        match flag {
            "global" => space = Space::Global,
            "shared" => space = Space::Shared,
            "const" => space = Space::Const,
            "param" => space = Space::Param,
            "v2" => count = 2,
            "v4" => count = 4,
            _ if HINTS.contains(&flag) || flag.starts_with("L1::") || flag.starts_with("L2::") => {}
            _ if matches!(base, "atom" | "red") && operation.is_none() => operation = Some(flag),
            _ => return Err(d.unknown()),
        }
    }
    if matches!(of, Type::Pred | Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2) {
        return Err(d.unknown());
    }
    match (base, operands) {
        ("ld", &[to, from]) => {
            let elements = elements(d, to, count)?;
            let mut registers = Vec::new();
            for name in elements {
                registers.push(match name {
                    "_" => (of.bank(), d.result(name, of)?),
                    _ => d.result_of_any_bank(name)?,
                });
            }
            access(d, from, (space, of, count), registers, Op::Load)
        }
        ("st", &[to, from]) => {
            let elements = elements(d, from, count)?;
            let mut registers = Vec::new();
            for name in elements {
                registers.push(d.operand_of_any_bank(name, of)?);
            }
            access(d, to, (space, of, count), registers, Op::Store)
        }
        ("atom" | "red", _) if count == 1 => {
            let (result, rest) = match (base, operands) {
                ("atom", [result, rest @ ..]) => (Some(*result), rest),
                (_, rest) => (None, rest),
            };
            let signed = of.is_signed();
            let (atom, sources) = match (operation.ok_or_else(|| d.unknown())?, of) {
                ("add", Type::F32) => (Atom::AddF32, 1),
                ("add", Type::F64) => (Atom::AddF64, 1),
                ("exch", _) => (Atom::Exch, 1),
                ("cas", _) => (Atom::Cas, 2),
                (_, of) if of.is_float() => return Err(d.unknown()),
                ("add", _) => (Atom::Int(Int::Add), 1),
                ("min", _) => (Atom::Int(if signed { Int::MinSigned } else { Int::Min }), 1),
                ("max", _) => (Atom::Int(if signed { Int::MaxSigned } else { Int::Max }), 1),
                ("and", _) => (Atom::Int(Int::And), 1),
                ("or", _) => (Atom::Int(Int::Or), 1),
                ("xor", _) => (Atom::Int(Int::Xor), 1),
                _ => return Err(d.unknown()),
            };
            if rest.len() != 1 + sources || of.bytes() < 4 {
                return Err(d.unknown());
            }
            let result = match result {
                Some(result) => d.result(result, of)?,
                None => NONE,
            };
            let mut registers = vec![(of.bank(), result)];
            for source in &rest[1..] {
                registers.push((of.bank(), d.operand(source, of)?));
            }
            access(d, rest[0], (space, of, 1), registers, |access| Op::Atom(atom, access))
        }
        _ => Err(d.unknown()),
    }
}

/// Decodes an asynchronous copy of 16 bytes to shared memory, or the wait for a thread's copies.
pub fn decode_copy(d: &mut Decoder, flags: &[&str], operands: &[&str]) -> Result<Inst> {
    match (flags, operands) {
        (["async", "cg", "shared", "global"], &[to, from, "16"]) => {
            let (bank, from, offset, None) = d.address(from)? else { return Err(d.unknown()) };
            if bank != Bank::Wide || offset != 0 {
                return Err(d.unknown());
            }
            access(d, to, (Space::Shared, Type::B64, 2), vec![(bank, from)], Op::StartCopy)
        }
        (["async", "wait_all"], []) => Ok(inst(Op::AwaitCopies, &[])),
        _ => Err(d.unknown()),
    }
}

/// Returns the names of a vector's elements.
fn elements<'t>(d: &Decoder, list: &'t str, count: usize) -> Result<Vec<&'t str>> {
    let names: Vec<&str> = match list.strip_prefix('{').and_then(|list| list.strip_suffix('}')) {
        Some(list) => list.split(',').map(str::trim).collect(),
        None => vec![list],
    };
    if names.len() == count { Ok(names) } else { Err(d.unknown()) }
}

/// Creates the instruction. Its first registers are the elements, and `r[4]` is the address.
fn access(
    d: &mut Decoder,
    address: &str,
    (space, of, count): (Space, Type, usize),
    elements: Vec<(Bank, u32)>,
    op: impl Fn(Access) -> Op,
) -> Result<Inst> {
    let (bank, base, offset, of_variable) = d.address(address)?;
    let wide = elements[0].0 == Bank::Wide;
    let fits = |bank: Bank| bank != Bank::Pred && (bank == Bank::Wide) == wide;
    // An instruction may name only variables in its own space.
    let in_space = of_variable.is_none_or(|found| found == space);
    if !in_space || bank == Bank::Pred || !elements.iter().all(|(bank, _)| fits(*bank)) || (of.bytes() == 8) && !wide {
        return Err(d.unknown());
    }
    let wide_address = bank == Bank::Wide;
    if !wide_address && matches!(space, Space::Generic | Space::Global) {
        return Err(d.unknown());
    }
    let access = Access { space, of, count: count as u8, wide_address, wide };
    let mut registers = [NONE; 5];
    for (register, (_, element)) in registers.iter_mut().zip(elements) {
        *register = element;
    }
    registers[4] = base;
    let mut inst = inst(op(access), &registers);
    inst.imm = offset;
    Ok(inst)
}
