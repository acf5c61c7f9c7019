//! Tests of optimisers for candle's variables: their steps, errors and states.

use crate::support::{CPU, assert_same, flat, tensor};
use candle_core::{DType, Result, Tensor, Var, WithDType};
use candle_nn::{VarMap, linear};
use evenkeel::candle::guarded;
use evenkeel::candle::init::Seeded;
use evenkeel::candle::optim::{AdamW, Optimizer, ParamsAdamW, Sgd};
use evenkeel::train::{self, LossScale, Unscaled};
use evenkeel::{ClipGradNorm, Element, Error};

fn params() -> ParamsAdamW {
    ParamsAdamW { lr: 0.01, beta2: 0.99, weight_decay: 0.1, ..ParamsAdamW::default() }
}

/// Computes a loss with gradients of many magnitudes.
fn loss(var: &Var) -> Result<Tensor> {
    let x = var.to_dtype(DType::F64)?;
    (x.sqr()? * 0.5)?.add(&x.sin()?)?.sum_all()
}

/// Compares AdamW with candle's AdamW in f64. Both optimisers round about a dozen times per step, and all values stay
/// between -4 and 4. The tolerance is therefore 64 f64 epsilons for each of the 100 steps.
#[test]
fn adamw_is_candle_s() -> Result<()> {
    let start = tensor(&[3, 5], DType::F64, 2.0, 1)?;
    let (own, theirs) = (Var::from_tensor(&start)?, Var::from_tensor(&start)?);
    let mut a = AdamW::new(vec![own.clone()], params())?;
    let mut b = candle_nn::AdamW::new(vec![theirs.clone()], params())?;
    for _ in 0..100 {
        a.backward_step(&loss(&own)?)?;
        b.backward_step(&loss(&theirs)?)?;
    }
    for (a, b) in flat(&own).iter().zip(flat(&theirs)) {
        assert!((a - b).abs() < 100.0 * 64.0 * f64::EPSILON, "AdamW: expected candle's weight {b}, got {a}");
    }
    assert_ne!(flat(&own), flat(&start));
    Ok(())
}

/// Checks that steps give the same bits as the slice functions, for every type and for any layout of variable and
/// gradient.
#[test]
fn steps_are_those_of_slices() -> Result<()> {
    steps_of_slices::<f64>()?;
    steps_of_slices::<f32>()?;
    steps_of_slices::<half::f16>()?;
    steps_of_slices::<half::bf16>()
}

fn steps_of_slices<E: Element + WithDType>() -> Result<()> {
    let dtype = <E as WithDType>::DTYPE;
    let var = Var::from_tensor(&tensor(&[4, 6], dtype, 2.0, 3)?.t()?)?;
    let mut weights = var.flatten_all()?.to_vec1::<E>()?;
    let rule = train::AdamW::default().lr(0.01).beta2(0.99).weight_decay(0.1);
    let mut slices = train::Optimizer::new(rule, &[(&weights).into()])?;
    let mut optimizer = AdamW::new(vec![var.clone()], params())?;
    for seed in 0..5 {
        // The gradient is transposed.
        let grad = tensor(&[4, 6], DType::F32, 1.0, seed)?.t()?;
        let mut grads = loss(&var)?.backward()?;
        grads.insert(&var, grad.clone());
        optimizer.step(&grads)?;
        let grad: Vec<f32> = grad.flatten_all()?.to_vec1()?;
        slices.step(&mut [(&mut weights).into()], &[Some((&grad).into())])?;
    }
    assert_same(&format!("{dtype:?}"), &var, &Tensor::from_vec(weights, (6, 4), CPU)?);
    Ok(())
}

#[test]
fn sgd_with_momentum() -> Result<()> {
    let var = Var::new(&[1f64, -2.0], CPU)?;
    let settings = train::Sgd::default().lr(0.1).momentum(0.5).weight_decay(0.25).nesterov(true);
    let mut optimizer = Sgd::new(vec![var.clone()], settings)?;
    let (mut w, mut b) = ([1.0, -2.0], [0.0; 2]);
    for _ in 0..10 {
        optimizer.backward_step(&(var.sqr()? * 0.5)?.sum_all()?)?;
        for i in 0..2 {
            let g = w[i] + 0.25 * w[i];
            b[i] = 0.5 * b[i] + g;
            w[i] -= 0.1 * (g + 0.5 * b[i]);
        }
    }
    for (got, expected) in flat(&var).iter().zip(w) {
        assert!((got - expected).abs() < 1e-15, "SGD: expected the weight {expected}, got {got}");
    }
    optimizer.set_learning_rate(0.0);
    assert_eq!(optimizer.learning_rate(), 0.0);
    let before = flat(&var);
    optimizer.backward_step(&var.sum_all()?)?;
    assert_eq!(flat(&var), before);
    Ok(())
}

