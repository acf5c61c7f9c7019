//! Instructions that compute each lane's result from the lane's own registers.

use crate::convert::{
    self, extend, extract, f32_of_f64, f64_of_f32, funnel, insert, integer, logic, low, pair, permute,
};
use crate::floats::{self, binary32, binary64, bits32, bits64, compare, f32_of, f64_of, narrow, root32, root64};
use crate::kernel::{CONST_START, SHARED_START};
use crate::op::{Bank, Bits, Cmp, Float, Inst, Int, LANES, Op, Root, Round, Space, Type};
use crate::warp::Warp;

/// Generic address of the first byte of shared memory. No host address begins with these bits.
const SHARED_WINDOW: u64 = 0x7fee_0000_0000_0000;
/// Generic address of the first byte of constant memory.
const CONST_WINDOW: u64 = 0x7fed_0000_0000_0000;

/// Returns the space of a generic address, and the address in that space.
pub fn space_of(address: u64) -> (Space, u64) {
    match address & 0xffff_0000_0000_0000 {
        SHARED_WINDOW => (Space::Shared, address - SHARED_WINDOW),
        CONST_WINDOW => (Space::Const, address - CONST_WINDOW),
        _ => (Space::Global, address),
    }
}

/// Returns the space of an address that was used as a global address, but is in shared or constant memory. Returns
/// `None` for a global address.
pub fn is_of_space(address: u64) -> Option<Space> {
    match space_of(address).0 {
        Space::Global if (SHARED_START..SHARED_START + (1 << 18)).contains(&address) => Some(Space::Shared),
        Space::Global if (CONST_START..CONST_START + (1 << 16)).contains(&address) => Some(Space::Const),
        Space::Global => None,
        space => Some(space),
    }
}

/// Returns `f` of each lane. A loop, unlike `std::array::from_fn`, is inlined and computes several lanes at a time.
#[inline(always)]
fn each_lane<T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; LANES] {
    let mut values = [T::default(); LANES];
    for (lane, value) in values.iter_mut().enumerate() {
        *value = f(lane);
    }
    values
}

/// Computes a result in each lane from the lane's operands, and stores it. This is a macro, because the compiler can
/// turn a closure into a separate function, which cannot use the CPU's wide registers.
macro_rules! lanes {
    ($w:ident, $i:ident, $lanes:ident, $put:ident, $($bank:ident $k:literal $operand:ident),* => $run:expr) => {{
        $(let $operand = &$w.$bank[$i.r[$k] as usize];)*
        let mut values = [Default::default(); LANES];
        for lane in 0..LANES {
            $(let $operand = $operand[lane];)*
            values[lane] = $run;
        }
        $w.$put($i.r[0], &values, $lanes);
    }};
}

macro_rules! word1 {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_words, words 1 $a => $run)
    };
}

macro_rules! word2 {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident, $b:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_words, words 1 $a, words 2 $b => $run)
    };
}

macro_rules! word3 {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident, $b:ident, $c:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_words, words 1 $a, words 2 $b, words 3 $c => $run)
    };
}

macro_rules! wide1 {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_wides, wides 1 $a => $run)
    };
}

macro_rules! wide2 {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident, $b:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_wides, wides 1 $a, wides 2 $b => $run)
    };
}

macro_rules! wide3 {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident, $b:ident, $c:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_wides, wides 1 $a, wides 2 $b, wides 3 $c => $run)
    };
}

macro_rules! words_of_wides {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_words, wides 1 $a => $run)
    };
}

macro_rules! wides_of_words {
    ($w:ident, $i:ident, $lanes:ident, |$a:ident| $run:expr) => {
        lanes!($w, $i, $lanes, put_wides, words 1 $a => $run)
    };
}

/// Sets a predicate to the result of a test in each lane.
macro_rules! test {
    ($w:ident, $i:ident, $lanes:ident, $bank:ident, |$a:ident, $b:ident| $run:expr) => {{
        let ($a, $b) = (&$w.$bank[$i.r[1] as usize], &$w.$bank[$i.r[2] as usize]);
        let mut mask = 0;
        for lane in 0..LANES {
            let ($a, $b) = ($a[lane], $b[lane]);
            mask |= u32::from($run) << lane;
        }
        $w.put_predicate($i.r[0], mask, $lanes);
    }};
}

