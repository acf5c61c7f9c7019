//! Checks that every layout gives the same bits as the contiguous layout and as the slice functions.

use crate::support::{CPU, assert_same, layouts, tensor};
use candle_core::{D, DType, Result, Tensor};
use evenkeel::candle as ours;
use evenkeel::{Lanes, Mask, RmsNormLinear, Rope, RopeTable, Rows, Softmax};

const SHAPES: [&[usize]; 7] = [&[5], &[3, 4], &[2, 3, 4], &[2, 3, 4, 6], &[2, 1, 3, 1, 4], &[1, 4], &[4, 1]];

type Op = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {
        fn elementwise() -> Vec<(&'static str, Op)> {
            vec![$((stringify!($name), Box::new(|x| Ok(ours::guarded::$name(x)?))),)*]
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

/// Returns every op that takes one tensor of any shape.
fn ops(cols: usize, dtype: DType) -> Result<Vec<(&'static str, Op)>> {
    let (alpha, beta) = (tensor(&[cols], dtype, 2.0, 1)?, tensor(&[cols], dtype, 2.0, 2)?);
    let (a, b) = (alpha.clone(), beta.clone());
    let mut ops = elementwise();
    ops.extend::<Vec<(&str, Op)>>(vec![
        ("softmax", Box::new(ours::ops::softmax_last_dim)),
        ("first softmax", Box::new(|x| ours::ops::softmax(x, 0))),
        ("log_softmax", Box::new(|x| ours::ops::log_softmax(x, D::Minus1))),
        ("first log_softmax", Box::new(|x| ours::ops::log_softmax(x, 0))),
        ("logsumexp", Box::new(|x| Ok(ours::guarded::logsumexp(x, 0, true, &Softmax::default())?))),
        ("rms_norm", Box::new(move |x| ours::ops::rms_norm(x, &a, 1e-5))),
        ("layer_norm", Box::new(move |x| ours::ops::layer_norm(x, &alpha, &b, 1e-5))),
        ("plain layer_norm", Box::new(|x| Ok(ours::guarded::layer_norm(x, None, None, &Default::default())?))),
        ("bias only", Box::new(move |x| Ok(ours::guarded::layer_norm(x, None, Some(&beta), &Default::default())?))),
        ("sigmoid", Box::new(ours::ops::sigmoid)),
        ("silu", Box::new(ours::ops::silu)),
        ("l2_normalize", Box::new(|x| Ok(ours::guarded::l2_normalize(x, D::Minus1, &Default::default())?))),
        ("first l2_normalize", Box::new(|x| Ok(ours::guarded::l2_normalize(x, 0, &Default::default())?))),
        ("mean_pool", Box::new(|x| Ok(ours::guarded::mean_pool(x, 0, &Default::default())?))),
        ("log_add_exp", Box::new(|x| Ok(ours::guarded::log_add_exp(x, &x.neg()?)?))),
        ("swiglu", Box::new(|x| Ok(ours::guarded::swiglu(x, &x.affine(2.0, 1.0)?)?))),
        ("safe_div", Box::new(|x| Ok(ours::guarded::safe_div(x, &x.affine(2.0, 1.0)?, &Default::default())?))),
        ("clamped_exp", Box::new(|x| Ok(ours::guarded::clamped_exp(x, &Default::default())?))),
        ("clamped_log", Box::new(|x| Ok(ours::guarded::clamped_log(x, &Default::default())?))),
    ]);
    Ok(ops)
}

#[test]
fn every_layout_gives_the_same_bits() -> Result<()> {
    for dims in SHAPES {
        for dtype in [DType::F32, DType::BF16] {
            let x = tensor(dims, dtype, 4.0, 3)?;
            for (op, apply) in ops(dims[dims.len() - 1], dtype)? {
                let want = apply(&x)?;
                assert!(want.is_contiguous());
                for (layout, x) in layouts(&x)? {
                    assert_same(&format!("{op} of {dims:?}, {layout}"), &apply(&x)?, &want);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn broadcast_rows_are_rows_like_others() -> Result<()> {
    let row = tensor(&[1, 6], DType::F32, 4.0, 3)?;
    for (op, apply) in ops(6, DType::F32)? {
        let broadcast = row.broadcast_as((3, 6))?;
        assert_same(op, &apply(&broadcast)?, &apply(&broadcast.contiguous()?)?);
        let scalar = tensor(&[1, 1], DType::F32, 4.0, 3)?.broadcast_as((3, 6))?;
        assert_same(op, &apply(&scalar)?, &apply(&scalar.contiguous()?)?);
    }
    Ok(())
}

#[test]
fn tensors_give_the_bits_of_slices() -> Result<()> {
    let x = tensor(&[2, 3, 8], DType::F32, 4.0, 3)?;
    let data: Vec<f32> = x.flatten_all()?.to_vec1()?;
    let given = |y: Vec<f32>| Tensor::from_vec(y, x.shape(), CPU);
    for axis in 0..3 {
        let lanes = Lanes::shaped(&data, x.dims(), axis as isize)?;
        let options = Softmax::default().scale(0.3).softcap(2.0);
        let y = ours::guarded::softmax(&x, axis, &options)?;
        assert_same("softmax", &y, &given(evenkeel::softmax(lanes, &options)?)?);
        let y = ours::guarded::log_softmax(&x, axis, &options)?;
        assert_same("log_softmax", &y, &given(evenkeel::log_softmax(lanes, &options)?)?);
        let y = ours::guarded::logsumexp(&x, axis, true, &options)?;
        let lse = Tensor::from_vec(evenkeel::logsumexp(lanes, &options)?, y.shape(), CPU)?;
        assert_same("logsumexp", &y, &lse);
        assert_same("squeezed", &ours::guarded::logsumexp(&x, axis, false, &options)?, &lse.squeeze(axis)?);
    }
    let table = RopeTable::new(&[3, 4, 7], 8, &Rope::default().interleaved(true))?;
    let y = ours::guarded::rope(&x, &table)?;
    assert_same("rope", &y, &given(evenkeel::rope(Rows::shaped(&data, x.dims())?, &table)?)?);
    let options = evenkeel::RmsNorm::default();
    let matrix = tensor(&[4, x.dim(D::Minus1)?], x.dtype(), 1.0, 5)?;
    for (layout, matrix) in layouts(&matrix)? {
        let linear = RmsNormLinear::default().bias(&[0.5f32, 0.0, -1.0, 2.0]);
        let y = ours::guarded::rms_norm_linear(&x, &matrix, None, None, &linear)?;
        let rows = matrix.flatten_all()?.to_vec1::<f32>()?;
        let want = evenkeel::rms_norm_linear(
            Rows::shaped(&data, x.dims())?,
            Rows::new(&rows, 4, x.dim(D::Minus1)?)?,
            &linear,
        )?;
        let mut dims = x.dims().to_vec();
        dims[x.rank() - 1] = 4;
        assert_same(&format!("rms_norm_linear, {layout}"), &y, &Tensor::from_vec(want, dims, CPU)?);
    }
    let y = ours::guarded::qk_norm_rope(&x, None, &table, &options)?;
    let want = evenkeel::qk_norm_rope(Rows::shaped(&data, x.dims())?, &table, &options)?;
    assert_same("qk_norm_rope", &y, &given(want)?);
    Ok(())
}

#[test]
fn masks_broadcast_to_the_shape_whatever_the_layout() -> Result<()> {
    let x = tensor(&[2, 2, 3, 4], DType::F32, 4.0, 3)?;
    let keep = [1u8, 0, 1, 1, 1, 1, 1, 0];
    let mask = Mask::causal().and_lengths(&[4, 2]).and_keep(&keep, &[2, 1, 1, 4]);
    let options = Softmax::default().mask(&mask);
    let data: Vec<f32> = x.flatten_all()?.to_vec1()?;
    let want = evenkeel::softmax(Rows::shaped(&data, x.dims())?, &options)?;
    let want = Tensor::from_vec(want, x.shape(), CPU)?;
    for (layout, x) in layouts(&x)? {
        assert_same(&layout, &ours::guarded::softmax(&x, 3, &options)?, &want);
    }
    Ok(())
}

#[test]
fn rotary_embedding_in_every_layout() -> Result<()> {
    let x = tensor(&[2, 3, 5, 8], DType::F32, 2.0, 1)?;
    let (cos, sin) = (tensor(&[5, 4], DType::F32, 1.0, 2)?, tensor(&[5, 4], DType::F32, 1.0, 3)?);
    let thd = x.transpose(1, 2)?.contiguous()?;
    let halves = ours::rotary_emb::rope(&x, &cos, &sin)?;
    let neighbours = ours::rotary_emb::rope_i(&x, &cos, &sin)?;
    for (layout, x) in layouts(&x)? {
        assert_same(&layout, &ours::rotary_emb::rope(&x, &cos, &sin)?, &halves);
        assert_same(&layout, &ours::rotary_emb::rope_i(&x, &cos, &sin)?, &neighbours);
    }
    for (layout, thd) in layouts(&thd)? {
        let y = ours::rotary_emb::rope_thd(&thd, &cos, &sin)?.transpose(1, 2)?;
        assert_same(&layout, &y, &halves);
    }
    for ((layout, cos), (_, sin)) in layouts(&cos)?.into_iter().zip(layouts(&sin)?) {
        assert_same(&layout, &ours::rotary_emb::rope(&x, &cos, &sin)?, &halves);
    }
    Ok(())
}

#[test]
fn tables_longer_than_the_rows_and_tables_of_both_ranks() -> Result<()> {
    let x = tensor(&[2, 3, 5, 8], DType::F32, 2.0, 1)?;
    let (cos, sin) = (tensor(&[2, 9, 4], DType::F32, 1.0, 2)?, tensor(&[2, 9, 4], DType::F32, 1.0, 3)?);
    let y = ours::rotary_emb::rope(&x, &cos, &sin)?;
    for entry in 0..2 {
        let (x, cos, sin) = (x.narrow(0, entry, 1)?, cos.get(entry)?, sin.get(entry)?);
        let want = candle_nn::rotary_emb::rope(&x.contiguous()?, &cos, &sin)?;
        let want = ours::rotary_emb::rope(&x, &cos, &sin)?.broadcast_sub(&want)?.abs()?.max_all()?;
        assert!(want.to_scalar::<f32>()? < 1e-6);
        assert_same("entry", &y.narrow(0, entry, 1)?, &ours::rotary_emb::rope(&x, &cos, &sin)?);
    }
    let shared = sin.get(0)?;
    let stacked = Tensor::stack(&[&shared, &shared], 0)?;
    let want = ours::rotary_emb::rope(&x, &cos, &stacked)?;
    assert_same("mixed", &ours::rotary_emb::rope(&x, &cos, &shared)?, &want);
    Ok(())
}

#[test]
fn more_axes_than_a_view_has() -> Result<()> {
    let x = tensor(&[2, 3, 4], DType::F32, 2.0, 1)?;
    let deep = x.reshape(vec![2, 1, 1, 1, 3, 1, 1, 1, 1, 4])?;
    for (axis, deep_axis) in [(0, 0), (1, 4), (2, 9)] {
        let want = ours::ops::softmax(&x, axis)?;
        assert_same("deep", &ours::ops::softmax(&deep, deep_axis)?.reshape((2, 3, 4))?, &want);
    }
    let weight = tensor(&[4], DType::F32, 2.0, 2)?;
    let want = ours::ops::rms_norm(&x, &weight, 1e-5)?;
    assert_same("deep", &ours::ops::rms_norm(&deep, &weight, 1e-5)?.reshape((2, 3, 4))?, &want);
    let mask = Mask::causal();
    let error = ours::guarded::softmax(&deep, 9, &Softmax::default().mask(&mask)).unwrap_err();
    let expected = "softmax: mask is on a tensor of 10 axes; it must be on a tensor of at most 8 axes";
    assert_eq!(error.to_string(), expected);
    Ok(())
}

/// Checks an empty view that starts past the end of its storage.
#[test]
fn an_empty_view_beyond_its_storage() -> Result<()> {
    let x = Tensor::zeros((2, 3), DType::F32, CPU)?.narrow(0, 2, 0)?.narrow(1, 3, 0)?;
    assert!(x.layout().start_offset() > 6);
    assert_eq!(ours::ops::softmax(&x, 0)?.elem_count(), 0);
    assert_eq!(ours::ops::silu(&x)?.elem_count(), 0);
    assert!(ours::guarded::exp_in_place(&x).is_ok());
    Ok(())
}
