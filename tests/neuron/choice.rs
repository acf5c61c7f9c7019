//! Tests of the choice of a backend. If a backend is missing, the next one is used and the reason is recorded. If the
//! missing backend was requested by name, the call returns an error. A failure after the choice is also an error.

#![forbid(unsafe_code)]

use crate::standin::{Kind, Standin, alone, child, interpret, know, library, tell};
use evenkeel::backend::{self, BackendChoice};
use evenkeel::neuron::{self, Device, Fault, Program, Session};
use evenkeel::registry::Backend;
use evenkeel::{DType, Draw, Error, Mask, Request, Result, Rows, SamplerConfig, sample_rows};
use half::bf16;
use std::path::PathBuf;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const VOCABULARY: usize = 600;
const CANDIDATES: usize = 24;
const STEPS: usize = 20;

/// Builds the program that a device runs to sample with a mask.
fn sampling_program() -> Result<Program> {
    let keep = [1; VOCABULARY];
    let mask = Mask::none().and_keep(&keep, &[VOCABULARY]);
    neuron::sample(DType::BF16, 1, VOCABULARY, CANDIDATES, Some(&mask))
}

/// Backend that draws the tokens.
enum Place {
    Neuron(Session),
    Cpu,
}

/// Sets up a backend, as a sampling program does at its start.
fn set_up(backend: Backend) -> Result<Place> {
    Ok(match backend {
        Backend::Neuron => {
            let session = Session::new(Device::open()?);
            session.load(&sampling_program()?)?;
            Place::Neuron(session)
        }
        Backend::Cpu => Place::Cpu,
        other => {
            return Err(Error::unavailable(other.name(), "disabled on this machine"));
        }
    })
}

/// Samples tokens on either backend.
fn tokens(place: &Place) -> Result<Vec<u32>> {
    let sampler = SamplerConfig::default().temperature(0.7).top_k(20).top_p(0.9).validate()?;
    (0..STEPS)
        .map(|step| {
            let number = |at: usize| bf16::from_f32(((at * 7919 + step * 104_729) % 65_537) as f32 / 6553.7);
            let logits: Vec<bf16> = (0..VOCABULARY).map(number).collect();
            let keep: Vec<u8> = (0..VOCABULARY).map(|at| u8::from((at + step) % 3 != 0)).collect();
            let mask = Mask::none().and_keep(&keep, &[VOCABULARY]);
            let draw = Draw { seed: 3, row: 0, draw: step as u64 };
            let (rows, requests) =
                (Rows::new(&logits, 1, VOCABULARY)?, [Request { sampler: &sampler, step: draw.into() }]);
            let drawn = match place {
                Place::Neuron(session) => neuron::run::sample_rows(session, rows, Some(&mask), CANDIDATES, &requests)?,
                Place::Cpu => sample_rows(rows, Some(&mask), &requests)?,
            };
            Ok(drawn.into_iter().next().expect("sample_rows must return a result for the one row")?.token)
        })
        .collect()
}

/// Reads the choice of a backend from the environment, and then draws tokens. Runs in a process of its own.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn sampling() {
    let is_there = std::env::var_os("EVENKEEL_LIBNRT").is_some_and(|path| PathBuf::from(path).exists());
    let _standin = is_there.then(|| Standin::new(interpret));
    know(&sampling_program().unwrap());
    match BackendChoice::from_env().and_then(|choice| choice.set_up(set_up)) {
        Ok(chosen) => tell(format!("{chosen}|{:?}", tokens(&chosen.value).unwrap())),
        Err(error) => tell(format!("{}: {error}", error.name())),
    }
}

fn sampled(variables: &[(&str, &str)]) -> String {
    child("choice::sampling", tempfile::tempdir().unwrap().path(), variables)
}

#[test]
fn each_missing_piece_gives_the_next_backend_its_reason_and_the_same_tokens() {
    let (lacking, group) = (library(Kind::Lacking), tempfile::NamedTempFile::new().unwrap());
    let group = ("STANDIN_GROUP", group.path().to_str().unwrap());
    let (backend, expected) = sampled(&[]).split_once('|').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    assert_eq!(backend, "neuron");
    assert_eq!(expected.split(", ").count(), STEPS);
    let hangs = [("STANDIN_COMPILER", "hangs"), ("EVENKEEL_NEURON_COMPILE_SECONDS", "1"), group];
    let missing: &[(&[(&str, &str)], &str)] = &[
        (&[("EVENKEEL_LIBNRT", "/nowhere/libnrt.so.1")], "EVENKEEL_LIBNRT can't be loaded"),
        (&[("EVENKEEL_LIBNRT", lacking.to_str().unwrap())], "it lacks nrt_execute"),
        (&[("STANDIN_CORES", "0")], "no device"),
        (&[("STANDIN_FAIL", "nrt_init:1")], "nrt_init: an unspecified failure"),
        (&[("EVENKEEL_NEURONX_CC", "/nowhere/neuronx-cc")], "/nowhere/neuronx-cc can't be used"),
        (&[("STANDIN_COMPILER", "fails")], "an operator is not supported"),
        (&[("STANDIN_COMPILER", "writes_empty")], "the output is not a NEFF"),
        (&hangs, "timed out after 1 s"),
        (&[("STANDIN_FAIL", "nrt_load:9")], "there are not enough cores"),
        (&[("STANDIN_FAIL", "nrt_load:10")], "for another target or runtime"),
        (&[("STANDIN_FAIL", "nrt_load:1005")], "another model or process is using the core"),
        (&[("STANDIN_FAIL", "nrt_tensor_allocate:4")], "nrt_tensor_allocate: a resource is not available"),
        (&[("STANDIN_FAMILY", "15")], "no target for instance family 15"),
        (&[("NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS", "2")], "unset it"),
    ];
    for (variables, reason) in missing {
        let output = sampled(variables);
        let Some((backend, tokens)) = output.split_once('|') else {
            panic!("variables {variables:?}: expected a backend and tokens, got {output}")
        };
        assert!(
            backend.starts_with("cpu (neuron: ") && backend.contains(reason),
            "variables {variables:?}: expected a fallback to the CPU with the reason {reason:?}, got {backend}"
        );
        assert!(
            backend.ends_with("; cuda: disabled on this machine)"),
            "variables {variables:?}: expected `cuda: disabled on this machine` as the last reason, got {backend}"
        );
        assert_eq!(tokens, expected, "variables {variables:?}: the CPU must draw the same tokens as the Neuron device");
        // If the variables request the backend by name, the call fails and gives the same reason.
        let by_name: Vec<_> = variables.iter().copied().chain([("EVENKEEL_BACKEND", "neuron")]).collect();
        let output = sampled(&by_name);
        assert!(
            output.starts_with("Backend: neuron: ") && output.contains(reason),
            "variables {by_name:?}: expected an error of the backend neuron with {reason:?}, got {output}"
        );
    }
}

