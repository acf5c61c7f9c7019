//! The adapter's ops give the same bits as the functions on slices, for each type and layout.

use super::candle::{D, Device, Result, Tensor};
use super::numerics::{guarded, ops, rotary_emb, sample_rows};
use super::support::{Number, assert_bits, each_type, elements, of, strided, tensor, values};
use evenkeel::{
    Attention, Draw, Error, Heads, Lanes, LayerNorm, Mask, Request, RmsNorm, Rope, RopeTable, Rows, SamplerConfig,
    Softmax,
};

#[test]
fn softmax_along_any_axis() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data) = ([2, 3, 5], values::<E>(30, 1));
        let x = tensor(&data, &dims[..])?;
        let options = Softmax::default().scale(0.3).softcap(5.0);
        for axis in 0..3 {
            let lanes = of(Lanes::shaped(&data, &dims, axis as isize))?;
            let plain = of(evenkeel::softmax(lanes, &Softmax::default()))?;
            let log = of(evenkeel::log_softmax(lanes, &Softmax::default()))?;
            for x in [x.clone(), strided(&x)?] {
                assert_bits(&ops::softmax(&x, axis)?, &dims, &plain)?;
                assert_bits(&ops::log_softmax(&x, axis)?, &dims, &log)?;
                let scaled = guarded::softmax(&x, axis, &options)?;
                assert_bits(&scaled, &dims, &of(evenkeel::softmax(lanes, &options))?)?;
                let scaled = guarded::log_softmax(&x, axis, &options)?;
                assert_bits(&scaled, &dims, &of(evenkeel::log_softmax(lanes, &options))?)?;
            }
        }
        assert_bits(&ops::softmax_last_dim(&x)?, &dims, &elements::<E>(&ops::softmax(&x, D::Minus1)?)?)
    }
    each_type!(check)
}

#[test]
fn masked_rows() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data) = ([2, 2, 3, 3], values::<E>(36, 2));
        let mask = Mask::causal().and_lengths(&[3, 0]);
        let options = Softmax::default().mask(&mask).scale(0.125);
        let expected = of(evenkeel::softmax(of(Rows::shaped(&data, &dims))?, &options))?;
        let y = guarded::softmax(&strided(&tensor(&data, &dims[..])?)?, D::Minus1, &options)?;
        assert_bits(&y, &dims, &expected)?;
        // The second sequence has no keys.
        assert!(elements::<E>(&y)?[18..].iter().all(|p| p.to_f64() == 0.0));
        Ok(())
    }
    each_type!(check)
}

#[test]
fn norms() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data) = ([2, 3, 4], values::<E>(24, 3));
        let (weight, bias) = (values::<f32>(4, 4), values::<E>(4, 5));
        let (alpha, beta) = (tensor(&weight, 4)?, tensor(&bias, 4)?);
        let rows = of(Rows::shaped(&data, &dims))?;
        let eps = f64::from(1e-5f32);
        let rms = of(evenkeel::rms_norm(rows, &RmsNorm::default().eps(eps).weight(&weight)))?;
        let layer = of(evenkeel::layer_norm(rows, &LayerNorm::default().eps(eps).weight(&weight).bias(&bias)))?;
        let x = tensor(&data, &dims[..])?;
        for x in [x.clone(), strided(&x)?] {
            assert_bits(&ops::rms_norm(&x, &alpha, 1e-5)?, &dims, &rms)?;
            assert_bits(&ops::layer_norm(&x, &alpha, &beta, 1e-5)?, &dims, &layer)?;
        }
        Ok(())
    }
    each_type!(check)
}

#[test]
fn activations() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let (dims, data) = ([3, 43], values::<E>(129, 6));
        let x = tensor(&data, &dims[..])?;
        for x in [x.clone(), strided(&x)?] {
            assert_bits(&ops::sigmoid(&x)?, &dims, &of(evenkeel::sigmoid(&data))?)?;
            assert_bits(&ops::silu(&x)?, &dims, &of(evenkeel::silu(&data))?)?;
        }
        Ok(())
    }
    each_type!(check)
}

/// Returns the cosines and the sines that a table stores, bit for bit, as two tensors of shape `[positions, half]`.
pub fn cos_sin(table: &RopeTable, positions: usize, half: usize) -> Result<[Tensor; 2]> {
    // Rotating the pair (1, 0) gives (cos, sin).
    let ones: Vec<f64> = (0..positions * 2 * half).map(|i| f64::from(u8::from(i % (2 * half) < half))).collect();
    let rotated = of(evenkeel::rope(of(Rows::new(&ones, positions, 2 * half))?, table))?;
    let rotated = tensor(&rotated, (positions, 2 * half))?;
    Ok([rotated.narrow(1, 0, half)?, rotated.narrow(1, half, half)?])
}

#[test]
fn rotary_embedding() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let ([batch, heads, positions, cols], data) = ([2, 3, 4, 6], values::<E>(144, 7));
        let dims = [batch, heads, positions, cols];
        let table = |interleaved| of(RopeTable::new(&[0, 1, 7, 1000], cols, &Rope::default().interleaved(interleaved)));
        let [cos, sin] = cos_sin(&table(false)?, positions, cols / 2)?;
        let rows = of(Rows::shaped(&data, &dims))?;
        let (halves, neighbours) =
            (of(evenkeel::rope(rows, &table(false)?))?, of(evenkeel::rope(rows, &table(true)?))?);
        // `long` doubles the number of positions in a table. `batched` repeats such a table for each batch entry.
        let long = |table: &Tensor| Tensor::cat(&[table, table], 0);
        let batched = |table: &Tensor| long(table)?.unsqueeze(0)?.repeat((batch, 1, 1));
        let x = tensor(&data, &dims[..])?;
        for x in [x.clone(), strided(&x)?] {
            for (cos, sin) in [(cos.clone(), sin.clone()), (long(&cos)?, long(&sin)?), (batched(&cos)?, batched(&sin)?)]
            {
                assert_bits(&rotary_emb::rope(&x, &cos, &sin)?, &dims, &halves)?;
                assert_bits(&rotary_emb::rope_i(&x, &cos, &sin)?, &dims, &neighbours)?;
                let thd = rotary_emb::rope_thd(&x.transpose(1, 2)?, &cos, &sin)?;
                assert_bits(&thd.transpose(1, 2)?, &dims, &halves)?;
            }
        }
        Ok(())
    }
    each_type!(check)
}

