//! Runs this program under callgrind, and sums the counts in callgrind's output.

use crate::cases::{Case, ELEMENTS, MARKER};
use crate::error::{Error, Result};
use evenkeel::simd::Level;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns the number of instructions per element of each case, for an instruction set.
pub fn per_element(level: Level) -> Result<Vec<f64>> {
    let failed = |reason: String| Error::Program { program: "valgrind", reason };
    let folder = tempfile::tempdir().map_err(|source| Error::file(&std::env::temp_dir(), source))?;
    let program = std::env::current_exe().map_err(|source| Error::file(Path::new("this program"), source))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--dump-before={MARKER}"))
        .arg(format!("--callgrind-out-file={}", folder.path().join("counts").display()))
        .arg(program)
        .arg("run")
        .env("EVENKEEL_SIMD", level.name())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    // Callgrind writes a part of its output at each marker. The parts alternate between the code before a call and the
    // call itself.
    let expected = Case::all().count();
    let part = |case: usize| folder.path().join(format!("counts.{}", 2 * case + 2));
    let parts: Vec<_> = (0..expected).map(part).filter(|path| path.exists()).collect();
    if parts.len() != expected {
        return Err(Error::Counts { found: parts.len(), expected });
    }
    let count = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).map_err(|source| Error::file(path, source))?;
        Ok(instructions(&text) as f64 / ELEMENTS as f64)
    };
    parts.iter().map(count).collect()
}

/// Call of one function by another, in callgrind's output.
struct Arc<'t> {
    caller: &'t str,
    callee: &'t str,
    /// Number of instructions of the callee and of all functions that it calls.
    cost: u64,
}

fn arcs(text: &str) -> Vec<Arc<'_>> {
    let (mut arcs, mut caller, mut callee, mut called) = (Vec::new(), "", "", false);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            caller = function;
        } else if let Some(function) = line.strip_prefix("cfn=") {
            callee = function;
        } else if line.starts_with("calls=") {
            called = true;
        } else if called {
            // The line after `calls=` holds the cost of the call.
            let cost = line.split(' ').next_back().and_then(|count| count.parse().ok()).unwrap_or(0);
            arcs.push(Arc { caller, callee, cost });
            called = false;
        }
    }
    arcs
}

/// Sums the instructions of the functions that are compiled for an instruction set, including their callees. Such a
/// function may call another one through a function that is compiled for every CPU. Only the outermost call counts.
fn instructions(text: &str) -> u64 {
    let arcs = arcs(text);
    let mut inner: HashSet<&str> = HashSet::new();
    let mut next: Vec<&str> = arcs.iter().map(|arc| arc.callee).filter(|callee| is_of_a_level(callee)).collect();
    while let Some(function) = next.pop() {
        if inner.insert(function) {
            next.extend(arcs.iter().filter(|arc| arc.caller == function).map(|arc| arc.callee));
        }
    }
    let outermost = arcs.iter().filter(|arc| is_of_a_level(arc.callee) && !inner.contains(arc.caller));
    outermost.map(|arc| arc.cost).sum()
}

fn is_of_a_level(function: &str) -> bool {
    let is_of = |level: &Level| {
        function.contains(&format!("evenkeel::simd::{level}::")) || function.ends_with(&format!("Kernel>::run_{level}"))
    };
    Level::ALL.iter().any(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_kernels_count_with_what_they_call() {
        const KERNEL: &str = "<evenkeel::cpu::Exp as evenkeel::simd::level::Kernel>::run_avx2";
        let text = format!(
            "fn=codegen_check::call::run::<f32>\n10 1000\ncfn=allocate\ncalls=1 0\n10 70\ncfn={KERNEL}\ncalls=1 0\n10 \
             500\nfn={KERNEL}\n11 7\ncfn=fma\ncalls=5 0\n11 400\ncfn=rows\ncalls=1 0\n12 93\nfn=rows\n8 \
             13\ncfn=<evenkeel::simd::avx2::F32 as core::ops::Add>::add\ncalls=5 0\n9 80\nfn=fma\n0 400\n"
        );
        assert_eq!(instructions(&text), 500);
    }
}
