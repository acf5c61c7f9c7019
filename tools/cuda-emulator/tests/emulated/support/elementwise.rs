//! Cases for elementwise functions.

use super::{Guarded, How};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::elementwise::{Function, launch};
use evenkeel::{ClampedExp, ClampedLog, SafeDiv};
use evenkeel_cuda_emulator::Emulator;
use rand::RngExt;
use rand::rngs::StdRng;

/// Returns all functions, with several options each.
pub fn functions() -> Vec<Function> {
    let (exp, log, div) = (ClampedExp::default(), ClampedLog::default(), SafeDiv::default());
    vec![
        Function::Erf,
        Function::Exp,
        Function::Exp2,
        Function::Expm1,
        Function::Gelu,
        Function::GeluTanh,
        Function::Log,
        Function::Log1p,
        Function::Log2,
        Function::LogSigmoid,
        Function::Reciprocal,
        Function::Rsqrt,
        Function::Sigmoid,
        Function::Silu,
        Function::Softplus,
        Function::Sqrt,
        Function::Tanh,
        Function::ClampedExp(exp),
        Function::ClampedExp(exp.min(-3.1).max(4.5)),
        Function::ClampedLog(log),
        Function::ClampedLog(log.floor(0.1)),
        // The floor is subnormal in f64.
        Function::ClampedLog(log.floor(1e-320)),
        Function::LogAddExp,
        Function::Swiglu,
        Function::SafeDiv(div),
        Function::SafeDiv(div.eps(0.0)),
        Function::SafeDiv(div.eps(0.1)),
        Function::SafeDiv(div.eps(1e-320)),
        Function::ExpBackward,
        Function::Exp2Backward,
        Function::Expm1Backward,
        Function::LogBackward,
        Function::Log1pBackward,
        Function::Log2Backward,
        Function::SqrtBackward,
        Function::RsqrtBackward,
        Function::ReciprocalBackward,
        Function::SigmoidBackward,
        Function::SiluBackward,
        Function::TanhBackward,
        Function::ErfBackward,
        Function::GeluBackward,
        Function::GeluTanhBackward,
        Function::SoftplusBackward,
        Function::LogSigmoidBackward,
        Function::ClampedExpBackward(exp),
        Function::ClampedExpBackward(exp.min(-3.1).max(4.5)),
        Function::ClampedLogBackward(log),
        Function::ClampedLogBackward(log.floor(0.1)),
    ]
}

fn on_cpu<E: DeviceElement>(function: &Function, x: &[E], other: &[E]) -> Vec<E> {
    let made = match function {
        Function::Erf => evenkeel::erf(x),
        Function::Exp => evenkeel::exp(x),
        Function::Exp2 => evenkeel::exp2(x),
        Function::Expm1 => evenkeel::expm1(x),
        Function::Gelu => evenkeel::gelu(x),
        Function::GeluTanh => evenkeel::gelu_tanh(x),
        Function::Log => evenkeel::log(x),
        Function::Log1p => evenkeel::log1p(x),
        Function::Log2 => evenkeel::log2(x),
        Function::LogSigmoid => evenkeel::log_sigmoid(x),
        Function::Reciprocal => evenkeel::reciprocal(x),
        Function::Rsqrt => evenkeel::rsqrt(x),
        Function::Sigmoid => evenkeel::sigmoid(x),
        Function::Silu => evenkeel::silu(x),
        Function::Softplus => evenkeel::softplus(x),
        Function::Sqrt => evenkeel::sqrt(x),
        Function::Tanh => evenkeel::tanh(x),
        Function::ClampedExp(options) => evenkeel::clamped_exp(x, options),
        Function::ClampedLog(options) => evenkeel::clamped_log(x, options),
        Function::LogAddExp => evenkeel::log_add_exp(x, other),
        Function::Swiglu => evenkeel::swiglu(x, other),
        Function::SafeDiv(options) => evenkeel::safe_div(x, other, options),
        Function::ExpBackward => evenkeel::exp_backward(x, other),
        Function::Exp2Backward => evenkeel::exp2_backward(x, other),
        Function::Expm1Backward => evenkeel::expm1_backward(x, other),
        Function::LogBackward => evenkeel::log_backward(x, other),
        Function::Log1pBackward => evenkeel::log1p_backward(x, other),
        Function::Log2Backward => evenkeel::log2_backward(x, other),
        Function::SqrtBackward => evenkeel::sqrt_backward(x, other),
        Function::RsqrtBackward => evenkeel::rsqrt_backward(x, other),
        Function::ReciprocalBackward => evenkeel::reciprocal_backward(x, other),
        Function::SigmoidBackward => evenkeel::sigmoid_backward(x, other),
        Function::SiluBackward => evenkeel::silu_backward(x, other),
        Function::TanhBackward => evenkeel::tanh_backward(x, other),
        Function::ErfBackward => evenkeel::erf_backward(x, other),
        Function::GeluBackward => evenkeel::gelu_backward(x, other),
        Function::GeluTanhBackward => evenkeel::gelu_tanh_backward(x, other),
        Function::SoftplusBackward => evenkeel::softplus_backward(x, other),
        Function::LogSigmoidBackward => evenkeel::log_sigmoid_backward(x, other),
        Function::ClampedExpBackward(options) => evenkeel::clamped_exp_backward(x, other, options),
        Function::ClampedLogBackward(options) => evenkeel::clamped_log_backward(x, other, options),
        function => unimplemented!("{function:?}"),
    };
    made.unwrap()
}

