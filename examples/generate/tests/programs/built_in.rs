//! Tests of the built-in tiny model.

use std::collections::HashSet;
use std::process::{Command, Output};

const CORPUS: &str = include_str!("../../../train/corpus.txt");

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder must be created");
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
    command.current_dir(folder.path()).args(arguments).output().expect("the program `generate` must start")
}

/// Returns the text after a prompt: 120 tokens, each of which is verified.
#[track_caller]
fn text(prompt: &str, arguments: &[&str]) -> String {
    let output = run(&[&["--prompt", prompt, "--tokens", "120", "--verify"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(0),
        "`generate` with {arguments:?}: expected exit status 0; stderr: {stderr}"
    );
    assert!(
        stderr.contains("wrote 120 tokens") && stderr.contains("each verified"),
        "`generate` with {arguments:?}: expected stderr to report 120 verified tokens, got: {stderr}"
    );
    assert!(!stderr.contains("NaN"), "`generate` with {arguments:?}: expected no NaN in stderr, got: {stderr}");
    String::from_utf8(output.stdout).expect("the stdout of `generate` must be valid UTF-8")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty())
}

#[test]
fn it_writes_words() {
    let known: HashSet<&str> = words(CORPUS).collect();
    for (prompt, seed) in [("A row", "0"), ("", "1"), ("The softmax of", "2"), ("Gradients are", "3"), ("NaN", "4")] {
        let text = text(prompt, &["--seed", seed]);
        // The last word may be incomplete, so the training text may not contain it.
        let written: Vec<&str> = words(&text).collect();
        let strange: Vec<&&str> = written.iter().filter(|word| !known.contains(*word)).collect();
        assert!(
            written.len() >= 50,
            "prompt {prompt:?}: expected a text of at least 50 words, got {} words: {text}",
            written.len()
        );
        assert!(
            strange.len() * 10 <= written.len(),
            "at most 10% of the generated words may be absent from the training text; absent: {strange:?}; text: {text}"
        );
    }
}

#[test]
fn any_parameters_do() {
    let likeliest = text("A row", &["--temperature", "0"]);
    assert_eq!(text("A row", &["--temperature", "1e-4"]), likeliest);
    assert_eq!(text("A row", &["--temperature", "5e-324"]), likeliest);
    assert_eq!(text("A row", &["--top-k", "1", "--temperature", "1e300"]), likeliest);
    assert_eq!(text("A row", &["--top-p", "1e-9", "--seed", "5"]), likeliest);
    assert_eq!(text("A row", &["--min-p", "1", "--seed", "6"]), likeliest);
    let any = text("A row", &["--temperature", "1e4"]);
    assert_ne!(text("A row", &["--temperature", "1e4", "--seed", "1"]), any);
    text("", &["--temperature", "1e308", "--top-k", "3", "--top-p", "0.5", "--min-p", "1e-300"]);
    text("\u{1}\u{1f6a2} \u{fe0f}\r\n\t  ", &["--top-k", "1000000"]);
}

#[test]
fn it_goes_on_beyond_what_it_sees() {
    let prompt = "A row of scores that are all masked has nothing to attend to. ".repeat(40);
    let stderr = run(&["--prompt", &prompt, "--tokens", "300", "--verify"]).stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(stderr.contains("wrote 300 tokens"), "expected `wrote 300 tokens` in stderr, got: {stderr}");
}

#[test]
fn what_can_not_be_used_is_said_before_anything_is_played() {
    let cases: &[(&[&str], &str)] = &[
        (&["--temperature", "-1"], "temperature is -1; it must be finite and not negative"),
        (&["--top-p", "0"], "top_p is 0; it must be in (0, 1]"),
        (&["--tokens", "4294967295"], "and `--tokens` is 4294967295"),
        (&["--tokens", "0"], "0 is not in 1.."),
        (&["--prompt", "a", "--top-k", "0"], "top_k is 0"),
        (&["--prompt", "a", "--profile", "gpt"], "the engine must be one of evenkeel, hf, vllm, llama_cpp, candle"),
        (&["--prompt", "a", "--profile", "hf", "--xtc-probability", "0.5"], "the hf profile does not support it"),
        (&["--prompt", "a", "--chat"], "--model"),
    ];
    for (arguments, why) in cases {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "`generate` with {arguments:?}: expected exit status 2; stderr: {stderr}"
        );
        assert!(stderr.contains(why), "`generate` with {arguments:?}: expected {why:?} in stderr, got {stderr:?}");
        assert!(output.stdout.is_empty());
    }
}

/// Tests profiles, filters and penalties with `--verify`: the filters of the reference sampler must keep each drawn
/// token.
#[test]
fn every_profile_draws_what_it_keeps() {
    let penalties = ["--repetition-penalty", "1.3", "--dry-multiplier", "0.8"];
    let counts = ["--presence-penalty", "0.2", "--frequency-penalty", "0.1", "--penalty-window", "20"];
    let sets: &[&[&str]] = &[
        &["--profile", "hf", "--top-k", "20", "--typical-p", "0.9", "--repetition-penalty", "1.2"],
        &["--profile", "vllm", "--min-p", "0.02", "--top-p", "0.95", "--presence-penalty", "0.3"],
        &["--profile", "llama_cpp", "--top-n-sigma", "2", "--xtc-probability", "0.5", "--xtc-threshold", "0.2"],
        &["--profile", "candle", "--top-k", "10", "--top-p", "0.8"],
        &["--epsilon-cutoff", "0.01", "--eta-cutoff", "0.05", "--dynamic-temperature", "0.3", "--min-keep", "2"],
        &[&["--profile", "llama_cpp"][..], &penalties, &counts].concat(),
        &[&penalties[..], &counts].concat(),
    ];
    for set in sets {
        let output = run(&[&["--prompt", "Masks are", "--tokens", "60", "--verify"][..], set].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "`generate` with {set:?}: expected exit status 0; stderr: {stderr}");
        assert!(
            stderr.contains("each verified"),
            "`generate` with {set:?}: expected `each verified` in stderr, got: {stderr}"
        );
    }
}
