//! Tests that make each library call fail, one at a time: nothing leaks, and each fault is reported.

#![forbid(unsafe_code)]

use crate::standin::{Standin, alone, bytes, device, floats, neff, spec};
use evenkeel::neuron::{Action, ElementType, Fault, NrtStatus, Result};

fn add(_: &str, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> i32 {
    let sum: Vec<f32> = floats(inputs[0]).iter().zip(floats(inputs[1])).map(|(a, b)| a + b).collect();
    outputs[0].copy_from_slice(&bytes(&sum));
    outputs[1].fill(1);
    0
}

/// Returns the number of threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count())
}

/// Loads a program, runs it twice, and frees it.
fn work() -> Result<()> {
    let x = || spec(ElementType::F32, &[4]);
    let (inputs, outputs) = ([x(), x()], [x(), spec(ElementType::U8, &[])]);
    let mut loaded = device().load_neff("add", neff("add", &inputs, &outputs), &inputs, &outputs)?;
    for _ in 0..2 {
        let sums = loaded.run(&[&bytes(&[1.0, 2.0, 3.0, 4.0]), &bytes(&[0.5; 4])])?;
        assert_eq!((floats(&sums[0]), &sums[1][..]), (vec![1.5, 2.5, 3.5, 4.5], &[1][..]));
    }
    Ok(())
}

#[test]
fn faults_at_every_call_leave_nothing_behind() {
    if !alone("faults::faults_at_every_call_leave_nothing_behind", &[]) {
        return;
    }
    let standin = Standin::new(add);
    device();
    let before = standin.calls();
    work().unwrap();
    standin.is_left_clean();
    let (calls, threads_before, mut rounds) = (standin.calls() - before, threads(), 0);
    // Each status is tried at every call, because the effect of a fault depends on the calls before and after it.
    for status in
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 1002, 1003, 1004, 1005, 1006, 1100, 1200, 1204, 1205, -5]
    {
        for call in 0..calls {
            standin.fail("", call, 1, status);
            let outcome = work();
            assert_eq!(standin.failures_left(), 0, "call {call} of the fake runtime must fail with status {status}");
            match outcome {
                // The work may succeed despite a fault, because the crate repeats two kinds of failed calls: calls that
                // free an object, and runs that failed with status 7.
                Ok(()) => assert!(
                    call >= calls - 2 || status == 7,
                    "status {status} at call {call} of the runtime must be reported as an error"
                ),
                Err(Fault::Numerical { .. }) => assert_eq!(status, 1003),
                Err(fault @ Fault::Status { status: output, at_work, .. }) => {
                    assert_eq!(output, NrtStatus(status));
                    assert!(
                        !at_work || fault.action() != Action::FallBack,
                        "status {status} at call {call}: no fallback is allowed after a fault during a run, got {fault}"
                    );
                    assert_ne!(fault.action(), Action::Retry);
                }
                Err(other) => panic!(
                    "status {status} at call {call} of the runtime: expected an error with this status, got {other}"
                ),
            }
            standin.is_left_clean();
            rounds += 1;
        }
    }
    assert!(rounds >= 500, "the test must try at least 500 pairs of a status and a call, got {rounds}");
    // Several devices run at once, each on its own thread.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| work().unwrap()));
        }
    });
    standin.is_left_clean();
    // A thread that was joined may still be exiting.
    for _ in 0..600 {
        if threads() <= threads_before {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(threads(), threads_before);
}
