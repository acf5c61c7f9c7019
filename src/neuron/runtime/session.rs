//! The programs that a process runs on a device, each loaded once.

#![forbid(unsafe_code)]

use super::device::{Device, Loaded};
use crate::neuron::cache::program_sum;
use crate::neuron::execute::Execute;
use crate::neuron::fault::Result;
use crate::neuron::program::Program;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

/// A device with the programs that were run on it, which stay loaded: compiling takes minutes, and loading is no part
/// of a step. It can be shared by threads, which take turns.
#[derive(Debug)]
pub struct Session {
    device: Device,
    loaded: Mutex<HashMap<[u8; 32], Loaded>>,
}

impl Session {
    /// One without programs.
    pub fn new(device: Device) -> Self {
        Session { device, loaded: Mutex::default() }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Compiles and loads a program now, so that what keeps it from running is known at the start.
    ///
    /// # Errors
    /// Those of [`Device::load`].
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
    /// Runs a program, which is compiled and loaded the first time.
    ///
    /// # Errors
    /// Those of [`Device::load`] and [`Loaded::run`].
    fn execute(&self, program: &Program, inputs: &[&[u8]]) -> crate::Result<Vec<Vec<u8>>> {
        Ok(self.with(program, |loaded| loaded.run(inputs).map(<[_]>::to_vec))?)
    }
}
