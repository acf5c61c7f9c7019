//! Table of `docs/performance.md`: the measurements of `docs/performance.tsv`, and the bounds of the library.

use evenkeel::DType;
use evenkeel::accuracy::{Bound, TABLE, Unit};
use evenkeel::registry::{Kind, OPS};

const HEAD: &str = "\
| op | ns in f32 | candle in f32 | in bf16 | in f16 | error in f32 | 16 bits | f64 | candle's error | commit |
|---|---|---|---|---|---|---|---|---|---|
";
/// Name of the row for the gradients of all elementwise functions.
const GRADIENTS: &str = "X_backward";

/// Returns the table. It has a row for each line of the measurements. Each op that was not measured has a row without
/// times.
pub fn table(measured: &str) -> String {
    let mut lines: Vec<Vec<&str>> = measured.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    for line in &lines {
        let is_op = line[0] == GRADIENTS || OPS.iter().any(|op| op.name == line[0]);
        assert!(is_op, "`docs/performance.tsv` must name ops of the registry, got {}", line[0]);
    }
    for op in OPS {
        let row = if op.kind == Kind::ElementwiseBackward { GRADIENTS } else { op.name };
        match lines.iter().filter(|line| line[0] == row).count() {
            0 => lines.push([&[row], &[""; 7][..]].concat()),
            count => assert_eq!(count, 1, "`docs/performance.tsv` must not have two lines for {row}"),
        }
    }
    HEAD.to_string() + &lines.iter().map(|line| row(line)).collect::<String>()
}

fn row(line: &[&str]) -> String {
    let [op, size, ns, f32, bf16, f16, ulp, commit] = line else {
        panic!("`docs/performance.tsv`: each line must have eight columns, got {line:?}")
    };
    let size = if size.is_empty() { String::new() } else { format!(", {size}") };
    let bounds = [&[DType::F32][..], &[DType::F16, DType::BF16], &[DType::F64]].map(|dtypes| bound(op, dtypes));
    let [in_f32, in_16_bits, in_f64] = bounds.each_ref().map(String::as_str);
    let columns = [ns, f32, bf16, f16, in_f32, in_16_bits, in_f64, ulp, commit];
    let columns = columns.map(|text| if text.is_empty() { "–" } else { text });
    format!("| `{op}`{size} | {} |\n", columns.join(" | "))
}

/// Formats the largest bound of an op in these types. Adds a mark if this bound is not in ULP of the result.
fn bound(op: &str, dtypes: &[DType]) -> String {
    let is_gradient = |name: &str| OPS.iter().any(|op| op.name == name && op.kind == Kind::ElementwiseBackward);
    let is_meant = |bound: &&Bound| {
        let is_op = if op == GRADIENTS { is_gradient(bound.op) } else { bound.op == op };
        is_op && dtypes.contains(&bound.dtype)
    };
    let bounds: Vec<&Bound> = TABLE.iter().filter(is_meant).collect();
    let ulps = bounds.iter().map(|bound| bound.ulps).fold(0.0, f64::max);
    let mark = if bounds.iter().any(|bound| bound.unit == Unit::LargestTerm) { " †" } else { "" };
    format!("{ulps}{mark}")
}
