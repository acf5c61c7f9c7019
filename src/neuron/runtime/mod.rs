//! Interface to Neuron's runtime library, libnrt, which loads compiled programs and runs them.

mod abi;
mod device;
mod infos;
mod library;
mod model;
mod session;
mod worker;

pub use device::{About, Device, Loaded, available};
pub use session::Session;
