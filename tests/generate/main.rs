//! The `generate` example, run as a program: its scenes, text from a small checkpoint, and what it refuses.

mod checkpoint;
#[path = "../support/example.rs"]
mod example;
mod refusals;
mod scenes;
mod text;
