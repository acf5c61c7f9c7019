//! The reference against numbers of arbitrary precision, which `scripts/vectors.py` made.

use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{CrossEntropy, LongRope, Rope, RopeScaling, SamplerConfig, Yarn};

/// A line of tests/vectors/reference.tsv.
struct Vector<'a> {
    op: &'a str,
    parameters: Vec<&'a str>,
    input: Vec<f64>,
    expected: Vec<DoubleDouble>,
}

fn float(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).expect("bits of an f64"))
}

/// 2^e, in steps that f64 can hold.
fn power_of_two(e: i32) -> DoubleDouble {
    let (step, base) = if e < 0 { (-e, 0.5) } else { (e, 2.0) };
    (0..step).fold(DoubleDouble::from(1.0), |power, _| power * DoubleDouble::from(base))
}

fn vectors() -> Vec<Vector<'static>> {
    let lines = include_str!("../vectors/reference.tsv").lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &'static str| {
        let [op, parameters, input, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four fields are needed: {line}");
        };
        let expanded = |parts: &str| {
            let [hi, lo, exponent] = parts.split(' ').collect::<Vec<_>>()[..] else { panic!("three parts: {parts}") };
            let sum = DoubleDouble::from(float(hi)) + DoubleDouble::from(float(lo));
            sum * power_of_two(exponent.parse().expect("an exponent"))
        };
        Vector {
            op,
            parameters: parameters.split_whitespace().collect(),
            input: input.split(' ').map(float).collect(),
            expected: expected.split(',').map(expanded).collect(),
        }
    };
    lines.map(parse).collect()
}

/// Fails unless the number is the expected one to a relative 2^-`digits`.
fn assert_near(what: &str, got: DoubleDouble, expected: DoubleDouble, digits: i32) {
    let zero = DoubleDouble::from(0.0);
    if expected == zero {
        assert_eq!(got, zero, "{what}");
        return;
    }
    let error = ((got - expected) / expected).abs().to_f64();
    assert!(error <= 2f64.powi(-digits), "{what}: got {got:?}, expected {expected:?}, off by 2^{:.1}", error.log2());
}

fn answers<R: Real>(vector: &Vector<'_>) -> Option<R> {
    let x = vector.input[0];
    Some(match vector.op {
        "exp" => R::from(x).exp(),
        "ln" => R::from(x).ln(),
        "exp2" => R::from(x).exp2(),
        "log2" => R::from(x).log2(),
        "ln_1p" => R::from(x).ln_1p(),
        "sqrt" => R::from(x).sqrt(),
        "tanh" => R::from(x).tanh(),
        "sin" => R::sin_cos(x).0,
        "cos" => R::sin_cos(x).1,
        "sigmoid" => reference::sigmoid_of(R::from(x)),
        "silu" => reference::silu_of(R::from(x)),
        "exp_m1" => R::from(x).exp_m1(),
        "softplus" => reference::softplus_of(R::from(x)),
        "log_sigmoid" => reference::log_sigmoid_of(R::from(x)),
        "erf" => R::from_double_double(reference::erf(x)),
        "normal_cdf" => R::from_double_double(DoubleDouble::from(x).normal_cdf()),
        "gelu" => R::from_double_double(reference::gelu(x)),
        "gelu_tanh" => R::from_double_double(reference::gelu_tanh(x)),
        _ => return None,
    })
}

#[test]
fn functions_have_a_hundred_bits() {
    let mut count = 0;
    for vector in vectors() {
        if let Some(got) = answers::<DoubleDouble>(&vector) {
            // Where the argument of the exponential is rounded, an error grows with it.
            let digits = if matches!(vector.op, "normal_cdf" | "gelu" | "gelu_tanh") { 90 } else { 100 };
            assert_near(&format!("{} of {:e}", vector.op, vector.input[0]), got, vector.expected[0], digits);
            count += 1;
        }
    }
    assert!(count > 300, "only {count} vectors were found");
}

/// The oracle of the narrower types, mostly the standard library.
#[test]
fn functions_of_f64_have_all_but_one_of_their_bits() {
    for vector in vectors() {
        let Some(got) = answers::<f64>(&vector) else { continue };
        let expected = vector.expected[0].to_f64();
        if expected.is_normal() && expected.abs() > 1e-290 {
            let what = format!("{} of {:e} in f64", vector.op, vector.input[0]);
            assert_near(&what, got.into(), vector.expected[0], 51);
        }
    }
}

