//! Text from a checkpoint.

use crate::checkpoint::Checkpoint;
use candle_core::quantized::GgmlDType;
use std::process::Output;

/// Returns stdout and stderr of a successful run.
#[track_caller]
fn well(output: Output) -> (Vec<u8>, String) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "`generate`: expected exit status 0; stderr: {stderr}");
    (output.stdout, stderr)
}

/// Returns the number of tokens that were read, as a run reports it on stderr.
fn tokens_read(stderr: &str) -> &str {
    let read = stderr.lines().find_map(|line| line.strip_prefix("read "));
    read.and_then(|read| read.split_whitespace().next()).unwrap_or_default()
}

/// Returns the number of tokens of a prompt with this pre-tokenizer.
fn tokens(pre: &str, prompt: &str) -> String {
    let checkpoint = Checkpoint::new().text("tokenizer.ggml.pre", pre);
    let (_, stderr) = well(checkpoint.run(&["--prompt", prompt, "--tokens", "1"]));
    tokens_read(&stderr).to_string()
}

#[test]
fn a_seed_makes_the_text() {
    let checkpoint = Checkpoint::new();
    let run = |arguments: &[&str]| {
        let all = ["--prompt", "a keel", "--tokens", "40", "--verify"];
        well(checkpoint.run(&[&all[..], arguments].concat()))
    };
    let (text, stderr) =
        run(&["--seed", "7", "--temperature", "0.7", "--top-k", "50", "--top-p", "0.9", "--min-p", "0.01"]);
    assert_eq!(
        run(&["--seed", "7", "--temperature", "0.7", "--top-k", "50", "--top-p", "0.9", "--min-p", "0.01"]).0,
        text
    );
    assert_ne!(
        run(&["--seed", "8", "--temperature", "0.7", "--top-k", "50", "--top-p", "0.9", "--min-p", "0.01"]).0,
        text
    );
    assert!(stderr.contains("each verified"), "expected `each verified` in stderr, got: {stderr}");
    assert!(
        stderr.contains("guards reported: rms_norm: none · rope: none · attention: none"),
        "expected stderr to show that the guards report `none`, got: {stderr}"
    );
    // The text is valid UTF-8, because bytes are held back until they form a complete character. Bytes that never form
    // a character do not end the text.
    assert!(String::from_utf8(text).is_ok());
    // Greedy decoding draws nothing, so the seed has no effect.
    assert_eq!(run(&["--temperature", "0", "--seed", "1"]).0, run(&["--temperature", "0", "--seed", "2"]).0);
}

#[test]
fn a_long_prompt_is_read_in_parts() {
    let checkpoint = Checkpoint::new();
    let long = "keel ".repeat(110);
    let (_, stderr) = well(checkpoint.run(&["--prompt", &long, "--tokens", "8", "--verify"]));
    assert_eq!(tokens_read(&stderr), "550", "the long prompt must be read as 550 tokens; stderr: {stderr}");
}

#[test]
fn the_model_can_end_its_text() {
    let mut checkpoint = Checkpoint::new();
    let vocabulary = checkpoint.tensors["token_embd.weight"].shape().dims()[0];
    let output = vec![0.0; vocabulary * 64];
    checkpoint.set_values("output_norm.weight", &[64], vec![0.0; 64], GgmlDType::F32);
    checkpoint.set_values("output.weight", &[vocabulary, 64], output, GgmlDType::F32);
    let greedy = ["--prompt", "a", "--tokens", "5", "--temperature", "0"];
    let (text, _) = well(checkpoint.run(&greedy));
    // All logits are equal, so greedy decoding selects the first token, which has no text.
    assert_eq!(text, b"\n");
    let (_, stderr) = well(checkpoint.number("tokenizer.ggml.eos_token_id", 0).run(&greedy));
    assert!(stderr.contains("wrote 0 tokens"), "expected `wrote 0 tokens` in stderr, got: {stderr}");
}

#[test]
fn texts_are_split_as_the_model_was_trained() {
    // The merges include "1 2" and "a b", so "12ab" is 3 tokens if digits are split, and 2 tokens otherwise.
    assert_eq!(tokens("smollm", "12ab"), "3");
    assert_eq!(tokens("gpt-2", "12ab"), "2");
    assert_eq!(tokens("default", "12ab"), "2");
    assert_eq!(tokens("llama-bpe", "12ab"), "2");
    assert_eq!(tokens("qwen2", "12ab"), "3");
    // The tokenizer adds no space in front of a text, and a space belongs to the word after it.
    assert_eq!(tokens("smollm", "a a"), "2");
}

#[test]
fn chats_are_in_the_checkpoints_own_format() {
    let (_, stderr) = well(Checkpoint::new().run(&["--chat", "--prompt", "ab", "--tokens", "1"]));
    assert_eq!(tokens_read(&stderr), "2", "the chat prompt must be read as 2 tokens; stderr: {stderr}");
}
