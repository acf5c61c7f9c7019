//! What the suites of `evenkeel::testing::conformance` find in candle-nn 0.11, and in the functions of Evenkeel that
//! stand in for it: the same calls with another import.
//!
//! `cargo run --release --features candle,testing --example conformance`

#![forbid(unsafe_code)]

mod engines;

use engines::Named;
use std::process::ExitCode;

const LEGEND: &str = "\
Each function is asked once for each storage type. Under a defect stand the first rows that show it, each with what
came of it: [3] is the fourth result, in parentheses are its bits. What follows > is where the defect comes from, and
what to do instead.";

fn main() -> ExitCode {
    // Panics are told of in the reports.
    std::panic::set_hook(Box::new(|_| ()));
    let (theirs, ours) = (engines::candle(), engines::evenkeel());
    println!("{LEGEND}");
    for (name, reports) in [("candle-nn 0.11", &theirs), ("Evenkeel", &ours)] {
        let found = reports.iter().filter(|named| !named.report.is_clean()).count();
        println!("\n# {name}: defects in {found} of {} reports", reports.len());
        for Named { name, report } in reports.iter().filter(|named| !named.report.is_clean()) {
            println!("\n{name}: {report}");
        }
        println!();
        for Named { name, report } in reports.iter().filter(|named| named.report.is_clean()) {
            println!("{name}: {report}");
        }
    }
    ExitCode::from(u8::from(ours.iter().any(|named| !named.report.is_clean())))
}
