//! Where the model runs.

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use std::str::FromStr;

/// `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cpu,
    /// A device by its number.
    Cuda(usize),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.split_once(':') {
            None if name == "cpu" => Ok(Place::Cpu),
            None if name == "cuda" => Ok(Place::Cuda(0)),
            Some(("cuda", number)) => {
                number.parse().map(Place::Cuda).map_err(|_| format!("{number} is no device's number"))
            }
            _ => Err("there are cpu, cuda and cuda:N".to_string()),
        }
    }
}

impl Place {
    /// The device.
    pub fn device(self) -> Result<Device> {
        let Place::Cuda(ordinal) = self else { return Ok(Device::Cpu) };
        let has_cuda = cfg!(feature = "candle-cuda");
        ensure!(
            has_cuda,
            "this program was built without CUDA: build it with --features candle-cuda for device {ordinal}"
        );
        Device::new_cuda(ordinal).with_context(|| format!("CUDA device {ordinal}"))
    }
}
