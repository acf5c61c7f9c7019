//! The adapter's gradients have the same bits as the gradients on slices.

use super::candle::{DType, Result, Tensor, Var, backprop::GradStore};
use super::numerics::{guarded, ops, rotary_emb};
use super::ops::cos_sin;
use super::support::{Number, assert_bits, each_type, elements, of, strided, tensor, values};
use evenkeel::{Attention, Heads, Lanes, LayerNorm, Mask, RmsNorm, Rope, RopeTable, Rows, Softmax};

fn var<E: Number>(values: &[E], dims: &[usize]) -> Result<Var> {
    Var::from_tensor(&tensor(values, dims)?)
}

/// Computes the gradients of a loss whose gradient with respect to `y` is `dy`.
fn gradients<E: Number>(y: &Tensor, dy: &[E]) -> Result<GradStore> {
    (y * tensor(dy, y.dims())?)?.sum_all()?.backward()
}

#[track_caller]
fn assert_gradient<E: Number>(grads: &GradStore, of: &Var, expected: &[E]) -> Result<()> {
    assert_bits(grads.get(of).expect("the variable must have a gradient"), of.dims(), expected)
}

#[test]
fn of_softmax() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data, dy) = ([2, 3, 4], values::<E>(24, 1), values::<E>(24, 2));
        let mask = Mask::lengths(&[4, 2]);
        for (axis, options) in [(1, Softmax::default().scale(0.5)), (2, Softmax::default().mask(&mask))] {
            let lanes = |data| Lanes::<E>::shaped(data, &dims, axis as isize);
            let (x, of_y) = (of(lanes(&data))?, of(lanes(&dy))?);
            let var = var(&data, &dims)?;
            // The op gets a tensor that is not contiguous, and copies it.
            let grads = gradients(&guarded::softmax(&strided(&var)?, axis, &options)?, &dy)?;
            assert_gradient(&grads, &var, &of(evenkeel::softmax_backward(x, of_y, &options))?)?;
            let grads = gradients(&guarded::log_softmax(&var, axis, &options)?, &dy)?;
            assert_gradient(&grads, &var, &of(evenkeel::log_softmax_backward(x, of_y, &options))?)?;
        }
        Ok(())
    }
    each_type!(check)
}

#[test]
fn of_norms() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data, dy) = ([5, 4], values::<E>(20, 3), values::<E>(20, 4));
        let (weight, bias) = (values::<E>(4, 5), values::<E>(4, 6));
        let (x, alpha, beta) = (var(&data, &dims)?, var(&weight, &[4])?, var(&bias, &[4])?);
        let (rows, of_y) = (of(Rows::shaped(&data, &dims))?, of(Rows::shaped(&dy, &dims))?);
        let eps = f64::from(1e-5f32);

        let grads = gradients(&ops::rms_norm(&x, &alpha, 1e-5)?, &dy)?;
        let expected = of(evenkeel::rms_norm_backward(rows, of_y, &RmsNorm::default().eps(eps).weight(&weight)))?;
        assert_gradient(&grads, &x, &expected.dx)?;
        assert_gradient(&grads, &alpha, &expected.dweight.expect("there must be a gradient of the weight"))?;

        let grads = gradients(&ops::layer_norm(&x, &alpha, &beta, 1e-5)?, &dy)?;
        let options = LayerNorm::default().eps(eps).weight(&weight).bias(&bias);
        let expected = of(evenkeel::layer_norm_backward(rows, of_y, &options))?;
        assert_gradient(&grads, &x, &expected.dx)?;
        assert_gradient(&grads, &alpha, &expected.dweight.expect("there must be a gradient of the weight"))?;
        assert_gradient(&grads, &beta, &expected.dbias.expect("there must be a gradient of the bias"))?;

        // Only the weight is tracked, and its type differs from the type of the rows.
        let alpha = Var::from_tensor(&alpha.to_dtype(DType::F32)?)?;
        let grads = gradients(&ops::rms_norm(&x.detach(), &alpha, 1e-5)?, &dy)?;
        assert_eq!(grads.get(&alpha).map(Tensor::dtype), Some(DType::F32));
        assert!(grads.get(&x).is_none());
        Ok(())
    }
    each_type!(check)
}

