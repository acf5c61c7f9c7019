//! Tests of checkpoints: findings about their tensors, and errors about hostile files.

mod findings;
mod gguf;
mod hostile;
mod hostile_gguf;
mod hostile_safetensors;
mod quantised;
mod shards;
mod statistics;
mod write;
