//! Passes the versions of the tested library, of this program and of CORE-MATH to the program.

#![forbid(unsafe_code)]

use std::process::Command;

/// Returns the output of a git command, or `None` if git fails or prints nothing.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (!text.is_empty()).then_some(text)
}

/// Returns the output of a git command, marked if files in the folder have uncommitted changes.
fn state(folder: &str, name: &[&str]) -> String {
    let Some(name) = git(name) else { return "unknown".into() };
    if git(&["status", "--porcelain", "--", folder]).is_some() { name + " and changes" } else { name }
}

fn manifest(path: &str) -> Result<toml::Table, Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={path}");
    Ok(std::fs::read_to_string(path)?.parse()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../../src");
    println!("cargo::rerun-if-changed=src");
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let library = manifest("../../Cargo.toml")?["package"]["version"]
        .as_str()
        .ok_or("../../Cargo.toml must have a version")?
        .to_string();
    let core_math = manifest("Cargo.toml")?["dependencies"]["core-math"]
        .as_str()
        .ok_or("`Cargo.toml` must have a version of core-math")?
        .to_string();
    println!("cargo::rustc-env=EXHAUSTIVE_EVENKEEL={library}");
    // The library is identified by the last commit that changed it. The program's history does not matter, so the
    // program is identified by the git tree of its sources.
    let commit = state("../../src", &["log", "-1", "--format=%h", "--abbrev=12", "--", "../../src"]);
    let tree = state("src", &["rev-parse", "--short=12", "HEAD:./src"]);
    println!("cargo::rustc-env=EXHAUSTIVE_COMMIT={commit}");
    println!("cargo::rustc-env=EXHAUSTIVE_PROGRAM={tree}");
    println!("cargo::rustc-env=EXHAUSTIVE_CORE_MATH={}", core_math.trim_start_matches('='));
    Ok(())
}
