//! Tests of row ops on a CUDA device. Results must have the same bits as on the CPU.

use crate::stream;
use crate::support::generate::{self, Bits};
use evenkeel::cuda::{self, DeviceElement, HeadLayout, HeadsMut, Operand, OperandMut, Rows, RowsMut};
use evenkeel::{LayerNorm, Mask, RmsNorm, Rope, RopeTable, Softmax};
use half::bf16;
use std::sync::Arc;

type Stream = Arc<cuda::cudarc::driver::CudaStream>;

/// Shapes: a single element, sizes around warps and blocks, rows whose size in bytes is or is not a multiple of 16, and
/// row lengths of models.
const SHAPES: [(usize, usize); 9] =
    [(1, 1), (3, 7), (5, 128), (64, 1000), (7, 4096), (33, 4100), (4, 20_000), (3, 40_000), (2, 128_256)];

/// Runs an op of one tensor on the device, and compares the result with the CPU's.
fn compare<E: DeviceElement + Bits>(
    what: &str,
    on_device: impl Fn(&Stream, Rows<'_, E>, RowsMut<'_, E>) -> evenkeel::Result<()>,
    on_cpu: impl Fn(evenkeel::Rows<'_, E>) -> evenkeel::Result<Vec<E>>,
) {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng(&format!("cuda, {what}"));
    for (rows, cols) in SHAPES {
        let x: Vec<E> = generate::bell(&mut rng, rows * cols, 0.0, 3.0);
        let from = stream.clone_htod(&x).unwrap();
        let mut to = stream.clone_htod(&x).unwrap();
        let x_rows = Rows::new(from.as_view(), rows, cols).unwrap();
        let y_rows = RowsMut::new(to.as_view_mut(), rows, cols).unwrap();
        on_device(&stream, x_rows, y_rows).unwrap();
        let expected = on_cpu(evenkeel::Rows::new(&x, rows, cols).unwrap()).unwrap();
        let got = stream.clone_dtoh(&to).unwrap();
        let differs = got.iter().zip(&expected).position(|(a, b)| a.bits() != b.bits());
        assert_eq!(
            differs, None,
            "{what} of {rows}x{cols}: expected the same bits on CUDA as on the CPU, first difference at index \
             {differs:?}"
        );
    }
}

#[test]
fn log_softmax_f32() {
    compare::<f32>(
        "log_softmax",
        |stream, x, y| cuda::log_softmax_into(stream, x, y, &Softmax::default()),
        |x| evenkeel::log_softmax(x, &Softmax::default()),
    );
}

#[test]
fn masked_softmax_bf16() {
    let mask = Mask::window(100).and_causal();
    let (plain, options) = (Softmax::default().scale(0.125).softcap(30.0), Softmax::default());
    let with_mask = options.scale(0.125).softcap(30.0).mask(&mask);
    compare::<bf16>(
        "masked softmax",
        |stream, x, y| cuda::softmax_masked_into(stream, x, y, &cuda::Mask::copy(stream, &mask)?, &plain, None),
        |x| evenkeel::softmax(x, &with_mask),
    );
}

#[test]
fn softmax_backward_f32() {
    compare::<f32>(
        "softmax_backward",
        |stream, x, dx| {
            let (rows, cols) = (dx.rows(), dx.cols());
            let ones = stream.clone_htod(&derivatives(rows * cols)).unwrap();
            let dy = Rows::new(ones.as_view(), rows, cols)?;
            cuda::softmax_backward_into(stream, x, dy, dx, &Softmax::default())
        },
        |x| {
            let dy = derivatives(x.rows() * x.cols());
            evenkeel::softmax_backward(x, evenkeel::Rows::new(&dy, x.rows(), x.cols())?, &Softmax::default())
        },
    );
}

/// Generates numbers that serve as gradients of the results or as weights.
fn derivatives(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37) % 23) as f32 / 7.0 - 1.5).collect()
}

#[test]
fn rms_norm_bf16() {
    let options = RmsNorm::default().eps(1e-6);
    compare::<bf16>(
        "rms_norm",
        |stream, x, y| {
            let weight = stream.clone_htod(&derivatives(y.cols())).unwrap();
            cuda::rms_norm_into(stream, x, Some(Operand::from(weight.as_view())), y, &options)
        },
        |x| {
            let weight = derivatives(x.cols());
            evenkeel::rms_norm(x, &options.weight(&weight))
        },
    );
}

#[test]
fn layer_norm_f32() {
    compare::<f32>(
        "layer_norm",
        |stream, x, y| {
            let weight = stream.clone_htod(&derivatives(y.cols())).unwrap();
            let operands = [Some(Operand::from(weight.as_view())), None];
            cuda::layer_norm_into(stream, x, operands, y, &LayerNorm::default())
        },
        |x| {
            let weight = derivatives(x.cols());
            evenkeel::layer_norm(x, &LayerNorm::default().weight(&weight))
        },
    );
}