/// Checks that a non-finite gradient is reported with the name of its variable, before any variable changes.
#[test]
fn what_is_not_finite_is_refused() -> Result<()> {
    let map = VarMap::new();
    let vb = Seeded::new(&map, 1).var_builder(DType::F32, CPU);
    let layer = linear(3, 2, vb.pp("layer"))?;
    let mut optimizer = AdamW::from_map(&map, params())?;
    let x = Tensor::new(&[[1f32, 2., 3.]], CPU)?;
    let mut grads = candle_nn::Module::forward(&layer, &x)?.sum_all()?.backward()?;
    optimizer.step(&grads)?;
    let before = (flat(layer.weight()), flat(layer.bias().unwrap()), states(&optimizer)?);
    // The variables are sorted by name, so `bias` has index 0 and `weight` has index 1.
    let broken = Tensor::new(&[[0f32, 1., 2.], [3., f32::NEG_INFINITY, 5.]], CPU)?;
    grads.insert(layer.weight(), broken);
    let error = optimizer.step(&grads).unwrap_err();
    assert!(
        error.to_string().contains("the gradient of layer.weight"),
        "infinite gradient: expected \"the gradient of layer.weight\" in the error, got {error}"
    );
    let Error::NonFiniteInput { op: "adamw", row: 1, index: 4, .. } = Error::from(error) else { panic!() };
    assert_eq!(before, (flat(layer.weight()), flat(layer.bias().unwrap()), states(&optimizer)?));
    grads.insert(layer.weight(), Tensor::zeros(5, DType::F32, CPU)?);
    assert_eq!(Error::from(optimizer.step(&grads).unwrap_err()).name(), "ShapeMismatch");
    let bad = ParamsAdamW { eps: 0.0, ..params() };
    assert_eq!(Error::from(AdamW::new(vec![], bad).unwrap_err()).name(), "InvalidArgument");
    Ok(())
}

/// Checks that two variables with one name are refused, because their states would have the same names.
#[test]
fn names_are_unique() -> Result<()> {
    let var = || Var::zeros(2, DType::F32, CPU);
    let (x, y) = (var()?, var()?);
    let same = AdamW::named([("w".into(), x.clone()), ("w".into(), y)], params()).unwrap_err();
    assert_eq!(same.to_string(), "adamw: name is w; it must be the name of only one variable");
    // A variable with two names counts once, under the first name.
    assert_eq!(AdamW::named([("a".into(), x.clone()), ("b".into(), x)], params())?.named_vars().len(), 1);
    Ok(())
}

