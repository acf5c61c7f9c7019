//! Builds the tests of a copy of the repository whose source files contain mutants.

use crate::mutate::{Mutant, mutate};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Module that is added to the library: the number of the active mutant. A function that runs before `main` reads the
/// number, so that a kernel only loads it.
const SELECTION: &str = r#"
use std::sync::atomic::{AtomicU32, Ordering};
static ACTIVE: AtomicU32 = AtomicU32::new(0);
#[inline(always)]
pub fn active() -> u32 { ACTIVE.load(Ordering::Relaxed) }
extern "C" fn select() {
    let number = std::env::var("EVENKEEL_MUTANT").ok().and_then(|text| text.parse().ok());
    ACTIVE.store(number.unwrap_or(0), Ordering::Relaxed);
}
#[used]
#[unsafe(link_section = ".init_array")]
static SELECT: extern "C" fn() = select;
"#;

/// File in the build's folder that describes the build.
const SAVED: &str = "target/build.json";

/// A build that contains every viable mutant.
#[derive(Deserialize, Serialize)]
pub struct Build {
    pub mutants: Vec<Mutant>,
    pub unviable: HashSet<u32>,
    /// Test programs by name.
    pub programs: BTreeMap<String, PathBuf>,
    pub folder: PathBuf,
}

/// Copies the tracked files of the repository at `root` to `folder`, adds mutants to `files`, and builds the tests.
/// Mutants that do not compile are removed until the build succeeds.
pub fn build(root: &Path, folder: &Path, files: &[String]) -> Result<Build> {
    copy(root, folder)?;
    std::fs::create_dir_all(folder.join("target"))?;
    let lib = folder.join("src/lib.rs");
    std::fs::write(&lib, std::fs::read_to_string(&lib)? + "\nmod mutant;\n")?;
    std::fs::write(folder.join("src/mutant.rs"), SELECTION)?;
    let mut unviable = HashSet::new();
    loop {
        let mutants = mutants(root, files, &unviable, |file, text| Ok(std::fs::write(folder.join(file), text)?))?;
        // A check finds almost all errors, and is much faster than a build.
        let found = match cargo(folder, &["check", "--profile", "test", "--lib"])? {
            Output::Errors(found) => found,
            Output::Programs(_) => match cargo(folder, &["test", "--no-run"])? {
                Output::Errors(found) => found,
                Output::Programs(programs) => {
                    let build = Build { mutants, unviable, programs, folder: folder.to_owned() };
                    std::fs::write(folder.join(SAVED), serde_json::to_string(&build)?)?;
                    return Ok(build);
                }
            },
        };
        eprintln!("{} mutants do not compile", found.len());
        ensure!(found.iter().any(|number| !unviable.contains(number)), "the same mutants fail again");
        unviable.extend(found);
    }
}

/// Reads the description of the last build in `folder`.
pub fn last_build(folder: &Path) -> Result<Build> {
    let text = std::fs::read_to_string(folder.join(SAVED)).context("there is no earlier build")?;
    Ok(serde_json::from_str(&text)?)
}

/// Adds all mutants to `files`, except those in `unviable`, and passes each new text to `write`.
pub fn mutants(
    root: &Path,
    files: &[String],
    unviable: &HashSet<u32>,
    write: impl Fn(&str, String) -> Result<()>,
) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(root.join(file)).with_context(|| file.clone())?;
        let (text, new) = mutate(file, &text, 1 + mutants.len() as u32, unviable).with_context(|| file.clone())?;
        write(file, text)?;
        mutants.extend(new);
    }
    Ok(mutants)
}

fn copy(root: &Path, folder: &Path) -> Result<()> {
    let files = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output()?;
    ensure!(files.status.success(), "git ls-files failed");
    for file in String::from_utf8(files.stdout)?.split_terminator('\0') {
        let (from, to) = (root.join(file), folder.join(file));
        std::fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        let text = std::fs::read(&from).with_context(|| file.to_owned())?;
        // Unchanged files keep their time, so that Cargo does not build them again.
        if std::fs::read(&to).ok().as_ref() != Some(&text) {
            std::fs::write(to, text)?;
        }
    }
    Ok(())
}

enum Output {
    Programs(BTreeMap<String, PathBuf>),
    /// Numbers of the mutants that contain an error.
    Errors(HashSet<u32>),
}

fn cargo(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new("cargo")
        .args(arguments)
        .args(["-p", "evenkeel", "-p", "evenkeel-tests", "--features", "evenkeel/full", "--message-format", "json"])
        .args(["--test", "ops", "--test", "digest", "--test", "sharded"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("RUSTFLAGS", "--cap-lints allow")
        .stderr(Stdio::inherit())
        .output()?;
    let mut programs = BTreeMap::new();
    let mut errors = HashSet::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        if let Some(program) = message["executable"].as_str() {
            let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
            let name = if kind == "test" { message["target"]["name"].as_str().unwrap_or_default() } else { kind };
            programs.insert(name.to_owned(), PathBuf::from(program));
        }
        if message["message"]["level"] == "error" {
            let numbers = mutants_at(folder, &message["message"])?;
            if numbers.is_empty() && message["message"]["code"]["code"].is_string() {
                bail!("{}", message["message"]["rendered"].as_str().unwrap_or_default());
            }
            errors.extend(numbers);
        }
    }
    ensure!(output.status.success() || !errors.is_empty(), "cargo {arguments:?} failed");
    Ok(if errors.is_empty() { Output::Programs(programs) } else { Output::Errors(errors) })
}

/// Returns the mutants at the locations of a compiler error: the last number at or above each location.
fn mutants_at(folder: &Path, message: &Value) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for span in message["spans"].as_array().into_iter().flatten().filter(|span| span["is_primary"] == true) {
        let (Some(file), Some(line)) = (span["file_name"].as_str(), span["line_start"].as_u64()) else { continue };
        let text = std::fs::read_to_string(folder.join(file))?;
        let number = text.lines().take(line as usize).collect::<Vec<_>>().into_iter().rev().find_map(number_in);
        numbers.extend(number);
    }
    Ok(numbers)
}

/// Returns the number of the last mutant that a line of generated code selects.
fn number_in(line: &str) -> Option<u32> {
    let (before, _) = line.rsplit_once("u32")?;
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    before[before.len() - digits..].parse().ok()
}
