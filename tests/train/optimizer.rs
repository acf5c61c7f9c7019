//! Compares optimisers with PyTorch's results and with plain loops. Checks gradients of any magnitude, saved states,
//! and rejected arguments.

use crate::vectors::{f64s, lines};
use evenkeel::train::{AdamW, Numbers, Optimizer, ParameterState, Rule, Sgd};
use evenkeel::{Element, Error, Floats, FloatsMut};
use half::{bf16, f16};

const U: f64 = f64::EPSILON / 2.0;

/// Generates multiples of 1/8 between -4 and 4, with the formula of scripts/train-vectors.py.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    (0..count as u64).map(|i| ((i * 2_654_435_761 + seed * 40503) % 65) as f64 / 8.0 - 4.0).collect()
}

fn of<E: Element>(numbers: &[f64]) -> Vec<E> {
    numbers.iter().map(|number| E::from_wide(*number)).collect()
}

fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|value| value.widen()).collect()
}

fn kept(state: &ParameterState, place: usize) -> Vec<f64> {
    let floats = state.kept[place].as_floats();
    (0..floats.len()).filter_map(|i| floats.get(i)).collect()
}

/// One parameter with its optimiser.
struct Run<E, R> {
    weights: Vec<E>,
    optimizer: Optimizer<R>,
}

impl<E: Element, R: Rule> Run<E, R> {
    fn new(rule: R, weights: &[f64]) -> Self {
        let weights = of::<E>(weights);
        let optimizer = Optimizer::new(rule, &[(&weights).into()]).unwrap();
        Run { weights, optimizer }
    }

    fn step<'a>(&mut self, grad: impl Into<Floats<'a>>) -> evenkeel::Result<()> {
        self.optimizer.step(&mut [(&mut self.weights).into()], &[Some(grad.into())])
    }

    fn state(&self) -> &ParameterState {
        &self.optimizer.state()[0]
    }
}

/// Fails unless every element is within `allowed` of the expected value.
fn assert_close(what: &str, got: &[f64], expected: &[f64], allowed: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= allowed,
            "{what}, element {i}: expected {expected} with an error of at most {allowed:e}, got {got}"
        );
    }
}

/// Compares AdamW with PyTorch. Evenkeel and PyTorch each round about 4 times per step, with relative errors of 2^-53.
/// Gradients have magnitudes up to 4, and weights up to 8. The error of a running mean decays over 1 / (1 - beta)
/// steps. The error of a weight never decays, so the allowed error grows with the number of steps. A step moves a
/// weight in proportion to the mean gradient divided by the root mean square. The error of this quotient is at most 4
/// times the sum of the errors of the mean and of the mean square.
#[test]
fn adamw_is_torch_s() {
    let lines = lines("adamw");
    assert!(lines.len() >= 5);
    for fields in lines {
        let number = |i: usize| -> f64 { fields[i].parse().unwrap() };
        let (steps, count) = (number(5) as u64, number(6) as usize);
        let [lr, beta1, beta2] = [0, 1, 2].map(number);
        let rule = AdamW::default().lr(lr).beta1(beta1).beta2(beta2).eps(number(3)).weight_decay(number(4));
        let mut run = Run::<f64, _>::new(rule, &numbers(count, 1));
        for step in 1..=steps {
            run.step(&numbers(count, 1 + step)).unwrap();
        }
        let [forgets1, forgets2] = [beta1, beta2].map(|beta| 8.0 / (1.0 - beta) * U);
        assert_close("mean", &kept(run.state(), 0), &f64s(fields[8]), 4.0 * forgets1);
        let squares: Vec<f64> = kept(run.state(), 1).iter().map(|root| root * root).collect();
        assert_close("square", &squares, &f64s(fields[9]), 16.0 * forgets2);
        let allowed = steps as f64 * (8.0 * 8.0 * U + lr * 4.0 * (forgets1 + forgets2));
        assert_close("weight", &run.weights, &f64s(fields[7]), allowed);
        assert_eq!(run.state().steps, steps);
    }
}

