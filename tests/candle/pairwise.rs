//! Tests of safe_div, swiglu and log_add_exp. Results must have the same bits as the results of the slice functions.
//! Gradients must be correct for extreme operands.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, layouts, tensor};
use candle_core::{DType, Result, Tensor, Var, WithDType};
use evenkeel::candle::{composition, guarded};
use evenkeel::{Element, SafeDiv, log_add_exp, safe_div};

const INF: f64 = f64::INFINITY;

/// Ordinary operands, and operands whose quotients or differences are not finite.
const HOSTILE: [f64; 12] = [0.0, -0.0, 1.0, -3.0, 1e30, -1e30, 1e-30, -1e-30, 65504.0, INF, -INF, f64::NAN];

/// Returns all pairs of operands in [`HOSTILE`], and random pairs.
fn pairs(dtype: DType) -> Result<(Tensor, Tensor)> {
    let (first, second) = (HOSTILE.iter().flat_map(|a| [*a; 12]), HOSTILE.iter().cycle().take(144).copied());
    let of = |values: Vec<f64>, seed| {
        let hostile = Tensor::from_vec(values, (12, 12), CPU)?.to_dtype(dtype)?;
        Tensor::cat(&[hostile, tensor(&[12, 12], dtype, 4.0, seed)?], 0)
    };
    Ok((of(first.collect(), 1)?, of(second.collect(), 2)?))
}

fn bits_of_slices<E: Element + WithDType>() -> Result<()> {
    let (x, d) = pairs(<E as WithDType>::DTYPE)?;
    let values = |xs: &Tensor| xs.flatten_all()?.to_vec1::<E>();
    let (a, b) = (values(&x)?, values(&d)?);
    let given = |y: Vec<E>| Tensor::from_vec(y, x.shape(), CPU);
    for options in [SafeDiv::default(), SafeDiv::default().eps(0.0), SafeDiv::default().eps(0.5)] {
        let want = given(safe_div(&a, &b, &options)?)?;
        for ((layout, x), (_, d)) in layouts(&x)?.into_iter().zip(layouts(&d)?) {
            assert_same(&layout, &guarded::safe_div(&x, &d, &options)?, &want);
            // The two operands have different layouts.
            assert_same(&layout, &guarded::safe_div(&x, &pairs(x.dtype())?.1, &options)?, &want);
        }
    }
    let want = given(evenkeel::swiglu(&a, &b)?)?;
    for ((layout, a), (_, b)) in layouts(&x)?.into_iter().zip(layouts(&d)?) {
        assert_same(&layout, &guarded::swiglu(&a, &b)?, &want);
    }
    let want = given(log_add_exp(&a, &b)?)?;
    for ((layout, a), (_, b)) in layouts(&x)?.into_iter().zip(layouts(&d)?) {
        assert_same(&layout, &guarded::log_add_exp(&a, &b)?, &want);
    }
    Ok(())
}

#[test]
fn the_bits_of_slices() -> Result<()> {
    bits_of_slices::<f64>()?;
    bits_of_slices::<f32>()?;
    bits_of_slices::<half::f16>()?;
    bits_of_slices::<half::bf16>()
}

