//! Faults of the kernels of functions of elements, by module; those of what all share are in one of them.

use super::{Fault, Found, fault};
use crate::support::How;
use crate::support::elementwise::{Inputs, case, functions, hostile, numbers};
use evenkeel::DType;
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::elementwise::{Function, launch};
use evenkeel_emulated::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub const EXP: &[Fault] = &[
    fault("an element beyond the end is written", "elementwise.cuh", "if (at < left)", "if (at <= left)"),
    fault("the last element is left out", "elementwise.cuh", "if (at < left)", "if (at + 1 < left)"),
    fault("the last element is not read", "elementwise.cuh", "at < left ?", "at + 1 < left ?"),
    fault("a block skips an element", "elementwise.cuh", "start += gridDim.x * TILE", "start += gridDim.x * TILE + 1"),
    fault("words lose their places", "elementwise.cuh", "words[1] = words[2], words[2]", "words[1] = first, words[2]"),
    fault(
        "halves of a word changed places",
        "elementwise.cuh",
        "bits >> 16 | words[1] << 16",
        "bits >> 16 | words[2] << 16",
    ),
    fault("near values change places", "elementwise.cuh", "<< (i % 2 * 16);", "<< (i / 2 % 2 * 16);"),
    fault("another element is made again", "elementwise.cuh", "rest >> i & 1", "rest >> (i ^ 1) & 1"),
    fault("a digit of the near polynomial", "near.cuh", "0x1.5554e8p-5f", "0x1.4554e8p-5f"),
    fault("16-bit types are rounded twice", "wide.cuh", "(double)near != v ? 1 : 0", "0"),
    fault("another NaN", "wide.cuh", "return S::NOT_A_NUMBER;", "return S::NOT_A_NUMBER + 1;"),
    fault("a digit of the polynomial", "exp.cuh", "0x1.111111110ebb2p-7", "0x1.111011110ebb2p-7"),
    fault("digits of ln 2", "exp.cuh", "LN2_HI = 0x1.62e42fefa38p-1", "LN2_HI = 0x1.62e42fefap-1"),
    fault("large powers of two come twice", "exp.cuh", "is_high ? 1.0 : power_of_two(at.n)", "power_of_two(at.n)"),
    fault("powers of two are cut", "exp.cuh", "within(x, 200.0)", "within(x, 100.0)"),
    fault("exponents are cut", "exp.cuh", "larger(EXP_MIN - 1.0, x)", "larger(EXP_MIN + 1.0, x)"),
    fault("the sign of a zero", "exp.cuh", "x == 0.0 ? x : v.hi", "v.hi"),
    fault(
        "bounds changed places",
        "elementwise_exp.cu",
        "smaller(max, larger(min, x))",
        "smaller(min, larger(max, x))",
    ),
];

pub const LOG: &[Fault] = &[
    fault("a digit of the polynomial", "log.cuh", "0x1.9999999999ep-2", "0x1.9998999999ep-2"),
    fault("digits of ln 2", "log.cuh", "LN2_HI = 0x1.62e42fefa3p-1", "LN2_HI = 0x1.62e42fefap-1"),
    fault("digits of 1 / ln 2", "log.cuh", "0x1.71547652b82fep+0", "0x1.71547652p+0"),
    fault("zero", "log.cuh", "x == 0.0 ? -INFINITE : hi", "hi"),
    fault(
        "infinity",
        "log.cuh",
        "double hi = x == INFINITE ? INFINITE : v.hi;\n    hi = x == 0.0",
        "double hi = v.hi;\n    hi = x == 0.0",
    ),
    fault("numbers below zero", "log.cuh", "x >= 0.0 ? hi", "x >= -2.0 ? hi"),
    fault("numbers below -1", "log.cuh", "x >= -1.0 ? hi", "x >= -3.0 ? hi"),
    fault("-1", "log.cuh", "x == -1.0 ? -INFINITE : hi", "hi"),
    fault("what 1 + x leaves out", "log.cuh", "sum.lo * scale", "0.0"),
    fault("subnormal floors", "log.cuh", "is_tiny ? at.k - 54.0 : at.k", "at.k"),
    fault("no floor", "elementwise_log.cu", "larger(floor, x)", "x"),
];

