//! Tests that results have the same bits on every instruction set, whatever the number of threads.

use crate::program::Apply;
use evenkeel::simd::Level;
use safetensors::Dtype;
use serde_json::{Value, json};

/// Shape large enough for rows to be distributed over threads.
const SHAPE: [usize; 3] = [4, 64, 510];

/// Generates irregular numbers. Regular numbers could have the same sum in every order.
fn values() -> Vec<f64> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 20) - 8.0
    };
    (0..SHAPE.iter().product()).map(|_| next()).collect()
}

fn apply(dtype: Dtype, values: &[f64]) -> Apply {
    let [batch, rows, cols] = SHAPE;
    Apply::new()
        .floats("x", dtype, &SHAPE, values)
        .floats("logits", dtype, &[batch * rows, cols], values)
        .floats("weight", Dtype::F32, &[cols], &values[..cols])
        .bytes("keep", Dtype::BOOL, &[cols], &values[..cols].iter().map(|v| u8::from(*v > -6.0)).collect::<Vec<_>>())
        .integers("positions", &[rows], &(0..rows as i64).map(|i| i * 1_000_003).collect::<Vec<_>>())
}

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {
        fn elementwise() -> Vec<Value> {
            vec![$(json!([stringify!($name), {"x": "x"}, {}, ["y"]]),)*]
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

fn jobs() -> Vec<Value> {
    let mut jobs = elementwise();
    jobs.extend([
        json!(["softmax", {"x": "x", "mask": "keep"}, {"causal": true, "scale": 0.125}, ["y"]]),
        json!(["softmax", {"x": "x"}, {"axis": 1, "softcap": 30}, ["y"]]),
        json!(["log_softmax", {"x": "x"}, {"axis": 0}, ["y"]]),
        json!(["logsumexp", {"x": "x"}, {}, ["y"]]),
        json!(["rms_norm", {"x": "x", "weight": "weight", "residual": "x"}, {}, ["y", "residual"]]),
        json!(["layer_norm", {"x": "x", "weight": "weight", "bias": "weight"}, {}, ["y"]]),
        json!(["rms_norm", {"x": "x", "weight": "weight", "dy": "x"}, {}, ["dx", "dweight"]]),
        json!(["layer_norm", {"x": "x", "weight": "weight", "bias": "weight", "dy": "x"}, {}, ["dx", "dweight", "dbias"]]),
        json!(["group_norm", {"x": "x"}, {"groups": 8}, ["y"]]),
        json!(["l2_normalize", {"x": "x"}, {"axis": 1}, ["y"]]),
        json!(["rope", {"x": "x", "positions": "positions"}, {}, ["y"]]),
        json!(["inspect", {"x": "x"}, {}, ["stats"]]),
        json!(["sample", {"logits": "logits"}, {"top_k": 50, "top_p": 0.9, "min_p": 0.01, "temperature": 0.7, "draws": 4},
               ["probs", "tokens", "logprobs"]]),
    ]);
    jobs
}

/// Compares the bytes that `apply` writes with every instruction set and several numbers of threads.
fn threads_and_instruction_sets_do_not_show(dtype: Dtype) {
    let values = values();
    let alone = apply(dtype, &values).argument("--simd").argument("portable").argument("--threads").argument("1");
    let alone = alone.run(&jobs()).all_ok().out;
    for level in Level::ALL.iter().copied().filter(|level| level.is_available()) {
        for threads in ["1", "2", "7"] {
            let apply = apply(dtype, &values).argument("--simd").argument(level.name());
            let out = apply.argument("--threads").argument(threads).run(&jobs()).all_ok().out;
            assert!(
                out == alone,
                "{dtype}: `apply --simd {level} --threads {threads}` must write the same bytes as `--simd portable \
                 --threads 1`"
            );
        }
    }
    assert!(
        apply(dtype, &values).run(&jobs()).all_ok().out == alone,
        "{dtype}: `apply` without options must write the same bytes as `apply --simd portable --threads 1`"
    );
}

/// Defines a test for each type, so that the tests of several types run in parallel.
macro_rules! tests_of_dtypes {
    ($($test:ident: $dtype:ident),*) => {$(
        #[test]
        fn $test() {
            threads_and_instruction_sets_do_not_show(Dtype::$dtype);
        }
    )*};
}

tests_of_dtypes!(
    threads_and_instruction_sets_do_not_show_in_f64: F64,
    threads_and_instruction_sets_do_not_show_in_f32: F32,
    threads_and_instruction_sets_do_not_show_in_f16: F16,
    threads_and_instruction_sets_do_not_show_in_bf16: BF16
);