#[test]
fn sgd_is_torch_s() {
    let lines = lines("sgd");
    assert!(lines.len() >= 5);
    for fields in lines {
        let number = |i: usize| -> f64 { fields[i].parse().unwrap() };
        let (steps, count) = (number(5) as u64, number(6) as usize);
        let [lr, momentum] = [0, 1].map(number);
        let rule = Sgd::default().lr(lr).momentum(momentum).dampening(number(2)).weight_decay(number(3));
        let mut run = Run::<f64, _>::new(rule.nesterov(number(4) == 1.0), &numbers(count, 1));
        for step in 1..=steps {
            run.step(&numbers(count, 1 + step)).unwrap();
        }
        let forgets = 8.0 * 4.0 / (1.0 - momentum) * U / (1.0 - momentum);
        let allowed = steps as f64 * (8.0 * 8.0 * U + lr * forgets);
        assert_close("weight", &run.weights, &f64s(fields[7]), allowed);
        if momentum > 0.0 {
            assert_close("momentum", &kept(run.state(), 0), &f64s(fields[8]), forgets);
        }
    }
}

/// Adam in plain f64 loops. It stores the mean square instead of the root mean square.
struct Plain {
    rule: AdamW,
    weights: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
    powers: [f64; 2],
}

impl Plain {
    fn new(rule: AdamW, weights: Vec<f64>) -> Self {
        let zeros = vec![0.0; weights.len()];
        Plain { rule, weights, mean: zeros.clone(), square: zeros, powers: [1.0; 2] }
    }

    fn step(&mut self, grad: &[f64]) {
        let AdamW { lr, beta1, beta2, eps, weight_decay, .. } = self.rule;
        self.powers = [self.powers[0] * beta1, self.powers[1] * beta2];
        for (i, g) in grad.iter().enumerate() {
            self.mean[i] = beta1 * self.mean[i] + (1.0 - beta1) * g;
            self.square[i] = beta2 * self.square[i] + (1.0 - beta2) * g * g;
            let root = (self.square[i] / (1.0 - self.powers[1])).sqrt() + eps;
            self.weights[i] -= lr * weight_decay * self.weights[i];
            self.weights[i] -= lr * self.mean[i] / (1.0 - self.powers[0]) / root;
        }
    }
}

/// Checks that weights with f32 state stay close to weights with f64 state. Each step rounds the state with a relative
/// error of 2^-24. The error of a mean decays over 1 / (1 - beta) steps. The error of a weight, whose magnitude is at
/// most 8, never decays. A 16-bit weight is the rounded master weight.
fn stays_near_f64<E: Element>(rule: AdamW, steps: u64) {
    const U32: f64 = f32::EPSILON as f64 / 2.0;
    let start = numbers(37, 1);
    let mut plain = Plain::new(rule, start.clone());
    let mut run = Run::<E, _>::new(rule, &start);
    for step in 1..=steps {
        let grad = numbers(37, 1 + step);
        plain.step(&grad);
        run.step(&of::<E>(&grad)).unwrap();
    }
    let forgets: f64 = [rule.beta1, rule.beta2].iter().map(|beta| U32 / (1.0 - beta)).sum();
    let allowed = steps as f64 * (8.0 * U32 + rule.lr * 4.0 * forgets);
    let master = match &run.state().master {
        Some(master) => {
            let rounded: Vec<E> = of(&wide(master));
            assert!(run.weights == rounded, "the weights in {} must equal the rounded master weights", E::DTYPE);
            wide(master)
        }
        None => wide(&run.weights),
    };
    assert_close(&format!("{}", E::DTYPE), &master, &plain.weights, allowed);
}

#[test]
fn kept_in_f32_it_stays_near_f64() {
    let rule = AdamW::default();
    stays_near_f64::<f32>(rule, 2000);
    stays_near_f64::<f16>(rule, 2000);
    stays_near_f64::<bf16>(rule, 2000);
    stays_near_f64::<f64>(rule, 200);
    // Takes 100,000 steps. A single step is too small to change a 16-bit weight of 1/8 or more.
    stays_near_f64::<bf16>(rule.lr(1e-6).weight_decay(0.0), 100_000);
}

