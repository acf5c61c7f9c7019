//! Decodes what an instruction does from its mnemonic. Every modifier that changes the result must be known.

use crate::decode::{Decoder, Result, inst};
use crate::memory_ops;
use crate::op::{Bits, Cmp, Float, Inst, Int, NONE, Op, Redux, Root, Round, Shuffle, Space, Type, Vote};
use Type::{B32, B64, F32, F64, S32, U16, U32, U64};

pub fn decode(d: &mut Decoder, mnemonic: &str, operands: &[&str]) -> Result<Inst> {
    let mut parts = mnemonic.split('.');
    let base = parts.next().unwrap_or("");
    let parts: Vec<&str> = parts.collect();
    let types: Vec<Type> = parts.iter().filter_map(|part| Type::parse(part)).collect();
    let flags: Vec<&str> = parts.into_iter().filter(|part| Type::parse(part).is_none()).collect();
    match base {
        "ld" | "st" | "atom" | "red" => return memory_ops::decode(d, base, &flags, &types, operands),
        "shfl" | "redux" | "vote" | "bar" | "barrier" | "activemask" | "fence" | "membar" => {
            return of_warps(d, base, &flags, &types, operands);
        }
        "cp" => return memory_ops::decode_copy(d, &flags, operands),
        "cvt" | "cvta" => return conversion(d, base, &flags, &types, operands),
        "ret" | "exit" => return Ok(inst(Op::Ret, &[])),
        // A prefetch has no effect here. Any address is valid.
        "prefetch" => return Ok(inst(Op::Nothing, &[])),
        "trap" => return Ok(inst(Op::Trap, &[])),
        "setp" => return comparison(d, &flags, &types, operands),
        "mov" => return mov(d, &flags, &types, operands),
        _ => {}
    }
    let &[of] = types.as_slice() else {
        return match (base, flags.as_slice(), types.as_slice()) {
            ("slct", [], &[of, by]) if matches!(by, S32 | F32) => {
                let registers = registers(d, operands, &[of, of, of, by])?;
                Ok(inst(Op::Slct { wide: of.bytes() == 8, float: by == F32 }, &registers))
            }
            _ => Err(d.unknown()),
        };
    };
    let bytes = of.bytes() as u8;
    let (op, shape): (Op, &[Type]) = match (base, flags.as_slice()) {
        _ if of == Type::Pred => match base {
            "and" => (Op::Pred(Int::And), &[of; 3]),
            "or" => (Op::Pred(Int::Or), &[of; 3]),
            "xor" => (Op::Pred(Int::Xor), &[of; 3]),
            "not" => (Op::NotPred, &[of; 2]),
            _ => return Err(d.unknown()),
        },
        ("fma", &["rn"]) if of == F32 => (Op::Fma32, &[of; 4]),
        ("fma", &["rn"]) if of == F64 => (Op::Fma64, &[of; 4]),
        ("fma", &[round]) if of == F32 => (Op::FmaDirected(directed(d, round)?), &[of; 4]),
        (_, flags) if of.is_float() && base != "selp" => match float(d, base, flags, of)? {
            op @ (Op::Root32 { .. } | Op::Root64(_)) => (op, &[of; 2]),
            op => (op, &[of; 3]),
        },
        ("selp", []) => (Op::Sel(of.bank()), &[of, of, of, Type::Pred]),
        ("mul", ["wide"]) if bytes < 8 => (Op::MulWide(of, false), &[wider(of), of, of]),
        ("mad", ["wide"]) if bytes < 8 => (Op::MulWide(of, true), &[wider(of), of, of, wider(of)]),
        ("mad", ["lo"]) => (Op::MadLo(bytes), &[of; 4]),
        ("mad", ["hi"]) => (Op::MadHi(of), &[of; 4]),
        ("not", []) => (Op::Bits(Bits::Not, bytes), &[of; 2]),
        ("neg", []) => (Op::Bits(Bits::Neg, bytes), &[of; 2]),
        ("abs", []) => (Op::Bits(Bits::Abs, bytes), &[of; 2]),
        ("popc", []) => (Op::Bits(Bits::Popc, bytes), &[B32, of]),
        ("clz", []) => (Op::Bits(Bits::Clz, bytes), &[B32, of]),
        ("bfind", []) if !of.is_signed() => (Op::Bits(Bits::Find, bytes), &[U32, of]),
        ("bfind", ["shiftamt"]) if !of.is_signed() => (Op::Bits(Bits::FindShift, bytes), &[U32, of]),
        ("brev", []) => (Op::Bits(Bits::Brev, bytes), &[of; 2]),
        ("bfi", []) => (Op::Bfi(bytes), &[of, of, of, U32, U32]),
        ("bfe", []) => (Op::Bfe(of), &[of, of, U32, U32]),
        ("prmt", []) if of == B32 => (Op::Prmt, &[of; 4]),
        ("lop3", []) if of == B32 && operands.len() == 5 => {
            let table = crate::text::number(operands[4], U32).ok_or_else(|| d.unknown())?;
            let mut inst = inst(Op::Lop3, &registers(d, &operands[..4], &[B32; 4])?);
            inst.imm = table as i64;
            return Ok(inst);
        }
        ("shf", &[direction @ ("l" | "r"), mode @ ("wrap" | "clamp")]) if of == B32 => {
            (Op::Funnel { left: direction == "l", wrap: mode == "wrap" }, &[of; 4])
        }
        ("shl", []) => (Op::Int(Int::Shl, bytes), &[of, of, U32]),
        ("shr", []) => (Op::Int(if of.is_signed() { Int::ShrSigned } else { Int::Shr }, bytes), &[of, of, U32]),
        (_, flags) => (Op::Int(int(d, base, flags, of)?, bytes), &[of; 3]),
    };
    Ok(inst(op, &registers(d, operands, shape)?))
}