/// Calls `with` with the options of theta and, where there is one, of a scaling's name and its parameters.
fn with_rope_options<T>(parameters: &[&str], with: impl FnOnce(&Rope<'_>) -> T) -> T {
    let options = Rope::default().theta(float(parameters[0]));
    let Some((name, numbers)) = parameters[1..].split_first() else { return with(&options) };
    let numbers: Vec<f64> = numbers.iter().map(|bits| float(bits)).collect();
    let scaling = match (*name, numbers.as_slice()) {
        ("linear", &[factor]) => RopeScaling::Linear { factor },
        ("ntk", &[factor]) => RopeScaling::Ntk { factor },
        ("dynamic", &[factor, positions, sequence]) => {
            let (original_positions, sequence) = (positions as usize, sequence as usize);
            RopeScaling::DynamicNtk { factor, original_positions, sequence }
        }
        ("yarn", &[factor, positions, beta_fast, beta_slow, truncate, mscale, mscale_all_dim, ref given @ ..]) => {
            let yarn = Yarn::new(factor, positions as usize).beta_fast(beta_fast).beta_slow(beta_slow);
            let yarn = yarn.truncate(truncate != 0.0).mscale(mscale, mscale_all_dim);
            RopeScaling::Yarn(given.iter().fold(yarn, |yarn, factor| yarn.attention_factor(*factor)))
        }
        ("longrope", &[factor, positions, sequence, ref lists @ ..]) => {
            let (short, rest) = lists.split_at(8);
            let (long, given) = rest.split_at(8);
            let lists = LongRope::new(short, long, positions as usize, sequence as usize).factor(factor);
            RopeScaling::LongRope(given.iter().fold(lists, |lists, factor| lists.attention_factor(*factor)))
        }
        ("llama3", &[factor, low_freq_factor, high_freq_factor, positions]) => {
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions: positions as usize }
        }
        _ => panic!("{parameters:?} are no scaling"),
    };
    with(&options.scaling(scaling))
}

#[test]
fn rows_have_nearly_as_many() {
    let mut count = 0;
    for Vector { op, parameters, input, expected } in vectors() {
        let got = match op {
            "softmax" => reference::softmax(&input).expect("finite scores"),
            "log_softmax" => reference::log_softmax(&input).expect("finite scores"),
            "logsumexp" => vec![reference::logsumexp(&input)],
            "rms_norm" => reference::rms_norm(&input, None, 0.0, float(parameters[0])),
            "layer_norm" => reference::layer_norm(&input, None, None, float(parameters[0])),
            "rope" => {
                let position = parameters[0].parse().expect("a position");
                with_rope_options(&parameters[1..], |options| reference::rope(&input, position, options))
            }
            _ => continue,
        };
        assert_eq!(got.len(), expected.len());
        for (i, (got, expected)) in got.into_iter().zip(expected).enumerate() {
            // Differences of the mean and of rotated parts cancel some of the digits.
            assert_near(&format!("{op} of {input:?} at {i}"), got, expected, if op == "rope" { 90 } else { 80 });
            count += 1;
        }
    }
    assert!(count > 100, "only {count} results were compared");
}

#[test]
fn double_doubles_have_infinities_nan_and_signed_zeros() {
    let [inf, nan, zero, minus_zero, one, two] = [f64::INFINITY, f64::NAN, 0.0, -0.0, 1.0, 2.0].map(DoubleDouble::from);
    let same = |a: DoubleDouble, b: f64| a.to_f64().to_bits() == b.to_bits();
    let is_nan = |a: DoubleDouble| a.to_f64().is_nan();
    assert!(same(inf + one, f64::INFINITY) && same(one + inf, f64::INFINITY) && same(one - inf, f64::NEG_INFINITY));
    assert!(is_nan(inf - inf) && is_nan(nan + one) && is_nan(one * nan) && is_nan(zero / zero) && is_nan(inf * zero));
    assert!(same(one / inf, 0.0) && same(-one / inf, -0.0) && same(one / zero, f64::INFINITY));
    assert!(same(zero + minus_zero, 0.0) && same(minus_zero + minus_zero, -0.0) && same(one - one, 0.0));
    assert!(same(minus_zero * two, -0.0) && same(zero + one, 1.0) && same(one + minus_zero, 1.0));
    assert!(inf > two && -inf < two && inf == inf && nan != nan && zero == minus_zero);
    assert!(nan.is_nan() && !one.is_nan() && same(minus_zero.abs(), 0.0) && same(zero.abs(), 0.0));
    assert_eq!(nan.partial_cmp(&one), None);
    assert!(same(inf.exp(), f64::INFINITY) && same((-inf).exp(), 0.0) && is_nan(nan.exp()));
    assert!(same(zero.exp(), 1.0) && same(one.ln(), 0.0) && same(zero.ln(), f64::NEG_INFINITY) && is_nan((-one).ln()));
    assert!(same(inf.ln(), f64::INFINITY) && same(minus_zero.ln_1p(), -0.0) && is_nan((-two).ln_1p()));
    assert!(
        same(inf.exp2(), f64::INFINITY) && same((-inf).exp2(), 0.0) && is_nan(nan.exp2()) && same(zero.exp2(), 1.0)
    );
    assert!(same(one.log2(), 0.0) && same(zero.log2(), f64::NEG_INFINITY) && is_nan((-one).log2()));
    assert!(same(inf.log2(), f64::INFINITY) && same(DoubleDouble::from(-1074.0).exp2().log2(), -1074.0));
    assert!(same(inf.sqrt(), f64::INFINITY) && same(zero.sqrt(), 0.0) && is_nan((-one).sqrt()));
    assert!(same(inf.tanh(), 1.0) && same((-inf).tanh(), -1.0) && same(minus_zero.tanh(), -0.0) && is_nan(nan.tanh()));
    assert!(same(zero.tanh(), 0.0) && same(zero.erf(), 0.0) && same(minus_zero.erf(), -0.0) && is_nan(nan.erf()));
    assert!(same(minus_zero.exp_m1(), -0.0) && same(minus_zero.sqrt(), -0.0) && is_nan(nan.sqrt()));
    assert!(same(zero.normal_cdf(), 0.5) && is_nan(nan.normal_cdf()) && same((-inf).normal_cdf(), 0.0));
    assert!(same(DoubleDouble::sin_cos(0.0).0, 0.0) && same(DoubleDouble::sin_cos(-0.0).0, -0.0));
    let (sin, cos) = DoubleDouble::sin_cos(f64::INFINITY);
    assert!(is_nan(sin) && is_nan(cos));
}

