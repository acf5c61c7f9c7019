//! Paths of compiled examples.

use std::path::{Path, PathBuf};

/// Returns the path of an example's program, which `cargo test` builds along with the tests.
///
/// `cargo test --test NAME` does not build examples. A program that is older than its sources is therefore rejected:
/// the test would run an outdated version.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test must be known");
    let profile = test.ancestors().nth(2).expect("the running test must be in the folder `deps` of a build profile");
    let program = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let remedy = format!("run `cargo test`, or first `cargo build --profile test --features testing --example {name}`");
    assert!(program.is_file(), "the example's program {} does not exist; {remedy}", program.display());
    let sources = std::fs::read_to_string(program.with_extension("d"))
        .expect("cargo must have written the dependency file of the example");
    // The format is `program: source source ..`; spaces within a path are escaped.
    let sources = sources.replace("\\ ", "\0");
    for source in sources.split_whitespace().skip(1).map(|source| source.replace('\0', " ")) {
        let newer = modified(Path::new(&source)) > modified(&program);
        assert!(!newer, "the example's program {} is older than its source {source}; {remedy}", program.display());
    }
    program
}

fn modified(path: &Path) -> std::time::SystemTime {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    modified.unwrap_or_else(|e| panic!("{}: cannot read the modification time: {e}", path.display()))
}
