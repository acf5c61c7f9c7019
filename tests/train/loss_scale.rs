//! Tests of the loss scaler: it matches PyTorch's scaler in every step, and returns errors where PyTorch continues
//! silently.

use crate::vectors::{f32s, lines};
use evenkeel::train::{LossScale, LossScaler, LossScalerState};

/// Performs one step with the calls in the right order.
fn step(scaler: &mut LossScaler, finite: bool) {
    scaler.record(finite).unwrap();
    assert_eq!(scaler.step(), Ok(finite));
    scaler.update().unwrap();
}

#[test]
fn as_in_torch() {
    let lines = lines("scaler");
    assert!(lines.len() >= 7);
    for fields in lines {
        let number = |i: usize| -> f64 { fields[i].parse().unwrap() };
        let settings = LossScale::dynamic()
            .init(number(0) as f32)
            .growth(number(1))
            .backoff(number(2))
            .interval(fields[3].parse().unwrap())
            .min_scale(f32::MIN_POSITIVE);
        let mut scaler = settings.validate().unwrap();
        let (finite, scales) = (fields[4].as_bytes(), f32s(fields[5]));
        assert_eq!(scales.len(), finite.len() + 1);
        for (i, (finite, scale)) in finite.iter().zip(&scales).enumerate() {
            assert_eq!(
                scaler.scale().to_bits(),
                scale.to_bits(),
                "{fields:?}: the loss scale before step {i} must have the bits of {scale}"
            );
            // Saving and restoring between two steps changes nothing.
            if i % 7 == 3 {
                scaler = LossScaler::restore(scaler.state()).unwrap();
            }
            step(&mut scaler, *finite == b'1');
        }
        assert_eq!(
            scaler.scale(),
            scales[finite.len()],
            "{fields:?}: expected the loss scale {} after the last step",
            scales[finite.len()]
        );
        let taken = finite.iter().filter(|finite| **finite == b'1').count() as u64;
        assert_eq!((scaler.taken(), scaler.skipped()), (taken, finite.len() as u64 - taken));
    }
}

#[test]
fn the_inverse_is_of_f64_rounded_once() {
    for scale in [1.0f32, 3.0, 65536.0, 1.1, f32::MIN_POSITIVE, f32::MAX, 0.1] {
        let scaler = LossScale::constant(scale).validate().unwrap();
        assert_eq!(scaler.inverse(), (1.0 / f64::from(scale)) as f32);
        assert!(scaler.inverse().is_finite() && scaler.inverse() > 0.0);
    }
}

#[test]
fn a_constant_scale_stays() {
    let mut scaler = LossScale::constant(512.0).validate().unwrap();
    for i in 0..5000 {
        step(&mut scaler, i % 3 > 0);
    }
    assert_eq!((scaler.scale(), scaler.taken(), scaler.skipped()), (512.0, 3333, 1667));
}

/// Checks that calls in the wrong order are errors and change nothing.
#[test]
fn stages() {
    let stage = |error: evenkeel::Error| error.to_string().replace("loss_scaler: stage is ", "");
    let mut scaler = LossScale::dynamic().validate().unwrap();
    let before = scaler.clone();
    assert_eq!(stage(scaler.step().unwrap_err()), "READY; it must be UNSCALED to step");
    assert_eq!(stage(scaler.update().unwrap_err()), "READY; it must be STEPPED to update");
    assert_eq!(scaler, before);
    scaler.record(true).unwrap();
    let before = scaler.clone();
    assert_eq!(stage(scaler.record(false).unwrap_err()), "UNSCALED; it must be READY to unscale");
    assert_eq!(scaler, before);
    assert_eq!(scaler.step(), Ok(true));
    let before = scaler.clone();
    assert_eq!(stage(scaler.record(true).unwrap_err()), "STEPPED; it must be READY to unscale");
    assert_eq!(stage(scaler.step().unwrap_err()), "STEPPED; it must be UNSCALED to step");
    assert_eq!(scaler, before);
    scaler.update().unwrap();

    // PyTorch allows `update` without `step`. The update changes the scale, and counts no step as taken or skipped.
    scaler.record(false).unwrap();
    scaler.update().unwrap();
    assert_eq!((scaler.scale(), scaler.taken(), scaler.skipped()), (32768.0, 1, 0));
    // Like `update`, `update_to` ends the step. Unlike `update`, it leaves the growth tracker unchanged.
    scaler.record(false).unwrap();
    scaler.update_to(7.0).unwrap();
    assert_eq!(scaler.scale(), 7.0);
    assert!(scaler.update_to(0.0).is_err() && scaler.update_to(f32::NAN).is_err());
    step(&mut scaler, true);
    assert_eq!((scaler.scale(), scaler.state().tracker), (7.0, 1));
}