#[test]
fn what_is_there_and_broken_is_an_error_also_at_the_start() {
    for (fail, reason) in [
        ("nrt_init:6", "Backend: neuron: nrt_init: the hardware failed (NRT_HW_ERROR, 6)"),
        ("nrt_load:2", "Backend: neuron: nrt_load: an invalid program, descriptor, name or size (NRT_INVALID, 2)"),
        (
            "nrt_load:101",
            "Backend: neuron: nrt_load: the execution unit needs a reset (NRT_EXEC_UNIT_UNRECOVERABLE, 101)",
        ),
    ] {
        assert_eq!(sampled(&[("STANDIN_FAIL", fail)]), reason);
    }
}

#[test]
fn it_can_be_chosen_by_the_environment() {
    let by = |name| sampled(&[("EVENKEEL_BACKEND", name)]);
    assert!(by("cpu").starts_with("cpu|"));
    assert!(by("neuron").starts_with("neuron|"));
    assert!(by("auto").starts_with("neuron|"));
    assert!(by("").starts_with("neuron|"));
    assert_eq!(by("cuda"), "Backend: cuda: disabled on this machine");
    assert_eq!(by("tpu"), "Backend: tpu: unknown backend; use auto, neuron, cuda or cpu");
}

#[test]
fn what_fails_later_is_an_error_and_no_switch() {
    if !alone("choice::what_fails_later_is_an_error_and_no_switch", &[]) {
        return;
    }
    let standin = Standin::new(interpret);
    know(&sampling_program().unwrap());
    let chosen = BackendChoice::AUTO.set_up(set_up).unwrap();
    assert_eq!((chosen.backend, &chosen.passed_over[..]), (Backend::Neuron, &[][..]));
    tokens(&chosen.value).unwrap();
    for status in [1, 2, 4, 5, 9, 1003, 1004, 1005] {
        standin.fail("nrt_execute", 3, 1, status);
        let error = tokens(&chosen.value).unwrap_err();
        assert!(
            matches!(error, Error::Neuron(Fault::Status { .. } | Fault::Numerical { .. })),
            "`nrt_execute` with status {status}: expected an error of the Neuron device, got {error}"
        );
        assert_eq!(error.name(), "Backend");
        // Later steps must succeed.
        tokens(&chosen.value).unwrap();
    }
    drop(chosen);
    standin.is_left_clean();
}

#[test]
fn what_is_available_is_told_by_this_build_and_this_machine() {
    assert_eq!(backend::available(Backend::Cpu), Ok(()));
    if alone("choice::what_is_available_is_told_by_this_build_and_this_machine", &[]) {
        assert_eq!(backend::available(Backend::Neuron), Ok(()));
        assert_eq!(backend::available(Backend::Neuron), Ok(()));
        assert_eq!(BackendChoice::AUTO.set_up(backend::available).unwrap().to_string(), "neuron");
        Standin::new(interpret).is_left_clean();
    }
}

/// Subscriber that keeps the text of events, one line each.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for &'static Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("evenkeel")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_choice_and_its_reasons_are_logged() {
    if !alone("choice::the_choice_and_its_reasons_are_logged", &[("STANDIN_CORES", "0")]) {
        return;
    }
    tracing::subscriber::set_global_default(&LINES).unwrap();
    let chosen = BackendChoice::AUTO.set_up(set_up).unwrap();
    let reason = &chosen.passed_over[0].1;
    assert!(
        reason.contains("it reports no core"),
        "Neuron without cores: expected `it reports no core` in the reason, got: {reason}"
    );
    let expected = [
        format!("message=backend skipped backend=\"neuron\" reason={reason:?} "),
        "message=backend skipped backend=\"cuda\" reason=\"disabled on this machine\" ".into(),
        "message=backend chosen backend=\"cpu\" ".into(),
    ];
    assert_eq!(*LINES.0.lock().unwrap(), expected);
}
