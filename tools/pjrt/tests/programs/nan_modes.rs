//! XLA's CPU compiler has two implementations of minimum and maximum, one of which drops NaN. No result may depend on
//! the choice.

use evenkeel_pjrt::plugin_path;
use std::process::Command;

const FLAG: &str = "--xla_cpu_enable_fast_min_max=false";

/// Returns whether this process uses the implementation that keeps NaN.
pub fn is_other() -> bool {
    std::env::var("XLA_FLAGS").is_ok_and(|flags| flags.contains(FLAG))
}

#[test]
fn all_tests_in_the_other_mode() {
    if is_other() {
        return;
    }
    let Some(plugin) = plugin_path() else {
        println!("all_tests_in_the_other_mode: skipped: no PJRT plugin");
        return;
    };
    // The plugin reads its flags once per process. It ends the process if a flag is unknown.
    let flags = std::env::var("XLA_FLAGS").unwrap_or_default();
    let child = Command::new(std::env::current_exe().unwrap())
        .env("XLA_FLAGS", format!("{flags} {FLAG}"))
        .env("EVENKEEL_PJRT", plugin)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "the tests must pass with {FLAG}, got:\n{}",
        String::from_utf8_lossy(&child.stdout)
    );
}
