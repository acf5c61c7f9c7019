//! Prints what the suites of `evenkeel::testing::conformance` find in candle-nn 0.11, and in Evenkeel's replacements
//! for candle's functions. To use a replacement, a program changes only an import.
//!
//! `cargo run --release --features candle,testing --example conformance`

#![forbid(unsafe_code)]

mod engines;

use engines::Named;
use std::process::ExitCode;

const LEGEND: &str = "\
Each function is tested once per storage type. Below a defect are the first rows that show it, each with the result:
[3] is result number 3, counted from 0, with its bits in parentheses. The text after > names the cause of the defect
and the remedy.";

fn main() -> ExitCode {
    // Panics are not printed, because the reports include them.
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