/// Returns all values of a state, by name.
fn states<S: evenkeel::candle::optim::Settings>(
    optimizer: &evenkeel::candle::optim::Stepper<S>,
) -> Result<Vec<(String, Vec<f64>)>> {
    let mut all: Vec<_> = optimizer.state()?.into_iter().map(|(name, tensor)| (name, flat(&tensor))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

#[test]
fn states_go_through_a_file() -> Result<()> {
    let build = || -> Result<(VarMap, Vec<Var>)> {
        let map = VarMap::new();
        let seeded = Seeded::new(&map, 5);
        let vb = seeded.var_builder(DType::BF16, CPU);
        vb.get_with_hints((3, 4), "a", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
        vb.set_dtype(DType::F64).get_with_hints(5, "b", candle_nn::Init::Uniform { lo: -1.0, up: 1.0 })?;
        let data = map.data().lock().unwrap();
        let vars = ["a", "b"].map(|name| data[name].clone()).to_vec();
        drop(data);
        Ok((map, vars))
    };
    let train = |vars: &[Var], optimizer: &mut AdamW| -> Result<()> {
        for _ in 0..4 {
            optimizer.backward_step(&(loss(&vars[0])? + loss(&vars[1])?)?)?;
        }
        Ok(())
    };
    let (map, vars) = build()?;
    let mut optimizer = AdamW::from_map(&map, params())?;
    train(&vars, &mut optimizer)?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.safetensors");
    candle_core::safetensors::save(&optimizer.state()?, &file)?;

    let (map, again) = build()?;
    for (to, from) in again.iter().zip(&vars) {
        to.set(&from.as_tensor().copy()?)?;
    }
    let mut other = AdamW::from_map(&map, params())?;
    let mut loaded = candle_core::safetensors::load(&file, CPU)?;
    other.restore(&loaded)?;
    assert_eq!(states(&other)?, states(&optimizer)?);
    train(&vars, &mut optimizer)?;
    train(&again, &mut other)?;
    assert_same("a", &vars[0], &again[0]);
    assert_same("b", &vars[1], &again[1]);

    let before = states(&other)?;
    let mean = loaded.insert("b.mean".into(), Tensor::zeros(4, DType::F64, CPU)?).unwrap();
    assert_eq!(other.restore(&loaded).unwrap_err().name(), "ShapeMismatch");
    loaded.insert("b.mean".into(), mean);
    loaded.remove("a.master");
    let error = other.restore(&loaded).unwrap_err();
    assert_eq!(error.to_string(), "adamw: the state is incomplete; it must be a map that contains a.master");
    assert_eq!(states(&other)?, before);
    Ok(())
}

/// Checks a gradient that shares its variable's memory, and a variable that is listed twice.
#[test]
fn shared_memory() -> Result<()> {
    let var = Var::new(&[1f32, 2.0], CPU)?;
    let mut grads = var.sum_all()?.backward()?;
    grads.insert(&var, var.as_tensor().detach());
    let mut optimizer = Sgd::new(vec![var.clone(), var.clone()], train::Sgd::default().lr(0.5))?;
    optimizer.step(&grads)?;
    assert_eq!(var.to_vec1::<f32>()?, [0.5, 1.0]);
    assert_eq!(optimizer.into_inner().len(), 1);
    Ok(())
}

/// Checks whole steps in f16: the gradient is scaled, unscaled into f32, clipped and applied. One step is skipped.
#[test]
fn a_step_in_f16() -> Result<()> {
    let var = Var::new(&[half::f16::from_f32(1e-3); 4], CPU)?;
    let vars = [var.clone()];
    let mut scaler = LossScale::dynamic().init(1024.0).interval(1).validate()?;
    let mut optimizer = AdamW::new(vars.to_vec(), ParamsAdamW { weight_decay: 0.0, ..params() })?;
    let clip = ClipGradNorm::new(1.0);
    // Without the scale, the gradient would be 2e-9, which underflows f16.
    let mut grads = ((var.to_dtype(DType::F32)?.sqr()? * 1e-6)?.sum_all()? * f64::from(scaler.scale()))?.backward()?;
    assert!(flat(grads.get(&var).unwrap()).iter().all(|g| *g > 1e-6));
    let unscaled = guarded::unscale(&mut grads, &vars, &mut scaler, &clip)?;
    let Unscaled::Ready { norm, .. } = unscaled else {
        panic!("unscale of f16 gradients: expected Ready, got {unscaled:?}")
    };
    assert!((norm / 4e-9 - 1.0).abs() < 0.02, "unscale of f16 gradients: expected a norm of 4e-9, got {norm}");
    assert!(scaler.step()?);
    optimizer.step(&grads)?;
    scaler.update()?;
    assert_eq!(scaler.scale(), 2048.0);
    // The step is lr * g / (g + eps), where g is the gradient. Here eps is 5 * g, so the step is lr / 6.
    let moved = 1e-3 - flat(&var)[0];
    assert!(
        (moved / (0.01 * 2.0 / 12.0) - 1.0).abs() < 0.05,
        "AdamW step in f16: expected the weight to decrease by 0.01 * 2 / 12, got {moved}"
    );

    let before = flat(&var);
    grads.insert(&var, Tensor::new(&[1f32, f32::NAN, 0., 0.], CPU)?);
    let Unscaled::Skip { why, .. } = guarded::unscale(&mut grads, &vars, &mut scaler, &clip)? else { panic!() };
    assert_eq!((why.row(), why.index()), (Some(0), Some(1)));
    assert!(!scaler.step()?);
    scaler.update()?;
    assert_eq!((scaler.scale(), flat(&var)), (1024.0, before));
    Ok(())
}