type Pair = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Returns each op's name, its kernel and its composition of candle's ops.
fn forms() -> [(&'static str, Pair, Pair); 2] {
    let kernel: Pair = |x, d| Ok(guarded::safe_div(x, d, &SafeDiv::default())?);
    let composed: Pair = |x, d| composition::safe_div(x, d, &SafeDiv::default());
    [("safe_div", kernel, composed), ("log_add_exp", |a, b| Ok(guarded::log_add_exp(a, b)?), composition::log_add_exp)]
}

#[test]
fn finite_arguments_have_finite_gradients() -> Result<()> {
    for (dtype, _) in DTYPES {
        let (x, d) = pairs(dtype)?;
        let is_plain = |a: f64, b: f64| a.is_finite() && b.is_finite();
        for (op, kernel, composed) in forms() {
            for (form, apply) in [("kernel", kernel), ("composition", composed)] {
                let (x, d) = (Var::from_tensor(&x)?, Var::from_tensor(&d)?);
                let y = apply(&x, &d)?;
                // The gradient of y is 3 for every pair, so that a NaN in one pair cannot affect another pair.
                let grads = (y * 3.0)?.backward()?;
                let [dx, dd] = [&x, &d].map(|v| flat(grads.get(v).expect("both arguments must have gradients")));
                for (i, (a, b)) in flat(&x).into_iter().zip(flat(&d)).enumerate() {
                    let what = format!("{op} by {form} in {dtype:?} of {a} and {b}");
                    if is_plain(a, b) {
                        // The composition's gradient may be infinite, because a product in candle overflows if the
                        // derivative is very large.
                        assert!(
                            is_plain(dx[i], dd[i]) || form == "composition",
                            "{what}: expected finite gradients, got {} and {}",
                            dx[i],
                            dd[i]
                        );
                        assert!(
                            !dx[i].is_nan() && !dd[i].is_nan(),
                            "{what}: expected gradients without NaN, got {} and {}",
                            dx[i],
                            dd[i]
                        );
                    }
                    if a.is_nan() || b.is_nan() {
                        // For an infinite operand, the composition may return any gradient.
                        let spoilt = |dv: f64, v: f64| dv.is_nan() || (form == "composition" && v.is_infinite());
                        assert!(
                            spoilt(dx[i], a) && spoilt(dd[i], b),
                            "{what}: expected NaN in the gradient of each argument, got {} and {}",
                            dx[i],
                            dd[i]
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn derivatives_at_the_edges() -> Result<()> {
    let of = |op: Pair, a: f64, b: f64, dy: f64| -> Result<[f64; 2]> {
        let (a, b) = (Var::new(&[a], CPU)?, Var::new(&[b], CPU)?);
        let grads = (op(&a, &b)? * dy)?.backward()?;
        Ok([&a, &b].map(|v| flat(grads.get(v).expect("both arguments must have gradients"))[0]))
    };
    let small = f64::MIN_POSITIVE;
    for div in [forms()[0].1, forms()[0].2] {
        assert_eq!(of(div, 3.0, -2.0, 4.0)?, [-2.0, -3.0]);
        // A divisor of 0 or -0 is replaced by eps or -eps. The replacement is a constant, so the gradient of the
        // divisor is 0.
        assert_eq!(of(div, 1e-308, 0.0, 1e-300)?, [1e-300 / small, 0.0]);
        assert_eq!(of(div, 1e-308, -0.0, 1e-300)?, [-1e-300 / small, 0.0]);
        // A quotient beyond the largest finite value is replaced by this value. The replacement is a constant, so both
        // gradients are 0.
        assert_eq!(of(div, 1e10, 1e-300, 1.0)?, [0.0, 0.0]);
        assert_eq!(of(div, INF, 2.0, 1.0)?, [0.0, 0.0]);
        // The squares of these divisors underflow or overflow f64.
        assert_eq!(of(div, 0.0, 1e-200, 1.0)?, [1.0 / 1e-200, 0.0]);
        let [dx, dd] = of(div, 1e100, 1e200, 1.0)?;
        assert_close("far", &[dx, dd], &[1e-200, -1e-300], |i| [1e-215, 1e-315][i]);
    }
    let no_eps: [Pair; 2] = [
        |x, d| Ok(guarded::safe_div(x, d, &SafeDiv::default().eps(0.0))?),
        |x, d| composition::safe_div(x, d, &SafeDiv::default().eps(0.0)),
    ];
    for div in no_eps {
        assert_eq!(of(div, 0.0, 0.0, 1.0)?, [0.0, 0.0]);
        assert_eq!(of(div, 2.0, 0.0, 1.0)?, [0.0, 0.0]);
    }
    for add in [forms()[1].1, forms()[1].2] {
        assert_eq!(of(add, 1000.0, 1000.0, 2.0)?, [1.0, 1.0]);
        assert_eq!(of(add, -INF, 3.0, 2.0)?, [0.0, 2.0]);
        assert_eq!(of(add, -INF, -INF, 2.0)?, [0.0, 0.0]);
        assert_eq!(of(add, 1e308, -1e308, 2.0)?, [2.0, 0.0]);
        // The gradient of the smaller operand is accurate to full precision.
        let [_, share] = of(add, 0.0, -100.0, 1.0)?;
        assert_close("share", &[share], &[(-100f64).exp()], |_| 1e-15 * (-100f64).exp());
    }
    assert_eq!(of(forms()[1].1, INF, -INF, 2.0)?, [2.0, 0.0]);
    assert_eq!(of(forms()[1].1, INF, INF, 2.0)?, [1.0, 1.0]);
    // A non-finite incoming gradient passes through unchanged.
    let x = Var::new(&[1f32], CPU)?;
    let y = guarded::safe_div(&x, &Tensor::new(&[2f32], CPU)?, &SafeDiv::default())?;
    assert_eq!(flat((y * INF)?.backward()?.get(&x).unwrap()), [INF]);
    Ok(())
}

#[test]
fn the_largest_gradient_of_a_narrow_type() -> Result<()> {
    for (dtype, limits) in DTYPES {
        let largest = limits.limits().max;
        let (x, d) = (Var::zeros(1, dtype, CPU)?, Tensor::zeros(1, dtype, CPU)?);
        let grads = (guarded::safe_div(&x, &d, &SafeDiv::default())? * (largest / 2.0))?.backward()?;
        assert_eq!(
            flat(grads.get(&x).unwrap()),
            [largest],
            "safe_div in {dtype:?}: expected a gradient of {largest:e} for x"
        );
    }
    Ok(())
}

#[test]
fn a_tensor_with_itself() -> Result<()> {
    let x = Var::new(&[[3f32, -2.], [0., 1e-40]], CPU)?;
    let y = guarded::safe_div(&x, &x, &SafeDiv::default())?;
    assert_eq!(flat(y.backward()?.get(&x).unwrap())[..2], [0.0, 0.0]);
    let y = guarded::log_add_exp(&x.t()?, &x.t()?)?;
    assert_eq!(flat(y.t()?.backward()?.get(&x).unwrap()), [1.0; 4]);
    Ok(())
}

#[test]
fn what_does_not_fit() -> Result<()> {
    let x = tensor(&[2, 3], DType::F32, 1.0, 1)?;
    let div = |d: &Tensor, options: SafeDiv| guarded::safe_div(&x, d, &options).unwrap_err();
    for d in [tensor(&[3, 2], DType::F32, 1.0, 2)?, tensor(&[3], DType::F32, 1.0, 2)?] {
        assert_eq!(div(&d, SafeDiv::default()).name(), "ShapeMismatch");
        assert_eq!(guarded::log_add_exp(&x, &d).unwrap_err().name(), "ShapeMismatch");
    }
    let wide = x.to_dtype(DType::F64)?;
    assert!(div(&wide, SafeDiv::default()).to_string().contains("dtype mismatch"));
    assert!(guarded::log_add_exp(&x, &wide).is_err());
    assert!(guarded::swiglu(&x, &wide).is_err());
    let error = div(&x, SafeDiv::default().eps(-1.0));
    assert_eq!((error.name(), error.to_string().contains("eps is -1")), ("InvalidArgument", true));
    let ints = Tensor::ones((2, 3), DType::U32, CPU)?;
    assert_eq!(guarded::safe_div(&ints, &ints, &SafeDiv::default()).unwrap_err().name(), "UnsupportedDType");
    assert_eq!(guarded::log_add_exp(&ints, &ints).unwrap_err().name(), "UnsupportedDType");
    Ok(())
}

/// Checks the kernel's gradients on tensors of any layout.
#[test]
fn gradients_of_swiglu() -> Result<()> {
    let (gate, up) = (tensor(&[3, 4], DType::BF16, 4.0, 1)?, tensor(&[3, 4], DType::BF16, 4.0, 2)?);
    let dy = tensor(&[4, 3], DType::BF16, 2.0, 3)?.t()?;
    let data = |xs: &Tensor| xs.contiguous()?.flatten_all()?.to_vec1::<half::bf16>();
    let (dgate, dup) = evenkeel::swiglu_backward(&data(&gate)?, &data(&up)?, &data(&dy)?).unwrap();
    let (gate, up) = (Var::from_tensor(&gate)?, Var::from_tensor(&up)?);
    let grads = (guarded::swiglu(&gate, &up)? * &dy)?.sum_all()?.backward()?;
    for (var, want) in [(&gate, dgate), (&up, dup)] {
        let got = grads.get(var).expect("gate and up must have gradients");
        assert_same("swiglu", got, &Tensor::from_vec(want, (3, 4), CPU)?);
    }
    Ok(())
}
