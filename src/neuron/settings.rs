//! Environment variables that this backend reads. The backend sets none, because setting a variable is not safe in a
//! process with threads.

#![forbid(unsafe_code)]

use crate::error::fault::{Fault, Result};
use std::ffi::OsString;
use std::time::Duration;

/// Variable with the path of the runtime's library. If it is set, the library is not searched for under its usual
/// names.
pub(super) const LIBRARY: &str = "EVENKEEL_LIBNRT";
/// Variable with the path of the compiler. By default, `neuronx-cc` on the PATH is used.
pub(super) const COMPILER: &str = "EVENKEEL_NEURONX_CC";
/// Variable with the form in which programs are passed to the compiler: `hlo` or `stablehlo`.
pub(super) const FORM: &str = "EVENKEEL_NEURON_FORM";
/// Variable with the compilation target. It is required if the runtime does not report the instance family.
pub(super) const TARGET: &str = "EVENKEEL_NEURON_TARGET";
/// Variable with the maximum number of seconds for one compilation.
pub(super) const LIMIT: &str = "EVENKEEL_NEURON_COMPILE_SECONDS";
/// Variable with the folder of compiled programs.
pub(super) const CACHE: &str = "EVENKEEL_NEURON_CACHE";

/// Variable of the runtime. If it is above 0, the call that starts a run returns before the run finishes.
pub(super) const IN_FLIGHT: &str = "NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS";
/// Variable of the runtime. If it is 1, casts are rounded stochastically, not to nearest.
pub(super) const STOCHASTIC: &str = "NEURON_RT_STOCHASTIC_ROUNDING_EN";
/// Variable of the runtime and the compiler: number of physical cores in a logical core.
pub(super) const LOGICAL: &str = "NEURON_LOGICAL_NC_CONFIG";

/// Returns a variable's value if it is set and not empty.
pub(super) fn path(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// Returns a variable's value as text without surrounding spaces.
pub(super) fn text(variable: &str) -> Option<String> {
    path(variable).map(|value| value.to_string_lossy().trim().to_string())
}

/// Returns the maximum duration of a compilation: half an hour by default.
pub(super) fn limit() -> Result<Duration> {
    let Some(value) = text(LIMIT) else { return Ok(Duration::from_secs(1800)) };
    match value.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Fault::setting(LIMIT, value, "a number of seconds above 0")),
    }
}

/// Returns the number of physical cores in a logical core of second-generation Trainium.
pub(super) fn logical_cores() -> Result<u8> {
    match text(LOGICAL).as_deref() {
        None | Some("2") => Ok(2),
        Some("1") => Ok(1),
        Some(other) => Err(Fault::setting(LOGICAL, other, "1 or 2")),
    }
}

/// Returns whether casts are rounded stochastically.
pub(super) fn stochastic_rounding() -> bool {
    text(STOCHASTIC).is_some_and(|value| value == "1")
}

/// Returns an error if calls of the runtime are set to return before their runs finish, because the status of such a
/// run is lost.
pub(super) fn refuse_asynchronous() -> Result<()> {
    match text(IN_FLIGHT) {
        Some(value) if value != "0" => Err(Fault::Unavailable {
            reason: format!(
                "{IN_FLIGHT} is {value}: runs would return before they finish, and their errors would be lost; \
                 unset it"
            ),
        }),
        _ => Ok(()),
    }
}
