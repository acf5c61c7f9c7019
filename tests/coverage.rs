//! Checks that nothing is missing: each op of the registry has its file in every folder, its row in every table, and
//! its documentation. Also checks that `unsafe` is used only where it is allowed.

#![forbid(unsafe_code)]

#[path = "coverage/performance.rs"]
mod performance;

use evenkeel::registry::{Backend, Kind, OPS};
use evenkeel::{DType, accuracy};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests must be in the repository").to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path} must be readable: {error}"))
}

/// Returns the forward op's name if `name` is a gradient, otherwise `name` itself.
fn forward(name: &str) -> &str {
    name.strip_suffix("_backward").unwrap_or(name)
}

macro_rules! names {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {
        /// Names of all functions of one element, from the list that `for_each_elementwise!` generates code for.
        const ELEMENTWISE: &[&str] = &[$(stringify!($name)),*];
    };
}
evenkeel::for_each_elementwise!(names);

#[test]
fn ops_are_in_every_room() {
    let mut missing = Vec::new();
    for op in OPS {
        let name = op.name;
        // The gradient of an elementwise function is in the function's file. One file tests all such gradients.
        let [file, kernel, reference, test] = match op.kind {
            Kind::Elementwise => [name, "elementwise", "elementwise", name],
            Kind::Pairwise => [name, "pairwise", name, name],
            Kind::ElementwiseBackward => [forward(name), "elementwise_backward", "elementwise", "elementwise_backward"],
            _ => [name; 4],
        };
        let paths = [
            format!("src/ops/{file}.rs"),
            format!("src/cpu/{kernel}.rs"),
            format!("src/reference/{reference}.rs"),
            format!("tests/ops/{test}.rs"),
            format!("docs/error/{name}.svg"),
        ];
        missing.extend(paths.into_iter().filter(|path| !root().join(path).is_file()));
    }
    assert!(
        missing.is_empty(),
        "each op must have its files, but these are missing: {missing:#?}; CONTRIBUTING.md says how to write them, and \
         `cargo run --release -p error-plots OP` draws the plot of an op"
    );
}

#[test]
fn ops_are_in_every_table() {
    let benches = read("benches/main.rs");
    let digest = read("tests/vectors/digest.tsv");
    let counts = read("tools/codegen-check/counts.tsv");
    let pictures = read("docs/error/README.md");
    let devices = read("docs/gpu/README.md");
    let gradients = read("tests/candle/gradients.rs");
    let mut of_devices = vec![root().join("src/cuda/elementwise.rs")];
    sources(&root().join("tools/cuda-emulator/tests"), &mut of_devices);
    let mut of_programs = Vec::new();
    sources(&root().join("tools/pjrt/tests"), &mut of_programs);
    let programs: String = of_programs.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let emulated: String = of_devices.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for op in OPS {
        let name = op.name;
        // `for_each_elementwise!` generates the benchmarks of the elementwise functions and of their gradients.
        if op.kind != Kind::ElementwiseBackward && !ELEMENTWISE.contains(&name) {
            assert!(
                benches.contains(&format!("(\"{name}\", {name}::run)")),
                "`benches/main.rs` must run the benchmark {name}"
            );
        }
        if !matches!(op.kind, Kind::Elementwise | Kind::ElementwiseBackward) {
            assert!(
                pictures.contains(&format!("![{name}]({name}.svg)\n")),
                "`docs/error/README.md` must show the picture of {name}"
            );
        }
        if let (Kind::ElementwiseBackward, Some(function)) = (op.kind, name.strip_suffix("_backward")) {
            assert!(
                gradients.contains(&format!("\"{function}\"")),
                "`tests/candle/gradients.rs` must have a case of {function}"
            );
        }
        for (backend, dtypes) in op.support {
            match backend {
                Backend::Cpu => (),
                Backend::Cuda => {
                    let word =
                        |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
                    assert!(word(&devices), "`docs/gpu/README.md` must list {name}");
                    assert!(word(&emulated), "the tests in `tools/cuda-emulator/tests` must call {name}");
                }
                Backend::Neuron => {
                    assert!(
                        root().join(format!("src/neuron/ops/{name}.rs")).is_file(),
                        "the op {name} must have the file src/neuron/ops/{name}.rs"
                    );
                    assert!(programs.contains(&format!("run::{name}")), "tools/pjrt/tests must run {name}");
                    for dtype in *dtypes {
                        assert!(
                            accuracy::neuron_bound(name, *dtype).is_some(),
                            "the op {name} must have a Neuron error bound in {dtype}"
                        );
                    }
                }
                other => panic!("the op {name} must support only the backends Cpu, Cuda and Neuron, got {other:?}"),
            }
            for dtype in *dtypes {
                assert!(accuracy::bound(name, *dtype).is_some(), "the op {name} must have an error bound in {dtype}");
                assert!(
                    digest.contains(&format!("\n{name} {dtype} ")),
                    "`tests/vectors/digest.tsv` must have cases of {name} in {dtype}; to add them, run \
                     `EVENKEEL_BLESS=1 cargo test --test digest --features testing`"
                );
                assert!(
                    counts.contains(&format!("\n{name}\t{dtype}\t")),
                    "`tools/codegen-check/counts.tsv` must have the instructions of {name} in {dtype}; to write them, \
                     run `cargo run --release -- counts --write {name}` in tools/codegen-check"
                );
            }
        }
    }
}

