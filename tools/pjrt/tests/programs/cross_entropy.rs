//! Tests of cross_entropy: every option, ignored rows, and rows with values that are not finite.

use crate::support::{Device, Matrix, Worst, flushed, rng};
use evenkeel::neuron::run;
use evenkeel::reference::Real;
use evenkeel::testing::hostile;
use evenkeel::testing::values::Bits;
use evenkeel::{CrossEntropy, Error, Reduction, Rows, reference};
use rand::RngExt;

mod tests {
    crate::support::for_each_dtype!(options, not_finite, refused);
}

fn rows<E: Bits>(cols: usize) -> Matrix<E> {
    let mut x = Matrix::new(cols);
    for hostile in hostile::scores::<E>(cols) {
        x.push(hostile.name, &hostile.row);
    }
    x.push_random(&mut rng(), &[0.01, 1.0, 4.0, 20.0, 100.0]);
    let ends: Vec<E> =
        (0..cols).map(|i| E::from_wide(if i % 2 == 0 { -E::LIMITS.max } else { E::LIMITS.max })).collect();
    x.push("both ends", &ends);
    x
}

fn options<E: Bits>(device: &Device) {
    for cols in [1, 9, 500] {
        let x = rows::<E>(cols);
        let mut rng = rng();
        let targets: Vec<i64> =
            (0..x.rows()).map(|row| if row % 5 == 4 { -100 } else { rng.random_range(0..cols as i64) }).collect();
        let weight: Vec<f32> = (0..cols).map(|_| rng.random_range(0.1..3.0)).collect();
        let each = CrossEntropy::default().reduction(Reduction::None);
        for options in [
            each,
            each.z_loss(1e-4),
            each.label_smoothing(0.1),
            each.weight(&weight),
            each.weight(&weight).label_smoothing(0.2).z_loss(1e-3),
        ] {
            let loss = run::cross_entropy(device, x.view(), &targets, &options).unwrap();
            let mut worst = Worst::new::<E>("cross_entropy", device);
            for (row, (name, loss)) in x.names.iter().zip(loss.as_slice()).enumerate() {
                let case = format!("{name}, {cols} classes, {options:?}");
                if targets[row] == -100 {
                    assert_eq!(*loss, 0.0, "{case}: an ignored row must have a loss of 0");
                    continue;
                }
                let narrow: Vec<f32> = x.row(row).iter().map(|x| flushed(x.widen()) as f32).collect();
                let [entropy, z] = reference::cross_entropy(&narrow, targets[row] as usize, &options);
                // Losses are f32, whatever the type of the logits is.
                worst.check(&case, *loss as f32, entropy + z, entropy.abs().max(z.to_f64()));
            }
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let options = options.reduction(reduction);
                let ours = run::cross_entropy(device, x.view(), &targets, &options).unwrap().value();
                let host = evenkeel::cross_entropy(x.view(), &targets, &options).unwrap().value();
                assert!(
                    (ours - host).abs() <= 1e-5 * host.abs(),
                    "cross_entropy with {options:?}: expected about {host} as on the host, got {ours}"
                );
            }
        }
    }
}

fn not_finite<E: Bits>(device: &Device) {
    let cols = 8;
    let mut x = Matrix::<E>::new(cols);
    for (name, value) in [("NaN", E::NAN), ("+inf", E::INFINITY), ("a class masked", E::NEG_INFINITY)] {
        x.push_random(&mut rng(), &[2.0]);
        x.push_with(name, value);
    }
    x.push("all masked", &vec![E::NEG_INFINITY; cols]);
    x.push("not read", &vec![E::NAN; cols]);
    let mut targets = vec![cols as i64 / 2; x.rows()];
    *targets.last_mut().unwrap() = -100;
    let each = CrossEntropy::default().reduction(Reduction::None).z_loss(0.5);
    for options in [each, each.label_smoothing(0.1), each.softcap(30.0)] {
        for targets in [targets.clone(), targets.iter().map(|t| if *t < 0 { *t } else { 0 }).collect()] {
            let ours = run::cross_entropy(device, x.view(), &targets, &options).unwrap();
            let host = evenkeel::cross_entropy(x.view(), &targets, &options).unwrap();
            for (row, (ours, host)) in ours.as_slice().iter().zip(host.as_slice()).enumerate() {
                let same = ours == host || ours.is_nan() && host.is_nan() || (ours - host).abs() <= 1e-5 * host.abs();
                assert!(
                    same,
                    "cross_entropy of row {:?} with {options:?}: expected the loss {host} as on the host, got {ours}",
                    x.names[row]
                );
            }
        }
    }
}

fn refused<E: Bits>(device: &Device) {
    let x = [E::ZERO; 4];
    let error =
        run::cross_entropy(device, Rows::new(&x, 2, 2).unwrap(), &[0, 2], &CrossEntropy::default()).unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { argument: "target", row: Some(1), .. }),
        "expected an error about the target of row 1, got {error}"
    );
}