/// Checks that the scaler returns an error if the gradients stay NaN. PyTorch's scale would fall to 0 and make
/// everything NaN.
#[test]
fn gradients_that_are_nan_for_good_are_an_error() {
    let mut scaler = LossScale::dynamic().min_scale(3.0).validate().unwrap();
    // Each step halves the scale, down to 4. The next step reduces the scale to the limit, 3.
    for scale in (3..=16).rev().map(|e| (1u32 << (e - 1)) as f32).map(|scale| scale.max(3.0)) {
        step(&mut scaler, false);
        assert_eq!(scaler.scale(), scale);
    }
    step(&mut scaler, false);
    assert_eq!(scaler.scale(), 3.0);
    scaler.record(false).unwrap();
    assert_eq!(scaler.step(), Ok(false));
    let before = scaler.clone();
    let error = scaler.update().unwrap_err();
    let expected = "loss_scaler: scale is 3; it must be above min_scale, 3, to be reduced after non-finite gradients";
    assert_eq!(error.to_string(), expected);
    assert_eq!(scaler, before);
}

#[test]
fn settings_that_have_no_meaning() {
    let ok = LossScale::dynamic();
    let bad = [
        ok.init(0.0),
        ok.init(-1.0),
        ok.init(f32::NAN),
        ok.init(f32::INFINITY),
        ok.init(1e-40),
        ok.init(0.5),
        ok.min_scale(0.0),
        ok.min_scale(f32::NAN),
        ok.min_scale(65537.0),
        ok.growth(0.99),
        ok.growth(f64::INFINITY),
        ok.growth(f64::NAN),
        ok.backoff(0.0),
        ok.backoff(1.01),
        ok.backoff(f64::NAN),
        ok.interval(0),
        LossScale::constant(0.0),
        LossScale::constant(f32::INFINITY),
    ];
    for settings in bad {
        let error = settings.validate().map(|_| ()).unwrap_err();
        assert_eq!(error.name(), "InvalidArgument", "{settings:?} must give the error InvalidArgument");
    }
    let mut state = ok.validate().unwrap().state();
    state.tracker = 2000;
    assert_eq!(LossScaler::restore(state).unwrap_err().name(), "InvalidArgument");
    state.tracker = 1999;
    assert_eq!(LossScaler::restore(state).unwrap().state(), state);
}

#[test]
fn states_are_written_and_read_exactly() {
    let settings = LossScale::dynamic().init(1000.0).growth(1.7).backoff(0.3).interval(2);
    let mut scaler = settings.validate().unwrap();
    for finite in [false, true, true, false, true] {
        step(&mut scaler, finite);
    }
    let json = serde_json::to_string(&scaler.state()).unwrap();
    let back: LossScalerState = serde_json::from_str(&json).unwrap();
    assert_eq!(LossScaler::restore(back), Ok(scaler));
    assert!(serde_json::from_str::<LossScale>(r#"{"grwth": 2.0}"#).is_err());
    assert_eq!(serde_json::from_str::<LossScale>("{}").unwrap(), LossScale::dynamic());
}
