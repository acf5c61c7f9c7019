//! Reads the machine code of this program: what the kernels call, which registers they use, and what of them was left
//! outside.
//!
//! A kernel is compiled for its instruction set, and so is all that is inlined into it. What is not is compiled for the
//! target's least: its vectors go through memory, and each of its instructions is a function.

use crate::error::{Error, Result};
use std::path::Path;
use std::process::Command;

/// An instruction set: its name, the type that stands for it, the end of the names of its kernels, and the registers that
/// it has.
struct Set {
    name: &'static str,
    token: &'static str,
    entry: &'static str,
    register: &'static str,
}

const SETS: [Set; 2] = [
    Set { name: "avx512", token: "evenkeel::simd::avx512::Avx512", entry: "Kernel>::run_avx512", register: "%zmm" },
    Set { name: "avx2", token: "evenkeel::simd::avx2::Avx2", entry: "Kernel>::run_avx2", register: "%ymm" },
];

/// What knows an instruction set and may be outside of kernels: what looks for it, and the sampler's work on single
/// candidates.
const OUTSIDE: [&str; 2] = [">::detect", "evenkeel::cpu::sample::"];

/// A function of this program, with its instructions.
struct Function<'t> {
    name: &'t str,
    instructions: Vec<&'t str>,
}

/// Whether every kernel is whole.
pub fn check() -> Result<bool> {
    let code = disassembly()?;
    let functions = functions(&code);
    let found: Vec<String> = functions.iter().flat_map(lost).collect();
    for line in &found {
        println!("{line}");
    }
    for set in SETS {
        let kernels = functions.iter().filter(|function| function.is_kernel(&set)).count();
        if kernels == 0 {
            return Err(Error::NoNames);
        }
        println!("{}: {kernels} kernels", set.name);
    }
    println!("{} losses", found.len());
    Ok(found.is_empty())
}

impl Function<'_> {
    fn is_kernel(&self, set: &Set) -> bool {
        self.name.ends_with(set.entry)
    }

    /// The functions that it calls or jumps to.
    fn calls(&self) -> impl Iterator<Item = &str> {
        let is_jump = |line: &&&str| line.starts_with("call") || line.starts_with("jmp");
        self.instructions.iter().filter(is_jump).filter_map(|line| line.split_once('<').map(|(_, name)| name))
    }
}

/// What is wrong with a function.
fn lost(function: &Function<'_>) -> Vec<String> {
    let name = function.name;
    if let Some(set) = SETS.iter().find(|set| function.is_kernel(set)) {
        let calls = function.calls().filter(|call| ["fma", "fma@", "fmaf", "fmaf@"].iter().any(|fma| is(call, fma)));
        let mut found: Vec<String> = calls.map(|call| format!("{name} calls {call}")).collect();
        if !function.instructions.iter().any(|line| line.contains(set.register)) {
            found.push(format!("{name} does not use {}", set.register));
        }
        return found;
    }
    let is_part = SETS.iter().any(|set| name.contains(set.token)) && !OUTSIDE.iter().any(|part| name.contains(part));
    let is_instruction =
        name.contains("core_arch::x86::") && !["xsave", "cpuid"].iter().any(|part| name.contains(part));
    if is_part || is_instruction { vec![format!("{name} is a function of its own")] } else { Vec::new() }
}

/// Whether a call, as written behind `<`, is of this function; `fma@` stands for any version of it.
fn is(call: &str, name: &str) -> bool {
    call.strip_prefix(name).is_some_and(|rest| name.ends_with('@') || rest.starts_with(['>', '+']))
}

fn disassembly() -> Result<String> {
    let failed = |reason: String| Error::Program { program: "objdump", reason };
    let program = std::env::current_exe().map_err(|source| Error::file(Path::new("this program"), source))?;
    let output = Command::new("objdump")
        .args(["--disassemble", "--demangle", "--no-show-raw-insn", "--no-addresses", "--section=.text"])
        .arg(program)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The functions: lines that end in `>:`, with their instructions below.
fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found: Vec<Function<'_>> = Vec::new();
    for line in code.lines() {
        if let Some(name) = line.strip_prefix('<').and_then(|line| line.strip_suffix(">:")) {
            found.push(Function { name, instructions: Vec::new() });
        } else if let Some(function) = found.last_mut() {
            function.instructions.push(line.trim_start());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<String> {
        functions(code).iter().flat_map(lost).collect()
    }

    #[test]
    fn what_is_lost_is_told() {
        let kernel = "<evenkeel::cpu::Exp as evenkeel::simd::level::Kernel>::run_avx512";
        assert_eq!(found(&format!("<{kernel}>:\n\tvaddps %zmm1,%zmm2,%zmm3\n\tcall   <memcpy@plt>\n")), [""; 0]);
        assert_eq!(
            found(&format!("<{kernel}>:\n\tvaddps %ymm1,%ymm2,%ymm3\n")),
            [format!("{kernel} does not use %zmm")]
        );
        let call = "call   *0x45a(%rip)        # <fmaf@GLIBC_2.2.5>";
        let calls = found(&format!("<{kernel}>:\n\tvaddps %zmm1,%zmm2,%zmm3\n\t{call}\n"));
        assert_eq!(calls, [format!("{kernel} calls fmaf@GLIBC_2.2.5>")]);
        for name in ["core::core_arch::x86::avx::_mm256_set1_pd", "f::<evenkeel::simd::avx2::Avx2>::{closure#0}"] {
            assert_eq!(found(&format!("<{name}>:\n\tret\n")), [format!("{name} is a function of its own")]);
        }
        assert_eq!(found("<<evenkeel::simd::avx512::Avx512>::detect>:\n\tret\n<main>:\n\tcall   <fma>\n"), [""; 0]);
    }
}
