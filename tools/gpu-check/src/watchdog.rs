//! A watchdog that ends the process if a kernel does not end. Nothing else can stop such a kernel.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Exit status if this process can't use the device any more. A new process then continues with the next op.
pub const GO_ON: u8 = 3;

/// A watchdog that is active until it is dropped.
pub struct Watchdog(#[allow(dead_code, reason = "dropping it stops the watchdog")] Sender<()>);

impl Watchdog {
    pub fn new(what: String, longest: Duration) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            if receiver.recv_timeout(longest) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what} did not finish within {} s", longest.as_secs());
                std::process::exit(GO_ON.into());
            }
        });
        Watchdog(sender)
    }
}
