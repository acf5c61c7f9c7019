//! Checks that computations outside kernels give the same results in every environment. `tests/digest` makes the same
//! check for its cases.

use crate::calls::calls;
use crate::environment::{Environment, is_default};

#[test]
fn what_is_computed_beside_kernels_is_the_same_in_every_environment() {
    assert!(is_default());
    let calls = calls();
    let mut wrong = Vec::new();
    for (name, call) in &calls {
        let expected = call();
        for environment in Environment::ALL {
            let (got, is_kept) = environment.run(|| (call(), environment.is_set()));
            assert!(is_kept, "{name} must not change the floating-point environment {environment:?}");
            if got != expected {
                let count = got.iter().zip(&expected).filter(|(got, expected)| got != expected).count();
                wrong.push(format!("{name}, {environment:?}: {count} of {} words differ", expected.len()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "each call must return the same bits in each floating-point environment, but {} of {} calls differ: {wrong:#?}",
        wrong.len(),
        calls.len() * Environment::ALL.len()
    );
}

/// Runs all calls in a process with unmasked floating-point exceptions. There, a single operation that rounds in the
/// caller's environment would end the process.
#[cfg(target_arch = "x86_64")]
#[test]
fn no_call_traps_where_the_host_has_unmasked_exceptions() {
    const INSIDE: &str = "EVENKEEL_TEST_TRAPS";
    if std::env::var_os(INSIDE).is_some() {
        for (name, call) in calls() {
            // The last name printed is the name of the call that trapped.
            println!("{name}");
            Environment::Trapping.run(call);
        }
        return;
    }
    let name = "results::no_call_traps_where_the_host_has_unmasked_exceptions";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "no call may trap when floating-point exceptions are unmasked, but the process ended with {} in the call {:?}",
        output.status,
        printed.lines().last()
    );
}
