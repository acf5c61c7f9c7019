//! Tests of walks: their results, and how they resume.

#![forbid(unsafe_code)]

use evenkeel::simd::Level;
use exhaustive::error::Error;
use exhaustive::function::{Function, function};
use exhaustive::progress::Progress;
use exhaustive::reference::Reference;
use exhaustive::table::Row;
use exhaustive::tally::{Example, Tally};
use exhaustive::walk::{CHUNKS, walk};
use std::fs;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

/// Sampling interval of the blocks. The tested blocks include the block that begins at the input 1.0.
const SAMPLE: NonZeroU32 = NonZeroU32::new(2048).unwrap();
const INPUTS: u64 = (1 << 32) / 2048;
/// Input in a tested block, for which the tests plant a wrong result.
const PLANTED: f32 = 1.0 + 77.0 * f32::EPSILON;

fn exp() -> Function {
    *function("exp").expect("exp must be in the table of functions")
}

/// Returns the exponential with a wrong result at [`PLANTED`].
fn planted() -> Function {
    let run = |x: &[f32], out: &mut [f32]| {
        evenkeel::exp_into(x, &mut *out)?;
        for (x, out) in x.iter().zip(out) {
            if *x == PLANTED {
                *out = out.next_up();
            }
        }
        Ok(())
    };
    Function { run, ..exp() }
}

fn begun(function: &Function) -> Progress {
    Progress::new(function, Level::Portable, SAMPLE)
}

fn walked(function: &Function) -> Progress {
    let mut progress = begun(function);
    walk(function, &mut progress, |_| Ok(ControlFlow::Continue(()))).expect("the walk over the inputs must succeed");
    progress
}

/// Creates the table row without the duration, which varies.
fn row(progress: Progress) -> Row {
    Row::new("CORE-MATH", Progress { seconds: 0.0, ..progress })
}

#[test]
fn the_library_is_found_right() {
    for name in ["exp", "silu"] {
        let tally = walked(function(name).expect("exp and silu must be in the table of functions")).tally;
        assert_eq!(
            (tally.inputs, tally.misrounded, tally.largest_error),
            (INPUTS, 0, 0.5),
            "{name}: expected {INPUTS} inputs, no misrounded result and a largest error of 0.5 ULP"
        );
    }
}

#[test]
fn one_wrong_bit_of_one_result_is_found_and_named() {
    let progress = walked(&planted());
    assert_eq!((progress.tally.inputs, progress.tally.misrounded), (INPUTS, 1));
    let error = progress.tally.largest_error;
    assert!((0.5..=1.5).contains(&error), "expected a largest error of 0.5 to 1.5 ULP, got {error}");
    let x = PLANTED.to_bits();
    let right = PLANTED.exp().to_bits();
    assert_eq!(row(progress).examples, format!("{x:08x}:{:08x}:{right:08x}", right + 1));
}

#[test]
fn a_bound_is_broken_by_any_misrounded_result_or_by_a_large_error() {
    let [exp, silu] =
        ["exp", "silu"].map(|name| function(name).expect("exp and silu must be in the table of functions"));
    let mut tally = Tally::default();
    assert!(exp.allows(&tally) && silu.allows(&tally));
    let example = Example { x: 0, got: 1, expected: 0 };
    tally.add_misrounded(example, 0.5);
    assert!(!exp.allows(&tally) && silu.allows(&tally));
    tally.add_misrounded(example, 0.501);
    assert!(!silu.allows(&tally));
}

#[test]
fn a_wrong_sign_of_zero_and_another_nan_are_found() {
    let run = |x: &[f32], out: &mut [f32]| {
        evenkeel::tanh_into(x, &mut *out)?;
        for (x, out) in x.iter().zip(out) {
            match x.to_bits() {
                0 => *out = -0.0,
                0x7f80_0001 => *out = -f32::NAN,
                _ => {}
            }
        }
        Ok(())
    };
    let tally = walked(&Function { run, ..*function("tanh").expect("tanh must be in the table of functions") }).tally;
    assert_eq!((tally.misrounded, tally.largest_error), (2, f64::INFINITY));
    let found: Vec<_> = tally.examples.iter().map(|example| (example.x, example.got)).collect();
    assert_eq!(found, [(0, 1 << 31), (0x7f80_0001, 0xffc0_0000)]);
}

