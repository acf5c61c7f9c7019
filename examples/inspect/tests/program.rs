//! Tests of the program `inspect`: table, JSON, histogram and exit statuses.

#[path = "../../../tests/checkpoint/write.rs"]
#[allow(dead_code)]
mod write;

use serde_json::Value;
use std::process::{Command, Output};
use tempfile::TempDir;
use write::{Tensor, normals, safetensors};

/// Creates a folder whose `model.safetensors` holds these tensors.
fn folder(tensors: &[Tensor]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    std::fs::write(folder.path().join("model.safetensors"), safetensors(tensors))
        .expect("`model.safetensors` must be writable");
    folder
}

fn plain() -> Tensor {
    Tensor::floats("up.weight", "BF16", &[32, 32], &normals(1, 1024, 0.05))
}

fn broken() -> Tensor {
    Tensor::floats("down.weight", "F32", &[2, 2], &[1.0, f64::NAN, 2.0, f64::INFINITY])
}

fn norm() -> Tensor {
    Tensor::floats("layers.0.k_norm.weight", "F32", &[4], &[96.5, 1.0, 2.0, 3.0])
}

fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inspect"));
    command.current_dir(folder.path()).args(arguments).output().expect("the program `inspect` must start")
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text =
        |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("stdout and stderr of `inspect` must be valid UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn files(folder: &TempDir) -> usize {
    std::fs::read_dir(folder.path()).expect("the temporary folder must be readable").count()
}

#[test]
fn a_table_with_the_worst_first() {
    let ids = Tensor::new("ids", "I64", &[2], vec![0; 16]);
    let folder = folder(&[plain(), norm(), ids, broken()]);
    let (status, stdout, stderr) = texts(&run(&folder, &["model.safetensors"]));
    assert_eq!((status, stderr.as_str()), (Some(1), ""));
    let place = |text: &str| {
        stdout.find(text).unwrap_or_else(|| panic!("expected {text:?} in the table of `inspect`, got: {stdout}"))
    };
    assert!(place("error    down.weight") < place("error nan: not a number: 1 of 4 elements"));
    assert!(place("error infinite") < place("warning  layers.0.k_norm.weight"));
    assert!(place("extreme QK-norm weights: max |w| 96.5") < place("up.weight"));
    place("tensors: 4, elements: 1034, errors: 2, warnings: 1, notes: 0");
    place("not analysed: 1 of I64");
    let (_, stdout, _) = texts(&run(&folder, &["model.safetensors", "--top", "1"]));
    assert!(
        stdout.contains("and 3 more") && !stdout.contains("up.weight"),
        "the stdout of `inspect` must contain `and 3 more` and must not contain `up.weight`, got: {stdout}"
    );
}

#[test]
fn exit_statuses() {
    let cases: &[(&[Tensor], &[&str], i32)] = &[
        (&[plain()], &[], 0),
        (&[plain()], &["--fail-on", "warning"], 0),
        (&[norm()], &[], 0),
        (&[norm()], &["--fail-on", "warning"], 1),
        (&[norm()], &["--fail-on", "warning", "--warn", "norm_max=100", "--warn", "norm_rms=100"], 0),
        (&[norm()], &["--fail-on", "error"], 0),
        (&[broken()], &[], 1),
        (&[broken()], &["--fail-on", "error"], 1),
        (&[broken()], &["--fail-on", "never"], 0),
        (&[broken()], &["--warn", "nan=1", "--warn", "infinite=1"], 0),
    ];
    for (tensors, arguments, status) in cases {
        let output = run(&folder(tensors), &[&["."], *arguments].concat());
        assert_eq!(output.status.code(), Some(*status), "`inspect` with {arguments:?}: expected exit status {status}");
    }
}

