//! Tests of the check that `scripts/neuron-check` runs on a device: it accepts correct results and detects wrong
//! results.

#![forbid(unsafe_code)]

use crate::standin::{Standin, alone, device, interpret, know};
use evenkeel::neuron::{self, Session};
use evenkeel::{DType, Mask, Softmax};

#[path = "../../examples/neuron_check.rs"]
#[allow(dead_code)]
mod neuron_check;

/// Interprets the program, and flips one bit of its first output.
fn damaged(program: &str, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> i32 {
    let status = interpret(program, inputs, outputs);
    outputs[0][3] ^= 1;
    status
}

#[test]
fn the_first_look_tells_good_devices_from_others() {
    if !alone("first_look::the_first_look_tells_good_devices_from_others", &[]) {
        return;
    }
    let standin = Standin::new(interpret);
    let keep = [1; 32 * 64];
    let mask = Mask::none().and_keep(&keep, &[32, 64]);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        know(&neuron::softmax(dtype, 32, 64, &Softmax::default().mask(&mask)).unwrap());
    }
    for dtype in [DType::F32, DType::BF16] {
        know(&neuron::sample(dtype, 6, 4, 2, None).unwrap());
    }
    let session = Session::new(device());
    assert!(neuron_check::agrees(&session));
    let _damaged = Standin::new(damaged);
    assert!(!neuron_check::agrees(&session));
    drop(session);
    standin.is_left_clean();
}