pub const LOGISTIC: &[Fault] = &[
    fault("sums are not rounded to odd", "wide.cuh", "(bits & 1) == 0", "false"),
    fault("sums are rounded the wrong way", "wide.cuh", "== 0 ? 1 : ~0ull", "== 0 ? ~0ull : 1"),
    fault("near ties are certain", "elementwise.cuh", "is_normal & (above > 2 * OFF)", "is_normal"),
    fault(
        "near subnormal results are certain",
        "elementwise.cuh",
        "is_normal & (above > 2 * OFF)",
        "(above > 2 * OFF)",
    ),
    fault("NaN is near", "elementwise.cuh", "(v == v) & is_certain", "is_certain"),
    fault("all pairs are certain", "elementwise.cuh", "bits_of(sides.above) == bits_of(sides.below)", "true"),
    fault("a digit of the pairs' table", "pair.cuh", "0x3f85aac3", "0x3f85aac4"),
    fault("pairs of any number", "pair.cuh", "-PAIR_LARGEST < x && x < INFINITE", "x < INFINITE"),
    fault("pairs of small numbers", "pair.cuh", "(0x1p-60f < fabsf(x) || is_zero)", "true"),
    fault(
        "tables are read before they are written",
        "elementwise.cuh",
        "tables.fill();\n        __syncthreads();",
        "tables.fill();",
    ),
    fault(
        "the wrong side of zero",
        "logistic.cuh",
        "logistic(0.0 - fabs(x), 0.0, x < 0.0)",
        "logistic(0.0 - fabs(x), 0.0, x > 0.0)",
    ),
    fault("exponents are cut", "logistic.cuh", "LOWEST = EXP_MIN - 10.0", "LOWEST = EXP_MIN + 10.0"),
    fault(
        "the sign of a zero",
        "pair.cuh",
        "is_zero ? x : found.above, is_zero ? x : found.below",
        "found.above, found.below",
    ),
    fault("infinity", "logistic.cuh", "lo = lo != lo ? 0.0 : lo;", ""),
    fault("numbers are cut", "logistic.cuh", "LARGEST = 50.0", "LARGEST = 5.0"),
    fault("a digit of the slope", "logistic.cuh", "0x1.9884533d43651p+0", "0x1.98845p+0"),
    fault("a digit of the cubic term", "logistic.cuh", "0x1.2444f2a4d8b4bp-4", "0x1.2444fp-4"),
    fault("tanh is cut", "logistic.cuh", "smaller(20.0, fabs(x))", "smaller(5.0, fabs(x))"),
    fault("the sign of tanh", "logistic.cuh", "sign = sign_of(x)", "sign = 1.0"),
];

pub const NORMAL: &[Fault] = &[
    fault("a digit of the pairs' tail", "normal_pair.cuh", "0x1.0982b343ddd03p+0", "0x1.0981b343ddd03p+0"),
    fault("a digit of the pairs' polynomial", "normal_pair.cuh", "0x1.20dd750428588p+0", "0x1.20d1750428588p+0"),
    fault("pairs beyond the polynomial", "normal_pair.cuh", "-LARGEST < x && x < INFINITE", "x == x"),
    fault("the edge of erf's polynomial", "normal.cuh", "a < 0.75", "a < 2.75"),
    fault("erf is cut", "normal.cuh", "smaller(7.0, fabs(x))", "smaller(3.0, fabs(x))"),
    fault("the sign of erf", "normal.cuh", "sign = sign_of(x)", "sign = 1.0"),
    fault("a digit of erf's tail", "normal.cuh", "0x1.183316dde068p+2", "0x1.183216dde068p+2"),
    fault("a digit of gelu's tail", "normal.cuh", "0x1.d2c8859e761e6p+2", "0x1.d2c7859e761e6p+2"),
    fault("a digit of gelu's polynomial", "normal.cuh", "0x1.46d04297691dap-7", "0x1.46d14297691dap-7"),
    fault("gelu is cut", "normal.cuh", "LARGEST = 20.0", "LARGEST = 12.0"),
    fault("the tail's power of two", "normal.cuh", "x <= -1.0 ?", "x <= -2.0 ?"),
    fault("the tail's side", "normal.cuh", "negative ? far.value.hi : above.hi", "far.value.hi"),
    fault("infinity", "normal.cuh", "value.lo != value.lo ? 0.0 : value.lo", "value.lo"),
];

