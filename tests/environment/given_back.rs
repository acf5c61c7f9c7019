//! Checks that a call restores the caller's environment: after results, errors and panics, on every thread.

use crate::environment::{Environment, is_default};
use evenkeel::{Draw, Rows, SamplerConfig, Softmax, sample_rows_into, softmax};
use std::panic::{AssertUnwindSafe, catch_unwind};

const COLS: usize = 1 << 15;

#[test]
fn after_results_and_errors() {
    let x = vec![0.5f32; 4 * COLS];
    for environment in Environment::ALL {
        let is_kept = environment.run(|| {
            let rows = Rows::new(&x, 4, COLS).unwrap();
            let after_result = softmax(rows, &Softmax::default()).map(|_| environment.is_set());
            let refused = softmax(rows, &Softmax::default().softcap(-1.0)).map_err(|_| environment.is_set());
            let empty = SamplerConfig::default().validate().unwrap().sample::<f32>(&[], Draw::default());
            [after_result.unwrap(), refused.unwrap_err(), empty.map_err(|_| environment.is_set()).unwrap_err()]
        });
        assert_eq!(is_kept, [true; 3], "a call must restore the floating-point environment {environment:?}");
        assert!(is_default());
    }
}

/// Checks that the floating-point environment is restored if the callback that provides requests panics. The sampler
/// calls this callback on the calling thread or on another thread of the pool.
#[test]
fn after_panics_in_a_callback() {
    let x = vec![0.5f32; 8 * COLS];
    let sampler = SamplerConfig::default().validate().unwrap();
    for environment in Environment::ALL {
        let pool = environment.run(|| rayon::ThreadPoolBuilder::new().num_threads(2).build()).unwrap();
        let call = || {
            let rows = Rows::new(&x, 8, COLS).unwrap();
            sample_rows_into(
                rows,
                None,
                |row| panic!("a deliberate panic in the request of row {row}"),
                &mut Vec::new(),
            )
        };
        let _ = &sampler;
        let after = || (catch_unwind(AssertUnwindSafe(call)).is_err(), environment.is_set());
        assert_eq!(
            environment.run(after),
            (true, true),
            "a panic must not change the floating-point environment {environment:?}"
        );
        assert_eq!(
            pool.install(after),
            (true, true),
            "a panic in a thread pool must not change the floating-point environment {environment:?}"
        );
        assert!(
            pool.broadcast(|_| environment.is_set()).into_iter().all(|is_set| is_set),
            "the threads of the pool must keep the floating-point environment {environment:?}"
        );
    }
    assert!(is_default());
}
