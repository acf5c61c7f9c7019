//! Compiles every kernel as C++ under the emulator's header. No contraction: what is fused is written so.

use std::path::Path;

fn main() {
    let kernels = Path::new("../../src/cuda/kernels");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .include("emulator")
        .flag("-ffp-contract=off")
        .flag("-Wno-unknown-pragmas");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        build.flag("-mfma").flag("-mf16c");
    }
    for entry in kernels.read_dir().expect("the kernels' folder").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            let stem = path.file_stem().expect("a kernel's name").to_string_lossy();
            let copy = Path::new(&std::env::var_os("OUT_DIR").expect("set by cargo")).join(format!("{stem}.cpp"));
            std::fs::write(&copy, format!("#include \"{}\"\n", path.canonicalize().expect("a path").display()))
                .expect("written beside other outputs");
            build.file(copy);
        }
    }
    build.file("emulator/emulator.cpp");
    // Kernels are found by the entries that register themselves: none of them is left out for not being called.
    build.link_lib_modifier("+whole-archive");
    build.compile("kernels");
    println!("cargo:rerun-if-changed=../../src/cuda/kernels");
    println!("cargo:rerun-if-changed=emulator");
}