/// Checks that a step rounds each weight, mean and root mean square only once.
#[test]
fn one_step_is_rounded_once() {
    let rule = AdamW::default().lr(0.01).weight_decay(0.1);
    let count = 1000;
    let (start, g1, g2) = (numbers(count, 1), numbers(count, 9), numbers(count, 13));
    let mut run = Run::<f32, _>::new(rule, &start);
    run.step(&of::<f32>(&g1)).unwrap();
    let (w, m, u) = (wide(&run.weights), kept(run.state(), 0), kept(run.state(), 1));
    run.step(&of::<f32>(&g2)).unwrap();
    let (next_w, next_m, next_u) = (wide(&run.weights), kept(run.state(), 0), kept(run.state(), 1));
    let (bias1, bias2) = (1.0 - 0.9 * 0.9, 1.0 - 0.999 * 0.999);
    let off = |got: f64, expected: f64, largest: f64| {
        let ulp = evenkeel::testing::ulp::size::<f32>(largest);
        assert!(
            (got - expected).abs() <= 0.501 * ulp,
            "AdamW step in f32: expected {expected} with an error of at most 0.501 ULP, got {got}"
        );
    };
    for i in 0..count {
        let mean = 0.9 * m[i] + (1.0 - 0.9) * g2[i];
        off(next_m[i], mean, m[i].abs().max(g2[i].abs()));
        let root = (0.999 * u[i] * u[i] + (1.0 - 0.999) * g2[i] * g2[i]).sqrt();
        off(next_u[i], root, root);
        let step = 0.01 * (next_m[i] / bias1) / (next_u[i] / f64::sqrt(bias2) + 1e-8);
        off(next_w[i], w[i] * (1.0 - 0.01 * 0.1) - step, w[i].abs().max(step.abs()));
    }
}

/// Checks gradients whose squares overflow or underflow the type. The first step still moves each weight by the
/// learning rate. After 20 more steps with the same gradients, and 3,000 steps with gradients of 0, the weights are
/// below 20 in magnitude and the state is finite.
fn any_size<E: Element>(sizes: &[f64]) {
    let rule = AdamW::default().lr(0.5).eps(f64::MIN_POSITIVE).weight_decay(0.0);
    let mut run = Run::<E, _>::new(rule, &vec![1.0; sizes.len()]);
    let grad = of::<E>(sizes);
    run.step(&grad).unwrap();
    // The tolerance covers the rounding of the mean and the root to f32.
    assert_close(&format!("{}", E::DTYPE), &wide(&run.weights), &vec![0.5; sizes.len()], 1e-6);
    for _ in 0..20 {
        run.step(&grad).unwrap();
    }
    let zeros = vec![E::ZERO; sizes.len()];
    for _ in 0..3000 {
        run.step(&zeros).unwrap();
    }
    let rests = wide(&run.weights);
    assert!(
        rests.iter().all(|w| w.abs() < 20.0),
        "AdamW in {} after 3000 zero gradients: expected weights below 20, got {rests:?}",
        E::DTYPE
    );
    for place in 0..2 {
        assert!(kept(run.state(), place).iter().all(|v| v.is_finite()));
    }
}

#[test]
fn gradients_of_any_size() {
    any_size::<f32>(&[f64::from(f32::MAX), 1e30, 1e19, 1.0, 1e-19, 1e-25, 1e-35]);
    any_size::<bf16>(&[3e38, 1e30, 1e19, 1.0, 1e-19, 1e-25, 1e-35]);
    any_size::<f16>(&[65504.0, 1.0, 6.103515625e-5, 2f64.powi(-24)]);
    any_size::<f64>(&[f64::MAX, 1e200, 1e155, 1.0, 1e-155, 1e-200, 1e-290]);
}

