//! Checkpoints: what is said of their tensors, what is refused of hostile files, and the example `inspect` run.

#[path = "../support/example.rs"]
mod example;
mod findings;
mod gguf;
mod hostile;
mod hostile_gguf;
mod hostile_safetensors;
mod program;
mod quantised;
mod shards;
mod statistics;
mod write;