#[test]
fn json() {
    let folder = folder(&[plain(), norm(), broken()]);
    let output = run(&folder, &["model.safetensors", "--json", "-", "--fail-on", "never"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value =
        serde_json::from_slice(&output.stdout).expect("`inspect --json -` must write only JSON to stdout");
    let worst = &report["tensors"][0];
    assert_eq!((&worst["name"], &worst["dtype"]), (&"down.weight".into(), &"F32".into()));
    assert_eq!(worst["stats"]["nan"], 1);
    assert_eq!(worst["findings"][0]["level"], "error");
    assert_eq!(report["tensors"][1]["stats"]["max_abs"], 96.5);
    assert_eq!(report["tensors"][1]["stats"]["fits"][2]["dtype"], "e4m3");
    assert_eq!(report["thresholds"]["norm_max"], 16.0);
    assert_eq!(report["quantiles"][3], 0.99);

    let output = run(&folder, &["model.safetensors", "--json", "report.json", "--fail-on", "never"]);
    assert!(!output.stdout.is_empty());
    let file = std::fs::read(folder.path().join("report.json")).expect("`inspect` must write `report.json`");
    assert_eq!(serde_json::from_slice::<Value>(&file).expect("`report.json` must be JSON"), report);
    assert_eq!(files(&folder), 2);
}

#[test]
fn a_picture() {
    let folder = folder(&[plain()]);
    let output = run(&folder, &["model.safetensors", "--histogram", "worst.svg"]);
    assert_eq!(output.status.code(), Some(0));
    let svg = std::fs::read_to_string(folder.path().join("worst.svg")).expect("`inspect` must write `worst.svg`");
    assert!(
        svg.starts_with("<svg") && svg.contains("up.weight, BF16") && svg.contains("above 0"),
        "expected a picture of `up.weight` in BF16, got: {svg}"
    );
    let ids = self::folder(&[Tensor::new("ids", "I64", &[2], vec![0; 16])]);
    let (status, _, stderr) = texts(&run(&ids, &[".", "--histogram", "worst.svg"]));
    assert_eq!(status, Some(2));
    assert!(
        stderr.contains("no tensor has a supported type"),
        "expected `no tensor has a supported type` in stderr, got: {stderr}"
    );
    assert_eq!(files(&ids), 1);
}

#[test]
fn bad_usage_and_bad_files() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "CHECKPOINT"),
        (&["nowhere.safetensors"], "nowhere.safetensors: the path cannot be opened"),
        (&["model.safetensors", "--warn", "norm_max"], "NAME=VALUE"),
        (&["model.safetensors", "--warn", "norm=1"], "`norm` is unknown; it must be one of nan, infinite"),
        (&["model.safetensors", "--warn", "norm_max=NaN"], "norm_max is NaN; it must be a number of at least 0"),
        (&["model.safetensors", "--warn", "norm_max=-1"], "norm_max is -1"),
        (&["model.safetensors", "--fail-on", "note"], "note"),
        (&["model.safetensors", "--json", "nowhere/report.json"], "nowhere is not a folder"),
        (&["model.safetensors", "--histogram", "."], "it exists and is not a regular file"),
        (&["broken.safetensors"], "the header's length is 1000"),
        (&["broken.safetensors", "--json", "report.json"], "the header's length is 1000"),
    ];
    for (arguments, why) in cases {
        let folder = folder(&[plain()]);
        std::fs::write(folder.path().join("broken.safetensors"), 1000u64.to_le_bytes())
            .expect("`broken.safetensors` must be writable");
        let (status, stdout, stderr) = texts(&run(&folder, arguments));
        assert_eq!(
            (status, stdout.as_str()),
            (Some(2), ""),
            "`inspect` with {arguments:?}: expected exit status 2 and an empty stdout"
        );
        assert!(stderr.contains(why), "`inspect` with {arguments:?}: expected {why:?} in stderr, got: {stderr}");
        assert_eq!(files(&folder), 2);
    }
}

#[test]
fn help() {
    let (status, stdout, _) = texts(&run(&folder(&[]), &["--help"]));
    assert_eq!(status, Some(0));
    for part in ["CHECKPOINT", "--fail-on", "norm_max=16", "Exit status"] {
        assert!(stdout.contains(part), "expected {part:?} in the help text of `inspect`, got: {stdout}");
    }
}