/// Matches an enum, and repeats the code in the arm of each variant. In each copy of the code, `$name` is a constant,
/// so the loop over the lanes is compiled for one variant only. The code is not a closure, because a closure could
/// become a separate function, which cannot use the CPU's wide registers.
macro_rules! each {
    ($value:expr, $kind:ident: $($variant:ident)*, $name:ident, $run:expr) => {
        match $value { $($kind::$variant => { let $name = $kind::$variant; $run })* }
    };
}

macro_rules! each_int {
    ($name:ident, $run:expr) => {
        each!($name, Int: Add Sub MulLo MulHi MulHiSigned Div DivSigned Rem RemSigned Min MinSigned Max MaxSigned And
            Or Xor Shl Shr ShrSigned, $name, $run)
    };
}

macro_rules! each_float {
    ($name:ident, $run:expr) => {
        each!($name, Float: Add Sub Mul Div Min Max MinNan MaxNan CopySign, $name, $run)
    };
}

macro_rules! each_root {
    ($name:ident, $run:expr) => {
        each!($name, Root: Neg Abs Sqrt Rcp ApproxEx2 ApproxLg2 ApproxRcp ApproxRsqrt ApproxSqrt, $name, $run)
    };
}

macro_rules! each_cmp_of_integers {
    ($name:ident, $run:expr) => {
        match $name {
            Cmp::Eq => {
                let $name = Cmp::Eq;
                $run
            }
            Cmp::Ne => {
                let $name = Cmp::Ne;
                $run
            }
            Cmp::Lt => {
                let $name = Cmp::Lt;
                $run
            }
            Cmp::Le => {
                let $name = Cmp::Le;
                $run
            }
            Cmp::Gt => {
                let $name = Cmp::Gt;
                $run
            }
            _ => {
                let $name = Cmp::Ge;
                $run
            }
        }
    };
}

macro_rules! each_cmp {
    ($name:ident, $run:expr) => {
        each!($name, Cmp: Eq Ne Lt Le Gt Ge Equ Neu Ltu Leu Gtu Geu Num Nan, $name, $run)
    };
}

