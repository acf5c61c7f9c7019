//! Runs this program under callgrind, and sums the counts in callgrind's output.

use crate::cases::{Case, ELEMENTS, MARKER};
use crate::error::{Error, Result};
use evenkeel::simd::Level;
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

/// Sums the instructions of all functions that are compiled for an instruction set, including their callees. A callee
/// that is itself compiled for an instruction set is counted only once.
fn instructions(text: &str) -> u64 {
    let (mut counted, mut callee_counted, mut called, mut sum) = (false, false, false, 0);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            counted = is_of_a_level(function);
        } else if let Some(callee) = line.strip_prefix("cfn=") {
            callee_counted = is_of_a_level(callee);
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            // The line after `calls=` holds the inclusive cost of the called function.
            let taken: u64 = line.split(' ').next_back().and_then(|count| count.parse().ok()).unwrap_or(0);
            sum += if counted && !(called && callee_counted) { taken } else { 0 };
            called = false;
        }
    }
    sum
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
    fn kernels_and_what_they_call_count() {
        let text = "fn=codegen_check::call::run::<f32>\n10 1000\ncfn=kernel\ncalls=1 0\n10 70\n\
                    fn=<evenkeel::cpu::Exp as evenkeel::simd::level::Kernel>::run_avx2\n11 7\n\
                    cfn=fma\ncalls=5 0\n11 400\n12 8\n\
                    cfn=<evenkeel::simd::avx2::F32 as core::ops::Add>::add\ncalls=5 0\n11 50\n\
                    fn=<evenkeel::simd::avx2::F32 as core::ops::Add>::add\n9 50\nfn=fma\n0 400\n";
        assert_eq!(instructions(text), 7 + 400 + 8 + 50);
    }
}