#[test]
fn double_doubles_round_to_the_nearest_f64_among_the_subnormals_too() {
    let smallest = DoubleDouble::from(5e-324);
    let times = |factor: f64| smallest * DoubleDouble::from(factor);
    let above_tie = times(1.5) + times(2f64.powi(-90));
    let below_tie = times(2.5) - times(2f64.powi(-90));
    assert_eq!(times(0.5).to_f64(), 0.0);
    assert_eq!((times(0.5) + times(2f64.powi(-100))).to_f64(), 5e-324);
    assert_eq!(times(1.5).to_f64(), 1e-323);
    assert_eq!(times(2.5).to_f64(), 1e-323);
    assert_eq!(above_tie.to_f64(), 1e-323);
    assert_eq!(below_tie.to_f64(), 1e-323);
    assert_eq!((times(2.5) + times(2f64.powi(-90))).to_f64(), 1.5e-323);
    assert_eq!((-above_tie).to_f64(), -1e-323);
    assert_eq!((times(1.5) - times(2f64.powi(-90))).to_f64(), 5e-324);
    let below_tie_by_a_digit = times(1.5 - f64::EPSILON) + times(2f64.powi(-90));
    assert_eq!(below_tie_by_a_digit.to_f64(), 5e-324);
    assert_eq!((times(0.25)).to_f64(), 0.0);
    assert_eq!((DoubleDouble::from(f64::MAX) + DoubleDouble::from(2f64.powi(969))).to_f64(), f64::MAX);
    assert_eq!((DoubleDouble::from(f64::MAX) + DoubleDouble::from(2f64.powi(970))).to_f64(), f64::INFINITY);
    assert_eq!((DoubleDouble::from(-f64::MAX) * DoubleDouble::from(2.0)).to_f64(), f64::NEG_INFINITY);
    for value in [5e-324, 1.2e-310, 2.2250738585072014e-308, 1.0, -1e10, 1e300, f64::MAX, -3e-320] {
        assert_eq!(DoubleDouble::from(value).to_f64(), value);
    }
}