#[test]
fn of_activations() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (data, dy) = (values::<E>(129, 7), values::<E>(129, 8));
        let x = var(&data, &[129])?;
        assert_gradient(&gradients(&ops::silu(&x)?, &dy)?, &x, &of(evenkeel::silu_backward(&data, &dy))?)?;
        assert_gradient(&gradients(&ops::sigmoid(&x)?, &dy)?, &x, &of(evenkeel::sigmoid_backward(&data, &dy))?)
    }
    each_type!(check)
}

#[test]
fn of_rotary_embedding() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data, dy) = ([2, 2, 3, 4], values::<E>(48, 9), values::<E>(48, 10));
        let table = of(RopeTable::new(&[0, 5, 100], 4, &Rope::default()))?;
        let [cos, sin] = cos_sin(&table, 3, 2)?;
        let x = var(&data, &dims)?;
        let grads = gradients(&rotary_emb::rope(&x, &cos, &sin)?, &dy)?;
        assert_gradient(&grads, &x, &of(evenkeel::rope_backward(of(Rows::shaped(&dy, &dims))?, &table))?)?;
        // A table that candle tracks would need a gradient, which the op does not compute. So the backward pass fails.
        let tracked = Var::from_tensor(&cos)?;
        assert!(gradients(&rotary_emb::rope(&x, &tracked, &sin)?, &dy).is_err());
        Ok(())
    }
    each_type!(check)
}

#[test]
fn of_attention() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let ([q_dims, kv_dims], mask) = ([[2, 4, 3, 4], [2, 2, 5, 4]], Mask::causal());
        let options = Attention::default().mask(&mask);
        let [q, k, v, dy] = [values::<E>(96, 11), values::<E>(80, 12), values::<E>(80, 13), values::<E>(96, 14)];
        let of_heads = |data, dims| of(Heads::<E>::new(data, dims));
        let expected = of(evenkeel::attention_backward(
            of_heads(&q, q_dims)?,
            of_heads(&k, kv_dims)?,
            of_heads(&v, kv_dims)?,
            of_heads(&dy, q_dims)?,
            &options,
        ))?;
        let kv = k.clone();
        let [q, k, v] = [var(&q, &q_dims)?, var(&k, &kv_dims)?, var(&v, &kv_dims)?];
        let grads = gradients(&guarded::attention(&strided(&q)?, &k, &v, &options)?, &dy)?;
        assert_gradient(&grads, &q, &expected.dq)?;
        assert_gradient(&grads, &k, &expected.dk)?;
        assert_gradient(&grads, &v, &expected.dv)?;
        // One tensor serves as keys and as values. Its gradient is the sum of dk and dv.
        let grads = gradients(&guarded::attention(&q.detach(), &k, &k, &options)?, &dy)?;
        let q = elements::<E>(&q)?;
        let kv = of_heads(&kv, kv_dims)?;
        let expected =
            of(evenkeel::attention_backward(of_heads(&q, q_dims)?, kv, kv, of_heads(&dy, q_dims)?, &options))?;
        let sum = (tensor(&expected.dk, &kv_dims[..])? + tensor(&expected.dv, &kv_dims[..])?)?;
        assert_gradient(&grads, &k, &elements::<E>(&sum)?)
    }
    each_type!(check)
}

#[test]
fn of_a_gradient_is_an_error() -> Result<()> {
    let x = var(&values::<f32>(8, 9), &[2, 4])?;
    let grads = gradients(&ops::softmax_last_dim(&x)?, &values::<f32>(8, 10))?;
    let error = grads.get(&x).expect("the variable must have a gradient").sqr()?.sum_all()?.backward().unwrap_err();
    assert!(
        error.to_string().contains("backward is not supported for softmax"),
        "expected an error that rejects the second derivative of softmax, got {error}"
    );
    Ok(())
}
