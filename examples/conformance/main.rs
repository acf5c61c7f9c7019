//! What the suites of `evenkeel::testing::conformance` find in candle-nn 0.11, and in the functions of Evenkeel that
//! stand in for it: the same calls with another import.
//!
//! `cargo run --release --features candle,testing --example conformance`

#![forbid(unsafe_code)]

mod engines;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Panics are told of in the reports.
    std::panic::set_hook(Box::new(|_| ()));
    let (theirs, ours) = (engines::candle(), engines::evenkeel());
    for (name, reports) in [("candle-nn 0.11", &theirs), ("Evenkeel", &ours)] {
        let (found, clean): (Vec<_>, Vec<_>) = reports.iter().partition(|named| !named.report.is_clean());
        println!("# {name}: {} of {} functions have defects\n", found.len(), reports.len());
        for named in found {
            println!("{}: {}\n", named.name, named.report);
        }
        let checks: usize = clean.iter().map(|named| named.report.checks).sum();
        println!("In {} functions nothing was found, in {checks} checks.\n", clean.len());
    }
    ExitCode::from(u8::from(ours.iter().any(|named| !named.report.is_clean())))
}
