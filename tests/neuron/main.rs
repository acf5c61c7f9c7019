//! Tests of the Neuron backend without Neuron: a fake library and a fake compiler replace the real library and
//! compiler, and fail in every way.

#![cfg(unix)]

mod cache;
mod choice;
mod compiler;
mod device;
mod faults;
mod first_look;
mod standin;
