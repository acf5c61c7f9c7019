//! XLA's CPU compiler has two kinds of minimum and maximum, of which one loses NaN. Nothing here may depend on it.

use evenkeel_pjrt::plugin_path;
use std::process::Command;

#[test]
fn all_tests_in_the_other_mode() {
    const FLAG: &str = "--xla_cpu_enable_fast_min_max=false";
    if std::env::var("XLA_FLAGS").is_ok_and(|flags| flags.contains(FLAG)) {
        return;
    }
    let Some(plugin) = plugin_path() else {
        println!("all_tests_in_the_other_mode: skipped: no PJRT plugin");
        return;
    };
    // The plugin reads its flags once a process; it ends it for one that it does not know.
    let child = Command::new(std::env::current_exe().unwrap())
        .env("XLA_FLAGS", FLAG)
        .env("EVENKEEL_PJRT", plugin)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