/// Runs an instruction in these lanes. Returns false if the instruction is not one of this module.
#[inline(always)]
pub fn run(w: &mut Warp, i: &Inst, lanes: u32) -> bool {
    match i.op {
        Op::Mov(Bank::Word) => word1!(w, i, lanes, |a| a),
        Op::Mov(Bank::Wide) => wide1!(w, i, lanes, |a| a),
        Op::Mov(Bank::Pred) => w.put_predicate(i.r[0], w.guard(i.r[1], false), lanes),
        Op::F32(op) => each_float!(op, word2!(w, i, lanes, |a, b| binary32(op, a, b))),
        Op::F64(op) => each_float!(op, wide2!(w, i, lanes, |a, b| binary64(op, a, b))),
        Op::Fma32 => word3!(w, i, lanes, |a, b, c| bits32(f32_of(a).mul_add(f32_of(b), f32_of(c)))),
        Op::Fma64 => wide3!(w, i, lanes, |a, b, c| bits64(f64_of(a).mul_add(f64_of(b), f64_of(c)), [a, b, c])),
        Op::Int(op, 4) => each_int!(op, word2!(w, i, lanes, |a, b| integer(op, a.into(), b.into(), 32) as u32)),
        Op::Int(op, 2) => word2!(w, i, lanes, |a, b| integer(op, a.into(), b.into(), 16) as u32),
        Op::Int(op @ (Int::Shl | Int::Shr | Int::ShrSigned), _) => {
            let (a, b) = (w.wides[i.r[1] as usize], w.words[i.r[2] as usize]);
            w.put_wides(i.r[0], &each_lane(|l| integer(op, a[l], b[l].into(), 64)), lanes);
        }
        Op::Int(op, _) => each_int!(op, wide2!(w, i, lanes, |a, b| integer(op, a, b, 64))),
        Op::Set(cmp, Type::F32) => {
            each_cmp!(cmp, test!(w, i, lanes, words, |a, b| compare(cmp, f32_of(a), f32_of(b))))
        }
        Op::Set(cmp, Type::F64) => {
            each_cmp!(cmp, test!(w, i, lanes, wides, |a, b| compare(cmp, f64_of(a), f64_of(b))))
        }
        Op::Set(cmp, Type::S32) => {
            each_cmp_of_integers!(cmp, test!(w, i, lanes, words, |a, b| compare(cmp, a as i32, b as i32)))
        }
        Op::Set(cmp, Type::S16) => test!(w, i, lanes, words, |a, b| compare(cmp, a as i16, b as i16)),
        Op::Set(cmp, Type::S64) => test!(w, i, lanes, wides, |a, b| compare(cmp, a as i64, b as i64)),
        Op::Set(cmp, Type::U64 | Type::B64) => test!(w, i, lanes, wides, |a, b| compare(cmp, a, b)),
        Op::Set(cmp, _) => each_cmp_of_integers!(cmp, test!(w, i, lanes, words, |a, b| compare(cmp, a, b))),
        Op::Sel(Bank::Wide) => {
            let (a, b, p) = (&w.wides[i.r[1] as usize], &w.wides[i.r[2] as usize], w.guard(i.r[3], false));
            let values = each_lane(|l| if p >> l & 1 == 1 { a[l] } else { b[l] });
            w.put_wides(i.r[0], &values, lanes);
        }
        Op::Sel(_) => {
            let (a, b, p) = (&w.words[i.r[1] as usize], &w.words[i.r[2] as usize], w.guard(i.r[3], false));
            let values = each_lane(|l| if p >> l & 1 == 1 { a[l] } else { b[l] });
            w.put_words(i.r[0], &values, lanes);
        }
        Op::Pred(op) => {
            let (a, b) = (w.guard(i.r[1], false), w.guard(i.r[2], false));
            w.put_predicate(i.r[0], integer(op, a.into(), b.into(), 32) as u32, lanes);
        }
        Op::NotPred => w.put_predicate(i.r[0], w.guard(i.r[1], true), lanes),
        Op::Root32 { root, ftz: false } => each_root!(root, word1!(w, i, lanes, |a| root32(root, a))),
        Op::Root32 { root, .. } => word1!(w, i, lanes, |a| floats::flush(root32(root, floats::flush(a)))),
        Op::Root64(root) => each_root!(root, wide1!(w, i, lanes, |a| root64(root, a))),
        Op::Cvt { to, from, round, integral } => conversion(w, i, lanes, (to, from, round, integral)),
        Op::CvtPair(to) => word2!(w, i, lanes, |a, b| pair(to, a, b)),
        Op::Packed(op, of) => word2!(w, i, lanes, |a, b| floats::packed(op, of, a, b)),
        Op::MadLo(4) => word3!(w, i, lanes, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Op::Prmt => word3!(w, i, lanes, |a, b, c| permute(a, b, c)),
        Op::Lop3 => word3!(w, i, lanes, |a, b, c| logic(a, b, c, i.imm as u32)),
        Op::Funnel { left, wrap } => word3!(w, i, lanes, |a, b, c| funnel(a, b, c, left, wrap)),
        _ => return rare(w, i, lanes),
    }
    true
}

#[inline(always)]
fn conversion(w: &mut Warp, i: &Inst, lanes: u32, (to, from, round, integral): (Type, Type, Round, bool)) {
    match (to, from, round, integral) {
        (Type::F64, Type::F32, _, false) => wides_of_words!(w, i, lanes, |a| f64_of_f32(a)),
        (Type::F32, Type::F64, Round::Nearest, false) => words_of_wides!(w, i, lanes, |a| f32_of_f64(a)),
        (Type::F32, Type::F64, _, false) => words_of_wides!(w, i, lanes, |a| narrow(f64_of(a), round)),
        (Type::F32, Type::F16, _, false) => word1!(w, i, lanes, |a| floats::widen_f16(a)),
        (Type::F16, Type::F32, Round::Nearest, false) => word1!(w, i, lanes, |a| floats::narrow_f16(f32_of(a))),
        (Type::BF16, Type::F32, Round::Nearest, false) => word1!(w, i, lanes, |a| floats::narrow_bf16(f32_of(a))),
        (Type::U64, Type::U32, ..) => wides_of_words!(w, i, lanes, |a| u64::from(a)),
        (Type::S64, Type::S32, ..) => wides_of_words!(w, i, lanes, |a| a as i32 as u64),
        (Type::U32 | Type::S32, Type::U64 | Type::S64, ..) => words_of_wides!(w, i, lanes, |a| a as u32),
        (Type::U16 | Type::U32, Type::U16, ..) | (Type::U16, Type::U32, ..) => word1!(w, i, lanes, |a| a & 0xffff),
        _ => any_conversion(w, i, lanes, (to, from, round, integral)),
    }
}

#[inline(never)]
fn any_conversion(w: &mut Warp, i: &Inst, lanes: u32, (to, from, round, integral): (Type, Type, Round, bool)) {
    let convert = |bits| convert::convert(to, from, round, integral, bits);
    match (to.bank(), from.bank()) {
        (Bank::Wide, Bank::Wide) => wide1!(w, i, lanes, |a| convert(a)),
        (Bank::Wide, _) => wides_of_words!(w, i, lanes, |a| convert(a.into())),
        (_, Bank::Wide) => words_of_wides!(w, i, lanes, |a| convert(a) as u32),
        _ => word1!(w, i, lanes, |a| convert(a.into()) as u32),
    }
}

/// Runs an instruction that does not need to be fast. Returns false if the instruction is not one of this module.
#[inline(never)]
fn rare(w: &mut Warp, i: &Inst, lanes: u32) -> bool {
    match i.op {
        Op::Join(part) => join(w, i, lanes, part),
        Op::Split(part) => split(w, i, lanes, part),
        Op::Directed(op, round) => word2!(w, i, lanes, |a, b| floats::directed32(op, round, a, b)),
        Op::MulFlushed => word2!(w, i, lanes, |a, b| floats::mul_flushed32(a, b)),
        Op::FmaDirected(round) => word3!(w, i, lanes, |a, b, c| floats::fma_directed32(round, a, b, c)),
        Op::MulWide(of, add) if of.bytes() == 2 => {
            word2!(w, i, lanes, |a, b| (extend(a.into(), of).wrapping_mul(extend(b.into(), of))) as u32);
            if add {
                let (a, b) = (w.words[i.r[0] as usize], w.words[i.r[3] as usize]);
                w.put_words(i.r[0], &each_lane(|l| a[l].wrapping_add(b[l])), lanes);
            }
        }
        Op::MulWide(of, add) => {
            let (a, b) = (w.words[i.r[1] as usize], w.words[i.r[2] as usize]);
            let c = if add { w.wides[i.r[3] as usize] } else { [0; LANES] };
            let product = |l: usize| extend(a[l].into(), of).wrapping_mul(extend(b[l].into(), of));
            w.put_wides(i.r[0], &each_lane(|l| product(l).wrapping_add(c[l])), lanes);
        }
        Op::MadLo(2) => word3!(w, i, lanes, |a, b, c| a.wrapping_mul(b).wrapping_add(c) & 0xffff),
        Op::MadLo(_) => wide3!(w, i, lanes, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        Op::MadHi(of) => {
            let op = if of.is_signed() { Int::MulHiSigned } else { Int::MulHi };
            match of.bytes() {
                8 => wide3!(w, i, lanes, |a, b, c| integer(op, a, b, 64).wrapping_add(c)),
                _ => word3!(w, i, lanes, |a, b, c| (integer(op, a.into(), b.into(), 32) as u32).wrapping_add(c)),
            }
        }
        Op::Bits(bits, 8) => {
            let f = |a: u64| match bits {
                Bits::Not => !a,
                Bits::Neg => a.wrapping_neg(),
                Bits::Abs => (a as i64).wrapping_abs() as u64,
                Bits::Popc => a.count_ones().into(),
                Bits::Clz => a.leading_zeros().into(),
                Bits::Brev => a.reverse_bits(),
                Bits::Find => u64::from(a.checked_ilog2().unwrap_or(u32::MAX)),
                Bits::FindShift => a.checked_ilog2().map_or(u64::from(u32::MAX), |at| u64::from(63 - at)),
            };
            match bits {
                Bits::Popc | Bits::Clz | Bits::Find | Bits::FindShift => words_of_wides!(w, i, lanes, |a| f(a) as u32),
                _ => wide1!(w, i, lanes, |a| f(a)),
            }
        }
        Op::Bits(bits, bytes) => {
            let mask = if bytes == 2 { 0xffff } else { u32::MAX };
            word1!(w, i, lanes, |a| {
                let result = match bits {
                    Bits::Not => !a,
                    Bits::Neg => a.wrapping_neg(),
                    Bits::Abs if bytes == 2 => i32::from(a as i16).unsigned_abs(),
                    Bits::Abs => (a as i32).wrapping_abs() as u32,
                    Bits::Popc => a.count_ones(),
                    Bits::Clz => a.leading_zeros(),
                    Bits::Brev => a.reverse_bits(),
                    Bits::Find => a.checked_ilog2().unwrap_or(u32::MAX),
                    Bits::FindShift => a.checked_ilog2().map_or(u32::MAX, |at| 31 - at),
                };
                result & mask
            });
        }
        Op::Bfi(bytes) => {
            let (at, length) = (w.words[i.r[3] as usize], w.words[i.r[4] as usize]);
            if bytes == 8 {
                let (a, b) = (w.wides[i.r[1] as usize], w.wides[i.r[2] as usize]);
                let f = |l: usize| insert(a[l], b[l], at[l].into(), length[l].into(), 64);
                w.put_wides(i.r[0], &each_lane(f), lanes);
            } else {
                let (a, b) = (w.words[i.r[1] as usize], w.words[i.r[2] as usize]);
                let f = |l: usize| insert(a[l].into(), b[l].into(), at[l].into(), length[l].into(), 32) as u32;
                w.put_words(i.r[0], &each_lane(f), lanes);
            }
        }
        Op::Bfe(of) => {
            let (at, length) = (w.words[i.r[2] as usize], w.words[i.r[3] as usize]);
            if of.bytes() == 8 {
                let a = w.wides[i.r[1] as usize];
                let f = |l: usize| extract(a[l], at[l].into(), length[l].into(), of);
                w.put_wides(i.r[0], &each_lane(f), lanes);
            } else {
                let a = w.words[i.r[1] as usize];
                let f = |l: usize| extract(a[l].into(), at[l].into(), length[l].into(), of) as u32;
                w.put_words(i.r[0], &each_lane(f), lanes);
            }
        }
        Op::Slct { wide, float } => {
            let by = w.words[i.r[3] as usize];
            let first = |l: usize| if float { f32_of(by[l]) >= 0.0 } else { by[l] as i32 >= 0 };
            if wide {
                let (a, b) = (w.wides[i.r[1] as usize], w.wides[i.r[2] as usize]);
                w.put_wides(i.r[0], &each_lane(|l| if first(l) { a[l] } else { b[l] }), lanes);
            } else {
                let (a, b) = (w.words[i.r[1] as usize], w.words[i.r[2] as usize]);
                w.put_words(i.r[0], &each_lane(|l| if first(l) { a[l] } else { b[l] }), lanes);
            }
        }
        Op::ToSpace(Space::Shared) => wide1!(w, i, lanes, |a| a.wrapping_sub(SHARED_WINDOW)),
        Op::ToSpace(Space::Const) => wide1!(w, i, lanes, |a| a.wrapping_sub(CONST_WINDOW)),
        Op::FromSpace(Space::Shared) => wide1!(w, i, lanes, |a| a.wrapping_add(SHARED_WINDOW)),
        Op::FromSpace(Space::Const) => wide1!(w, i, lanes, |a| a.wrapping_add(CONST_WINDOW)),
        Op::ToSpace(_) | Op::FromSpace(_) => wide1!(w, i, lanes, |a| a),
        Op::ActiveMask => w.put_words(i.r[0], &[lanes; LANES], lanes),
        Op::Nothing => {}
        _ => return false,
    }
    true
}

fn join(w: &mut Warp, i: &Inst, lanes: u32, part: u8) {
    let count = i.r[1..].iter().take_while(|&&r| r != crate::op::NONE).count();
    let wide = count * part as usize == 8;
    let mut joined = [0u64; LANES];
    for k in 0..count {
        let from = &w.words[i.r[1 + k] as usize];
        let of = if part == 2 { Type::B16 } else { Type::B32 };
        (0..LANES).for_each(|l| joined[l] |= low(from[l].into(), of) << (8 * part as usize * k));
    }
    match wide {
        true => w.put_wides(i.r[0], &joined, lanes),
        false => w.put_words(i.r[0], &each_lane(|lane| joined[lane] as u32), lanes),
    }
}

fn split(w: &mut Warp, i: &Inst, lanes: u32, part: u8) {
    let count = i.r[..4].iter().take_while(|&&r| r != crate::op::NONE).count();
    let from = match count * part as usize {
        8 => w.wides[i.r[4] as usize],
        _ => {
            let words = &w.words[i.r[4] as usize];
            each_lane(|lane| words[lane].into())
        }
    };
    let of = if part == 2 { Type::B16 } else { Type::B32 };
    for k in 0..count {
        let values = each_lane(|lane| low(from[lane] >> (8 * part as usize * k), of) as u32);
        w.put_words(i.r[k], &values, lanes);
    }
}
