//! The environment variables that this backend reads. It sets none: the runtime reads its own when it is initialised,
//! and setting them is not safe in a process with threads.

#![forbid(unsafe_code)]

use super::fault::{Fault, Result};
use std::ffi::OsString;
use std::time::Duration;

/// The runtime's library, instead of the usual names.
pub(super) const LIBRARY: &str = "EVENKEEL_LIBNRT";
/// The compiler's program, instead of `neuronx-cc` on the PATH.
pub(super) const COMPILER: &str = "EVENKEEL_NEURONX_CC";
/// In which form programs are handed to the compiler: `hlo` or `stablehlo`.
pub(super) const FORM: &str = "EVENKEEL_NEURON_FORM";
/// For what the compiler compiles, where the runtime doesn't know the instance.
pub(super) const TARGET: &str = "EVENKEEL_NEURON_TARGET";
/// Seconds that one compilation may take.
pub(super) const LIMIT: &str = "EVENKEEL_NEURON_COMPILE_SECONDS";
/// The folder of compiled programs.
pub(super) const CACHE: &str = "EVENKEEL_NEURON_CACHE";

/// The runtime's: more than 0 has runs return before they are done.
pub(super) const IN_FLIGHT: &str = "NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS";
/// The runtime's: 1 rounds at random where it would round to nearest.
pub(super) const STOCHASTIC: &str = "NEURON_RT_STOCHASTIC_ROUNDING_EN";
/// The runtime's and the compiler's: physical cores of a logical one.
pub(super) const LOGICAL: &str = "NEURON_LOGICAL_NC_CONFIG";

/// A variable that is set, and not to nothing.
pub(super) fn path(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The same as text, without spaces around it.
pub(super) fn text(variable: &str) -> Option<String> {
    path(variable).map(|value| value.to_string_lossy().trim().to_string())
}

/// How long a compilation may take: half an hour by default.
pub(super) fn limit() -> Result<Duration> {
    let Some(value) = text(LIMIT) else { return Ok(Duration::from_secs(1800)) };
    match value.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Fault::setting(LIMIT, value, "a number of seconds above 0")),
    }
}

/// Physical cores of a logical core of the second generation.
pub(super) fn logical_cores() -> Result<u8> {
    match text(LOGICAL).as_deref() {
        None | Some("2") => Ok(2),
        Some("1") => Ok(1),
        Some(other) => Err(Fault::setting(LOGICAL, other, "1 or 2")),
    }
}

/// Whether casts are rounded at random.
pub(super) fn stochastic_rounding() -> bool {
    text(STOCHASTIC).is_some_and(|value| value == "1")
}

/// Refuses a runtime whose runs return before they are done, with a status that is not theirs.
pub(super) fn refuse_asynchronous() -> Result<()> {
    match text(IN_FLIGHT) {
        Some(value) if value != "0" => Err(Fault::Unavailable {
            reason: format!(
                "{IN_FLIGHT} is {value}: runs would return before they are done, and what went wrong with them would \
                 not be known; unset it"
            ),
        }),
        _ => Ok(()),
    }
}
