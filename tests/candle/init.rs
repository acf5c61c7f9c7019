//! Tests of variable initialisation from candle's hints: the seed and the name of a variable determine its values.

use crate::support::{CPU, flat};
use candle_core::{DType, Result, Shape, Tensor};
use candle_nn::{Init, VarBuilder, VarMap, embedding, layer_norm, linear};
use evenkeel::candle::init::{DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM, Seeded, of_hint, var};
use evenkeel::train::init::{Init as Own, Stream, fill};
use evenkeel::{Element, Error};

fn builder(seed: u64, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    let map = VarMap::new();
    let vb = Seeded::new(&map, seed).var_builder(dtype, CPU);
    (map, vb)
}

fn get(map: &VarMap, name: &str) -> Vec<f64> {
    flat(&map.data().lock().unwrap()[name])
}

/// Checks the variables of candle's own layers. Each must get the values that the slice function `fill` gives for its
/// name.
#[test]
fn hints_are_drawn_by_name() -> Result<()> {
    let (map, vb) = builder(9, DType::F32);
    linear(6, 4, vb.pp("block").pp("up"))?;
    embedding(10, 4, vb.pp("tokens"))?;
    layer_norm(4, 1e-5, vb.pp("norm"))?;
    let own = |init: Own, shape: &[usize], name: &str| {
        let mut x = vec![0f32; shape.iter().product()];
        fill(&mut x, shape, &init, Stream::named(9, name)).unwrap();
        x.iter().map(|x| x.widen()).collect::<Vec<_>>()
    };
    let weight = own(Own::Normal { mean: 0.0, std: 2f64.sqrt() / 6f64.sqrt() }, &[4, 6], "block.up.weight");
    assert_eq!(get(&map, "block.up.weight"), weight);
    let bound = 1.0 / 6f64.sqrt();
    let bias = own(Own::Uniform { low: -bound, high: bound }, &[4], "block.up.bias");
    assert_eq!(get(&map, "block.up.bias"), bias);
    assert_eq!(get(&map, "tokens.weight"), own(Own::Normal { mean: 0.0, std: 1.0 }, &[10, 4], "tokens.weight"));
    assert_eq!((get(&map, "norm.weight"), get(&map, "norm.bias")), (vec![1.0; 4], vec![0.0; 4]));
    Ok(())
}

#[test]
fn order_and_company_do_not_matter() -> Result<()> {
    let (a, vb) = builder(3, DType::F64);
    linear(6, 4, vb.pp("x"))?;
    linear(5, 7, vb.pp("y"))?;
    let (b, vb) = builder(3, DType::F64);
    linear(2, 2, vb.pp("z"))?;
    linear(5, 7, vb.pp("y"))?;
    linear(6, 4, vb.pp("x"))?;
    for name in ["x.weight", "x.bias", "y.weight", "y.bias"] {
        assert_eq!(
            get(&a, name),
            get(&b, name),
            "the values of {name} must not depend on which variables exist or in what order they are created"
        );
    }
    assert_ne!(get(&a, "x.weight")[..4], get(&a, "y.weight")[..4]);
    let (c, vb) = builder(4, DType::F64);
    linear(6, 4, vb.pp("x"))?;
    assert_ne!(get(&a, "x.weight"), get(&c, "x.weight"));
    // A second request returns the same variable without drawing new values.
    let again = vb.get((4, 6), "x.weight")?;
    c.data().lock().unwrap()["x.weight"].set(&Tensor::ones((4, 6), DType::F64, CPU)?)?;
    assert_eq!(flat(&again), vec![1.0; 24]);
    assert!(vb.contains_tensor("x.weight") && !vb.contains_tensor("w"));
    assert!(vb.get((4, 5), "x.weight").is_err() && vb.get_unchecked("x.weight").is_err());
    Ok(())
}

/// Checks that hints have the same meaning as in candle, for every shape that candle accepts.
#[test]
fn hints_mean_what_they_mean_in_candle() {
    let of = |hint: Init, shape: &[usize]| of_hint(&hint, &Shape::from(shape));
    assert_eq!(of(Init::Const(0.5), &[3]), Own::Constant(0.5));
    assert_eq!(of(DEFAULT_KAIMING_NORMAL, &[4, 2, 2, 2]), Own::Normal { mean: 0.0, std: 2f64.sqrt() / 8f64.sqrt() });
    assert_eq!(of(DEFAULT_KAIMING_NORMAL, &[4]), Own::Normal { mean: 0.0, std: 2f64.sqrt() });
    let bound = 3f64.sqrt() * (2f64.sqrt() / 8f64.sqrt());
    assert_eq!(of(DEFAULT_KAIMING_UNIFORM, &[4, 8]), Own::Uniform { low: -bound, high: bound });
    assert_eq!(of(DEFAULT_KAIMING_NORMAL, &[0, 0]), Own::Normal { mean: 0.0, std: 2f64.sqrt() });
}

#[test]
fn what_makes_no_sense_says_the_name() {
    let (map, vb) = builder(0, DType::F32);
    let error = vb.get_with_hints((2, 2), "w", Init::Randn { mean: 0.0, stdev: -1.0 }).unwrap_err();
    assert!(error.to_string().contains("variable w"), "stdev -1: expected \"variable w\" in the error, got {error}");
    assert_eq!(Error::from(error).name(), "InvalidArgument");
    assert!(map.all_vars().is_empty());
    // Constant values may have any type that candle supports.
    let ints = vb.get_with_hints_dtype(3, "n", Init::Const(1.0), DType::I64).unwrap();
    assert_eq!(ints.to_vec1::<i64>().unwrap(), [1; 3]);
}

#[test]
fn variables_of_more_elements_than_memory_has() {
    let made = |shape: &[usize]| var(&Own::Constant(1.0), shape.to_vec(), Stream::numbered(1, 1), DType::F32, CPU);
    let error = made(&[1 << 30, 1 << 30]).unwrap_err();
    assert_eq!(error.to_string(), "init: could not allocate 4611686018427387904 bytes for the variable");
    assert!(matches!(made(&[usize::MAX, 2]).unwrap_err(), Error::ShapeMismatch { op: "init", .. }));
    assert_eq!(made(&[usize::MAX, 0]).unwrap().elem_count(), 0);
}
