//! The programs `generate` and `train`: their scenes, its own model and how that is trained, text from a small
//! checkpoint, and what it refuses.

mod built_in;
mod checkpoint;
mod refusals;
mod scenes;
mod text;
mod trained;
mod watched;
