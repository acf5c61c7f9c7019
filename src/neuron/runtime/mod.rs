//! Neuron's runtime library, libnrt: from a compiled program to results.

mod abi;
mod device;
mod infos;
mod library;
mod model;
mod session;
mod status;
mod worker;

pub use device::{About, Device, Loaded, available};
pub use session::Session;
pub use status::NrtStatus;
