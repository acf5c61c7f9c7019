//! Tests of the cache of compiled programs. The cache must return complete programs, even if files are damaged or
//! several processes use it.

#![forbid(unsafe_code)]

use crate::standin::{alone, child, spec, tell, whole};
use evenkeel::neuron::{Cache, Compiler, ElementType, Program, Target};
use std::path::{Path, PathBuf};
use std::thread::scope;

/// Creates a program whose NEFF is so large that writing it can stop partway.
fn large(number: usize, logical_cores: u32) -> Program {
    let x = [spec(ElementType::F32, &[4])];
    let text = format!("large {number}\n{}", format!("line of {number}\n").repeat(20_000));
    Program::from_parts(format!("large{number}"), &x, &x, whole(&text, logical_cores), "")
}

fn calls() -> usize {
    let path = std::env::var_os("STANDIN_CALLS").unwrap();
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "neff")).collect()
}

#[test]
fn a_program_is_compiled_once_and_again_where_its_file_is_damaged() {
    if !alone("cache::a_program_is_compiled_once_and_again_where_its_file_is_damaged", &[]) {
        return;
    }
    let (compiler, cache, program) = (Compiler::find().unwrap(), Cache::from_env(), large(1, 1));
    let neff = |target| cache.neff(&compiler, &program, target).unwrap();
    for _ in 0..3 {
        assert_eq!(neff(Target::Trn1), program.hlo());
    }
    assert_eq!(calls(), 1);
    let folder = PathBuf::from(std::env::var_os("EVENKEEL_NEURON_CACHE").unwrap());
    let [entry] = &entries(&folder)[..] else { panic!("the cache folder {} must have one entry", folder.display()) };
    let good = std::fs::read(entry).unwrap();
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(31),
        |bytes| bytes.truncate(40),
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes[5000] ^= 1,
        |bytes| bytes[3] ^= 1,
    ];
    for (at, damage) in damages.iter().enumerate() {
        let mut bytes = good.clone();
        damage(&mut bytes);
        std::fs::write(entry, bytes).unwrap();
        assert_eq!(neff(Target::Trn1), program.hlo());
        assert_eq!(calls(), 2 + at, "cache entry after damage number {at}: the program must be compiled again");
        assert_eq!(
            std::fs::read(entry).unwrap(),
            good,
            "cache entry after damage number {at}: the new compilation must replace the entry"
        );
    }
    // Each target has its own cache file.
    neff(Target::Inf2);
    neff(Target::Inf2);
    assert_eq!((calls(), entries(&folder).len()), (8, 2));
    cache.forget(&compiler, &program, Target::Inf2);
    assert_eq!(entries(&folder), std::slice::from_ref(entry));
    // If the header of a NEFF does not have the target's number of cores, the NEFF is neither stored nor used.
    let two = Target::Trn2 { logical_cores: 2 };
    neff(two);
    neff(two);
    assert_eq!(calls(), 10);
    let (one, fits) = (large(2, 2), calls());
    (0..2).for_each(|_| assert_eq!(cache.neff(&compiler, &one, two).unwrap(), one.hlo()));
    assert_eq!(calls(), fits + 1);
    // No temporary file remains.
    let temporary = std::fs::read_dir(&folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(temporary.count(), 0);
}

#[test]
fn a_folder_that_cannot_be_used_costs_time_only() {
    if !alone("cache::a_folder_that_cannot_be_used_costs_time_only", &[]) {
        return;
    }
    let (compiler, program) = (Compiler::find().unwrap(), large(1, 1));
    // The path of the folder is below a file, so the folder cannot be created.
    let cache = Cache::at(std::env::current_exe().unwrap().join("cache"));
    (0..2).for_each(|_| assert_eq!(cache.neff(&compiler, &program, Target::Trn1).unwrap(), program.hlo()));
    assert_eq!(calls(), 2);
}

#[test]
#[ignore = "run by other tests in a process of its own"]
fn version_of_the_compiler() {
    let compiler = Compiler::find().unwrap();
    Cache::from_env().neff(&compiler, &large(1, 1), Target::Trn1).unwrap();
    tell(calls());
}

#[test]
fn another_compiler_compiles_anew() {
    let folder = tempfile::tempdir().unwrap();
    let with = |version| child("cache::version_of_the_compiler", folder.path(), &[("STANDIN_VERSION", version)]);
    assert_eq!(
        (with("2.31"), with("2.31"), with("2.32"), with("2.31")),
        ("1".into(), "1".into(), "2".into(), "2".into())
    );
}

/// Requests every program, and removes some from the cache.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn one_of_several_processes() {
    let (compiler, cache) = (Compiler::find().unwrap(), Cache::from_env());
    let own: usize = std::env::var("STANDIN_PROCESS").unwrap().parse().unwrap();
    let forgets = std::env::var_os("STANDIN_FORGETS").is_some();
    for round in 0..if forgets { 40 } else { 4 } {
        let program = large((own + round) % 4, 1);
        assert_eq!(
            cache.neff(&compiler, &program, Target::Trn1).unwrap(),
            program.hlo(),
            "round {round}: the cache must return a complete NEFF"
        );
        if forgets && round % 3 == 0 {
            cache.forget(&compiler, &program, Target::Trn1);
        }
    }
}

fn several(folder: &Path, variables: &[(&str, &str)]) {
    scope(|scope| {
        for own in ["0", "1", "2", "3"] {
            scope.spawn(move || {
                let mut all = vec![("STANDIN_PROCESS", own)];
                all.extend(variables);
                child("cache::one_of_several_processes", folder, &all)
            });
        }
    });
}

#[test]
fn processes_share_it_without_compiling_twice() {
    let folder = tempfile::tempdir().unwrap();
    several(folder.path(), &[("STANDIN_COMPILER", "slow")]);
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    assert_eq!(calls.lines().count(), 4, "expected one compilation for each of four programs, got:\n{calls}");
}

#[test]
fn processes_share_it_without_a_torn_file() {
    let folder = tempfile::tempdir().unwrap();
    several(folder.path(), &[("STANDIN_FORGETS", "1")]);
}
