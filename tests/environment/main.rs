//! Tests of a thread's state: the floating-point environment, the open report scopes and the instruction set. A call
//! neither depends on the environment nor changes this state, even if it waits in a thread pool or unwinds.

#![deny(unsafe_code)]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "../support/environment.rs"]
mod environment;

mod calls;
mod features;
mod given_back;
mod options;
mod results;
mod training;
mod waits;
