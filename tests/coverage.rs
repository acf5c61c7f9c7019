//! Nothing is forgotten: each op of the registry has its file in every room, its rows in every table, its page; and
//! `unsafe` stays where it belongs.

#![forbid(unsafe_code)]

use evenkeel::registry::{Backend, Kind, OPS};
use evenkeel::{DType, accuracy};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The op that this is the gradient of, or itself.
fn forward(name: &str) -> &str {
    name.strip_suffix("_backward").unwrap_or(name)
}

#[test]
fn ops_are_in_every_room() {
    for op in OPS {
        let name = op.name;
        // The gradients of functions of one element are beside them, and share their tests.
        let [file, kernel, test] = match op.kind {
            Kind::Elementwise => [name, "elementwise", name],
            Kind::Pairwise => [name, "pairwise", name],
            Kind::ElementwiseBackward => [forward(name), "elementwise_backward", "elementwise_backward"],
            _ => [name; 3],
        };
        for path in [
            format!("src/ops/{file}.rs"),
            format!("src/cpu/{kernel}.rs"),
            format!("src/reference/{file}.rs"),
            format!("tests/ops/{test}.rs"),
            format!("benches/{test}.rs"),
            format!("docs/error/{name}.svg"),
        ] {
            assert!(root().join(&path).is_file(), "{name} has no {path}");
        }
    }
}

#[test]
fn ops_are_in_every_table() {
    let benches = read("benches/main.rs");
    let calls = read("tests/support/call.rs");
    let apply = read("examples/apply/ops/mod.rs");
    let digest = read("tests/vectors/digest.tsv");
    let readme = read("README.md");
    let pictures = read("docs/error/README.md");
    let devices = read("docs/gpu/README.md");
    let mut of_devices = vec![root().join("src/cuda/elementwise.rs")];
    sources(&root().join("tools/emulated/tests"), &mut of_devices);
    let mut of_programs = Vec::new();
    sources(&root().join("tools/pjrt/tests"), &mut of_programs);
    let programs: String = of_programs.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let emulated: String = of_devices.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for op in OPS {
        let name = op.name;
        let bench = if op.kind == Kind::ElementwiseBackward { "elementwise_backward" } else { name };
        assert!(benches.contains(&format!("(\"{bench}\", {bench}::run)")), "benches/main.rs has no {bench}");
        assert!(calls.contains(&format!("\"{name}\" =>")), "tests/support/call.rs has no {name}");
        assert!(apply.contains(&format!("\"{}\"", forward(name))), "apply has no {name}");
        // Of the gradients of functions of one element it says that all are there.
        let row = if op.kind == Kind::ElementwiseBackward { "X_backward" } else { name };
        assert!(readme.contains(&format!("| `{row}` |")), "README's table has no {row}");
        assert!(pictures.contains(&format!("![{name}]({name}.svg)\n")), "docs/error/README.md has no {name}");
        for (backend, dtypes) in op.support {
            match backend {
                Backend::Cpu => (),
                Backend::Cuda => {
                    let word =
                        |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
                    assert!(word(&devices), "docs/gpu/README.md has no {name}");
                    assert!(word(&emulated), "tools/emulated/tests has no {name}");
                }
                Backend::Neuron => {
                    assert!(root().join(format!("src/neuron/ops/{name}.rs")).is_file(), "{name} has no program");
                    assert!(programs.contains(&format!("run::{name}")), "tools/pjrt/tests has no {name}");
                    for dtype in *dtypes {
                        assert!(accuracy::neuron_bound(name, *dtype).is_some(), "{name} has no accuracy in {dtype}");
                    }
                }
                other => panic!("{name} is on {other:?}, which has no tests"),
            }
            for dtype in *dtypes {
                assert!(accuracy::bound(name, *dtype).is_some(), "{name} has no accuracy in {dtype}");
                assert!(digest.contains(&format!("\n{name} {dtype} ")), "{name} has no digest in {dtype}");
            }
        }
    }
}

