//! Tests of a run without arguments. Such a run prints failures from the field with Evenkeel's results, then a text.

use std::process::Command;

#[test]
fn each_failure_is_played_beside_its_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let output = Command::new(env!("CARGO_BIN_EXE_generate"))
        .current_dir(folder.path())
        .output()
        .expect("the program `generate` must start");
    assert_eq!(
        output.status.code(),
        Some(0),
        "`generate`: expected exit status 0; stderr: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stderr = String::from_utf8(output.stderr).expect("the stderr of `generate` must be valid UTF-8");
    assert!(
        stderr.contains("wrote 256 tokens") && stderr.contains("guards reported:"),
        "expected `wrote 256 tokens` and `guards reported:` in stderr, got: {stderr}"
    );
    let text = String::from_utf8(output.stdout).expect("the stdout of `generate` must be valid UTF-8");
    for part in [
        // Scene: the sampler.
        "naive     probabilities sum to 125.0; one of 230 tokens is drawn",
        "naive     probability tensor contains either inf, nan or element < 0",
        "Evenkeel  NonFiniteInput: sample: row 0 of the input has NaN at index 17123",
        "Evenkeel  EmptySupport: sample: row 0 has no token left to draw from; all 32000 tokens are masked",
        "Evenkeel draws a token that the filters keep in 96 of 96.",
        // Scene: key norms.
        "3.56, 9.13, 96.5",
        "!!!!!!!!!!!!!!",
        "naive     [NaN, NaN, NaN, NaN]",
        "Evenkeel  [0.0, 0.0, 1.0, 0.0]",
        // Scene: rows without an unmasked key.
        "naive     !!!!!!!!!!!!!!!!!!",
        "Evenkeel  An even keel holds a ship upright in any wind, and no one looks down!",
        "tokens per text: naive 4608, Evenkeel 0.",
        "the text from the prompt alone: 3 of 3.",
        "What Evenkeel's guards reported",
        // Text of the tiny model.
        "A tiny model and its text",
    ] {
        assert!(text.contains(part), "expected {part:?} in the stdout of `generate`, got: {text}");
    }
    let line = |start: &str| -> Vec<&str> {
        let line = text.lines().find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| {
            panic!("expected a line that begins with {start:?} in the stdout of `generate`, got: {text}")
        })
        .split_whitespace()
        .collect()
    };
    // An f16 sum of squares that overflows to infinity makes the norm divide by infinity, so every layer adds 0. A sum
    // that saturates makes a layer's output NaN. Evenkeel's layers add moderate values.
    assert_eq!(line("f16 sum, infinite")[5..11], ["0.00"; 6]);
    assert!(line("f16 sum, saturating").contains(&"NaN"));
    let fused = &line("Evenkeel, fused")[2..];
    assert_eq!(fused, &line("Evenkeel, unfused")[2..]);
    let added: Vec<f64> = fused[..6].iter().filter_map(|v| v.parse().ok()).collect();
    assert!(
        added.len() == 6 && added.iter().all(|v| (0.1..1.0).contains(v)),
        "the line `Evenkeel, fused` must have 6 values from 0.1 to 1.0, got {added:?}"
    );
    // In each of four heads and three layers, padding rows have no unmasked key. One prompt has 6 such rows, and
    // another has 3: (6 + 3) * 4 * 3 = 108 rows.
    assert_eq!(line("5      attention")[4..], ["108", "0", "0"]);
    assert_eq!(line("1      sample")[4..], ["1", "1", "0"]);
}

#[test]
fn help_tells_of_both_modes() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_generate")).arg("--help").output().expect("the program `generate` must start");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("the help text of `generate` must be valid UTF-8");
    for part in ["--model", "--verify", "--top-p", "Examples:", "replays numerical failures"] {
        assert!(text.contains(part), "expected {part:?} in the help text of `generate`, got: {text}");
    }
}
