//! Ends the process where a kernel does not end: nothing else can.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// What the process ends with where the device is of no more use to it: another process goes on with the next op.
pub const GO_ON: u8 = 3;

/// Watches until it is dropped.
pub struct Watchdog(#[allow(dead_code, reason = "it is its end that tells")] Sender<()>);

impl Watchdog {
    pub fn new(what: String, longest: Duration) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            if receiver.recv_timeout(longest) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what}: nothing for {} s", longest.as_secs());
                std::process::exit(GO_ON.into());
            }
        });
        Watchdog(sender)
    }
}
