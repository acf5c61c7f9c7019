//! Invalid arguments and files, and the errors for them.

use crate::checkpoint::{Checkpoint, run};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use std::process::{Command, Output};

#[track_caller]
fn refused(output: Output, why: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "`generate`: expected exit status 2; stderr: {stderr}");
    assert!(stderr.contains(why), "expected {why:?} in the stderr of `generate`, got {stderr:?}");
    assert!(!stderr.contains("thread 'main'"), "`generate` must not panic; stderr: {stderr}");
    assert!(output.stdout.is_empty());
}

const PROMPT: [&str; 4] = ["--prompt", "a keel", "--tokens", "4"];

#[test]
fn usage() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_generate"))
            .args(arguments)
            .output()
            .expect("the program `generate` must start")
    };
    refused(run(&["--model", "x.gguf"]), "--prompt");
    refused(run(&["--chat"]), "--model");
    refused(run(&["--nonsense"]), "--nonsense");
    refused(run(&["--model", "nowhere.gguf", "--prompt", "a"]), "can't open nowhere.gguf");
    refused(run(&["--model", ".", "--prompt", "a"]), "not a GGUF file");
    refused(run(&["--model", "x.gguf", "--prompt", "a", "--tokens", "0"]), "0 is not in 1..");
    refused(run(&["--model", "x.gguf", "--prompt", "a", "--seed", "-1"]), "--seed");
    refused(run(&["--backend", "gpu"]), "gpu: unknown backend; use auto, neuron, cuda or cpu");
    refused(run(&["--backend", "cuda:x"]), "x is not a device number");
    if !cfg!(feature = "candle-cuda") {
        refused(
            run(&["--backend", "cuda:1"]),
            "cuda: the backend is not in this build; build with `--features candle-cuda` to use device 1",
        );
    }
}

#[test]
fn parameters() {
    let cases: &[(&[&str], &str)] = &[
        (&["--prompt", ""], "the prompt is empty"),
        (&["--prompt", "a", "--temperature", "-1"], "temperature is -1; it must be finite and not negative"),
        (&["--prompt", "a", "--temperature", "nan"], "temperature is NaN"),
        (&["--prompt", "a", "--temperature", "inf"], "temperature is inf"),
        (&["--prompt", "a", "--top-p", "0"], "top_p is 0; it must be in (0, 1]"),
        (&["--prompt", "a", "--top-p", "1.2"], "top_p is 1.2; it must be in (0, 1]"),
        (&["--prompt", "a", "--min-p", "-0.5"], "min_p is -0.5; it must be in [0, 1]"),
        (&["--prompt", "a", "--top-k", "0"], "top_k is 0; it must be at least 1"),
        (&["--prompt", "a", "--top-k", "-1"], "--top-k"),
        (
            &["--prompt", "a", "--tokens", "600"],
            "the prompt has 1 tokens and `--tokens` is 600, 601 tokens in all; the model's context is 600",
        ),
    ];
    let checkpoint = Checkpoint::new();
    for (arguments, why) in cases {
        refused(checkpoint.run(arguments), why);
    }
}

