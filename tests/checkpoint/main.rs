//! Checkpoints: what is said of their tensors, what is refused of hostile files.

mod findings;
mod gguf;
mod hostile;
mod hostile_gguf;
mod hostile_safetensors;
mod quantised;
mod shards;
mod statistics;
mod write;
