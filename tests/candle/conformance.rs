//! Runs the conformance suites on candle-nn 0.11 and on Evenkeel's replacements. The suites must find each known defect
//! of candle-nn, and no defect in the replacements.

#[path = "../../examples/conformance/engines.rs"]
mod engines;

use engines::Named;
use evenkeel::DType;
use evenkeel::testing::conformance::Defect;

#[test]
fn nothing_is_found_in_the_drop_ins() {
    for Named { name, report } in engines::evenkeel() {
        assert!(report.is_clean(), "Evenkeel's {name}: expected no defect, got {report}");
    }
}

#[test]
fn the_defects_of_candle_are_found() {
    let reports = engines::candle();
    let assert_found = |name: &str, dtypes: &[DType], defects: &[Defect]| {
        for dtype in dtypes {
            let named = |named: &&Named| named.name == name && named.report.dtype == *dtype;
            let report = &reports
                .iter()
                .find(named)
                .unwrap_or_else(|| panic!("expected a conformance report on {name} in {dtype}, got none"))
                .report;
            for defect in defects {
                assert!(report.has(*defect), "candle's {name}: expected the defect {defect}, got {report}");
            }
        }
    };
    let narrow = [DType::F16, DType::BF16];
    for softmax in ["ops::softmax_last_dim", "ops::softmax", "ops::log_softmax"] {
        assert_found(softmax, DType::ALL, &[Defect::MaskedRow]);
        assert_found(softmax, &narrow, &[Defect::NarrowSum, Defect::NarrowSteps]);
    }
    for function in ["ops::softmax_last_dim", "ops::rms_norm", "ops::layer_norm"] {
        assert_found(function, &[DType::F32, DType::F16, DType::BF16], &[Defect::Panics]);
    }
    assert_found("ops::rms_norm", &[DType::F64], &[Defect::Refuses]);
    assert_found("ops::layer_norm", &[DType::F32, DType::F16], &[Defect::OnePassVariance]);
    assert_found("ops::layer_norm_slow", &[DType::F32], &[Defect::RoundedMean]);
    for norm in ["ops::rms_norm", "ops::layer_norm", "ops::layer_norm_slow"] {
        assert_found(norm, &[DType::F32, DType::BF16], &[Defect::SquaresOverflow, Defect::SquaresVanish]);
    }
    assert_found("ops::rms_norm", &narrow, &[Defect::NarrowSteps]);
    assert_found("loss::cross_entropy", &narrow, &[Defect::NarrowSum]);
    assert_found("sampling::gumbel_softmax", &[DType::F32], &[Defect::AcceptsNan, Defect::AcceptsNothing]);
}
