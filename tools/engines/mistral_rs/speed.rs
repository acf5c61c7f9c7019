//! Measures the tokens per second of mistral.rs before and after the change.
//!
//! usage: speed CHECKPOINT BEFORE AFTER, where CHECKPOINT is a GGUF file, and BEFORE and AFTER are this program, built
//! with the unchanged and with the changed engine. With CHECKPOINT alone, the program prints the greedy text and a rate
//! for each request.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mistralrs::{GgufModelBuilder, Model, RequestBuilder, SamplingParams, TextMessageRole};

/// Length of a text, in tokens.
const LENGTH: usize = 64;

/// Number of turns. In a turn, each of the two programs is started once.
const TURNS: usize = 12;

/// Names of the requests, and their temperature, top-k and top-p. The first request is greedy.
const REQUESTS: [(&str, f64, Option<usize>, Option<f64>); 4] = [
    ("top-k 1", 1.0, Some(1), None),
    ("temperature 0.8", 0.8, None, None),
    ("top-p 0.95", 0.8, None, Some(0.95)),
    ("top-k 40, top-p 0.95", 0.8, Some(40), Some(0.95)),
];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [checkpoint] => measure(Path::new(checkpoint)).await,
        [checkpoint, before, after] => compare(checkpoint, [before, after]),
        _ => anyhow::bail!("usage: speed CHECKPOINT [BEFORE AFTER]"),
    }
}

/// Runs the programs in turns, and prints the median rate of each program for each request. Fails if the programs write
/// different greedy texts.
fn compare(checkpoint: &str, programs: [&str; 2]) -> Result<()> {
    let mut rates = vec![[Vec::new(), Vec::new()]; REQUESTS.len()];
    let mut texts = Vec::new();
    for turn in 0..TURNS {
        // The programs start first in turns.
        for column in [turn % 2, 1 - turn % 2] {
            let program = programs[column];
            let output = Command::new(program).arg(checkpoint).output()?;
            ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            let output = String::from_utf8(output.stdout)?;
            let mut lines = output.lines();
            texts.push(lines.next().context("the program must print a text")?.to_owned());
            for rates in &mut rates {
                let rate = lines.next().context("the program must print a rate for each request")?;
                rates[column].push(rate.parse()?);
            }
        }
    }
    println!("greedy text of {LENGTH} tokens: {}", texts[0]);
    ensure!(texts.iter().all(|text| *text == texts[0]), "the greedy texts must be equal, got {texts:?}");
    for ((name, ..), rates) in REQUESTS.iter().zip(rates) {
        let [before, after] = rates.map(median);
        println!("{name}: {before:.2} tokens/s before, {after:.2} after, ratio {:.3}", after / before);
    }
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Prints the greedy text, and the tokens per second for each request.
async fn measure(checkpoint: &Path) -> Result<()> {
    let checkpoint = checkpoint.canonicalize()?;
    let folder = checkpoint.parent().context("the checkpoint must be a file")?.display();
    let file = checkpoint.file_name().context("the checkpoint must be a file")?.to_string_lossy();
    let model = GgufModelBuilder::new(folder, vec![file]).with_force_cpu().build().await?;
    // The first request is slower than later ones, so its time does not count.
    println!("{:?}", generate(&model, REQUESTS[0], LENGTH).await?.0);
    for request in REQUESTS {
        // The difference does not include the time for the prompt.
        let (first, all) = (generate(&model, request, 1).await?.1, generate(&model, request, LENGTH + 1).await?.1);
        println!("{}", LENGTH as f64 / (all - first).as_secs_f64());
    }
    Ok(())
}

/// Returns a text of `length` tokens, and the time from the request to the last token.
async fn generate(
    model: &Model,
    (_, temperature, top_k, top_p): (&str, f64, Option<usize>, Option<f64>),
    length: usize,
) -> Result<(String, Duration)> {
    let request = RequestBuilder::new()
        .add_message(TextMessageRole::User, "Tell me of a captain and a calm sea.")
        .set_sampling(SamplingParams {
            temperature: Some(temperature),
            top_k,
            top_p,
            max_len: Some(length),
            ignore_eos: true,
            ..SamplingParams::neutral()
        });
    let start = Instant::now();
    let response = model.send_chat_request(request).await?;
    let time = start.elapsed();
    Ok((response.choices[0].message.content.clone().unwrap_or_default(), time))
}
