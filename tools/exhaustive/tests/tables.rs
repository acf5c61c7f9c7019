//! Tests of the tables: storing a result replaces only its own row.

#![forbid(unsafe_code)]

use evenkeel::simd::Level;
use exhaustive::error::Error;
use exhaustive::function::function;
use exhaustive::progress::Progress;
use exhaustive::table::{Row, merge};
use exhaustive::tally::Example;
use std::fs;
use std::num::NonZeroU32;
use tempfile::TempDir;

fn row(name: &str, level: Level, misrounded: &[Example]) -> Row {
    let function = function(name).expect("every function that a test names must be a function of this program");
    let mut progress = Progress::new(function, level, NonZeroU32::MIN);
    progress.tally.inputs = 1 << 32;
    for &example in misrounded {
        progress.tally.add_misrounded(example, 0.625);
    }
    Row::new(function.reference.name(), progress)
}

#[test]
fn a_row_replaces_its_own_and_no_other() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    let read = |name: &str| {
        fs::read_to_string(folder.path().join(name)).expect("`exhaustive.tsv` and `exhaustive.md` must be readable")
    };
    let wrong = Example { x: 0x3f80_0000, got: 0x402d_f855, expected: 0x402d_f854 };
    for row in [
        row("silu", Level::Avx512, &[]),
        row("exp", Level::Portable, &[wrong]),
        row("exp", Level::Avx512, &[]),
        row("exp", Level::Avx2, &[]),
    ] {
        merge(folder.path(), row).expect("merging a row into the tables must succeed");
    }
    let places = |text: &str| -> Vec<String> {
        let fields = |line: &str| line.split('\t').take(2).collect::<Vec<_>>().join(" ");
        text.lines().skip(1).map(fields).collect()
    };
    assert_eq!(places(&read("exhaustive.tsv")), ["exp avx512", "exp avx2", "exp portable", "silu avx512"]);
    let page = read("exhaustive.md");
    assert!(
        page.contains("| `exp` | portable | CORE-MATH | 4294967296 | 1 | 0.625 | 0 | 0 |\n"),
        "the page must have the row of exp, got {page}"
    );
    assert!(
        page.contains("| `silu` | avx512 | f64 formula, MPFR | 4294967296 | 0 | at most 0.5 | 0 | 0 |\n"),
        "the page must have the row of silu, got {page}"
    );
    assert!(
        page.ends_with("\n- `exp`, portable: 3f800000:402df855:402df854\n"),
        "the page must end with the misrounded result of exp, got {page}"
    );

    merge(folder.path(), row("exp", Level::Portable, &[])).expect("merging a row into the tables must succeed");
    assert_eq!(places(&read("exhaustive.tsv")).len(), 4);
    assert!(!read("exhaustive.md").contains("Misrounded"));
}

#[test]
fn a_damaged_table_is_said_and_left() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    merge(folder.path(), row("exp", Level::Avx2, &[])).expect("merging a row into the tables must succeed");
    let path = folder.path().join("exhaustive.tsv");
    let damaged = fs::read_to_string(&path).expect("`exhaustive.tsv` must be readable").replace("4294967296", "all");
    fs::write(&path, &damaged).expect("`exhaustive.tsv` must be writable");
    let error = merge(folder.path(), row("log", Level::Avx2, &[])).expect_err("merging into a damaged table must fail");
    assert!(matches!(error, Error::Damaged { .. }), "expected the error Damaged, got {error:?}");
    assert_eq!(fs::read_to_string(&path).expect("`exhaustive.tsv` must be readable"), damaged);
}

#[test]
fn infinite_errors_are_kept() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    let mut spoilt = row("exp", Level::Avx2, &[Example { x: 0, got: 0x7fc0_0000, expected: 0x3f80_0000 }]);
    spoilt.largest_error_ulp = f64::INFINITY;
    for row in [spoilt, row("log", Level::Avx2, &[])] {
        merge(folder.path(), row).expect("merging a row into the tables must succeed");
    }
    let page = fs::read_to_string(folder.path().join("exhaustive.md")).expect("`exhaustive.md` must be readable");
    assert!(page.contains("| 1 | inf |"), "the page must show the infinite error of exp as `inf`, got {page}");
}