#[test]
fn checkpoints() {
    let refuse = |checkpoint: Checkpoint, why: &str| refused(checkpoint.run(&PROMPT), why);
    let new = Checkpoint::new;
    refuse(new().text("general.architecture", "bert"), "is `bert`; only `llama` is supported");
    refuse(new().without("general.architecture"), "has no general.architecture");
    refuse(new().number("general.architecture", 1), "general.architecture is not a string");
    refuse(new().text("tokenizer.ggml.model", "llama"), "the tokenizer model is `llama`; only `gpt2`");
    refuse(new().text("tokenizer.ggml.pre", "tekken"), "`tekken`; it must be one of default, gpt-2");
    refuse(new().without("tokenizer.ggml.tokens"), "has no tokenizer.ggml.tokens");
    refuse(new().number("tokenizer.ggml.tokens", 3), "tokenizer.ggml.tokens is not a list");
    refuse(new().without("tokenizer.ggml.merges"), "merges");
    refuse(new().number("tokenizer.ggml.eos_token_id", 10_000), "eos_token_id is U32(10000)");
    refuse(new().without("llama.block_count"), "has no llama.block_count");
    refuse(new().number("llama.block_count", 0), "llama.block_count is U32(0); it must be in 1 ..= 1024");
    refuse(new().number("llama.block_count", 3), "has no tensor `blk.2.attn_norm.weight`");
    refuse(new().number("llama.embedding_length", u32::MAX), "llama.embedding_length");
    refuse(
        new().number("llama.embedding_length", 66),
        "the number of columns is 66; it must be a multiple of 4, the number of heads",
    );
    refuse(new().number("llama.embedding_length", 60), "the number of columns of a head is 15; it must be even");
    refuse(new().number("llama.embedding_length", 128), "token_embd.weight has shape [261, 64]; [261, 128] is needed");
    refuse(new().number("llama.attention.head_count", 0), "llama.attention.head_count");
    refuse(
        new().number("llama.attention.head_count", 3),
        "the number of query heads is 3; it must be a multiple of 2, the number of key heads",
    );
    refuse(new().number("llama.attention.head_count_kv", 5), "head_count_kv is U32(5); it must be in 1 ..= 4");
    refuse(new().number("llama.rope.dimension_count", 8), "llama.rope.dimension_count is 8; it must be 16");
    refuse(new().number("llama.rope.freq_base", 0), "freq_base is U32(0); it must be a number");
    refuse(new().number("llama.expert_count", 8), "llama.expert_count");
    refuse(new().without("blk.1.ffn_up.weight"), "has no tensor `blk.1.ffn_up.weight`");
    let mut scaled = new();
    scaled.set("rope_freqs.weight", &[8], GgmlDType::F32);
    refuse(scaled, "rope_freqs");
    for (theta, shown) in [(-1.0, "theta is -1"), (f32::NAN, "theta is NaN")] {
        let mut checkpoint = new();
        checkpoint.metadata.insert("llama.rope.freq_base".into(), Value::F32(theta));
        refuse(checkpoint, shown);
    }
    let mut negative = new();
    negative.metadata.insert("llama.attention.layer_norm_rms_epsilon".into(), Value::F32(-1.0));
    refuse(negative, "eps is -1");
}

#[test]
fn chats() {
    let chat = ["--chat", "--prompt", "a", "--tokens", "1"];
    refused(
        Checkpoint::new().without("tokenizer.chat_template").run(&chat),
        "has no chat template; leave `--chat` out",
    );
    for template in ["{% for %}", "{{ nothing.of.this }}", "{{ messages[0].content.strip() }}"] {
        let checkpoint = Checkpoint::new().text("tokenizer.chat_template", template);
        refused(checkpoint.run(&chat), "template can't be used; leave `--chat` out");
    }
}

#[test]
fn broken_weights_are_named_where_they_show() {
    let mut checkpoint = Checkpoint::new();
    let vocabulary = checkpoint.tensors["token_embd.weight"].shape().dims()[0];
    let mut output = vec![0.0; vocabulary * 64];
    output[17 * 64] = f32::NAN;
    checkpoint.set_values("output.weight", &[vocabulary, 64], output, GgmlDType::F32);
    let output = checkpoint.run(&PROMPT);
    assert!(String::from_utf8_lossy(&output.stderr).contains("step 0: sample: row 0 of the input has NaN at index 17"));
    assert_eq!(output.status.code(), Some(2));
    let output = checkpoint.run(&[&PROMPT[..], &["--verify"]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("step 0, token 17: the token's logit is NaN"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn files() {
    let file = Checkpoint::new().file();
    for len in [0, 3] {
        refused(run(&file[..len], &PROMPT), "is not a GGUF file");
    }
    for len in [4, 8, 20, 100, 1000, 5000, file.len() / 2, file.len() - 1000] {
        refused(run(&file[..len], &PROMPT), "is truncated or damaged");
    }
    // Candle divides by the alignment, so an alignment of 0 makes candle panic.
    let aligned = Checkpoint::new().number("general.alignment", 0);
    refused(aligned.run(&PROMPT), "is truncated or damaged: candle's GGUF reader cannot parse the metadata");
    let mut version = file.clone();
    version[4] = 9;
    refused(run(&version, &PROMPT), "is truncated or damaged: gguf: unsupported magic/version");
    refused(run(b"GGUX and more", &PROMPT), "is not a GGUF file");
}

/// Tests that damage anywhere in the header either gives an error or has no effect, and never causes a panic.
#[test]
fn damage() {
    let file = Checkpoint::new().file();
    let header = 3 * file.len() / 10;
    let mut state = 1u64;
    for _ in 0..48 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut damaged = file.clone();
        damaged[(state >> 33) as usize % header] ^= 1 << (state >> 61);
        let output = run(&damaged, &PROMPT);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 2)),
            "`generate` with a damaged header: expected exit status 0 or 2, got {}; stderr: {stderr}",
            output.status
        );
        assert!(!stderr.contains("panicked"), "`generate` must not panic; stderr: {stderr}");
    }
}
