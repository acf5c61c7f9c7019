//! Programs that a process runs on a device, each loaded once.

#![forbid(unsafe_code)]

use super::device::{Device, Loaded};
use crate::error::fault::Result;
use crate::neuron::cache::program_sum;
use crate::neuron::execute::Execute;
use crate::neuron::program::Program;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

/// A device with all programs that have run on it. Programs stay loaded, so that later runs wait neither for loading
/// nor for compilation, which takes minutes. Threads can share a session; their runs are serialised.
#[derive(Debug)]
pub struct Session {
    device: Device,
    loaded: Mutex<HashMap<[u8; 32], Loaded>>,
}

impl Session {
    /// Creates a session without loaded programs.
    pub fn new(device: Device) -> Self {
        Session { device, loaded: Mutex::default() }
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Compiles and loads a program now, so that errors appear at the start.
    ///
    /// # Errors
    /// The errors of [`Device::load`].
    pub fn load(&self, program: &Program) -> Result<()> {
        self.with(program, |_| Ok(()))
    }

    fn with<R>(&self, program: &Program, work: impl FnOnce(&mut Loaded) -> Result<R>) -> Result<R> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match loaded.entry(program_sum(program)) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(place) => place.insert(self.device.load(program)?),
        };
        work(loaded)
    }
}

impl Execute for Session {
    /// Runs a program. The program is compiled and loaded at its first use.
    ///
    /// # Errors
    /// The errors of [`Device::load`] and [`Loaded::run`].
    fn execute(&self, program: &Program, inputs: &[&[u8]]) -> crate::Result<Vec<Vec<u8>>> {
        Ok(self.with(program, |loaded| loaded.run(inputs).map(<[_]>::to_vec))?)
    }
}