/// Returns the registers of the operands. The first register is the result's.
pub fn registers(d: &mut Decoder, operands: &[&str], shape: &[Type]) -> Result<Vec<u32>> {
    if operands.len() != shape.len() {
        return Err(d.unknown());
    }
    let mut registers = vec![d.result(operands[0], shape[0])?];
    for (operand, of) in operands.iter().zip(shape).skip(1) {
        registers.push(d.operand(operand, *of)?);
    }
    Ok(registers)
}

fn wider(of: Type) -> Type {
    match of.bytes() {
        2 => B32,
        _ => B64,
    }
}

fn int(d: &Decoder, base: &str, flags: &[&str], of: Type) -> Result<Int> {
    let signed = of.is_signed();
    let by_sign = |unsigned, of_signed| if signed { of_signed } else { unsigned };
    Ok(match (base, flags) {
        ("add", []) => Int::Add,
        ("sub", []) => Int::Sub,
        ("mul", ["lo"]) => Int::MulLo,
        ("mul", ["hi"]) => by_sign(Int::MulHi, Int::MulHiSigned),
        ("div", []) => by_sign(Int::Div, Int::DivSigned),
        ("rem", []) => by_sign(Int::Rem, Int::RemSigned),
        ("min", []) => by_sign(Int::Min, Int::MinSigned),
        ("max", []) => by_sign(Int::Max, Int::MaxSigned),
        ("and", []) => Int::And,
        ("or", []) => Int::Or,
        ("xor", []) => Int::Xor,
        _ => return Err(d.unknown()),
    })
}

fn directed(d: &Decoder, round: &str) -> Result<Round> {
    Ok(match round {
        "rz" => Round::Zero,
        "rm" => Round::Down,
        "rp" => Round::Up,
        _ => return Err(d.unknown()),
    })
}

fn float(d: &Decoder, base: &str, flags: &[&str], of: Type) -> Result<Op> {
    let root = match (base, flags) {
        ("neg", []) => Some(Root::Neg),
        ("abs", []) => Some(Root::Abs),
        ("sqrt", ["rn"]) => Some(Root::Sqrt),
        ("rcp", ["rn"]) => Some(Root::Rcp),
        ("ex2", ["approx", ..]) => Some(Root::ApproxEx2),
        ("lg2", ["approx", ..]) => Some(Root::ApproxLg2),
        ("rcp", ["approx", ..]) => Some(Root::ApproxRcp),
        ("rsqrt", ["approx", ..]) => Some(Root::ApproxRsqrt),
        ("sqrt", ["approx", ..]) => Some(Root::ApproxSqrt),
        _ => None,
    };
    let approximate = flags.first() == Some(&"approx");
    let ftz = flags.get(1) == Some(&"ftz");
    if let Some(root) = root {
        return match of {
            F32 if flags.len() == approximate as usize + ftz as usize || !approximate => Ok(Op::Root32 { root, ftz }),
            F64 if !approximate => Ok(Op::Root64(root)),
            _ => Err(d.unknown()),
        };
    }
    let operation = match (base, flags.first().copied()) {
        ("add", _) => Float::Add,
        ("sub", _) => Float::Sub,
        ("mul", _) => Float::Mul,
        ("div", Some(_)) => Float::Div,
        ("min", None) => Float::Min,
        ("max", None) => Float::Max,
        ("min", Some("NaN")) => Float::MinNan,
        ("max", Some("NaN")) => Float::MaxNan,
        ("copysign", None) => Float::CopySign,
        _ => return Err(d.unknown()),
    };
    let rounds = matches!(operation, Float::Add | Float::Sub | Float::Mul | Float::Div);
    match (of, flags) {
        (F32, [] | ["NaN"] | ["rn"]) => Ok(Op::F32(operation)),
        (F32, ["rn", "ftz"]) if operation == Float::Mul => Ok(Op::MulFlushed),
        (F64, [] | ["rn"]) => Ok(Op::F64(operation)),
        (F32, &[round]) if rounds => Ok(Op::Directed(operation, directed(d, round)?)),
        (Type::F16x2 | Type::BF16x2 | Type::F16 | Type::BF16, [] | ["NaN"]) if !rounds => Ok(Op::Packed(operation, of)),
        _ => Err(d.unknown()),
    }
}

