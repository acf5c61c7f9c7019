//! Status codes of the Neuron runtime, and how to handle each.

use super::fault::Action;
use std::fmt;

/// Status code that a call to the Neuron runtime returned. It is a plain number, because newer runtimes define more
/// codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a status is one number")]
pub struct NrtStatus(pub i32);

/// Entry of the table of status codes: number, name, meaning, action, and whether the device is broken for this
/// process.
struct Entry(i32, &'static str, &'static str, Action, bool);

use Action::{Bug, FallBack, Numerical, Retry, Surface};

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    Entry(0, "NRT_SUCCESS", "success", Surface, false),
    Entry(1, "NRT_FAILURE", "an unspecified failure", Surface, false),
    Entry(2, "NRT_INVALID", "an invalid program, descriptor, name or size", Bug, false),
    Entry(3, "NRT_INVALID_HANDLE", "an invalid handle", Bug, false),
    Entry(4, "NRT_RESOURCE", "a resource is not available", FallBack, false),
    Entry(5, "NRT_TIMEOUT", "the operation took too long", Surface, false),
    Entry(6, "NRT_HW_ERROR", "the hardware failed", Surface, false),
    Entry(7, "NRT_QUEUE_FULL", "the queue of runs is full", Retry, false),
    Entry(9, "NRT_LOAD_NOT_ENOUGH_NC", "there are not enough cores for the program", FallBack, false),
    Entry(10, "NRT_UNSUPPORTED_NEFF_VERSION", "the program is for another target or runtime", FallBack, false),
    Entry(11, "NRT_FAIL_HOST_MEM_ALLOC", "there is not enough memory", FallBack, false),
    Entry(13, "NRT_UNINITIALIZED", "the runtime is not initialised", Bug, false),
    Entry(14, "NRT_CLOSED", "the runtime is closed", Bug, false),
    Entry(15, "NRT_QUEUE_EMPTY", "a queue has nothing to read", Bug, false),
    Entry(101, "NRT_EXEC_UNIT_UNRECOVERABLE", "the execution unit needs a reset", Surface, true),
    Entry(1002, "NRT_EXEC_BAD_INPUT", "the inputs do not match the program", Bug, false),
    Entry(1003, "NRT_EXEC_COMPLETED_WITH_NUM_ERR", "the run produced a NaN", Numerical, false),
    Entry(1004, "NRT_EXEC_COMPLETED_WITH_ERR", "the run ended with an error", Surface, false),
    Entry(1005, "NRT_EXEC_NC_BUSY", "another model or process is using the core", FallBack, false),
    Entry(1006, "NRT_EXEC_OOB", "an index was out of bounds", Surface, false),
    Entry(1100, "NRT_COLL_PENDING", "a collective is pending", Surface, false),
    Entry(1200, "NRT_EXEC_HW_ERR_COLLECTIVES", "a collective is stuck", Surface, false),
    Entry(1201, "NRT_EXEC_HW_ERR_HBM_UE", "memory is damaged", Surface, true),
    Entry(1202, "NRT_EXEC_HW_ERR_NC_UE", "memory of the core is damaged", Surface, true),
    Entry(1203, "NRT_EXEC_HW_ERR_DMA_ABORT", "a DMA engine failed", Surface, true),
    Entry(1204, "NRT_EXEC_SW_NQ_OVERFLOW", "a notification queue overflowed", Surface, false),
    Entry(1205, "NRT_EXEC_HW_ERR_REPAIRABLE_HBM_UE", "memory was damaged, and can be repaired", Surface, false),
    Entry(1206, "NRT_NETWORK_PROXY_FAILURE", "the network proxy failed", Surface, false),
];

impl NrtStatus {
    pub(crate) const SUCCESS: NrtStatus = NrtStatus(0);
    pub(crate) const FAILURE: NrtStatus = NrtStatus(1);
    pub(crate) const UNSUPPORTED_NEFF: NrtStatus = NrtStatus(10);
    pub(crate) const NUMERICAL: NrtStatus = NrtStatus(1003);

    fn entry(self) -> Option<&'static Entry> {
        TABLE.iter().find(|entry| entry.0 == self.0)
    }

    /// Returns the runtime's name for the status, if the status is known.
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|entry| entry.1)
    }

    /// Returns how to handle the status. The action for an unknown status is [`Action::Surface`].
    pub fn action(self) -> Action {
        self.entry().map_or(Surface, |entry| entry.3)
    }

    /// Returns whether the device is broken for the rest of the process.
    pub fn breaks_device(self) -> bool {
        self.entry().is_some_and(|entry| entry.4)
    }
}

impl fmt::Display for NrtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry() {
            Some(Entry(number, name, meaning, ..)) => write!(f, "{meaning} ({name}, {number})"),
            None => write!(f, "an unknown status ({})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_and_actions_those_of_the_runtimes_documentation() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        let of = |action| TABLE.iter().filter(|e| e.3 == action).map(|e| e.0).collect::<Vec<_>>();
        assert_eq!(of(FallBack), [4, 9, 10, 11, 1005]);
        assert_eq!(of(Bug), [2, 3, 13, 14, 15, 1002]);
        assert_eq!((of(Numerical), of(Retry)), (vec![1003], vec![7]));
        assert_eq!(TABLE.iter().filter(|e| e.4).map(|e| e.0).collect::<Vec<_>>(), [101, 1201, 1202, 1203]);
        assert_eq!((NrtStatus(8).name(), NrtStatus(8).action()), (None, Surface));
        assert_eq!(NrtStatus(1005).to_string(), "another model or process is using the core (NRT_EXEC_NC_BUSY, 1005)");
    }
}