/// What results that are compared in ULP would not show.
#[test]
fn references_keep_to_their_pages() {
    let functions = [reference::gelu, reference::gelu_tanh, reference::silu];
    for limit in functions.map(|function| function(f32::NEG_INFINITY)) {
        assert_eq!(limit.to_bits(), (-0.0f64).to_bits());
    }

    assert_eq!((reference::rsqrt(4.0f32), reference::rsqrt_slope(4.0f32)), (0.5, -1.0 / 16.0));
    assert_eq!((reference::reciprocal(-4.0f32), reference::reciprocal_slope(-4.0f32)), (-0.25, -1.0 / 16.0));
    assert_eq!([-0.0f32, 0.0].map(reference::log2_slope), [f64::INFINITY; 2]);
    assert_eq!([-1e4f32, 1e4].map(reference::tanh_slope), [0.0; 2]);
    assert_eq!([f32::NEG_INFINITY, f32::INFINITY].map(reference::silu_slope), [0.0, 1.0]);
    assert_eq!(reference::logsumexp(&[f32::INFINITY, 1.0]), f64::INFINITY);
    assert!(reference::logsumexp(&[f32::INFINITY, f32::NAN]).is_nan());
    assert_eq!(reference::logsumexp_backward(&[3.0f32, 3.0], 3.0), Some(vec![1.5, 1.5]));
    assert_eq!(reference::softmax_backward(&[0.0f32, 0.0], &[1.0, 3.0]), Some(vec![-0.5, 0.5]));
    assert_eq!(reference::logit_slopes(&[0.0f32, 1e30], 0.5, Some(2.0)), [0.5, 0.0]);
    let slope = reference::logit_slopes(&[-3.0f32], 0.5, Some(2.0))[0];
    assert!((slope - 0.5 * (1.0 - 0.75f64.tanh().powi(2))).abs() < 1e-15, "{slope}");

    // Gradients whose sum leaves the type, and some that have no digits to lose.
    let large = [f64::MAX, f64::MAX, 0.0, 0.0];
    let half = f64::MAX / 2.0;
    assert_eq!(reference::log_softmax_backward_of(&[0.0; 4], &large), Some(vec![half, half, -half, -half]));
    assert_eq!(reference::log_softmax_backward(&[0.0f32; 2], &[1.0, 0.0]), Some(vec![0.5, -0.5]));
    let tiny = 2f64.powi(-1060);
    assert_eq!(reference::log_softmax_backward_of(&[0.0; 2], &[tiny, 0.0]), Some(vec![tiny / 2.0, -tiny / 2.0]));

    let [inf, zero] = [f32::INFINITY, 0.0];
    let support = reference::sample(&[inf, zero, inf], &SamplerConfig::default()).unwrap();
    assert_eq!((support.tokens, support.probs), (vec![0, 2], vec![0.5, 0.5]));

    let spoilt = |z_loss| reference::cross_entropy(&[f32::NAN, 1.0], 1, &CrossEntropy::default().z_loss(z_loss));
    assert!(spoilt(0.1).iter().all(|part| part.is_nan()));
    let [entropy, z] = spoilt(0.0);
    assert!(entropy.is_nan() && z == 0.0, "no z-loss was asked for");

    // The slope of a cap is 1 - tanh^2, which e^(2 x) on the way would make a NaN of; and the sizes of terms have it.
    let capped = CrossEntropy::default().softcap(1.0);
    let (dz, _) = reference::cross_entropy_backward(&[800.0f32, 0.0], 1, &capped, [1.0, 0.0]);
    assert_eq!(dz[0], 0.0);
    let (dz, sizes) = reference::cross_entropy_backward(&[1.0f32, 1.0], 1, &capped, [1.0, 0.0]);
    let expected = 0.5 * (1.0 - 1f64.tanh().powi(2));
    for (size, dz) in sizes.iter().zip(dz) {
        assert!((size - expected).abs() < 1e-15 && (dz.abs() - expected).abs() < 1e-15, "{size} {dz}, not {expected}");
    }
}

/// Another crate's pairs of f64 agree with ours to more digits than one f64 has.
#[test]
fn floats_of_other_crates_are_numbers() {
    use evenkeel::reference::Number;
    use twofloat::TwoFloat;

    fn of<R: Real>(logits: &[f64]) -> Vec<R> {
        let logits: Vec<R> = logits.iter().copied().map(R::from).collect();
        let mut results = reference::softmax_of(&logits).expect("a row with logits");
        results.extend(reference::log_softmax_of(&logits).expect("a row with logits"));
        results.push(R::from_double_double(DoubleDouble::from(1.0) / DoubleDouble::from(3.0)));
        results
    }
    let masked = f64::NEG_INFINITY;
    let logits = [0.1, -3.7, masked, 2.25, 30.0, -0.5];
    for (other, ours) in of::<Number<TwoFloat>>(&logits).into_iter().zip(of::<DoubleDouble>(&logits)) {
        if !ours.to_f64().is_normal() {
            assert_eq!(other.to_f64(), ours.to_f64());
            continue;
        }
        // TwoFloat's exp is accurate to some 2^-85 of 1, not of its result.
        let other = DoubleDouble::from(other.0.hi()) + DoubleDouble::from(other.0.lo());
        let error = (other - ours).abs().to_f64() / ours.to_f64().abs().max(1.0);
        assert!(error < 2f64.powi(-78), "{} differs from {} by {error:e}", other.to_f64(), ours.to_f64());
    }
    assert!(Number::<TwoFloat>::from_double_double(DoubleDouble::from(f64::INFINITY)).to_f64().is_infinite());
}
