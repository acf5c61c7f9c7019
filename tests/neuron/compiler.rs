//! Tests of running the compiler, of invalid settings, and of the compiler's failures: it can't be started, reports no
//! version, exits with an error, writes no valid NEFF, or hangs.

#![forbid(unsafe_code)]

use crate::standin::{child, program, spec, tell};
use evenkeel::neuron::{Compiler, ElementType, Program, Target};
use std::path::{Path, PathBuf};

fn double() -> Program {
    let x = [spec(ElementType::F32, &[4])];
    program("double", &x, &x)
}

/// Compiles the program in a process of its own, and reports the outcome.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn compiling() {
    let compiled = Compiler::find().and_then(|compiler| {
        let target = Target::of_instance(Some(std::env::var("STANDIN_FAMILY").map_or(2, |n| n.parse().unwrap())))?;
        compiler.compile(&double(), target)
    });
    match compiled {
        Ok(neff) => tell(format!("Ok: {}", neff == double().hlo())),
        Err(fault) => tell(format!("{:?}: {fault}", fault.action())),
    }
}

fn compiled(variables: &[(&str, &str)]) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // The compiler's temporary folders are created here, and none may remain.
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut all = vec![("TMPDIR", temporary.to_str().unwrap())];
    all.extend(variables);
    let output = child("compiler::compiling", folder.path(), &all);
    assert_eq!(
        std::fs::read_dir(&temporary).unwrap().count(),
        0,
        "`neuronx-cc` with {variables:?}: no temporary folder may remain"
    );
    (output, folder)
}

fn calls(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("calls")).unwrap_or_default()
}

#[test]
fn it_is_told_what_numerics_depend_on() {
    let numerics = "--auto-cast none --enable-mixed-precision-accumulation --model-type generic";
    for (family, target) in [("2", "trn1"), ("3", "trn1n"), ("4", "inf2"), ("12", "trn2")] {
        let (output, folder) = compiled(&[("STANDIN_FAMILY", family)]);
        assert_eq!(output, "Ok: true");
        let said = calls(folder.path());
        assert!(
            said.contains(&format!("--framework XLA --target {target} {numerics} ")),
            "expected the options for {target} in the call of `neuronx-cc`, got: {said}"
        );
        assert_eq!(
            said.contains("--logical-nc-config 2 "),
            target == "trn2",
            "`neuronx-cc` for {target}: expected `--logical-nc-config 2` only for trn2, got: {said}"
        );
        let words: Vec<&str> = said.split_whitespace().collect();
        for flag in ["--output", "--logfile"] {
            let at = words.iter().position(|word| *word == flag).expect(flag);
            assert!(
                PathBuf::from(words[at + 1]).is_absolute(),
                "{flag} of `neuronx-cc`: expected an absolute path, got: {said}"
            );
        }
        assert!(
            words[1].ends_with("/program.hlo.pb"),
            "expected `program.hlo.pb` as the first file argument of `neuronx-cc`, got: {said}"
        );
    }
    let (_, folder) = compiled(&[("STANDIN_FAMILY", "12"), ("NEURON_LOGICAL_NC_CONFIG", "1")]);
    assert!(calls(folder.path()).contains("--logical-nc-config 1 "));
}

#[test]
fn it_reads_text_where_that_is_asked_for() {
    // The program's text is empty, and so is the output of the fake compiler.
    let (output, folder) = compiled(&[("EVENKEEL_NEURON_FORM", "stablehlo")]);
    assert!(
        output.contains("the file has 0 bytes"),
        "`neuronx-cc` with an empty program: expected an error about a NEFF of 0 bytes, got: {output}"
    );
    assert!(calls(folder.path()).contains("/program.mlir "));
}

#[test]
fn what_it_does_instead_of_compiling_is_said() {
    let (output, _folder) = compiled(&[("STANDIN_COMPILER", "fails")]);
    assert_eq!(
        output,
        "FallBack: neuronx-cc on double: exit status: 70; it wrote:\nCompilation failed\nan operator is not supported"
    );
    for (how, reason) in [
        ("writes_nothing", "no NEFF was written: No such file"),
        ("writes_empty", "the output is not a NEFF: the file has 0 bytes; a header alone has 1024 bytes"),
        ("writes_rubbish", "the output is not a NEFF: the header states its size as "),
    ] {
        let (output, _folder) = compiled(&[("STANDIN_COMPILER", how)]);
        assert!(
            output.starts_with(&format!("FallBack: neuronx-cc on double: {reason}")),
            "`neuronx-cc` that {how}: expected the fallback reason {reason:?}, got: {output}"
        );
    }
    let (output, _folder) = compiled(&[("EVENKEEL_NEURONX_CC", "/nowhere/neuronx-cc")]);
    assert!(
        output.starts_with("FallBack: /nowhere/neuronx-cc can't be used: No such file"),
        "expected a fallback because `neuronx-cc` does not exist, got: {output}"
    );
    let (output, _folder) = compiled(&[("STANDIN_COMPILER", "mute")]);
    assert!(
        output.contains("does not report its version: exit status: 1"),
        "`neuronx-cc` without a version: expected an error about the missing version, got: {output}"
    );
    for (variable, value, expected) in [
        ("EVENKEEL_NEURON_FORM", "xla", "Surface: EVENKEEL_NEURON_FORM is xla; it must be hlo or stablehlo"),
        (
            "EVENKEEL_NEURON_TARGET",
            "tpu",
            "Surface: EVENKEEL_NEURON_TARGET is tpu; it must be trn1, trn1n, inf2 or trn2",
        ),
        ("STANDIN_FAMILY", "14", "FallBack: neuronx-cc has no target for instance family 14"),
        (
            "EVENKEEL_NEURON_COMPILE_SECONDS",
            "0",
            "Surface: EVENKEEL_NEURON_COMPILE_SECONDS is 0; it must be a number of seconds above 0",
        ),
    ] {
        assert_eq!(compiled(&[(variable, value)]).0, expected);
    }
}

#[test]
fn one_that_hangs_is_ended_with_what_it_started() {
    let group = tempfile::NamedTempFile::new().unwrap();
    let (output, _folder) = compiled(&[
        ("STANDIN_COMPILER", "hangs"),
        ("STANDIN_GROUP", group.path().to_str().unwrap()),
        ("EVENKEEL_NEURON_COMPILE_SECONDS", "1"),
    ]);
    assert!(
        output.starts_with("FallBack: neuronx-cc on double: timed out after 1 s"),
        "`neuronx-cc` that hangs: expected a fallback after 1 s, got: {output}"
    );
    // No process of the compiler's group may remain. The operating system may take some time to remove the processes.
    let id = std::fs::read_to_string(group.path()).unwrap();
    let living = || {
        std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            // The format is: pid (name) state parent group ..
            let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            (words[2] == id.trim() && words[0] != "Z").then_some(stat)
        })
    };
    let mut left = living();
    for _ in 0..600 {
        if left.is_none() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        left = living();
    }
    assert_eq!(left, None);
}