#[test]
fn rms_norm_backward_with_that_of_the_weight_f32() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, rms_norm_backward");
    for (rows, cols) in SHAPES {
        let x: Vec<f32> = generate::bell(&mut rng, rows * cols, 0.0, 3.0);
        let (dy, weight) = (derivatives(rows * cols), derivatives(cols));
        let copy = |values: &[f32]| stream.clone_htod(values).unwrap();
        let (x_there, dy_there, weight_there) = (copy(&x), copy(&dy), copy(&weight));
        let (mut dx, mut dweight) = (copy(&x), copy(&weight));
        let of = |there, count| Rows::new(there, count, cols).unwrap();
        cuda::rms_norm_backward_into(
            &stream,
            [of(x_there.as_view(), rows), of(dy_there.as_view(), rows)],
            Some(weight_there.as_view().into()),
            RowsMut::new(dx.as_view_mut(), rows, cols).unwrap(),
            Some(OperandMut::from(dweight.as_view_mut())),
            &RmsNorm::default(),
        )
        .unwrap();
        let (mut expected, mut of_weight) = (x.clone(), weight.clone());
        let rows_of = |values| evenkeel::Rows::new(values, rows, cols).unwrap();
        evenkeel::rms_norm_backward_into(
            rows_of(&x),
            rows_of(&dy),
            evenkeel::RowsMut::new(&mut expected, rows, cols).unwrap(),
            Some((&mut of_weight[..]).into()),
            &RmsNorm::default().weight(&weight),
        )
        .unwrap();
        for (what, got, expected) in [("dx", &dx, &expected), ("dweight", &dweight, &of_weight)] {
            let got = stream.clone_dtoh(got).unwrap();
            assert!(
                got.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits())),
                "{what} of {rows}x{cols}: expected the same bits on CUDA as on the CPU"
            );
        }
    }
}

#[test]
fn rope_bf16() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, rope");
    let (heads, positions, cols) = (12, 40, 128);
    let places: Vec<i64> = (0..positions).collect();
    let x: Vec<bf16> = generate::bell(&mut rng, heads * places.len() * cols, 0.0, 3.0);
    for interleaved in [false, true] {
        let table = RopeTable::new(&places, cols, &Rope::default().interleaved(interleaved)).unwrap();
        let there = cuda::RopeTable::new(&stream, &table).unwrap();
        let from = stream.clone_htod(&x).unwrap();
        let mut to = stream.clone_htod(&x).unwrap();
        let count = x.len() / cols;
        let y = RowsMut::new(to.as_view_mut(), count, cols).unwrap();
        cuda::rope_into(&stream, Rows::new(from.as_view(), count, cols).unwrap(), y, &there).unwrap();
        let expected = evenkeel::rope(evenkeel::Rows::new(&x, count, cols).unwrap(), &table).unwrap();
        let got = stream.clone_dtoh(&to).unwrap();
        assert!(
            got.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits())),
            "rope with interleaved {interleaved}: expected the same bits on CUDA as on the CPU"
        );
    }
}

#[test]
fn heads_at_the_positions_of_their_tokens() {
    let Some(stream) = stream() else { return };
    let mut rng = generate::rng("cuda, heads");
    // Layout of the query heads in the output of a fused projection, which also contains keys and values.
    let layout = HeadLayout { tokens: 37, heads: 6, cols: 128, token_stride: 10 * 128, head_stride: 128 };
    let places: Vec<i64> = (0..4096).collect();
    let ids: Vec<i64> = (0..37).map(|token| token * token * 97 % 4097).collect();
    let x: Vec<bf16> = generate::bell(&mut rng, 37 * 1280, 0.0, 3.0);
    for (rotated, interleaved) in [(128, false), (128, true), (64, false)] {
        let options = Rope::default().interleaved(interleaved);
        let table = RopeTable::new(&places, rotated, &options).unwrap();
        let table = cuda::RopeTable::new(&stream, &table).unwrap();
        let (mut on_device, positions) = (stream.clone_htod(&x).unwrap(), stream.clone_htod(&ids).unwrap());
        let heads = HeadsMut::strided(on_device.as_view_mut(), layout).unwrap();
        cuda::rope_heads_in_place(&stream, heads, &positions.as_view().into(), &table).unwrap();
        let mut expected = x.clone();
        for (token, &id) in ids.iter().enumerate() {
            for head in 0..6 {
                let row = &mut expected[token * 1280 + head * 128..][..rotated];
                if id == 4096 {
                    row.fill(bf16::NAN);
                    continue;
                }
                let table = RopeTable::new(&[id], rotated, &options).unwrap();
                let turned = evenkeel::rope(evenkeel::Rows::new(row, 1, rotated).unwrap(), &table).unwrap();
                row.copy_from_slice(&turned);
            }
        }
        let got = stream.clone_dtoh(&on_device).unwrap();
        assert!(
            got.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits())),
            "rope_heads, {rotated} rotated columns, interleaved {interleaved}: expected the same bits on CUDA as on \
             the CPU"
        );
    }
}
