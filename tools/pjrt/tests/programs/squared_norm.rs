//! Tests of squared_norm: tensors with numbers of every magnitude, and the index of the first row that is not finite.

use crate::support::{Device, Matrix, Worst, flushed, rng};
use evenkeel::neuron::{SquaredNorm, Status, run};
use evenkeel::testing::hostile;
use evenkeel::testing::values::Bits;

mod tests {
    crate::support::for_each_dtype!(finite, not_finite);
}

fn finite<E: Bits>(device: &Device) {
    let mut worst = Worst::new::<E>("squared_norm", device);
    for cols in [1, 1000] {
        for hostile in hostile::vectors::<E>(cols) {
            let mut x = Matrix::new(cols);
            x.push(hostile.name, &hostile.row);
            x.push_random(&mut rng(), &[E::LIMITS.min_normal, 1e-3, 1.0, 1e3]);
            x.push("zeros", &vec![E::ZERO; cols]);
            let SquaredNorm::Finite(found) = run::squared_norm(device, x.view()).unwrap() else {
                panic!("squared_norm of {} in {cols} columns: the result must be finite", hostile.name);
            };
            let exact: f64 = x.data.iter().map(|x| flushed(x.widen()).powi(2)).sum();
            // Compares the roots, because the sums of squares may exceed f32's range.
            worst.check(hostile.name, found.sqrt() as f32, exact.sqrt(), 0.0);
        }
    }
}

fn not_finite<E: Bits>(device: &Device) {
    for (value, expected) in
        [(E::NAN, Status::Nan), (E::INFINITY, Status::Infinite), (E::NEG_INFINITY, Status::Infinite)]
    {
        let mut x = Matrix::new(5);
        x.push_random(&mut rng(), &[1.0, 2.0]);
        x.push_with("not finite", value);
        let found = run::squared_norm(device, x.view()).unwrap();
        assert_eq!(found, SquaredNorm::NotFinite { row: 2, status: expected });
    }
}
