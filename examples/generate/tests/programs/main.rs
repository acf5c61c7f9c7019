//! Tests of the programs `generate` and `train`: scenes, the built-in model and its training, text from a small
//! checkpoint, and errors.

mod built_in;
mod checkpoint;
mod refusals;
mod scenes;
mod text;
mod trained;
mod watched;
