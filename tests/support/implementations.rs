//! Helpers that run a test for every storage type, on every instruction set of this machine, or in a thread pool.

use evenkeel::simd::{Level, with_level};

/// Generates a `#[test]` in `dtype::f64`, `dtype::f32`, `dtype::f16` and `dtype::bf16` for each given function. The
/// functions are generic over the storage type.
macro_rules! for_each_dtype {
    ($($name:ident),* $(,)?) => {
        mod dtype {
            for_each_dtype!(@module f64 f64; $($name)*);
            for_each_dtype!(@module f32 f32; $($name)*);
            for_each_dtype!(@module f16 half::f16; $($name)*);
            for_each_dtype!(@module bf16 half::bf16; $($name)*);
        }
    };
    (@module $module:ident $type:ty; $($name:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::super::$name::<$type>();
                }
            )*
        }
    };
}

/// Runs `body` with each instruction set of this machine, and prints which sets are unavailable.
pub fn each_level(mut body: impl FnMut(Level)) {
    each(&mut body);
}

/// Part of [`each_level`] that does not depend on the type of `body`, so that it is compiled only once.
fn each(body: &mut dyn FnMut(Level)) {
    for &level in Level::ALL {
        if let Err(reason) = with_level(level, || body(level)) {
            println!("skipped: {reason}");
        }
    }
}

pub fn has(level: Level) -> bool {
    level.is_available()
}

/// Runs `body` on a pool of `threads` threads, with the given instruction set.
pub fn on_threads<R: Send>(threads: usize, level: Level, body: impl FnOnce() -> R + Send) -> R {
    let (mut body, mut result) = (Some(body), None);
    install(threads, level, &mut || result = body.take().map(|body| body()));
    result.expect("the thread pool must have run the closure of the test")
}

/// Part of [`on_threads`] that does not depend on the type of `body`, so that it is compiled only once.
fn install(threads: usize, level: Level, body: &mut (dyn FnMut() + Send)) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("the thread pool must be created");
    pool.install(|| with_level(level, body)).expect("the instruction set level must be available on this machine");
}
