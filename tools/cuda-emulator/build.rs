//! Compiles every kernel as C++ with the emulator's header. FMA contraction is off, because the kernels call fma
//! explicitly.

use std::path::Path;

fn main() {
    let kernels = Path::new("../../src/cuda/kernels");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .include("emulator")
        .flag("-ffp-contract=off")
        .flag("-Wno-unknown-pragmas")
        // Parameters that only device code uses are unused here.
        .flag("-Wno-unused-parameter");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        build.flag("-mfma").flag("-mf16c");
    }
    for entry in kernels.read_dir().expect("the folder src/cuda/kernels must be readable").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            let stem = path.file_stem().expect("the .cu file of a kernel must have a name").to_string_lossy();
            let copy = Path::new(&std::env::var_os("OUT_DIR").expect("cargo must set the variable `OUT_DIR`"))
                .join(format!("{stem}.cpp"));
            std::fs::write(
                &copy,
                format!(
                    "#include \"{}\"\n",
                    path.canonicalize().expect("the .cu file of a kernel must exist").display()
                ),
            )
            .expect("the folder `OUT_DIR` must be writable");
            build.file(copy);
        }
    }
    build.file("emulator/emulator.cpp");
    // Kernels register themselves in static initialisers, and nothing references their object files. Without
    // `+whole-archive`, the linker would drop these files.
    build.link_lib_modifier("+whole-archive");
    build.compile("kernels");
    println!("cargo:rerun-if-changed=../../src/cuda/kernels");
    println!("cargo:rerun-if-changed=emulator");
}
