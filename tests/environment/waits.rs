//! Tests of a thread that waits inside a large call, and runs a task of another request meanwhile. The report and trace
//! scopes around the call must not record this task. The task must run at the default SIMD level, in the thread's
//! floating-point environment.

use crate::environment::{Environment, is_default};
use evenkeel::simd::{Level, level, with_level};
use evenkeel::{Draw, Request, Rows, SamplerConfig, Softmax, report, sample_rows_into, softmax, trace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Timeout that no passing test reaches.
const LONG: Duration = Duration::from_secs(60);

/// Settings that the other request's task observes while it runs.
#[derive(Debug)]
struct Foreign {
    thread: Option<usize>,
    level: Level,
    traced: bool,
    has_threads_environment: bool,
    own_report: String,
}

/// Runs the other request's task, which computes with a NaN.
fn foreign(environment: Option<Environment>) -> Foreign {
    let level = level().unwrap();
    let has_threads_environment = environment.map_or_else(is_default, Environment::is_set);
    let nan = softmax(Rows::new(&[f32::NAN, 1.0], 1, 2).unwrap(), &Softmax::default()).unwrap();
    let traced = trace::is_on();
    trace::point("foreign", &nan, 2).unwrap();
    let (_, own) = report::scope(|| softmax(Rows::new(&[f32::NAN, 1.0], 1, 2).unwrap(), &Softmax::default()));
    Foreign {
        thread: rayon::current_thread_index(),
        level,
        traced,
        has_threads_environment,
        own_report: own.to_string(),
    }
}

/// Outcome of a call on a pool of two threads. The caller ran another request's task while it waited.
struct Held {
    report: report::Report,
    trace: trace::Trace,
    level_after: Level,
    panicked: bool,
    caller: usize,
    foreign: Foreign,
}

/// Samples rows on two threads, within scopes and at the SIMD level `level_of_call`. The second thread spawns a task of
/// another request and waits until the task has run. Only the first thread, which waits for the second one, can run the
/// task.
fn call_that_waits(level_of_call: Level, environment: Option<Environment>, panics: bool) -> Held {
    const COLS: usize = 1 << 15;
    let build = || rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let pool = environment.map_or_else(build, |environment| environment.run(build));
    let logits = vec![0.0f32; 8 * COLS];
    let sampler = SamplerConfig::default().validate().unwrap();
    let (began, has_begun): (Sender<()>, Receiver<()>) = channel();
    let (ran, has_run) = channel();
    let (began, has_begun) = (Mutex::new(Some(began)), Mutex::new(Some(has_begun)));
    let has_run = Mutex::new(has_run);
    let found = Mutex::new(None);
    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
    let (report, trace, level_after, panicked, caller) = pool.install(|| {
        let caller = rayon::current_thread_index().unwrap();
        let request = |row: usize| {
            if rayon::current_thread_index() == Some(caller) {
                // The caller continues once the other thread has begun to sample some of the rows.
                if let Some(has_begun) = lock(&has_begun).take() {
                    has_begun
                        .recv_timeout(LONG)
                        .expect("the second thread of the pool must begin to sample some of the rows");
                }
            } else if let Some(began) = lock(&began).take() {
                let ran = ran.clone();
                rayon::spawn(move || ran.send(foreign(environment)).unwrap());
                began.send(()).unwrap();
                let foreign =
                    lock(&has_run).recv_timeout(LONG).expect("the waiting thread must run the spawned request");
                *lock(&found) = Some(foreign);
                assert!(!panics, "a deliberate panic in the request of a row");
            }
            Request { sampler: &sampler, step: Draw { seed: 1, row: row as u64, draw: 0 }.into() }
        };
        let mut out = Vec::new();
        let ((result, trace), report) = report::scope(|| {
            trace::scope(|| {
                with_level(level_of_call, || {
                    let rows = Rows::new(&logits, 8, COLS).unwrap();
                    let call = AssertUnwindSafe(|| sample_rows_into(rows, None, request, &mut out));
                    let panicked = catch_unwind(call).is_err();
                    // The scopes are active again after the call.
                    softmax(Rows::new(&[f32::INFINITY, 1.0], 1, 2).unwrap(), &Softmax::default()).unwrap();
                    trace::point("after", &[f32::INFINITY], 1).unwrap();
                    (level().unwrap(), panicked)
                })
                .unwrap()
            })
        });
        (report, trace, result.0, result.1, caller)
    });
    let foreign = found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .expect("the spawned request must have run during the sample call");
    Held { report, trace, level_after, panicked, caller, foreign }
}

fn check(environment: Option<Environment>, panics: bool) {
    let Held { report, trace, level_after, panicked, caller, foreign } =
        call_that_waits(Level::Portable, environment, panics);
    assert_eq!(
        foreign.thread,
        Some(caller),
        "the spawned request must run on the thread that waits in the sample call"
    );
    assert_eq!(panicked, panics);
    assert_eq!(
        report.op("softmax").nan,
        0,
        "the report of the waiting call must not count the NaN of the spawned request: {report}"
    );
    assert_eq!(
        report.op("softmax").infinite,
        1,
        "after the wait, softmax reads a row with an infinity; the report must count this row, got: {report}"
    );
    assert_eq!(
        report.op("sample").rows,
        if panics { 0 } else { 8 },
        "the report must count the 8 rows of the sample call, or 0 rows after a panic, got: {report}"
    );
    assert_eq!(
        (trace.points, trace.first.unwrap().point.as_str()),
        (1, "after"),
        "the trace of the waiting call must have one point, named `after`"
    );
    assert!(!foreign.traced, "the spawned request must not see the trace of the waiting call");
    assert_eq!(
        foreign.level,
        level().unwrap(),
        "the spawned request must run at the default SIMD level, not at the level of the waiting call"
    );
    assert_eq!(level_after, Level::Portable, "the SIMD level after the wait must be the level of the waiting call");
    assert_eq!(
        foreign.own_report, "softmax: 1 of 1 rows with NaN",
        "the report of the spawned request must contain its own call of softmax, and no other call"
    );
    assert!(
        foreign.has_threads_environment,
        "the spawned request must run in the floating-point environment of its thread"
    );
}

#[test]
fn foreign_tasks_are_in_no_scope_of_a_thread_that_waits() {
    check(None, false);
}

#[test]
fn scopes_are_put_back_when_a_part_unwinds() {
    check(None, true);
}

#[test]
fn foreign_tasks_have_the_environment_of_their_thread() {
    for environment in Environment::ALL {
        check(Some(environment), false);
        check(Some(environment), true);
    }
}