#[test]
fn a_wrong_reference_is_not_blamed_on_the_library() {
    let of = |x: f32| if x == PLANTED { core_math::expf(x).next_up() } else { core_math::expf(x) };
    let function = Function { reference: Reference::Rounded("planted", of), ..exp() };
    let error = walk(&function, &mut begun(&function), |_| Ok(ControlFlow::Continue(())))
        .expect_err("a walk with a wrong reference must fail");
    assert!(
        matches!(error, Error::Reference { x, .. } if x == PLANTED),
        "expected the error Reference at {PLANTED:e}, got {error}"
    );
    assert!(
        error.to_string().starts_with("the reference of exp is wrong at 1.0000"),
        "the error must name the reference of exp, got {error}"
    );
}

/// Resumes the stored walk until `chunks` chunks are done, and stores the progress after each.
fn until(function: &Function, folder: &Path, chunks: u32) -> Progress {
    let mut progress = begun(function).resumed(folder).expect("the stored progress of the walk must be readable");
    let after = |progress: &Progress| {
        progress.store(folder)?;
        Ok(if progress.chunks == chunks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    walk(function, &mut progress, after).expect("the walk over the inputs must succeed");
    progress
}

#[test]
fn a_stopped_walk_goes_on_and_gives_the_same_row() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    // The planted input is in chunk 63.
    for chunks in [1, 50, 64, 200] {
        assert_eq!(until(&planted(), folder.path(), chunks).chunks, chunks);
    }
    let stored = begun(&planted()).resumed(folder.path()).expect("the stored progress of the walk must be readable");
    assert_eq!((stored.chunks, stored.tally.misrounded), (200, 1));
    let resumed = until(&planted(), folder.path(), CHUNKS);
    assert_eq!(row(resumed.clone()), row(walked(&planted())));
    // Resuming a finished walk tests no further inputs and returns the same progress.
    assert_eq!(until(&planted(), folder.path(), CHUNKS), resumed);
    resumed.remove(folder.path()).expect("removing the progress file must succeed");
    assert_eq!(
        begun(&planted()).resumed(folder.path()).expect("resuming without a progress file must succeed"),
        begun(&planted())
    );
}

#[test]
fn threads_make_no_difference() {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("creating the thread pool must succeed");
        row(pool.install(|| walked(&planted())))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn a_damaged_progress_is_said_and_left() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    until(&exp(), folder.path(), 2);
    let path = begun(&exp()).path(folder.path());
    let whole = fs::read_to_string(&path).expect("the progress file must be readable");
    let other = whole.replace("function = \"exp\"", "function = \"log\"");
    let beyond = whole.replace("chunks = 2", "chunks = 257");
    let unknown = format!("{whole}more = 1\n");
    for damaged in [&whole[..whole.len() / 2], "", "\0", &other, &beyond, &unknown] {
        fs::write(&path, damaged).expect("the progress file must be writable");
        let error = begun(&exp()).resumed(folder.path()).expect_err("resuming damaged progress must fail");
        assert!(matches!(error, Error::Damaged { .. }), "expected the error Damaged, got {error:?}");
        let text = error.to_string();
        assert!(
            text.contains("exp-portable-1-in-2048.toml is damaged: "),
            "the error must name the damaged file, got {text}"
        );
        assert!(text.ends_with("; repair it, or remove it to start over"), "the error must say what to do, got {text}");
        assert_eq!(
            fs::read_to_string(&path).expect("the progress file must be readable"),
            damaged,
            "the damaged progress file must be unchanged"
        );
    }
}

#[test]
fn the_progress_of_another_library_is_refused() {
    let folder = TempDir::new().expect("creating a temporary folder must succeed");
    let mut old = begun(&exp());
    old.provenance.commit = "0123456789ab".into();
    old.store(folder.path()).expect("storing the progress of the walk must succeed");
    let error = begun(&exp()).resumed(folder.path()).expect_err("resuming with another library must fail");
    assert!(matches!(error, Error::Stale { .. }), "expected the error Stale, got {error:?}");
    assert!(
        error.to_string().contains("(0123456789ab)"),
        "the error must name the commit of the stored walk, got {error}"
    );
}