/// Checks non-finite gradients. The three parameters have different types, and the second parameter has no gradient.
#[test]
fn what_is_not_finite_is_refused_before_anything_changes() {
    let (mut a, mut b, mut c) = (vec![1.0f64; 3], vec![f16::ONE; 4], vec![1.0f32; 5]);
    let params = [(&a).into(), (&b).into(), (&c).into()];
    let mut optimizer = Optimizer::new(AdamW::default(), &params).unwrap();
    let good = [vec![1.0f64; 3], vec![0.5; 5]];
    let step =
        |optimizer: &mut Optimizer<AdamW>, lists: [&mut [f64]; 1], b: &mut [f16], c: &mut [f32], last: &[f64]| {
            let [a] = lists;
            optimizer.step(&mut [a.into(), b.into(), c.into()], &[Some((&good[0]).into()), None, Some(last.into())])
        };
    step(&mut optimizer, [&mut a], &mut b, &mut c, &good[1]).unwrap();
    let before = (a.clone(), b.clone(), c.clone(), optimizer.state().to_vec());
    assert_eq!(before.3.iter().map(|state| state.steps).collect::<Vec<_>>(), [1, 0, 1]);
    assert!(before.1 == [f16::ONE; 4], "a parameter without a gradient must not change");
    for (value, index) in [(f64::NAN, 3), (f64::INFINITY, 0), (f64::NEG_INFINITY, 4)] {
        let mut broken = good[1].clone();
        broken[index] = value;
        let error = step(&mut optimizer, [&mut a], &mut b, &mut c, &broken).unwrap_err();
        assert_eq!((error.name(), error.row(), error.index()), ("NonFiniteInput", Some(2), Some(index)));
        assert!(before == (a.clone(), b.clone(), c.clone(), optimizer.state().to_vec()));
    }
    for lr in [-1.0, f64::NAN, f64::INFINITY, 101.0] {
        optimizer.set_learning_rate(lr);
        let error = step(&mut optimizer, [&mut a], &mut b, &mut c, &good[1]).unwrap_err();
        assert_eq!(error.name(), "InvalidArgument");
        assert!(before == (a.clone(), b.clone(), c.clone(), optimizer.state().to_vec()));
    }
    optimizer.set_learning_rate(0.0);
    step(&mut optimizer, [&mut a], &mut b, &mut c, &good[1]).unwrap();
    assert!(
        (before.0, before.1, before.2) == (a, b, c),
        "a step with a learning rate of 0 must not change a parameter"
    );
}

#[test]
fn parameters_are_those_it_was_made_for() {
    let mut x = [1.0f32; 3];
    let mut optimizer = Optimizer::new(Sgd::default(), &[(&x).into()]).unwrap();
    let mut shape = |params: &mut [FloatsMut<'_>], grads: &[Option<Floats<'_>>]| {
        let error = optimizer.step(params, grads).unwrap_err();
        assert!(
            matches!(error, Error::ShapeMismatch { op: "sgd", .. }),
            "expected a ShapeMismatch error of sgd, got {error}"
        );
    };
    let grad = [1.0f32; 3];
    shape(&mut [], &[]);
    shape(&mut [(&mut x).into()], &[]);
    shape(&mut [(&mut x).into()], &[Some((&grad[..2]).into())]);
    shape(&mut [(&mut [1.0f64; 3]).into()], &[Some((&grad).into())]);
    let mut optimizer = Optimizer::new(AdamW::default(), &[(&x).into()]).unwrap();
    assert!(optimizer.step(&mut [(&mut x[..2]).into()], &[None]).is_err());
    // A gradient may have any type, but its values must fit the type of the state.
    let error = optimizer.step(&mut [(&mut x).into()], &[Some((&[0.0, -1e39, 0.0]).into())]).unwrap_err();
    let expected = "adamw: the largest magnitude of a gradient is 1e39 for parameter 0; it must be at \
                    most 3.4028235e38, the largest value of F32";
    assert_eq!(error.to_string(), expected);
    optimizer.step(&mut [(&mut x).into()], &[Some((&[bf16::ONE; 3]).into())]).unwrap();
    assert_eq!(x, [1.0 - 1e-3 - 1e-5; 3]);
}

/// Checks that training continues from weights that were loaded after the optimiser was created.
#[test]
fn weights_that_were_overwritten_are_taken_as_they_are() {
    let mut run = Run::<f16, _>::new(AdamW::default().lr(1e-5).weight_decay(0.0), &[1.0, 2.0]);
    let grad = [1.0f32; 2];
    for _ in 0..10 {
        run.step(&grad).unwrap();
    }
    run.weights[1] = f16::from_f32(0.5);
    run.step(&grad).unwrap();
    let master = run.state().master.clone().unwrap();
    assert!(
        (master[0] - (1.0 - 11e-5)).abs() < 1e-6 && (master[1] - (0.5 - 1e-5)).abs() < 1e-6,
        "AdamW with the weight at index 1 set to 0.5: expected the master weights [0.99989, 0.49999], got {master:?}"
    );
}

