//! The Neuron backend without Neuron: a library and a compiler of the tests' own stand for it, and fail in every way.

#![cfg(unix)]

mod cache;
mod choice;
mod compiler;
mod device;
mod faults;
mod first_look;
mod standin;
