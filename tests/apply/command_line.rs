//! Tests of files, flags and exit statuses.

use crate::program::{Apply, files, program};
use evenkeel::simd::Level;
use serde_json::json;
use std::path::Path;

const JOBS: &[u8] = br#"[{"id":"a","op":"exp","inputs":{"x":"x"},"outputs":{"y":"y"}}]"#;

fn fixture() -> Apply {
    Apply::new().f32("x", &[2], &[0.0, 1.0])
}

#[test]
fn unreadable_jobs() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "line 1"),
        (b"{}", "expected a sequence"),
        (b"[", "EOF"),
        (b"[{}]", "missing field `id`"),
        (b"[1]", "expected"),
        (b"\xff", "line 1"),
        (br#"[{"id":"a","op":"exp"}] []"#, "trailing characters"),
        (br#"[{"id":1,"op":"exp"}]"#, "expected a string"),
        (br#"[{"id":"a"}]"#, "missing field `op`"),
        (br#"[{"id":"a","op":"exp","attr":{}}]"#, "unknown field `attr`"),
        (br#"[{"id":"a","op":"exp","inputs":[]}]"#, "expected an object"),
        (br#"[{"id":"a","id":"b","op":"exp"}]"#, "duplicate field `id`"),
        (br#"[{"id":"a","op":"exp","inputs":{"x":"x","x":"x"}}]"#, "the key `x` appears twice"),
        (br#"[{"id":"a","op":"exp","attrs":{"axis":1,"axis":null}}]"#, "the key `axis` appears twice"),
        (br#"[{"id":"a","op":"exp"},{"id":"a","op":"log"}]"#, "the id `a` appears twice"),
        (br#"[{"id":"a","op":"softmax","attrs":{"scale":NaN}}]"#, "line 1"),
        (br#"[{"id":"a","op":"softmax","attrs":{"scale":Infinity}}]"#, "line 1"),
        (br#"[{"id":"a","op":"softmax","attrs":{"scale":1e999}}]"#, "number out of range"),
    ];
    for (jobs, why) in cases {
        fixture().run_text(jobs).refused(why);
    }
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    fixture().run_text(&deep).refused("is not an array of jobs");
}

#[test]
fn unreadable_tensors() {
    let file = fixture().file();
    let with_header = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let cases: Vec<Vec<u8>> = vec![
        vec![],
        file[..4].to_vec(),
        file[..file.len() - 1].to_vec(),
        [&file[..], &[0]].concat(),
        u64::MAX.to_le_bytes().to_vec(),
        [&1000u64.to_le_bytes()[..], b"{}"].concat(),
        with_header("not json", 0),
        with_header("[]", 0),
        with_header(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
        with_header(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
        with_header(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
        with_header(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
        with_header(r#"{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8),
        with_header(r#"{"x":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8),
        with_header(r#"{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
    ];
    for file in cases {
        fixture().run_files(JOBS, &file).refused("is not a safetensors file");
    }
}

#[test]
fn bad_usage() {
    let cases: &[(&[&str], &str)] = &[
        (&["--simd", "sse9"], "unknown instruction set; it must be auto, portable, avx2 or avx512"),
        (&["--simd"], "--simd"),
        (&["--backend", "tpu"], "tpu"),
        (&["--threads", "0"], "1..=1024"),
        (&["--threads", "1025"], "1..=1024"),
        (&["--threads", "99999999999999999999"], "99999999999999999999"),
        (&["--threads", "two"], "two"),
        (&["--nonsense"], "--nonsense"),
        (&["another.json"], "another.json"),
        (&["--out", "again"], "--out"),
    ];
    for (arguments, why) in cases {
        arguments.iter().fold(fixture(), |apply, argument| apply.argument(argument)).run_text(JOBS).refused(why);
    }
    fixture().environment("EVENKEEL_SIMD", "sse9").run_text(JOBS).refused("unknown instruction set");
    let nothing = program().output().expect("the program `apply` must start");
    assert_eq!(nothing.status.code(), Some(2));
}

#[test]
fn help() {
    let output = program().arg("--help").output().expect("the program `apply` must start");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("the output of `apply --help` must be valid UTF-8");
    for part in
        ["JOBS.json", "--threads", "Example:", "softmax(x, mask?, dy?; axis, scale", "-> probs, tokens, logprobs"]
    {
        assert!(text.contains(part), "`apply --help` must print {part}, got {text}");
    }
}

/// Writes `jobs.json` and `in.safetensors` into a folder, and runs the program there with the given paths as arguments.
/// Returns the status and stderr.
fn run_in(folder: &Path, jobs: &str, tensors: &str, out: &str) -> (Option<i32>, String) {
    std::fs::write(folder.join("jobs.json"), JOBS).expect("the jobs file must be writable");
    std::fs::write(folder.join("in.safetensors"), fixture().file()).expect("the tensor file must be writable");
    let output = program().current_dir(folder).args([jobs, "--tensors", tensors, "--out", out]).output();
    let output = output.expect("the program `apply` must start");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn files_that_are_not_there() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let cases = [
        ("nowhere.json", "in.safetensors", "out", "can't read the jobs in nowhere.json"),
        ("jobs.json", "nowhere.safetensors", "out", "can't read the tensors in nowhere.safetensors"),
        (".", "in.safetensors", "out", "can't read the jobs in ."),
        ("jobs.json", ".", "out", "can't read the tensors in ."),
        ("jobs.json", "in.safetensors", "nowhere/out", "nowhere is not a folder"),
        ("jobs.json", "in.safetensors", "jobs.json/out", "can't write jobs.json/out"),
        ("jobs.json", "in.safetensors", ".", "it exists and is not a regular file"),
        ("jobs.json", "in.safetensors", "", "a value is required"),
        ("jobs.json", "in.safetensors", "..", "it exists and is not a regular file"),
        #[cfg(unix)]
        ("jobs.json", "in.safetensors", "/dev/null", "it exists and is not a regular file"),
    ];
    for (jobs, tensors, out, why) in cases {
        let (status, stderr) = run_in(folder.path(), jobs, tensors, out);
        assert_eq!(status, Some(2), "`apply`: expected exit status 2; stderr: {stderr}");
        assert!(stderr.contains(why), "the stderr of `apply` must contain {why}, got {stderr}");
        assert_eq!(files(folder.path()).len(), 2);
    }
}

#[test]
fn out_is_replaced_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let out = folder.path().join("out.safetensors");
    std::fs::write(&out, "an older file").expect("the older `out.safetensors` must be writable");
    assert_eq!(run_in(folder.path(), "nowhere.json", "in.safetensors", "out.safetensors").0, Some(2));
    assert_eq!(std::fs::read(&out).expect("a failed run must keep the older `out.safetensors`"), b"an older file");
    assert_eq!(run_in(folder.path(), "jobs.json", "in.safetensors", "out.safetensors").0, Some(0));
    assert!(std::fs::read(&out).expect("a successful run must write `out.safetensors`").len() > 16);
    assert_eq!(files(folder.path()).len(), 3);
    // OUT may be the same file as IN.
    assert_eq!(run_in(folder.path(), "jobs.json", "in.safetensors", "in.safetensors").0, Some(0));
}

#[cfg(unix)]
#[test]
fn out_is_as_readable_as_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    assert_eq!(run_in(folder.path(), "jobs.json", "in.safetensors", "out.safetensors").0, Some(0));
    let mode = |name: &str| {
        std::fs::metadata(folder.path().join(name))
            .expect("`jobs.json` and `out.safetensors` must exist")
            .permissions()
            .mode()
    };
    assert_eq!(mode("out.safetensors"), mode("jobs.json"));
}

#[test]
fn out_is_written_when_every_job_failed() {
    let outcome = fixture().run(&[json!(["softmin", {"x": "x"}, {}, ["y"]])]);
    outcome.answered();
    assert!(outcome.names().is_empty());
    let outcome = fixture().run_text(b"[]");
    outcome.answered();
    assert!(outcome.answers.is_empty() && outcome.names().is_empty());
}

#[cfg(unix)]
#[test]
fn a_closed_stdout_is_no_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    std::fs::write(folder.path().join("jobs.json"), JOBS).expect("the jobs file must be writable");
    std::fs::write(folder.path().join("in.safetensors"), fixture().file()).expect("the tensor file must be writable");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let output = program()
        .current_dir(folder.path())
        .args(["jobs.json", "--tensors", "in.safetensors", "--out", "out.safetensors"])
        .stdout(full)
        .output()
        .expect("the program `apply` must start");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write the answers to stdout"));
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn what_is_known_but_not_there() {
    let mut missing: Vec<Vec<&str>> = vec![vec!["--backend", "cuda"], vec!["--backend", "neuron"]];
    let levels = Level::ALL.iter().copied().filter(|level| !level.is_available());
    missing.extend(levels.map(|level| vec!["--simd", level.name()]));
    for arguments in missing {
        let apply = arguments.iter().fold(fixture(), |apply, argument| apply.argument(argument));
        let outcome = apply.run(&[json!(["exp", {"x": "x"}, {}, ["y"]]), json!(["softmin", {}, {}, []])]);
        outcome.answered();
        for answer in &outcome.answers {
            assert_eq!(answer["error"], "Backend", "expected the error Backend, got {answer}");
            assert!(
                answer["message"].as_str().is_some_and(|m| m.contains(arguments[1])),
                "arguments {arguments:?}: expected the error message to contain {:?}, got {answer}",
                arguments[1]
            );
        }
        assert!(outcome.names().is_empty());
    }
}

#[test]
fn the_flag_beats_the_environment() {
    let best = fixture().run_text(JOBS).all_ok().out;
    for &level in Level::ALL {
        let outcome = fixture().environment("EVENKEEL_SIMD", level.name()).run_text(JOBS);
        outcome.answered();
        assert_eq!(outcome.answers[0]["ok"], level.is_available());
        // Without the flag, the job fails if the level in EVENKEEL_SIMD is unavailable. With the flag, EVENKEEL_SIMD is
        // ignored.
        let forced = fixture().environment("EVENKEEL_SIMD", level.name()).argument("--simd").argument("portable");
        assert_eq!(forced.run_text(JOBS).all_ok().out, best);
        let auto = fixture().environment("EVENKEEL_SIMD", level.name()).argument("--simd").argument("auto");
        assert_eq!(auto.run_text(JOBS).all_ok().out, best);
    }
    let unknown = fixture().environment("EVENKEEL_SIMD", "sse9").argument("--simd").argument("portable");
    assert_eq!(unknown.run_text(JOBS).all_ok().out, best);
}