/// Operands of a function, and the operands' offsets from multiples of 16 bytes, in elements.
pub struct Inputs<'a, E> {
    pub x: &'a [E],
    /// Second operand, of the same length. Functions of one operand do not read it.
    pub other: &'a [E],
    pub shifts: [usize; 2],
}

/// Runs one case twice, with a separate output and in place. Fails if the results differ from the CPU's.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    function: &Function,
    inputs: &Inputs<'_, E>,
    how: How,
) -> Result<(), String> {
    let len = inputs.x.len();
    let mut x = Guarded::of(inputs.x, inputs.shifts[0]);
    let mut other = Guarded::of(inputs.other, inputs.shifts[1]);
    let mut apart = Guarded::<E>::unwritten(len, how.shift);
    let expected = on_cpu(function, inputs.x, inputs.other);
    let describe =
        |found: String| format!("{function:?} of {len} {}, shifted by {:?}, {how:?}: {found}", E::DTYPE, inputs.shifts);
    let other = if function.is_of_two() { other.address() } else { 0 };
    for in_place in [false, true] {
        let to = if in_place { x.address() } else { apart.address() };
        let planned = launch(E::DTYPE, function, [x.address(), other, to], len)
            .unwrap()
            .expect("an elementwise function of a non-empty slice must launch a kernel");
        // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
        unsafe { how.run(emulator, planned) }.map_err(describe)?;
        if in_place { &x } else { &apart }.compare(&expected).map_err(describe)?;
    }
    Ok(())
}

/// Returns the numbers at which functions change their behaviour, and the neighbours of these numbers, with both signs.
pub fn hostile<E: DeviceElement>() -> Vec<E> {
    let limits = E::LIMITS;
    let mut edges = vec![0.0, f64::INFINITY, f64::NAN, limits.max, limits.min_normal, 1.0];
    edges.extend([limits.exp_max, limits.exp_min, limits.exp_min_normal, limits.exp_min - 10.0]);
    edges.extend([0.1, 0.5, 0.6, 0.75, 7.0, 9.0, 20.0, 40.0, 42.0, 45.0, 50.0, 108.0, 149.0, 200.0]);
    edges.extend([limits.min_normal.sqrt(), limits.max.sqrt(), 3.1, 4.5, std::f64::consts::SQRT_2]);
    edges.extend((-150..128).map(|e| 2f64.powi(e)));
    let mut numbers = Vec::new();
    for edge in edges {
        let bits = E::from_wide(edge).bits();
        numbers.extend((bits.saturating_sub(4)..=bits + 4).map(E::from_bits));
    }
    // Small multiples of the smallest subnormal number. Functions such as gelu halve small numbers, and half of an odd
    // multiple is a tie.
    numbers.extend((0..64).map(E::from_bits));
    let negative = numbers.clone().into_iter().map(|v: E| E::from_bits(v.bits() ^ 1 << (8 * size_of::<E>() - 1)));
    numbers.extend(negative);
    numbers
}

/// Returns `count` numbers: hostile ones, random bits, and numbers of moderate size.
pub fn numbers<E: DeviceElement>(rng: &mut StdRng, count: usize) -> Vec<E> {
    let mut numbers = hostile::<E>();
    while numbers.len() < count {
        numbers.push(E::from_bits(rng.random::<u32>().into()));
        let size = [0.01, 1.0, 10.0, 100.0][rng.random_range(0..4)];
        numbers.push(E::from_wide(size * (rng.random::<f64>() * 2.0 - 1.0)));
    }
    numbers.truncate(count);
    numbers
}