#[test]
fn attention_in_any_layout() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let ([q_dims, kv_dims], mask) = ([[2, 4, 3, 8], [2, 2, 5, 8]], Mask::causal().and_lengths(&[5, 4]));
        let options = Attention::default().mask(&mask).scale(0.25).sinks(&[0.5f32, 1.0, -1.0, 0.0]);
        let [q, k, v] = [values::<E>(192, 8), values::<E>(160, 9), values::<E>(160, 10)];
        let [heads, keys] = [of(Heads::new(&q, q_dims))?, of(Heads::new(&k, kv_dims))?];
        let expected = of(evenkeel::attention(heads, keys, of(Heads::new(&v, kv_dims))?, &options))?;
        let [q, k, v] = [tensor(&q, &q_dims[..])?, tensor(&k, &kv_dims[..])?, tensor(&v, &kv_dims[..])?];
        // Changes the layout so that the heads of a position are adjacent, as in the output of a projection.
        let projected = |xs: &Tensor| xs.transpose(1, 2)?.contiguous()?.transpose(1, 2);
        // Returns the same tensor as a view of the first positions in a longer cache.
        let cached = |xs: &Tensor| Tensor::cat(&[xs, xs], 2)?.narrow(2, 0, 5);
        for (q, k, v) in [
            (q.clone(), k.clone(), v.clone()),
            (strided(&q)?, strided(&k)?, strided(&v)?),
            (projected(&q)?, cached(&k)?, cached(&v)?),
        ] {
            assert_bits(&guarded::attention(&q, &k, &v, &options)?, &q_dims, &expected)?;
        }
        // A decoding step gives the same bits as the last query of the prefill.
        let step = guarded::attention(&q.narrow(2, 2, 1)?, &cached(&k)?, &v, &options)?;
        let last = tensor(&expected, &q_dims[..])?.narrow(2, 2, 1)?;
        assert_bits(&step, &[2, 4, 1, 8], &elements::<E>(&last)?)
    }
    each_type!(check)
}

#[test]
fn a_row_with_nan_fails_alone() -> Result<()> {
    fn check<E: Number>() -> Result<()> {
        let mut data = values::<E>(4 * 50, 11);
        data[2 * 50 + 7] = E::from_f64(f64::NAN);
        let greedy = of(SamplerConfig::default().temperature(0.0).validate())?;
        let sampled = of(SamplerConfig::default().top_k(20).top_p(0.9).validate())?;
        let requests: Vec<Request<'_>> = (0..4)
            .map(|row| Request {
                sampler: if row == 0 { &greedy } else { &sampled },
                step: Draw { seed: row, row, draw: 3 }.into(),
            })
            .collect();
        let logits = tensor(&data, (4, 50))?;
        let expected = of(evenkeel::sample_rows(of(Rows::new(&data, 4, 50))?, None, &requests))?;
        for logits in [logits.clone(), strided(&logits)?, logits.unsqueeze(1)?] {
            let tokens = sample_rows(&logits, None, &requests)?;
            assert_eq!(tokens, expected);
            assert!(matches!(tokens[2], Err(Error::NonFiniteInput { row: 2, index: 7, .. })));
            assert_eq!(tokens.iter().filter(|token| token.is_ok()).count(), 3);
        }
        Ok(())
    }
    each_type!(check)
}

#[test]
fn tensors_without_elements_and_with_many_axes() -> Result<()> {
    let x = tensor(&values::<f32>(12, 12), (3, 4))?;
    let ones = tensor(&[1f32; 4], 4)?;
    for empty in [x.narrow(0, 3, 0)?, x.narrow(1, 4, 0)?, x.narrow(0, 1, 0)?.t()?] {
        assert_eq!(ops::softmax(&empty, 0)?.dims(), empty.dims());
        assert_eq!(ops::log_softmax(&empty, 1)?.dims(), empty.dims());
        assert_eq!(ops::silu(&empty)?.dims(), empty.dims());
    }
    assert_eq!(ops::rms_norm(&x.narrow(0, 3, 0)?, &ones, 1e-5)?.dims(), [0, 4]);
    assert_eq!(ops::sigmoid(&Tensor::new(0f32, &Device::Cpu)?)?.to_scalar::<f32>()?, 0.5);
    // Only masks are limited to eight axes.
    let deep = x.reshape(vec![1, 1, 1, 3, 1, 1, 1, 1, 2, 2])?;
    assert_bits(&ops::softmax(&deep, 3)?, deep.dims(), &elements::<f32>(&ops::softmax(&x, 0)?)?)?;
    assert_eq!(ops::rms_norm(&deep, &ones.narrow(0, 0, 2)?, 1e-5)?.dims(), deep.dims());
    assert!(ops::softmax(&Tensor::new(0f32, &Device::Cpu)?, 0).is_err());
    assert!(ops::rms_norm(&Tensor::new(0f32, &Device::Cpu)?, &ones, 1e-5).is_err());
    Ok(())
}
