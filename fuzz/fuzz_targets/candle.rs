//! Fuzz target for ops on candle tensors of any shape, layout and dtype. An op must give the same bits on a view as on
//! a contiguous copy, or return an error for both. An in-place form must give the same bits as the allocating form, and
//! leave the memory outside the view unchanged. If the in-place form returns an error, all memory must be unchanged.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use candle_core::{DType, Device, Tensor};
use evenkeel::candle::guarded;
use evenkeel::{L2Normalize, LayerNorm, MeanPool, RmsNorm, SafeDiv, Softmax};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case {
    dims: [u8; 5],
    rank: u8,
    dtype: u8,
    views: [View; 3],
    op: u8,
    axis: u8,
    scale: f64,
}

/// Operation that makes a view of a tensor. An operation that candle refuses is skipped.
#[derive(Arbitrary, Debug)]
enum View {
    Same,
    Transpose(u8, u8),
    Narrow { axis: u8, start: u8, len: u8 },
    Broadcast(u8),
    Unsqueeze(u8),
    Reshape(u8),
}

impl View {
    fn of(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let rank = x.rank().max(1);
        let axis = |axis: &u8| usize::from(*axis) % rank;
        match self {
            View::Same => Ok(x.clone()),
            View::Transpose(a, b) => x.transpose(axis(a), axis(b)),
            View::Narrow { axis: along, start, len } => {
                x.narrow(axis(along), usize::from(*start % 8), usize::from(*len % 8))
            }
            View::Broadcast(count) => x.broadcast_as([&[usize::from(*count % 4)], x.dims()].concat()),
            View::Unsqueeze(at) => x.unsqueeze(usize::from(*at) % (x.rank() + 1)),
            View::Reshape(rows) => {
                let rows = usize::from(*rows % 8).max(1);
                x.reshape((rows, x.elem_count() / rows))
            }
        }
    }
}

const DTYPES: [DType; 6] = [DType::F32, DType::F64, DType::F16, DType::BF16, DType::U8, DType::I64];

fuzz_target!(|data: &[u8]| {
    let mut bytes = Unstructured::new(data);
    let Ok(case) = Case::arbitrary(&mut bytes) else { return };
    let rank = usize::from(case.rank) % (case.dims.len() + 1);
    let dims = case.dims[..rank].iter().map(|dim| usize::from(dim % 7)).collect::<Vec<_>>();
    let values = bytes.take_rest().as_chunks::<4>().0.iter().map(|bits| f32::from_le_bytes(*bits));
    let count = dims.iter().product();
    let values = values.chain([1.0, f32::NAN, -0.5]).collect::<Vec<_>>().into_iter().cycle().take(count).collect();
    let dtype = DTYPES[usize::from(case.dtype) % DTYPES.len()];
    let base = Tensor::from_vec::<_, f32>(values, dims, &Device::Cpu).and_then(|x| x.to_dtype(dtype));
    let base = base.expect("candle must create a tensor of the requested shape and type");
    let x = case.views.iter().fold(base.clone(), |x, view| view.of(&x).unwrap_or(x));
    allocating(&case, &x);
    in_place(&case, &base);
});

fn allocating(case: &Case, x: &Tensor) {
    let copy = x.copy().and_then(|x| x.contiguous()).expect("copying a tensor must succeed");
    let [from_view, from_copy] = [x, &copy].map(|x| run(case, x).ok().map(|y| (y.dims().to_vec(), bits(&y))));
    assert_eq!(
        from_view,
        from_copy,
        "{case:?}: a view of shape {:?} and strides {:?} must give the same result as its copy",
        x.dims(),
        x.stride()
    );
}

fn run(case: &Case, x: &Tensor) -> evenkeel::Result<Tensor> {
    let axis = usize::from(case.axis % 6);
    let softmax = Softmax::default().scale(case.scale);
    match case.op % 14 {
        0 => guarded::softmax(x, axis, &softmax),
        1 => guarded::log_softmax(x, axis, &softmax),
        2 => guarded::logsumexp(x, axis, case.axis >= 128, &softmax),
        3 => guarded::rms_norm(x, None, &RmsNorm::default()),
        4 => guarded::layer_norm(x, None, None, &LayerNorm::default()),
        5 => guarded::l2_normalize(x, axis, &L2Normalize::default()),
        6 => guarded::mean_pool(x, axis, &MeanPool::default()),
        7 => guarded::log_add_exp(x, &x.clone()),
        8 => guarded::swiglu(x, &x.clone()),
        9 => guarded::safe_div(x, &x.clone(), &SafeDiv::default()),
        10 => guarded::clamped_log(x, &Default::default()),
        11 => guarded::gelu(x),
        12 => guarded::exp(x),
        _ => guarded::silu(x),
    }
}

/// Runs the in-place form on all rows except the first. The first row must stay unchanged.
fn in_place(case: &Case, base: &Tensor) {
    let Ok(rows) = base.dim(0) else { return };
    let Ok(part) = base.narrow(0, 1, rows.saturating_sub(1)) else { return };
    let before = bits(base);
    let expected = run(case, &part.copy().expect("copying a tensor must succeed"));
    let axis = usize::from(case.axis % 6);
    let softmax = Softmax::default().scale(case.scale);
    let outcome = match case.op % 14 {
        0 => guarded::softmax_in_place(&part, axis, &softmax),
        1 => guarded::log_softmax_in_place(&part, axis, &softmax),
        3 => guarded::rms_norm_in_place(&part, None, &RmsNorm::default()),
        4 => guarded::layer_norm_in_place(&part, None, None, &LayerNorm::default()),
        5 => guarded::l2_normalize_in_place(&part, axis, &L2Normalize::default()),
        10 => guarded::clamped_log_in_place(&part, &Default::default()),
        11 => guarded::gelu_in_place(&part),
        12 => guarded::exp_in_place(&part),
        13 => guarded::silu_in_place(&part),
        _ => return,
    };
    let after = bits(base);
    let first = before.len() - part.elem_count();
    match (outcome, expected) {
        (Ok(()), Ok(expected)) => {
            assert_eq!(after[..first], before[..first], "{case:?}: the call must not change rows outside of the view");
            assert_eq!(after[first..], bits(&expected), "{case:?}");
        }
        (Err(_), _) => assert_eq!(after, before, "{case:?}: a call that returns an error must not change the tensor"),
        (Ok(()), Err(error)) => {
            panic!("{case:?}: the in-place form must fail, because the allocating form failed with: {error}")
        }
    }
}

/// Returns the bits of the elements in f64. All NaN get the same bits.
fn bits(x: &Tensor) -> Vec<u64> {
    let values = x.flatten_all().and_then(|x| x.to_dtype(DType::F64)).and_then(|x| x.to_vec1::<f64>());
    let values = values.expect("reading a tensor must succeed");
    values.into_iter().map(|value| if value.is_nan() { f64::NAN } else { value }.to_bits()).collect()
}
