//! The `generate` example, run as a program: its scenes, its own model and how that is trained, text from a small
//! checkpoint, and what it refuses.

mod built_in;
mod checkpoint;
#[path = "../support/example.rs"]
mod example;
mod refusals;
mod scenes;
mod text;
mod trained;
mod watched;