fn goes_on<E: Element, R: Rule + std::fmt::Debug>(rule: R) {
    let mut run = Run::<E, _>::new(rule, &numbers(33, 1));
    for step in 0..7 {
        run.step(&numbers(33, 2 + step)).unwrap();
    }
    let json = serde_json::to_string(run.optimizer.state()).unwrap();
    let mut again = Run::<E, _>::new(rule, &wide(&run.weights));
    again.optimizer.restore(serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(again.optimizer.state(), run.optimizer.state());
    for step in 0..7 {
        run.step(&numbers(33, 20 + step)).unwrap();
        again.step(&numbers(33, 20 + step)).unwrap();
    }
    assert_eq!(again.optimizer.state(), run.optimizer.state());
    assert!(again.weights == run.weights);

    let own = run.optimizer.state().to_vec();
    let refused = |run: &mut Run<E, R>, states: Vec<ParameterState>, name: &str| {
        assert_eq!(run.optimizer.restore(states).unwrap_err().name(), name);
        assert_eq!(run.optimizer.state(), own);
    };
    refused(&mut run, vec![], "ShapeMismatch");
    if let Some(Numbers::F32(_)) = own[0].kept.first() {
        let mut other = own.clone();
        other[0].kept[0] = Numbers::F32(vec![0.0; 32]);
        refused(&mut run, other, "ShapeMismatch");
        let mut other = own.clone();
        other[0].kept[0] = Numbers::F32(vec![f32::NAN; 33]);
        refused(&mut run, other, "InvalidArgument");
    }
    if own[0].kept.len() == 2 {
        let mut other = own.clone();
        other[0].kept[1] = match other[0].kept[1] {
            Numbers::F32(_) => Numbers::F32(vec![-1.0; 33]),
            Numbers::F64(_) => Numbers::F64(vec![-1.0; 33]),
        };
        refused(&mut run, other, "InvalidArgument");
    }
}

#[test]
fn states_are_saved_and_restored_exactly() {
    goes_on::<f64, _>(AdamW::default());
    goes_on::<f32, _>(AdamW::default());
    goes_on::<f16, _>(AdamW::default());
    goes_on::<bf16, _>(Sgd::default().lr(0.1).momentum(0.9).dampening(0.5));
    goes_on::<f32, _>(Sgd::default().lr(0.1).momentum(0.9).nesterov(true));
    goes_on::<f16, _>(Sgd::default().lr(0.01));
}

/// Checks that the bits do not depend on the number of threads or the instruction set.
#[test]
fn the_same_bits_everywhere() {
    let count = 150_001;
    let run = |rule: AdamW| {
        let mut run = Run::<bf16, _>::new(rule, &numbers(count, 1));
        for step in 0..3 {
            run.step(&of::<bf16>(&numbers(count, 2 + step))).unwrap();
        }
        (run.weights, run.optimizer.state().to_vec())
    };
    let rule = AdamW::default();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let one = pool(1).install(|| run(rule));
    assert!(one == pool(5).install(|| run(rule)));
    for level in evenkeel::simd::Level::ALL.iter().copied().filter(|level| level.is_available()) {
        assert!(
            one == evenkeel::simd::with_level(level, || run(rule)).unwrap(),
            "{level}: expected the same weights and states as on the default level"
        );
    }
}

#[test]
fn settings_that_have_no_meaning() {
    fn refused<R: Rule + std::fmt::Debug>(rule: R) {
        let error = Optimizer::new(rule, &[]).map(|_| ()).unwrap_err();
        assert_eq!(error.name(), "InvalidArgument", "{rule:?} must give the error InvalidArgument");
    }
    let ok = AdamW::default();
    for beta in [-0.1, 1.0, f64::NAN] {
        refused(ok.beta1(beta));
        refused(ok.beta2(beta));
        refused(Sgd::default().momentum(beta));
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        refused(ok.lr(bad));
        refused(ok.weight_decay(bad));
        refused(ok.eps(bad));
        refused(Sgd::default().lr(bad));
        refused(Sgd::default().weight_decay(bad));
        refused(Sgd::default().momentum(0.9).dampening(bad));
    }
    refused(ok.eps(0.0));
    refused(ok.lr(0.5).weight_decay(2.1));
    refused(Sgd::default().nesterov(true));
    refused(Sgd::default().momentum(0.9).dampening(0.1).nesterov(true));
    let error = Optimizer::new(ok.eps(1e-320), &[]).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().ends_with("it must be finite and at least 2.2250738585072014e-308, the smallest normal f64")
    );
}
