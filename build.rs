//! Checks that the software for building the features `mpi` and `candle-cuda` is installed. If it is missing, the build
//! fails with a message that says what to install. Without these checks, the build would fail later, in another crate
//! or in the program, with an unhelpful message.

use std::env;
use std::path::Path;
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in ["MPICC", "MPI_PKG_CONFIG", "CRAY_MPICH_DIR", "NVCC", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // The checks are skipped on Windows, where MPI is not found through mpicc or pkg-config.
    if cfg!(windows) {
        return;
    }
    let is_enabled = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let missing = [is_enabled("MPI").then(mpi).flatten(), is_enabled("CANDLE_CUDA").then(nvcc).flatten()];
    for message in missing.iter().flatten() {
        eprintln!("evenkeel: {message}");
    }
    if missing.iter().any(Option::is_some) {
        eprintln!(
            "evenkeel: the feature `full` enables all features except those that need MPI or CUDA to be installed"
        );
        exit(1);
    }
}

/// Returns a message if there is no MPI library.
fn mpi() -> Option<String> {
    let wrapper = env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    let is_known =
        |name| Command::new("pkg-config").args(["--exists", name]).status().is_ok_and(|status| status.success());
    let is_set = |variable: &str| env::var_os(variable).is_some();
    let is_there = is_set("MPI_PKG_CONFIG")
        || is_set("CRAY_MPICH_DIR")
        || runs(&wrapper, "-show")
        || is_known("mpich")
        || is_known("ompi");
    (!is_there).then(|| {
        format!(
            "the feature `mpi` needs an MPI library with its headers, but neither `{wrapper}` nor an MPI library known \
             to pkg-config was found. On Debian and Ubuntu: apt-get install libopenmpi-dev openmpi-bin libclang-dev. \
             Elsewhere, set MPICC to the path of mpicc."
        )
    })
}

/// Returns a message if there is no CUDA compiler. Searches the same places as candle's build.
fn nvcc() -> Option<String> {
    let is_file = |folder: &Path| folder.join("bin/nvcc").exists();
    let is_there = env::var_os("NVCC").is_some_and(|path| Path::new(&path).exists())
        || runs("nvcc", "--version")
        || env::var_os("CUDA_HOME").is_some_and(|folder| is_file(Path::new(&folder)))
        || ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].iter().any(|folder| is_file(Path::new(folder)));
    (!is_there).then(|| {
        "the feature `candle-cuda` builds candle's CUDA kernels with the compiler `nvcc`, which was not found. Install \
         the CUDA toolkit, and set NVCC or CUDA_HOME if nvcc is not on the PATH."
            .into()
    })
}

/// Returns whether a program can be started.
fn runs(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok()
}