/// Returns the documentation of an op. It is the doc comment above the op's function, or above the line of a macro call
/// that generates the function. If the file has neither, the documentation is the whole file.
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
            assert!(
                source.contains(&format!("/// # {heading}\n")),
                "the documentation of {} must have the section {heading}",
                op.name
            );
        }
        assert!(
            !source.contains("PLACEHOLDER"),
            "the documentation of {} must not contain the text `PLACEHOLDER`",
            op.name
        );
    }
}

/// Collects the files of a folder and its subfolders.
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

/// Checks that no setter takes `mut self`. Because of a bug in Rust (rust-lang/rust#155241, present in 1.95), a closure
/// may receive the caller's own variable as its argument. A change of `self` would then change the caller's options.
#[test]
fn setters_make_options_anew() {
    let mut files = Vec::new();
    sources(&root().join("src/ops"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("(mut self"),
            "{}: a setter of options must not take `mut self`. Because of a bug in Rust (rust-lang/rust#155241), it \
             could change the caller's options",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_is_of_instruction_sets_and_devices_only() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 50, "expected more than 50 files in src, got {}", files.len());
    let may = ["src/simd", "src/cuda", "src/neuron/runtime", "src/sharded/mpi.rs", "src/sharded/nccl.rs"]
        .map(|place| root().join(place));
    for path in files.iter().filter(|path| !may.iter().any(|place| path.starts_with(place))) {
        let text = fs::read_to_string(path).unwrap();
        for form in ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait"] {
            assert!(!text.contains(form), "{} must not contain the text `{form}`", path.display());
        }
    }
}

/// Checks that doc comments in `src` begin with a verb or a noun phrase, and not with a word such as `What` or `That`.
#[test]
fn doc_comments_begin_with_a_verb_or_noun() {
    const REJECTED: [&str; 12] =
        ["What", "That", "Those", "Of", "As", "Which", "It", "And", "But", "So", "This", "These"];
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let doc =
            |line: &str| ["///", "//!"].iter().find_map(|marker| line.trim().strip_prefix(marker)).map(String::from);
        let mut previous = None;
        for (line, text) in text.lines().enumerate() {
            let text = doc(text);
            let first = text.as_ref().filter(|_| previous.is_none()).and_then(|text| text.split_whitespace().next());
            if let Some(word) = first.filter(|word| REJECTED.contains(word)) {
                found.push(format!("{}:{}: {word}", path.display(), line + 1));
            }
            previous = text;
        }
    }
    assert!(
        found.is_empty(),
        "doc comments must begin with a verb or a noun, but these begin with another word:\n{}",
        found.join("\n")
    );
}

/// Generates the rows of the index of `docs/accuracy`: the bounds with their evidence.
fn index_of_bounds() -> String {
    let mut index = String::from("| op | f64 | f32 | f16 | bf16 | evidence |\n|---|---|---|---|---|---|\n");
    let mut names: Vec<&str> = accuracy::TABLE.iter().map(|bound| bound.op).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        index += &format!("| `{name}` |");
        let mut link = String::new();
        for &dtype in DType::ALL {
            let bound = accuracy::bound(name, dtype).unwrap();
            let evidence = accuracy::evidence(name, dtype)
                .unwrap_or_else(|| panic!("`accuracy::evidence` must have an entry for {name} in {dtype}"));
            let of = if bound.unit == accuracy::Unit::LargestTerm { " †" } else { "" };
            index += &format!(" {}{of}, {} |", bound.ulps, evidence.kind);
            let slug: String =
                evidence.section.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
            link = format!("[{}]({}#{})", evidence.section, evidence.page, slug.replace(' ', "-"));
        }
        index += &format!(" {link} |\n");
    }
    index
}

