//! Where examples lie as programs.

use std::path::{Path, PathBuf};

/// An example's program, which `cargo test` builds beside the tests.
///
/// `cargo test --test NAME` does not build examples, so one that is older than its sources is refused: it would be
/// tested for what it once was.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("a test lies in the profile's folder deps");
    let program = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let remedy = format!("run `cargo test`, or `cargo build --example {name}` before");
    assert!(program.is_file(), "{} is not there: {remedy}", program.display());
    let sources = std::fs::read_to_string(program.with_extension("d")).expect("cargo lists an example's sources");
    // `program: source source ..`, with spaces within a path escaped.
    let sources = sources.replace("\\ ", "\0");
    for source in sources.split_whitespace().skip(1).map(|source| source.replace('\0', " ")) {
        let newer = modified(Path::new(&source)) > modified(&program);
        assert!(!newer, "{} is older than {source}: {remedy}", program.display());
    }
    program
}

fn modified(path: &Path) -> std::time::SystemTime {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    modified.unwrap_or_else(|e| panic!("{} has no time of change: {e}", path.display()))
}
