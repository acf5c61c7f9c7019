//! Tests of group normalisation. Results must have the same bits as the results of the slice function. Gradients are
//! compared with the gradients of layer normalisation. The module is compared with candle's module.

use crate::support::{CPU, DTYPES, allowed, assert_close, assert_same, flat, layouts, tensor};
use candle_core::{DType, Module, Result, Tensor, Var, WithDType};
use evenkeel::candle as ours;
use evenkeel::candle::guarded;
use evenkeel::{Element, GroupNorm, Lanes, LayerNorm, Rows, group_norm, layer_norm_backward};

const DIMS: [&[usize]; 4] = [&[2, 6], &[2, 6, 5], &[3, 6, 2, 3], &[1, 6, 1, 2, 2]];

fn bits_of_slices<E: Element + WithDType>() -> Result<()> {
    let dtype = <E as WithDType>::DTYPE;
    // A weight whose type differs from the tensor's type is used without conversion.
    let (weight, bias) = (tensor(&[6], DType::F32, 2.0, 2)?, tensor(&[6], dtype, 2.0, 3)?);
    let (w, b): (Vec<f32>, Vec<E>) = (weight.to_vec1()?, bias.to_vec1()?);
    for dims in DIMS {
        let x = tensor(dims, dtype, 4.0, 1)?;
        let data: Vec<E> = x.flatten_all()?.to_vec1()?;
        let given =
            |options: &GroupNorm<'_>| Tensor::from_vec(group_norm(Lanes::shaped(&data, dims, 1)?, options)?, dims, CPU);
        for groups in [1, 2, 6] {
            let options = GroupNorm::new(groups).eps(1e-3);
            let plain = given(&options)?;
            let scaled = given(&options.weight(&w))?;
            let moved = given(&options.bias(&b))?;
            let both = given(&options.weight(&w).bias(&b))?;
            for (layout, x) in layouts(&x)? {
                let norm = |weight, bias| guarded::group_norm(&x, weight, bias, &options);
                assert_same(&layout, &norm(None, None)?, &plain);
                assert_same(&layout, &norm(Some(&weight), None)?, &scaled);
                assert_same(&layout, &norm(None, Some(&bias))?, &moved);
                assert_same(&layout, &norm(Some(&weight), Some(&bias))?, &both);
                assert_same(&layout, &guarded::group_norm(&x, None, None, &options.weight(&w).bias(&b))?, &both);
            }
        }
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

/// Checks gradients with one channel per group. Each group is then a row of layer normalisation. The gradient of a
/// channel's weight is the sum of the gradients that layer normalisation gives for all columns of the channel.
#[test]
fn the_gradients_of_rows() -> Result<()> {
    let (x, dy) = (tensor(&[2, 3, 40], DType::F32, 2.0, 1)?, tensor(&[2, 3, 40], DType::F32, 1.0, 2)?);
    let (x, weight, bias) = (Var::from_tensor(&x)?, Var::new(&[0.5f32, 2.0, -4.0], CPU)?, Var::new(&[0f32; 3], CPU)?);
    let y = guarded::group_norm(&x, Some(weight.as_tensor()), Some(bias.as_tensor()), &GroupNorm::new(3))?;
    let grads = (y * &dy)?.backward()?;
    let of = |v: &Var| flat(grads.get(v).expect("x, weight and bias must have gradients"));
    let (dx, dweight, dbias) = (of(&x), of(&weight), of(&bias));
    for channel in 0..3 {
        let (mut of_weight, mut of_bias, mut terms) = (0.0, 0.0, 0.0);
        for batch in 0..2 {
            let row = |t: &Tensor| t.get(batch)?.get(channel)?.to_vec1::<f32>();
            let (x, dy) = (row(&x)?, row(&dy)?);
            let spread = vec![flat(&weight)[channel]; 40];
            let zeros = [0f64; 40];
            let options = LayerNorm::default().weight(&spread).bias(&zeros);
            let want = layer_norm_backward(Rows::new(&x, 1, 40)?, Rows::new(&dy, 1, 40)?, &options)?;
            let got = &dx[(batch * 3 + channel) * 40..][..40];
            assert_eq!(got, want.dx.into_iter().map(f64::from).collect::<Vec<_>>());
            for column in want.dweight.unwrap() {
                of_weight += f64::from(column);
                terms += f64::from(column.abs());
            }
            of_bias += dy.iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        // Layer normalisation rounds the weight gradient of each column to f32.
        assert!(
            (dweight[channel] - of_weight).abs() <= 2f64.powi(-24) * (terms + of_weight.abs()),
            "weight gradient of channel {channel}: expected {of_weight}, got {}",
            dweight[channel]
        );
        assert_eq!(
            dbias[channel],
            f64::from(of_bias as f32),
            "bias gradient of channel {channel}: expected {of_bias} rounded to f32, got {}",
            dbias[channel]
        );
    }
    Ok(())
}

#[test]
fn a_group_is_spoilt_alone() -> Result<()> {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (dtype, limits) in DTYPES {
        let largest = limits.limits().max;
        let x = Tensor::new(
            &[
                [[0.0, 0.0], [0.0, 0.0], [largest, -largest], [0.0, largest]],
                [[nan, 1.0], [2.0, 3.0], [1.0, 2.0], [3.0, 4.0]],
                [[7.0, 7.0], [7.0, 7.0], [1.0, inf], [3.0, 4.0]],
            ],
            CPU,
        )?;
        let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
        let weight = tensor(&[4], dtype, 1.0, 1)?;
        let y = guarded::group_norm(&x, Some(&weight), None, &GroupNorm::new(2))?;
        let dx = y.affine(0.5, 0.0)?.backward()?;
        for (what, values) in [("y", flat(&y)), ("dx", flat(dx.get(&x).unwrap()))] {
            for (group, values) in values.chunks(4).enumerate() {
                let spoilt = [2, 5].contains(&group);
                let whole = values.iter().all(|v| v.is_finite());
                assert_eq!(
                    whole, !spoilt,
                    "{what}, group {group}, {dtype:?}: expected NaN or infinity only in groups 2 and 5, got {values:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn weights_alone_have_their_gradients() -> Result<()> {
    // Only the bias is tracked, and its type differs from x's.
    let x = tensor(&[2, 4, 3], DType::BF16, 2.0, 1)?;
    let bias = Var::from_tensor(&tensor(&[4], DType::F64, 1.0, 2)?)?;
    let y = guarded::group_norm(&x, None, Some(bias.as_tensor()), &GroupNorm::new(2))?;
    let grads = y.backward()?;
    let dbias = grads.get(&bias).expect("the bias must have a gradient");
    assert_eq!((dbias.dtype(), flat(dbias)), (DType::F64, vec![6.0; 4]));
    // Without elements, the gradients are zeros.
    for dims in [[0, 4, 3], [2, 4, 0]] {
        let x = Var::zeros(&dims[..], DType::F32, CPU)?;
        let y = guarded::group_norm(&x, None, Some(bias.as_tensor()), &GroupNorm::new(2))?;
        let grads = y.sum_all()?.backward()?;
        assert_eq!(flat(grads.get(&bias).unwrap()), [0.0; 4]);
        assert_eq!(grads.get(&x).unwrap().dims(), dims);
    }
    Ok(())
}

#[test]
fn what_does_not_fit() -> Result<()> {
    let x = tensor(&[2, 6, 4], DType::F32, 1.0, 1)?;
    let five = tensor(&[5], DType::F32, 1.0, 2)?;
    let name = |x: &Tensor, weight: Option<&Tensor>, options: GroupNorm<'_>| {
        guarded::group_norm(x, weight, None, &options).unwrap_err().name()
    };
    assert_eq!(name(&x, None, GroupNorm::new(4)), "ShapeMismatch");
    assert_eq!(name(&x, None, GroupNorm::new(0)), "InvalidArgument");
    assert_eq!(name(&x, None, GroupNorm::new(2).eps(-1.0)), "InvalidArgument");
    assert_eq!(name(&x, Some(&five), GroupNorm::new(2)), "ShapeMismatch");
    assert_eq!(name(&x, Some(&x), GroupNorm::new(2)), "ShapeMismatch");
    assert_eq!(name(&x, Some(&five), GroupNorm::new(2).weight(&[1f32; 6])), "InvalidArgument");
    assert_eq!(name(&x.flatten_all()?, None, GroupNorm::new(2)), "ShapeMismatch");
    assert_eq!(name(&Tensor::new(1f32, CPU)?, None, GroupNorm::new(1)), "ShapeMismatch");
    assert_eq!(name(&x.to_dtype(DType::U32)?, None, GroupNorm::new(2)), "UnsupportedDType");
    Ok(())
}

#[test]
fn the_module_computes_what_candles_does() -> Result<()> {
    for (dtype, kind) in DTYPES {
        let (weight, bias) = (tensor(&[6], dtype, 2.0, 2)?, tensor(&[6], dtype, 2.0, 3)?);
        for dims in &DIMS[1..] {
            let x = tensor(dims, dtype, 3.0, 1)?;
            for groups in [1, 3] {
                let wide = |t: &Tensor| t.to_dtype(DType::F64);
                let theirs = candle_nn::GroupNorm::new(wide(&weight)?, wide(&bias)?, 6, groups, 1e-5)?;
                let want = flat(&theirs.forward(&wide(&x)?)?);
                let norm = ours::GroupNorm::new(weight.clone(), bias.clone(), 6, groups, 1e-5)?;
                for (layout, x) in layouts(&x)? {
                    let y = norm.forward(&x)?;
                    assert_eq!((y.dims(), y.dtype()), (*dims, dtype));
                    // A normalised value is below 6, because a group has at most 36 elements. A weight is at most 2.
                    // The product of the two is below 12. All values from 8 to just below 16 have the same ULP, so the
                    // bound at 11 also holds for the product. Candle's f64 errors are below 1e-12.
                    assert_close(&layout, &flat(&y), &want, |_| allowed("group_norm", kind, 11.0) + 1e-12);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_module_refuses_what_candles_does() -> Result<()> {
    let (ones, zeros) = (Tensor::ones((6, 1, 1), DType::F32, CPU)?, Tensor::zeros(6, DType::F32, CPU)?);
    assert!(ours::GroupNorm::new(ones.clone(), zeros.clone(), 6, 4, 1e-5).is_err());
    assert!(ours::GroupNorm::new(ones.clone(), zeros.clone(), 6, 0, 1e-5).is_err());
    let norm = ours::GroupNorm::new(ones, zeros, 6, 2, 1e-5)?;
    assert_eq!(norm.forward(&tensor(&[2, 6, 4, 4], DType::F32, 1.0, 1)?)?.dims(), [2, 6, 4, 4]);
    for dims in [&[2, 6][..], &[2, 5, 4], &[6]] {
        let error = norm.forward(&tensor(dims, DType::F32, 1.0, 1)?).unwrap_err();
        assert_eq!(evenkeel::Error::from(error).name(), "ShapeMismatch", "group norm must reject the shape {dims:?}");
    }
    // For a type that only candle supports, the function must return the result or the error of candle's op.
    let x = tensor(&[1, 6, 2], DType::F32, 1.0, 1)?.to_dtype(DType::F8E4M3)?;
    let eights = |t: Tensor| t.to_dtype(DType::F8E4M3);
    let (ones, zeros) = (eights(Tensor::ones(6, DType::F32, CPU)?)?, eights(Tensor::zeros(6, DType::F32, CPU)?)?);
    let theirs = candle_nn::GroupNorm::new(ones.clone(), zeros.clone(), 6, 2, 1e-5)?.forward(&x);
    let ours = ours::GroupNorm::new(ones, zeros, 6, 2, 1e-5)?.forward(&x);
    let f32s = |y: Result<Tensor>| y.and_then(|y| y.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()).ok();
    assert_eq!(f32s(ours), f32s(theirs));
    Ok(())
}

#[test]
fn the_constructor_finds_what_candles_does() -> Result<()> {
    let (weight, bias) = (tensor(&[4], DType::F32, 1.0, 1)?, tensor(&[4], DType::F32, 1.0, 2)?);
    let named = [("norm.weight".to_string(), weight.clone()), ("norm.bias".to_string(), bias.clone())];
    let vb = candle_nn::VarBuilder::from_tensors(named.into(), DType::F32, CPU);
    let x = tensor(&[2, 4, 3], DType::F32, 1.0, 3)?;
    let norm = ours::group_norm(2, 4, 1e-3, vb.pp("norm"))?;
    let want = guarded::group_norm(&x, Some(&weight), Some(&bias), &GroupNorm::new(2).eps(1e-3))?;
    assert_same("loaded", &norm.forward(&x)?, &want);
    assert!(ours::group_norm(2, 5, 1e-3, vb.pp("norm")).is_err());
    assert!(ours::group_norm(3, 4, 1e-3, vb.pp("norm")).is_err());
    // A new module has a weight of ones and a bias of zeros. Both are trainable.
    let vars = candle_nn::VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&vars, DType::F32, CPU);
    let norm = ours::group_norm(2, 4, 1e-3, vb)?;
    let y = norm.forward(&x)?;
    assert_same("new", &y, &guarded::group_norm(&x, None, None, &GroupNorm::new(2).eps(1e-3))?);
    let grads = y.sqr()?.backward()?;
    assert!(vars.all_vars().iter().all(|var| grads.get(var).is_some_and(|grad| grad.dims() == [4])));
    Ok(())
}
