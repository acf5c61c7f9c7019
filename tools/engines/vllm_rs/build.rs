mod items;

fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let runner = |heads: &[&str]| items::items("../src/core/runner.rs", heads);
    let cached = runner(&["struct CachedSamplingParams"]);
    println!("cargo::rustc-check-cfg=cfg(changed)");
    let derive = match cached.is_empty() {
        true => {
            println!("cargo::rustc-cfg=changed");
            ""
        }
        false => "#[derive(Clone)]\n",
    };
    let free = runner(&["enum Seqs", "fn sampling_params_for_batch_index", "fn collect_guided_batch_entries"]);
    let methods = ["fn apply_requested_guidance", "fn sample_processed_logits", "fn commit_guided_tokens", "fn sample"];
    // The method must be public, because the tests that call it are in another crate.
    let methods = runner(&methods).replace("    fn sample(", "    pub fn sample(");
    let tests = runner(&["mod tests"]);
    let runner = format!("{derive}{cached}{free}impl ModelRunner {{\n{methods}}}\n#[cfg(test)]\n{tests}");
    std::fs::write(format!("{out}/runner.rs"), runner).unwrap();
    let methods = ["fn postprocess", "fn stop_sequence_match_index"];
    let methods = items::items("../src/core/scheduler.rs", &methods);
    std::fs::write(format!("{out}/scheduler.rs"), format!("impl Scheduler {{\n{methods}}}\n")).unwrap();
}
