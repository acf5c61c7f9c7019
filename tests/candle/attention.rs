//! Tests of attention on tensors. In every layout, results and gradients must have the same bits as the results and
//! gradients of the slice functions. A composition of candle's ops must give nearly the same results and gradients.

use crate::support::{CPU, DTYPES, assert_close, assert_same, flat, layouts, tensor, ulp};
use candle_core::{D, DType, Result, Tensor, Var, WithDType};
use evenkeel::candle::{composition, guarded};
use evenkeel::{Attention, Element, Error, FullyMasked, Heads, Mask, attention, attention_backward};

const Q: [usize; 4] = [2, 4, 3, 6];
const K: [usize; 4] = [2, 2, 5, 6];
const V: [usize; 4] = [2, 2, 5, 4];
const Y: [usize; 4] = [2, 4, 3, 4];

fn operands(dtype: DType) -> Result<[Tensor; 4]> {
    Ok([tensor(&Q, dtype, 2.0, 1)?, tensor(&K, dtype, 2.0, 2)?, tensor(&V, dtype, 4.0, 3)?, tensor(&Y, dtype, 1.0, 4)?])
}

const SINKS: [f64; 4] = [0.5, -1.0, 2.0, 0.0];

/// Calls `check` with each set of options and its name.
fn each_options(mut check: impl FnMut(&str, &Attention<'_>) -> Result<()>) -> Result<()> {
    let keep: Vec<u8> = (0..30).map(|i| u8::from(i % 4 != 1)).collect();
    let bias: Vec<f32> = (0..60).map(|i| if i % 7 == 3 { f32::NEG_INFINITY } else { (i % 5) as f32 * 0.3 }).collect();
    let lengths = [4, 0];
    let masks = [
        ("causal", Mask::causal()),
        ("window", Mask::causal().and_window(2)),
        ("lengths", Mask::lengths(&lengths)),
        ("keep", Mask::keep(&keep, &[2, 1, 3, 5])),
        ("bias", Mask::bias(&bias, &[4, 3, 5]).and_lengths(&lengths)),
    ];
    check("plain", &Attention::default())?;
    check("capped", &Attention::default().scale(0.7).softcap(1.5))?;
    check("sinks", &Attention::default().sinks(&SINKS))?;
    for (name, mask) in &masks {
        check(name, &Attention::default().mask(mask))?;
        check(name, &Attention::default().mask(mask).sinks(&SINKS).softcap(3.0))?;
        check(name, &Attention::default().mask(mask).fully_masked(FullyMasked::Uniform))?;
    }
    let some = [f64::NEG_INFINITY, 0.5, f64::NEG_INFINITY, 1.0];
    check("some sinks", &Attention::default().mask(&masks[2].1).sinks(&some).fully_masked(FullyMasked::Uniform))?;
    Ok(())
}

fn bits_of_slices<E: Element + WithDType>() -> Result<()> {
    let [q, k, v, dy] = operands(<E as WithDType>::DTYPE)?;
    let values = |xs: &Tensor| xs.flatten_all()?.to_vec1::<E>();
    let data = [values(&q)?, values(&k)?, values(&v)?, values(&dy)?];
    let heads = |i: usize, shape| Heads::new(&data[i], shape);
    each_options(|name, options| {
        let want = attention(heads(0, Q)?, heads(1, K)?, heads(2, V)?, options)?;
        let want = Tensor::from_vec(want, &Y, CPU)?;
        let of = attention_backward(heads(0, Q)?, heads(1, K)?, heads(2, V)?, heads(3, Y)?, options)?;
        let gradients =
            [Tensor::from_vec(of.dq, &Q, CPU)?, Tensor::from_vec(of.dk, &K, CPU)?, Tensor::from_vec(of.dv, &V, CPU)?];
        for (((layout, q), (_, k)), (_, v)) in layouts(&q)?.into_iter().zip(layouts(&k)?).zip(layouts(&v)?) {
            let what = format!("{name}, {layout}");
            assert_same(&what, &guarded::attention(&q, &k, &v, options)?, &want);
            // The transpose makes the gradient of y non-contiguous.
            let vars = [Var::from_tensor(&q)?, Var::from_tensor(&k)?, Var::from_tensor(&v)?];
            let y = guarded::attention(&vars[0], &vars[1], &vars[2], options)?;
            let flowing = (y.transpose(1, 3)? * dy.transpose(1, 3)?)?.backward()?;
            for (var, gradient) in vars.iter().zip(&gradients) {
                assert_same(&what, flowing.get(var).unwrap(), gradient);
            }
            // Here, only the keys are a variable, so candle tracks only their gradient.
            let y = guarded::attention(&q, &vars[1], &v, options)?;
            assert_same(&what, (y * &dy)?.backward()?.get(&vars[1]).unwrap(), &gradients[1]);
        }
        Ok(())
    })
}

#[test]
fn the_bits_of_slices() -> Result<()> {
    bits_of_slices::<f64>()?;
    bits_of_slices::<f32>()?;
    bits_of_slices::<half::f16>()?;
    bits_of_slices::<half::bf16>()
}

#[test]
fn the_composition_is_near() -> Result<()> {
    for (dtype, ours) in DTYPES {
        let [q, k, v, dy] = operands(dtype)?;
        each_options(|name, options| {
            let run = |form: fn(&Tensor, &Tensor, &Tensor, &Attention<'_>) -> Result<Tensor>| {
                let vars = [Var::from_tensor(&q)?, Var::from_tensor(&k)?, Var::from_tensor(&v)?];
                let y = form(&vars[0], &vars[1], &vars[2], options)?;
                let gradients = (&y * &dy)?.backward()?;
                let of = |i: usize| gradients.get(&vars[i]).cloned().map_or_else(|| vars[i].zeros_like(), Ok);
                Ok::<_, candle_core::Error>([y, of(0)?, of(1)?, of(2)?])
            };
            let kernels = run(|q, k, v, options| Ok(guarded::attention(q, k, v, options)?))?;
            let composed = run(composition::attention)?;
            for (part, (kernel, composed)) in kernels.iter().zip(&composed).enumerate() {
                assert_eq!((kernel.dims(), kernel.dtype()), (composed.dims(), composed.dtype()));
                // An absolute error of a score becomes a relative error of the score's weight. Scores are below 10 and
                // values below 4, so 1000 units cover these errors. In f16 and bf16, the composition also rounds each
                // sum of two gradients.
                let unit = if ours == evenkeel::DType::F64 { f64::EPSILON } else { 2f64.powi(-23) };
                let want = flat(kernel);
                assert_close(&format!("{name} in {dtype:?}, part {part}"), &flat(composed), &want, |i| {
                    1000.0 * unit + if ours.limits().digits < 24 { 2.0 * ulp(ours, want[i]) } else { 0.0 }
                });
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Compares `guarded::attention`, without a mask, with attention written in candle's own ops.
#[test]
fn ops_of_candle_put_together() -> Result<()> {
    let [q, k, v, dy] = operands(DType::F32)?;
    let vars = [Var::from_tensor(&q)?, Var::from_tensor(&k)?, Var::from_tensor(&v)?];
    let repeat = |xs: &Tensor| xs.unsqueeze(2)?.broadcast_as((2, 2, 2, 5, xs.dim(3)?))?.reshape((2, 4, 5, xs.dim(3)?));
    let scores = (vars[0].matmul(&repeat(&vars[1])?.t()?)? / 6f64.sqrt())?;
    let y = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&repeat(&vars[2])?)?;
    let theirs = (&y * &dy)?.backward()?;
    let got = guarded::attention(&vars[0], &vars[1], &vars[2], &Attention::default())?;
    assert_close("y", &flat(&got), &flat(&y), |_| 1e-5);
    let ours = (got * &dy)?.backward()?;
    for var in &vars {
        assert_close("gradient", &flat(ours.get(var).unwrap()), &flat(theirs.get(var).unwrap()), |_| 1e-5);
    }
    Ok(())
}

type Form = fn(&Tensor, &Tensor, &Tensor, &Attention<'_>) -> evenkeel::Result<Tensor>;

const FORMS: [Form; 2] = [guarded::attention, |q, k, v, options| Ok(composition::attention(q, k, v, options)?)];

#[test]
fn padding_is_not_read() -> Result<()> {
    let lengths = [4, 0];
    let mask = Mask::lengths(&lengths);
    let options = Attention::default().mask(&mask);
    let live = Tensor::from_vec((0..10).map(|i| u8::from(i < 4)).collect::<Vec<u8>>(), (2, 1, 5, 1), CPU)?;
    for (dtype, _) in DTYPES {
        let [q, k, v, _] = operands(dtype)?;
        let broken = |xs: &Tensor| {
            let nan = xs.ones_like()?.affine(f64::NAN, 0.0)?;
            live.broadcast_as(xs.shape())?.where_cond(xs, &nan)
        };
        let (bad_k, bad_v) = (broken(&k)?, broken(&v)?);
        for form in FORMS {
            let q = Var::from_tensor(&q)?;
            let (want, got) = (form(&q, &k, &v, &options)?, form(&q, &bad_k, &bad_v, &options)?);
            // Blocks that contain NaN are computed in f64 and all others in f32, so results with and without NaN may
            // differ slightly.
            assert_close("y", &flat(&got), &flat(&want), |i| 1e-4 + flat(&want)[i].abs() * 0.01);
            assert!(flat(&got)[48..].iter().all(|y| *y == 0.0));
            assert!(flat(got.backward()?.get(&q).unwrap()).iter().all(|dq| dq.is_finite()));
        }
    }
    Ok(())
}

#[test]
fn what_is_refused() -> Result<()> {
    let [q, k, v, _] = operands(DType::F32)?;
    let none = Attention::default();
    for form in FORMS {
        let refused = |q: &Tensor, k: &Tensor, options: &Attention<'_>| form(q, k, &v, options).unwrap_err().name();
        assert_eq!(refused(&q, &k.narrow(3, 0, 5)?, &none), "ShapeMismatch");
        assert_eq!(refused(&q.narrow(1, 0, 3)?, &k, &none), "ShapeMismatch");
        assert_eq!(refused(&q, &k, &none.sinks(&SINKS[..3])), "ShapeMismatch");
        assert_eq!(refused(&q, &k, &none.softcap(0.0)), "InvalidArgument");
        let (short, lengths) = ([1u8, 1], [4, 0]);
        let (short, lengths) = (Mask::keep(&short, &[2]), Mask::lengths(&lengths));
        assert_eq!(refused(&q, &k, &none.mask(&short)), "ShapeMismatch");
        let strict = none.mask(&lengths).fully_masked(FullyMasked::Error);
        let error = form(&q, &k, &v, &strict).unwrap_err();
        assert_eq!(error, Error::fully_masked("attention", 12));
    }
    let refused = |q: &Tensor, k: &Tensor| guarded::attention(q, k, &v, &none).unwrap_err();
    assert_eq!(refused(&q.get(0)?, &k).to_string(), "attention: q has shape [4, 3, 6]; expected 4 axes");
    assert_eq!(refused(&q, &k.to_dtype(DType::F64)?).name(), "Backend");
    let ints = Tensor::ones(&Q, DType::U32, CPU)?;
    let refused = guarded::attention(&ints, &ints, &ints, &none).unwrap_err();
    assert_eq!(refused.name(), "UnsupportedDType");
    Ok(())
}

#[test]
fn nothing_at_all() -> Result<()> {
    for (q, k, v, y) in [
        ([0, 1, 2, 3], [0, 1, 4, 3], [0, 1, 4, 5], [0, 1, 2, 5]),
        ([1, 1, 2, 3], [1, 1, 0, 3], [1, 1, 0, 5], [1, 1, 2, 5]),
        ([1, 1, 0, 3], [1, 1, 4, 3], [1, 1, 4, 5], [1, 1, 0, 5]),
    ] {
        let [q, k, v] = [q, k, v].map(|dims| Tensor::zeros(&dims, DType::F32, CPU));
        let (q, k, v) = (q?, k?, v?);
        for form in FORMS {
            let got = form(&q, &k, &v, &Attention::default())?;
            assert_eq!(got.dims(), y);
            assert!(flat(&got).iter().all(|y| *y == 0.0));
        }
    }
    Ok(())
}
