//! Checks for an MPI library if the feature `mpi` is enabled, and says what to install. Without this check, the build
//! of the MPI bindings would fail with an unhelpful message.

use std::env;
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MPICC");
    // The check is skipped on Windows, where MPI is not found through mpicc or pkg-config.
    if env::var_os("CARGO_FEATURE_MPI").is_none() || cfg!(windows) {
        return;
    }
    let wrapper = env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    let answers = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).output().is_ok();
    let is_known =
        |name| Command::new("pkg-config").args(["--exists", name]).status().is_ok_and(|status| status.success());
    if !answers(&wrapper, &["-show"]) && !is_known("mpich") && !is_known("openmpi") {
        eprintln!(
            "evenkeel: the feature `mpi` needs an MPI library with its headers, and found neither `{wrapper}` nor a library known to pkg-config."
        );
        eprintln!(
            "On Debian and Ubuntu: apt-get install libopenmpi-dev openmpi-bin libclang-dev. Elsewhere, set MPICC to the path of mpicc."
        );
        exit(1);
    }
}
