//! Fuzz target for all ops, with arbitrary bits as operands. The ops come from the registry, so an op without support
//! in [`Call`] fails here.

#![no_main]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/support/call.rs"]
mod call;

use arbitrary::{Arbitrary, Unstructured};
use call::{Call, Operands, run};
use evenkeel::Element;
use evenkeel::simd::{Level, with_level};
use half::{bf16, f16};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Unstructured::new(data);
    let Ok(call) = Call::arbitrary(&mut bytes) else { return };
    let bits = bytes.take_rest();
    match call.dtype % 4 {
        0 => check(&call, &elements(bits, f64::from_le_bytes)),
        1 => check(&call, &elements(bits, f32::from_le_bytes)),
        2 => check(&call, &elements(bits, f16::from_le_bytes)),
        _ => check(&call, &elements(bits, bf16::from_le_bytes)),
    }
});

fn elements<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

fn check<E: Element>(call: &Call, data: &[E]) {
    let (rows, cols) = (usize::from(call.rows % 5), usize::from(call.cols));
    if data.is_empty() {
        return;
    }
    // `x` repeats the data until the shape is filled. `dy`, the gradient of the result, is `x` in reverse order.
    let x: Vec<E> = data.iter().copied().cycle().take(rows * cols).collect();
    let dy: Vec<E> = x.iter().rev().copied().collect();
    let operands = Operands::new(&x, &dy, rows, cols);
    let outcome = || run(call, &operands);
    let level = Level::ALL[usize::from(call.level) % 3];
    let first = outcome();
    if level.is_available() {
        let Ok(second) = with_level(level, outcome) else { return };
        assert_eq!(
            first, second,
            "{call:?}: the outcome with {level} must equal the outcome with the default instruction set"
        );
    }
}
