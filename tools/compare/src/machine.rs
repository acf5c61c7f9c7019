//! Facts about the machine and the software of a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the value of each fact by its name. Facts that cannot be determined are omitted.
pub fn facts() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_string(), value);
        }
    };
    fact("CPU", cpu());
    fact("cores", std::thread::available_parallelism().ok().map(|cores| cores.to_string()));
    fact("load at the start", std::fs::read_to_string("/proc/loadavg").ok().map(|load| first_words(&load, 3)));
    fact("system", output("uname", &["-sr"]));
    fact("rustc", output("rustc", &["--version"]));
    fact("commit", commit());
    for (lock, crates) in [("Cargo.lock", &CRATES[..]), ("rten/Cargo.lock", &["rten-vecmath"])] {
        let lock = std::fs::read_to_string(Path::new(HERE).join(lock)).unwrap_or_default();
        for name in crates {
            fact(name, version(&lock, name));
        }
    }
    facts
}

const CRATES: [&str; 5] = ["candle-nn", "candle-transformers", "evenkeel", "llm-samplers", "rayon"];

fn cpu() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let numbers = ["cpu family", "model"].map(|name| field(name).unwrap_or_default());
    Some(format!("{}, family {}, model {}", field("model name")?, numbers[0], numbers[1]))
}

/// Returns the current commit, followed by "with changes" if tracked files differ from it.
fn commit() -> Option<String> {
    let commit = output("git", &["-C", HERE, "rev-parse", "--short=12", "HEAD"])?;
    let changed = output("git", &["-C", HERE, "status", "--porcelain", "--untracked-files=no"]);
    Some(if changed.is_none() { commit } else { format!("{commit} with changes") })
}

/// Returns a command's output, or `None` if the command fails or prints nothing.
fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    (!text.is_empty()).then_some(text)
}

fn first_words(text: &str, count: usize) -> String {
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

/// Returns a crate's version from a lock file.
fn version(lock: &str, name: &str) -> Option<String> {
    let rest = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?.1;
    Some(rest.split_once('"')?.0.to_string())
}