/// The documentation of an op: that of its function, whether it is written out or made by a macro, or else of its whole
/// file.
fn page(source: &str, name: &str) -> String {
    let is_function = |line: &str| {
        let rest = line.strip_prefix("pub fn ").and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['<', '(']))
            || line.trim().starts_with(&format!("{name}, {name}_into,"))
    };
    let lines: Vec<&str> = source.lines().collect();
    let Some(at) = lines.iter().position(|line| is_function(line)) else { return source.to_string() };
    let page = lines[..at].iter().rev().take_while(|line| line.trim().starts_with("///") || line.starts_with("#["));
    page.map(|line| format!("{}\n", line.trim())).collect::<Vec<_>>().into_iter().rev().collect()
}

#[test]
fn ops_have_whole_pages() {
    for op in OPS {
        let file = if op.kind == Kind::ElementwiseBackward { forward(op.name) } else { op.name };
        let source = read(&format!("src/ops/{file}.rs"));
        let source = page(&source, op.name);
        for heading in ["Formula", "Shapes", "Special values", "Accuracy", "Errors", "Panics", "Example"] {
            assert!(source.contains(&format!("/// # {heading}\n")), "the page of {} has no {heading}", op.name);
        }
    }
}

/// The files of a folder and of those within it.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Compilers to 1.95 at least hand a closure its caller's own copy of what it takes by value (rust-lang/rust#155241):
/// a setter that changed `self` where it lies would change the caller's options.
#[test]
fn setters_make_options_anew() {
    let mut files = Vec::new();
    sources(&root().join("src/ops"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("(mut self"), "{} changes options where they lie", path.display());
    }
}

#[test]
fn unsafe_code_is_of_instruction_sets_and_devices_only() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 50, "only {} files were found", files.len());
    let may = ["src/simd", "src/cuda", "src/neuron/runtime", "src/sharded/mpi.rs", "src/sharded/nccl.rs"]
        .map(|place| root().join(place));
    for path in files.iter().filter(|path| !may.iter().any(|place| path.starts_with(place))) {
        let text = fs::read_to_string(path).unwrap();
        for form in ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait"] {
            assert!(!text.contains(form), "{} has {form}", path.display());
        }
    }
}

/// The rows of the index of `docs/accuracy`, by where bounds come from.
fn index_of_bounds() -> String {
    let mut index = String::from("| op | f64 | f32 | f16 | bf16 | where from |\n|---|---|---|---|---|---|\n");
    let mut names: Vec<&str> = accuracy::TABLE.iter().map(|bound| bound.op).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        index += &format!("| `{name}` |");
        let mut link = String::new();
        for dtype in DType::ALL {
            let bound = accuracy::bound(name, dtype).unwrap();
            let evidence =
                accuracy::evidence(name, dtype).unwrap_or_else(|| panic!("{name} in {dtype} has no evidence"));
            let of = if bound.of == accuracy::Of::LargestTerm { " †" } else { "" };
            index += &format!(" {}{of}, {} |", bound.ulps, evidence.kind);
            let slug: String =
                evidence.section.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
            link = format!("[{}]({}#{})", evidence.section, evidence.page, slug.replace(' ', "-"));
        }
        index += &format!(" {link} |\n");
    }
    index
}

/// Each bound says where it comes from, in a section that exists, and the index has all of them.
/// `EVENKEEL_BLESS=1` writes the index.
#[test]
fn bounds_have_evidence() {
    for bound in accuracy::TABLE {
        let evidence = accuracy::evidence(bound.op, bound.dtype);
        let evidence = evidence.unwrap_or_else(|| panic!("{} in {} has no evidence", bound.op, bound.dtype));
        let page = read(&format!("docs/accuracy/{}", evidence.page));
        let heading = format!("## {}", evidence.section);
        assert!(page.lines().any(|line| line == heading), "docs/accuracy/{} has no section {heading:?}", evidence.page);
        let is_exact = bound.ulps == 0.5;
        assert!(
            is_exact || evidence.kind != accuracy::Kind::Exhaustive,
            "{}: {} ULP by every input",
            bound.op,
            bound.ulps
        );
    }
    let path = "docs/accuracy/README.md";
    let (text, index) = (read(path), index_of_bounds());
    let marker = "<!-- Written by `EVENKEEL_BLESS=1 cargo test --test coverage`. -->\n\n";
    let (head, _) = text.split_once(marker).expect("the index begins behind its marker");
    let expected = format!("{head}{marker}{index}");
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        fs::write(root().join(path), &expected).unwrap();
    } else {
        assert!(text == expected, "{path} is not the index of the table: EVENKEEL_BLESS=1 cargo test --test coverage");
    }
}
