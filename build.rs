//! What is to be installed for the feature `mpi`, before the bindings' own build, which doesn't say it, fails.

use std::env;
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MPICC");
    // On Windows there is one MPI only, which is found in other ways.
    if env::var_os("CARGO_FEATURE_MPI").is_none() || cfg!(windows) {
        return;
    }
    let wrapper = env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    let answers = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).output().is_ok();
    let is_known =
        |name| Command::new("pkg-config").args(["--exists", name]).status().is_ok_and(|status| status.success());
    if !answers(&wrapper, &["-show"]) && !is_known("mpich") && !is_known("openmpi") {
        eprintln!(
            "evenkeel: the feature `mpi` needs an MPI library with its headers, and there is neither {wrapper} nor one that pkg-config knows."
        );
        eprintln!(
            "On Debian and Ubuntu: apt-get install libopenmpi-dev openmpi-bin libclang-dev. Elsewhere set MPICC to the wrapper's path."
        );
        exit(1);
    }
}