fn comparison(d: &mut Decoder, flags: &[&str], types: &[Type], operands: &[&str]) -> Result<Inst> {
    let (&[name], &[of]) = (flags, types) else { return Err(d.unknown()) };
    let cmp = match name {
        "eq" => Cmp::Eq,
        "ne" => Cmp::Ne,
        "lt" | "lo" => Cmp::Lt,
        "le" | "ls" => Cmp::Le,
        "gt" | "hi" => Cmp::Gt,
        "ge" | "hs" => Cmp::Ge,
        "equ" => Cmp::Equ,
        "neu" => Cmp::Neu,
        "ltu" => Cmp::Ltu,
        "leu" => Cmp::Leu,
        "gtu" => Cmp::Gtu,
        "geu" => Cmp::Geu,
        "num" => Cmp::Num,
        "nan" => Cmp::Nan,
        _ => return Err(d.unknown()),
    };
    let of_floats = !matches!(cmp, Cmp::Eq | Cmp::Ne | Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge);
    if !matches!(of, F32 | F64) && (of.is_float() || of_floats || of == Type::Pred) {
        return Err(d.unknown());
    }
    Ok(inst(Op::Set(cmp, of), &registers(d, operands, &[Type::Pred, of, of])?))
}

fn mov(d: &mut Decoder, flags: &[&str], types: &[Type], operands: &[&str]) -> Result<Inst> {
    let (&[], &[of], &[to, from]) = (flags, types, operands) else { return Err(d.unknown()) };
    let parts = |list: &str| -> Option<Vec<String>> {
        let list = list.strip_prefix('{')?.strip_suffix('}')?;
        Some(list.split(',').map(|part| part.trim().to_string()).collect())
    };
    let part_type = |count: usize| match of.bytes() / count {
        2 => Some(U16),
        4 => Some(U32),
        _ => None,
    };
    if let Some(list) = parts(to) {
        let part = part_type(list.len()).ok_or_else(|| d.unknown())?;
        let mut registers = Vec::new();
        for name in &list {
            registers.push(d.result(name, part)?);
        }
        registers.resize(4, NONE);
        registers.push(d.operand(from, of)?);
        return Ok(inst(Op::Split(part.bytes() as u8), &registers));
    }
    if let Some(list) = parts(from) {
        let part = part_type(list.len()).ok_or_else(|| d.unknown())?;
        let mut registers = vec![d.result(to, of)?];
        for name in &list {
            registers.push(d.operand(name, part)?);
        }
        return Ok(inst(Op::Join(part.bytes() as u8), &registers));
    }
    Ok(inst(Op::Mov(of.bank()), &registers(d, operands, &[of, of])?))
}