/// Checks that each bound has evidence in an existing section, and that the index lists all bounds. `EVENKEEL_BLESS=1`
/// writes the index.
#[test]
fn bounds_have_evidence() {
    for bound in accuracy::TABLE {
        let evidence = accuracy::evidence(bound.op, bound.dtype);
        let evidence = evidence
            .unwrap_or_else(|| panic!("`accuracy::evidence` must have an entry for {} in {}", bound.op, bound.dtype));
        let page = read(&format!("docs/accuracy/{}", evidence.page));
        let heading = format!("## {}", evidence.section);
        assert!(
            page.lines().any(|line| line == heading),
            "docs/accuracy/{} must have the section {heading:?}",
            evidence.page
        );
        let is_exact = bound.ulps == 0.5;
        assert!(
            is_exact || evidence.kind != accuracy::Kind::Exhaustive,
            "{}: only a bound of 0.5 ULP may have evidence of the kind Exhaustive, got a bound of {} ULP",
            bound.op,
            bound.ulps
        );
    }
    check_generated("docs/accuracy/README.md", &index_of_bounds());
}

/// Checks that the table of `docs/performance.md` lists every op with its bounds. `EVENKEEL_BLESS=1` writes the table.
#[test]
fn performance_lists_every_op() {
    check_generated("docs/performance.md", &performance::table(&read("docs/performance.tsv")));
}

/// Generates the sections of `docs/error/README.md` for functions of one element and their gradients.
fn plots_of_functions() -> String {
    let of = |kind| {
        let ops = OPS.iter().filter(|op| op.kind == kind);
        ops.map(|op| format!("![{0}]({0}.svg)\n", op.name)).collect::<String>()
    };
    format!(
        "## Functions of one element\n\n\
        Each point is the largest error of 64 neighbouring inputs.\n\n\
        {}\n\
        ## Gradients of functions of one element\n\n\
        These ops multiply the derivative by the gradient of the result. These gradients have mean 0 and standard \
        deviation 3.\n\n\
        {}",
        of(Kind::Elementwise),
        of(Kind::ElementwiseBackward)
    )
}

/// Checks that `docs/error/README.md` shows the plots of all functions of one element. `EVENKEEL_BLESS=1` adds them.
#[test]
fn plots_are_shown() {
    check_generated("docs/error/README.md", &plots_of_functions());
}

/// Checks the number of digests that README states. `EVENKEEL_BLESS=1` corrects it.
#[test]
fn readme_has_the_number_of_digests() {
    let count = read("tests/vectors/digest.tsv").lines().filter(|line| !line.starts_with('#')).count();
    let text = read("README.md");
    let parts = text.split_once("The hashes of ").and_then(|(head, rest)| Some((head, rest.split_once(" results")?.1)));
    let (head, tail) = parts.expect("README.md must have the text \"The hashes of N results\"");
    let expected = format!("{head}The hashes of {},{:03} results{tail}", count / 1000, count % 1000);
    check("README.md", &text, &expected);
}

/// Checks the number of correctly rounded functions that README states, with the results at every f32 input.
#[test]
fn readme_has_the_number_of_correctly_rounded_functions() {
    let page = read("docs/accuracy/exhaustive.md");
    let rows = page.lines().filter(|line| line.starts_with("| `")).map(|line| line.split(" | ").collect::<Vec<_>>());
    let (right, wrong): (Vec<_>, Vec<_>) = rows.partition(|row| row[4] == "0");
    let wrong: BTreeSet<&str> = wrong.iter().map(|row| row[0]).collect();
    let functions: BTreeSet<&str> = right.iter().map(|row| row[0]).filter(|name| !wrong.contains(name)).collect();
    let expected =
        format!("`exp`, `log`, `tanh`, `gelu` and {} other functions are correctly rounded", functions.len() - 4);
    assert!(read("README.md").contains(&expected), "README.md must state: {expected}");
}

/// Checks that a page ends with the generated text. `EVENKEEL_BLESS=1` writes the generated text.
fn check_generated(path: &str, generated: &str) {
    let text = read(path);
    let marker = "<!-- Written by `EVENKEEL_BLESS=1 cargo test --test coverage`. -->\n\n";
    let (head, _) = text.split_once(marker).unwrap_or_else(|| panic!("{path} must have the line {marker:?}"));
    check(path, &text, &format!("{head}{marker}{generated}"));
}

/// Fails unless `text` is the expected text. `EVENKEEL_BLESS=1` writes the expected text to the file.
fn check(path: &str, text: &str, expected: &str) {
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        fs::write(root().join(path), expected).unwrap();
    } else {
        assert!(text == expected, "{path} is out of date; run `EVENKEEL_BLESS=1 cargo test --test coverage`");
    }
}
