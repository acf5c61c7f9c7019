//! Inspects this program's machine code: which functions the kernels call, which registers they use, and which of their
//! parts were not inlined.
//!
//! A kernel and everything inlined into it is compiled for the kernel's instruction set. A part that is not inlined is
//! compiled for the baseline of the target. Such a part passes vectors through memory, and calls a function for each
//! vector instruction.

use crate::error::{Error, Result};
use std::path::Path;
use std::process::Command;

/// Instruction set: its name, the type that represents it, the suffix of its kernels' names, and its vector registers.
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

/// Functions that refer to an instruction set, although they are not kernels: the detection of the instruction set, and
/// the sampler's functions for single candidates.
const OUTSIDE: [&str; 2] = [">::detect", "evenkeel::cpu::sample::"];

/// Compiled function of this program, and the function's instructions.
struct Function<'t> {
    name: &'t str,
    instructions: Vec<&'t str>,
}

/// Returns whether all parts of all kernels are inlined.
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

    /// Returns the functions that this function calls or jumps to.
    fn calls(&self) -> impl Iterator<Item = &str> {
        let is_jump = |line: &&&str| line.starts_with("call") || line.starts_with("jmp");
        self.instructions.iter().filter(is_jump).filter_map(|line| line.split_once('<').map(|(_, name)| name))
    }
}

/// Returns the problems found in a function.
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
    if is_part || is_instruction { vec![format!("{name} is not inlined")] } else { Vec::new() }
}

/// Returns whether `call`, the text after `<` in a call instruction, refers to the function `name`. A name that ends in
/// `@`, such as `fma@`, matches every symbol version.
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

/// Parses the functions: a line that ends in `>:`, followed by its instructions.
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
            assert_eq!(found(&format!("<{name}>:\n\tret\n")), [format!("{name} is not inlined")]);
        }
        assert_eq!(found("<<evenkeel::simd::avx512::Avx512>::detect>:\n\tret\n<main>:\n\tcall   <fma>\n"), [""; 0]);
    }
}