pub const ROOT: &[Fault] = &[
    fault("the sign of a zero's root", "elementwise_root.cu", "Sum{sqrt(x), -0.0}", "Sum{sqrt(x), 0.0}"),
    fault("the sign of an infinity's reciprocal", "elementwise_root.cu", "Sum{1.0 / x, -0.0}", "Sum{1.0 / x, 0.0}"),
    fault("the reciprocal of a zero's root", "elementwise_root.cu", "lo != lo ? 0.0 : lo", "lo"),
    fault("small divisors", "elementwise_root.cu", "fabs(d) < eps ? least : d", "d"),
    fault("the sign of a divisor", "elementwise_root.cu", "(bits_of_wide(d) & SIGN)", "0"),
    fault("zero by zero", "elementwise_root.cu", "x == 0.0 && d == 0.0 ? 0.0 : odd", "odd"),
    fault("infinite quotients", "elementwise_root.cu", "fabs(rest) < INFINITE ? rest : -0.0", "rest"),
    fault("large quotients", "elementwise_root.cu", ", largest);", ", 1e300);"),
    fault("the second slice's words", "elementwise.cuh", "other.next(0);", ""),
];

pub const SOFTPLUS: &[Fault] = &[
    fault("no larger of x and 0", "logistic.cuh", "two_sum(larger(x, 0.0), log.hi)", "two_sum(x, log.hi)"),
    fault("infinity", "logistic.cuh", "{sum.hi, lo != lo ? 0.0 : lo}", "{sum.hi, lo}"),
    fault("the sign", "logistic.cuh", "return {-v.hi, -v.lo};", "return {v.hi, v.lo};"),
    fault("two infinities", "logistic.cuh", "{equal ? a : sum.hi, ", "{sum.hi, "),
    fault("an infinite sum", "logistic.cuh", "!equal && fabs(sum.hi) < INFINITE ?", "!equal ?"),
    fault("numbers far apart", "logistic.cuh", "difference.hi < LOWEST ? 0.0 : difference.lo", "difference.lo"),
    fault("the larger and the smaller", "logistic.cuh", "const bool above = a < b;", "const bool above = a > b;"),
    fault("what 1 + t leaves out", "log.cuh", "sum.lo * scale", "0.0"),
];

/// What is found in a module.
pub fn look(emulator: &Emulator, module: &str) -> Found {
    let is_in = |function: &Function| {
        let planned = launch(DType::F32, function, [0; 3], 1).unwrap().expect("there is an element");
        planned.0.source == module
    };
    for function in functions().into_iter().filter(is_in) {
        look_at::<f32>(emulator, &function)?;
        look_at::<f16>(emulator, &function)?;
        look_at::<bf16>(emulator, &function)?;
    }
    Ok(())
}

fn look_at<E: DeviceElement>(emulator: &Emulator, function: &Function) -> Found {
    let mut rng = StdRng::seed_from_u64(4);
    let all = (0..1 << 16).map(E::from_bits);
    let x = if size_of::<E>() == 2 { all.collect() } else { numbers::<E>(&mut rng, 40_000) };
    let mut other = x.clone();
    other.shuffle(&mut rng);
    let whole = Inputs { x: &x, other: &other, shifts: [0, 0] };
    case(emulator, function, &whole, How { shift: 0, one_block: true, order: Order::Forward })?;
    for (i, len) in [1, 9, 300, 1025, 5000].into_iter().enumerate() {
        let inputs = Inputs { x: &x[..len], other: &other[..len], shifts: [i % 2, 0] };
        case(emulator, function, &inputs, How { shift: 0, one_block: i % 2 == 0, order: Order::Backward })?;
    }
    // Every pair of some hostile numbers.
    let few: Vec<E> = hostile().into_iter().step_by(37).chain(hostile().into_iter().take(36)).collect();
    let x: Vec<E> = few.iter().flat_map(|v| vec![*v; few.len()]).collect();
    let pairs = Inputs { x: &x, other: &few.repeat(few.len()), shifts: [0, 0] };
    case(emulator, function, &pairs, How { shift: 0, one_block: false, order: Order::Forward })
}
