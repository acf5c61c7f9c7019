//! Tests of quantised block formats in GGUF files. Expected results are computed by hand for simple blocks, and by
//! candle's decoder for all other blocks.

use crate::write::{Gguf, Tensor, inspect};
use evenkeel::checkpoint::Stats;
use half::f16;

fn stats(dtype: &'static str, id: u32, elements: u64, bytes: Vec<u8>) -> Stats {
    let file = Gguf::new(vec![(Tensor::new("w", dtype, &[elements], bytes), id)]);
    let inspected = inspect(&file.bytes()).expect("the GGUF file must be valid");
    assert_eq!(inspected[0].dtype, dtype);
    inspected[0].stats.clone().expect("a quantised tensor must have statistics")
}

#[test]
fn plain_blocks_by_hand() {
    let d = f16::from_f32(0.5).to_le_bytes();
    // The values are q / 2 for each q from -16 to 15.
    let bytes: Vec<u8> = d.into_iter().chain((-16i8..16).map(|q| q as u8)).collect();
    let got = stats("Q8_0", 8, 32, bytes);
    assert_eq!((got.min, got.max, got.mean, got.zero), (-8.0, 7.5, -0.25, 1));
    // The values are (q - 8) / 2. Each q from 0 to 15 occurs twice.
    let quants = (0..16u8).map(|q| q | q << 4);
    let got = stats("Q4_0", 2, 32, d.into_iter().chain(quants.clone()).collect());
    assert_eq!((got.min, got.max, got.mean, got.zero), (-4.0, 3.5, -0.25, 2));
    let m = f16::from_f32(10.0).to_le_bytes();
    let got = stats("Q4_1", 3, 32, d.into_iter().chain(m).chain(quants).collect());
    assert_eq!((got.min, got.max, got.mean), (10.0, 17.5, 13.75));
}

/// Checks that a non-finite scale affects only its block.
#[test]
fn scales_that_are_not_finite() {
    let block = |d: f32| f16::from_f32(d).to_le_bytes().into_iter().chain([1; 32]).collect::<Vec<u8>>();
    let got = stats("Q8_0", 8, 96, [block(f32::NAN), block(2.0), block(f32::INFINITY)].concat());
    assert_eq!((got.nan, got.infinite, got.finite, got.mean), (32, 32, 32, 2.0));
}

#[test]
fn as_candle_decodes() {
    use crate::write::normals;
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor as CandleTensor};
    let n = 256 * 40;
    let values: Vec<f32> =
        normals(9, n, 0.05).iter().enumerate().map(|(i, x)| (x * (1 + i % 700) as f64) as f32).collect();
    let tensor = CandleTensor::from_vec(values, n, &Device::Cpu)
        .expect("the test values must fit the shape of the candle tensor");
    for (dtype, id, name) in [
        (GgmlDType::Q4_0, 2, "Q4_0"),
        (GgmlDType::Q4_1, 3, "Q4_1"),
        (GgmlDType::Q5_0, 6, "Q5_0"),
        (GgmlDType::Q5_1, 7, "Q5_1"),
        (GgmlDType::Q8_0, 8, "Q8_0"),
        (GgmlDType::Q2K, 10, "Q2_K"),
        (GgmlDType::Q3K, 11, "Q3_K"),
        (GgmlDType::Q4K, 12, "Q4_K"),
        (GgmlDType::Q5K, 13, "Q5_K"),
        (GgmlDType::Q6K, 14, "Q6_K"),
        (GgmlDType::Q8K, 15, "Q8_K"),
    ] {
        let quantised = QTensor::quantize(&tensor, dtype).expect("candle must quantise to this GGML type");
        let bytes = quantised.data().expect("candle must return the bytes of its quantised tensor").into_owned();
        let decoded = quantised
            .dequantize(&Device::Cpu)
            .and_then(|x| x.to_vec1::<f32>())
            .expect("candle must decode its quantised tensor");
        let plain = Gguf::new(vec![(Tensor::floats("w", "F32", &[n as u64], &wide(&decoded)), 0)]);
        let plain = inspect(&plain.bytes()).expect("the GGUF file must be valid");
        let (got, wanted) =
            (stats(name, id, n as u64, bytes), plain[0].stats.as_ref().expect("an F32 tensor must have statistics"));
        assert_eq!(
            &got, wanted,
            "{name}: the statistics of the tensor must equal the statistics of the values that candle decodes"
        );
    }
}

/// Checks a file that candle wrote: the order of axes, the padding and the metadata.
#[test]
fn as_candle_writes() {
    use candle_core::quantized::gguf_file::{Value, write};
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor as CandleTensor};
    let values: Vec<f32> = (0..3 * 256).map(|i| (i % 256) as f32).collect();
    let tensor = CandleTensor::from_vec(values, (3, 256), &Device::Cpu)
        .expect("the test values must fit the shape of the candle tensor");
    let quantised = |dtype| QTensor::quantize(&tensor, dtype).expect("candle must quantise to this GGML type");
    let (a, b, c) = (quantised(GgmlDType::F16), quantised(GgmlDType::Q6K), quantised(GgmlDType::F32));
    let list = Value::Array(vec![Value::String("a".into()), Value::String("bc".into())]);
    let mut file = std::io::Cursor::new(Vec::new());
    let metadata = [("general.name", &Value::String("x".into())), ("tokens", &list), ("n", &Value::U64(7))];
    write(&mut file, &metadata, &[("a", &a), ("b", &b), ("c", &c)]).expect("candle must write the GGUF file");
    let inspected = inspect(file.get_ref()).expect("the GGUF file must be valid");
    let found: Vec<_> = inspected.iter().map(|one| (one.name.as_str(), one.dtype, one.shape.as_slice())).collect();
    assert_eq!(found, [("a", "F16", &[3, 256][..]), ("b", "Q6_K", &[3, 256]), ("c", "F32", &[3, 256])]);
    for one in &inspected {
        let stats = one.stats.as_ref().expect("a quantised tensor must have statistics");
        assert!(
            (stats.max - 255.0).abs() < 4.0 && (stats.mean - 127.5).abs() < 1.0,
            "{}: expected max 255 and mean 127.5, got {stats:?}",
            one.name
        );
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}
