//! What a thread has around a call: its floating-point environment, its scopes, its level. A call neither takes the one nor
//! changes the other, whether it waits in a thread pool or unwinds.

#![deny(unsafe_code)]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[path = "../support/environment.rs"]
mod environment;

mod calls;
#[cfg(any(feature = "candle", feature = "checkpoint"))]
mod features;
mod given_back;
mod options;
mod results;
mod training;
#[cfg(feature = "parallel")]
mod waits;