fn conversion(d: &mut Decoder, base: &str, flags: &[&str], types: &[Type], operands: &[&str]) -> Result<Inst> {
    let space = |name: &str| match name {
        "global" => Some(Space::Global),
        "shared" => Some(Space::Shared),
        "const" => Some(Space::Const),
        _ => None,
    };
    match (base, flags, types) {
        ("cvta", ["to", name], &[U64]) => {
            let to = space(name).ok_or_else(|| d.unknown())?;
            Ok(inst(Op::ToSpace(to), &registers(d, operands, &[U64, U64])?))
        }
        ("cvta", [name], &[U64]) => {
            let from = space(name).ok_or_else(|| d.unknown())?;
            Ok(inst(Op::FromSpace(from), &registers(d, operands, &[U64, U64])?))
        }
        ("cvt", ["rn"], &[to @ (Type::F16x2 | Type::BF16x2), F32]) => {
            Ok(inst(Op::CvtPair(to), &registers(d, operands, &[to, F32, F32])?))
        }
        ("cvt", flags, &[to, from]) => {
            let (round, integral) = match flags {
                [] => (None, false),
                ["rn"] => (Some(Round::Nearest), false),
                ["rz"] => (Some(Round::Zero), false),
                ["rm"] => (Some(Round::Down), false),
                ["rp"] => (Some(Round::Up), false),
                ["rni"] => (Some(Round::Nearest), true),
                ["rzi"] => (Some(Round::Zero), true),
                ["rmi"] => (Some(Round::Down), true),
                ["rpi"] => (Some(Round::Up), true),
                _ => return Err(d.unknown()),
            };
            let packed = |of| matches!(of, Type::F16x2 | Type::BF16x2 | Type::Pred);
            // A conversion names its rounding mode if, and only if, it can round.
            let rounds = match (to.is_float(), from.is_float()) {
                (true, true) => to.bytes() < from.bytes() || integral,
                (false, false) => false,
                _ => true,
            };
            let to_integer = !to.is_float() && from.is_float();
            if packed(to) || packed(from) || rounds != round.is_some() || to_integer && !integral {
                return Err(d.unknown());
            }
            let &[result, operand] = operands else { return Err(d.unknown()) };
            let (to_bank, result) = d.result_of_any_bank(result)?;
            let (from_bank, operand) = d.operand_of_any_bank(operand, from)?;
            if to_bank != to.bank() || from_bank != from.bank() {
                return Err(d.unknown());
            }
            let round = round.unwrap_or(Round::Nearest);
            Ok(inst(Op::Cvt { to, from, round, integral }, &[result, operand]))
        }
        _ => Err(d.unknown()),
    }
}

/// Decodes an instruction that involves several threads.
fn of_warps(d: &mut Decoder, base: &str, flags: &[&str], types: &[Type], operands: &[&str]) -> Result<Inst> {
    match (base, flags, types) {
        ("fence" | "membar", _, []) => Ok(inst(Op::Nothing, &[])),
        ("bar" | "barrier", ["sync"] | ["sync", "aligned"] | ["cta", "sync"], []) if operands == ["0"] => {
            Ok(inst(Op::Bar, &[]))
        }
        ("bar", ["warp", "sync"], []) if operands.len() == 1 => {
            let mask = d.operand(operands[0], B32)?;
            Ok(inst(Op::BarWarp, &[mask]))
        }
        ("activemask", [], &[B32]) => Ok(inst(Op::ActiveMask, &registers(d, operands, &[B32])?)),
        ("shfl", &["sync", mode], &[B32]) if operands.len() == 5 => {
            let mode = match mode {
                "up" => Shuffle::Up,
                "down" => Shuffle::Down,
                "bfly" => Shuffle::Bfly,
                "idx" => Shuffle::Idx,
                _ => return Err(d.unknown()),
            };
            let (result, received) = operands[0].split_once('|').unwrap_or((operands[0], ""));
            let mut found = vec![d.result(result, B32)?];
            found.push(if received.is_empty() { NONE } else { d.result(received, Type::Pred)? });
            for operand in &operands[1..] {
                found.push(d.operand(operand, B32)?);
            }
            Ok(inst(Op::Shfl(mode), &found))
        }
        ("redux", &["sync", name], &[of @ (B32 | U32 | S32)]) => {
            let redux = match (name, of) {
                ("add", U32 | S32) => Redux::Add,
                ("min", U32) => Redux::Min,
                ("min", S32) => Redux::MinSigned,
                ("max", U32) => Redux::Max,
                ("max", S32) => Redux::MaxSigned,
                ("and", B32) => Redux::And,
                ("or", B32) => Redux::Or,
                ("xor", B32) => Redux::Xor,
                _ => return Err(d.unknown()),
            };
            Ok(inst(Op::Redux(redux), &registers(d, operands, &[B32; 3])?))
        }
        ("vote", &["sync", name], &[of]) => {
            let (vote, result) = match (name, of) {
                ("all", Type::Pred) => (Vote::All, of),
                ("any", Type::Pred) => (Vote::Any, of),
                ("uni", Type::Pred) => (Vote::Uni, of),
                ("ballot", B32) => (Vote::Ballot, of),
                _ => return Err(d.unknown()),
            };
            Ok(inst(Op::Vote(vote), &registers(d, operands, &[result, Type::Pred, B32])?))
        }
        _ => Err(d.unknown()),
    }
}
