//! Tests of running a program on a device, and of everything that prevents a device from being opened.

#![forbid(unsafe_code)]

use crate::standin::{Kind, Standin, alone, bytes, child, device, floats, library, neff, program, spec, tell};
use evenkeel::neuron::{Action, Device, ElementType, Fault, NanAt, NrtStatus};

/// Performs the computation that the first line of the NEFF names.
fn arithmetic(program: &str, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> i32 {
    match program.lines().next() {
        Some("double") => {
            let doubled: Vec<f32> = floats(inputs[0]).iter().map(|x| 2.0 * x).collect();
            outputs[0].copy_from_slice(&bytes(&doubled));
            0
        }
        Some("all") => {
            for (input, output) in inputs.iter().zip(outputs) {
                output.copy_from_slice(input);
            }
            0
        }
        Some("nan") => {
            outputs.iter_mut().for_each(|output| output.fill(0));
            for at in [10, 7] {
                outputs[1][2 * at..2 * at + 2].copy_from_slice(&0x7fc0u16.to_ne_bytes());
            }
            1003
        }
        Some("inside") => {
            outputs.iter_mut().for_each(|output| output.fill(0));
            1003
        }
        other => panic!("the fake device must run only programs of these tests, got {other:?}"),
    }
}

#[test]
fn a_program_runs() {
    if !alone("device::a_program_runs", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let device = device();
    assert_eq!(device.about().to_string(), "runtime 2.32.7.0, instance family 2, 2 cores");
    let x = [spec(ElementType::F32, &[2, 3])];
    let mut loaded = device.load(&program("double", &x, &x)).unwrap();
    for start in 0..3 {
        let x: Vec<f32> = (start..start + 6).map(|n| n as f32).collect();
        let expected: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
        assert_eq!(floats(&loaded.run(&[&bytes(&x)]).unwrap()[0]), expected);
    }
    // Inputs must match the program. A wrong input does not prevent later runs.
    let mismatch = loaded.run(&[&[0; 23]]).unwrap_err();
    assert_eq!(mismatch.to_string(), "double: input 0 is 23 bytes; expected 24");
    assert_eq!((mismatch.action(), loaded.run(&[]).unwrap_err().action()), (Action::Bug, Action::Bug));
    assert_eq!(floats(&loaded.run(&[&bytes(&[1.0; 6])]).unwrap()[0]), [2.0; 6]);
    // A loaded program can be moved to another thread and dropped there.
    std::thread::spawn(move || assert!(loaded.run(&[&[0; 24]]).is_ok())).join().unwrap();
    standin.is_left_clean();
}

/// Runs a program with inputs of every type, scalars included, on both generations of the library. Each input must
/// arrive at its own index.
fn tensors_of_every_type() {
    let standin = Standin::new(arithmetic);
    let mut specs: Vec<_> = [ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::U8, ElementType::S32]
        .map(|t| spec(t, &[3, 5]))
        .into();
    specs.extend((0..7).map(|_| spec(ElementType::F32, &[])));
    let inputs: Vec<Vec<u8>> = specs.iter().enumerate().map(|(at, spec)| vec![at as u8; spec.bytes()]).collect();
    let mut loaded = device().load_neff("all", neff("all", &specs, &specs), &specs, &specs).unwrap();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    assert_eq!(loaded.run(&inputs).unwrap(), inputs);
    drop(loaded);
    standin.is_left_clean();
}

#[test]
fn tensors_have_their_types_and_places() {
    if alone("device::tensors_have_their_types_and_places", &[]) {
        tensors_of_every_type();
    }
}

#[test]
fn tensors_have_their_types_and_places_on_old_libraries() {
    let old = library(Kind::Old);
    let variables = [("EVENKEEL_LIBNRT", old.to_str().unwrap()), ("EVENKEEL_NEURON_TARGET", "trn1")];
    if alone("device::tensors_have_their_types_and_places_on_old_libraries", &variables) {
        tensors_of_every_type();
        let about = device().about().to_string();
        assert_eq!(about, "runtime of unknown version, instance family unknown, 2 cores");
    }
}

#[test]
fn a_neff_from_elsewhere_has_to_have_the_tensors_that_are_said() {
    if !alone("device::a_neff_from_elsewhere_has_to_have_the_tensors_that_are_said", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let is = |shape: &[usize]| spec(ElementType::F32, shape);
    let neff = neff("double", &[is(&[2, 3])], &[is(&[2, 3])]);
    let refused = |inputs: &[_], outputs: &[_]| {
        let fault = device().load_neff("double", neff.clone(), inputs, outputs).unwrap_err();
        assert_eq!(fault.action(), Action::Bug);
        fault.to_string()
    };
    let good = [is(&[2, 3])];
    assert_eq!(refused(&[is(&[3, 2])], &good), "double: input 0, input0, is of shape [2, 3]; expected [3, 2]");
    let half = [spec(ElementType::F16, &[2, 3])];
    assert_eq!(
        refused(&good, &half),
        "double: output 0, output0, is of data type number 10; expected number 7, which is F16"
    );
    assert_eq!(refused(&good, &[]), "double: the number of tensors in the NEFF is 2; expected 1");
    assert_eq!(refused(&[is(&[2, 3]), is(&[2, 3])], &[]), "double: the number of inputs is 1; expected 2");
    assert_eq!(device().load_neff("x", vec![0; 5], &good, &good).unwrap_err().action(), Action::Bug);
    standin.is_left_clean();
}

#[test]
fn a_nan_is_a_numerical_fault_that_says_where() {
    if !alone("device::a_nan_is_a_numerical_fault_that_says_where", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let outputs = [spec(ElementType::S32, &[4]), spec(ElementType::BF16, &[3, 5]), spec(ElementType::F32, &[4])];
    for (name, at) in [("nan", NanAt::Output { output: 1, index: 7 }), ("inside", NanAt::InsideOnly)] {
        let mut loaded = device().load(&program(name, &[], &outputs)).unwrap();
        let fault = loaded.run(&[]).unwrap_err();
        assert!(
            matches!(&fault, Fault::Numerical { program, nan, .. } if program == name && *nan == at),
            "program {name}: expected the fault Numerical with the NaN location {at:?}, got {fault}"
        );
        assert_eq!(fault.action(), Action::Numerical);
        let error = evenkeel::Error::from(fault);
        assert!(
            matches!(error, evenkeel::Error::Neuron(Fault::Numerical { .. })),
            "program {name}: expected the fault Numerical, got: {error}"
        );
        // The fault does not disable the device.
        assert_eq!(loaded.run(&[]).unwrap_err().action(), Action::Numerical);
    }
    standin.is_left_clean();
}

#[test]
fn a_full_queue_is_waited_for_and_not_for_ever() {
    if !alone("device::a_full_queue_is_waited_for_and_not_for_ever", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let x = [spec(ElementType::F32, &[1])];
    let mut loaded = device().load(&program("double", &x, &x)).unwrap();
    standin.fail("nrt_execute", 0, 5, 7);
    assert_eq!(floats(&loaded.run(&[&bytes(&[4.0])]).unwrap()[0]), [8.0]);
    standin.fail("nrt_execute", 0, 1000, 7);
    let fault = loaded.run(&[&bytes(&[4.0])]).unwrap_err();
    assert_eq!((fault.action(), standin.failures_left() > 900), (Action::Surface, true));
    assert_eq!(fault.to_string(), "nrt_execute: the queue of runs is full (NRT_QUEUE_FULL, 7)");
    drop(loaded);
    standin.is_left_clean();
}

#[test]
fn a_core_that_is_taken_is_a_reason_to_fall_back_at_the_start_only() {
    if !alone("device::a_core_that_is_taken_is_a_reason_to_fall_back_at_the_start_only", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let x = [spec(ElementType::F32, &[1])];
    let double = program("double", &x, &x);
    standin.fail("nrt_load", 0, 1, 1005);
    assert_eq!(device().load(&double).unwrap_err().action(), Action::FallBack);
    let mut loaded = device().load(&double).unwrap();
    standin.fail("nrt_execute", 0, 1, 1005);
    assert_eq!(loaded.run(&[&[0; 4]]).unwrap_err().action(), Action::Surface);
    standin.fail("nrt_execute", 0, 1, 5);
    let timeout = loaded.run(&[&[0; 4]]).unwrap_err();
    assert!(matches!(timeout, Fault::Status { call: "nrt_execute", status: NrtStatus(5), at_work: true, .. }));
    assert_eq!(timeout.action(), Action::Surface);
    assert!(loaded.run(&[&[0; 4]]).is_ok());
    assert_eq!(Device::open_core(2).unwrap_err().to_string(), "there is no core 2; this process sees 2 cores");
    let mut other = Device::open_core(1).unwrap().load(&double).unwrap();
    assert!(other.run(&[&[0; 4]]).is_ok());
    drop((loaded, other));
    standin.is_left_clean();
}

#[test]
fn a_broken_device_is_not_used_again_and_what_is_there_is_freed() {
    if !alone("device::a_broken_device_is_not_used_again_and_what_is_there_is_freed", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let x = [spec(ElementType::F32, &[1])];
    let double = program("double", &x, &x);
    let (device, mut one, mut two) = (device(), device().load(&double).unwrap(), device().load(&double).unwrap());
    standin.fail("nrt_execute", 0, 1, 1202);
    assert_eq!(one.run(&[&[0; 4]]).unwrap_err().action(), Action::Surface);
    let calls = standin.calls();
    let broken = one.run(&[&[0; 4]]).unwrap_err();
    assert!(
        matches!(broken, Fault::Broken { status: NrtStatus(1202), .. }),
        "expected a broken device with status 1202, got {broken}"
    );
    assert_eq!(two.run(&[&[0; 4]]), Err(broken.clone()));
    assert_eq!(device.load(&double).err(), Some(broken.clone()));
    assert_eq!(Device::open().err(), Some(broken.clone()));
    assert_eq!((broken.action(), standin.calls()), (Action::Surface, calls));
    drop((one, two));
    standin.is_left_clean();
}

#[test]
fn a_neff_of_another_version_is_forgotten() {
    if !alone("device::a_neff_of_another_version_is_forgotten", &[]) {
        return;
    }
    let standin = Standin::new(arithmetic);
    let x = [spec(ElementType::F32, &[1])];
    let double = program("double", &x, &x);
    let compiled = || std::fs::read_to_string(std::env::var_os("STANDIN_CALLS").unwrap()).unwrap().lines().count();
    drop((device().load(&double).unwrap(), device().load(&double).unwrap()));
    assert_eq!(compiled(), 1);
    standin.fail("nrt_load", 0, 1, 10);
    assert_eq!(device().load(&double).unwrap_err().action(), Action::FallBack);
    drop(device().load(&double).unwrap());
    assert_eq!(compiled(), 2);
    standin.is_left_clean();
}

/// Opens the device in a process of its own, and reports the outcome.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn opening() {
    match Device::open() {
        Ok(device) => tell(format!("Ok: {}", device.about())),
        Err(fault) => tell(format!("{:?}: {fault}", fault.action())),
    }
    // If no device is found, the next `open` searches for one again. If initialisation fails, the error is kept, and
    // the next `open` calls no library function.
    if std::env::var_os("STANDIN_FAIL").is_some_and(|fail| fail.to_string_lossy().starts_with("nrt_init")) {
        assert_eq!(Device::open().err(), Device::open().err());
        assert_eq!(Standin::new(arithmetic).calls(), 2);
    }
}

fn opened(variables: &[(&str, &str)]) -> String {
    child("device::opening", tempfile::tempdir().unwrap().path(), variables)
}

#[test]
fn what_keeps_a_device_from_being_opened_is_said() {
    let missing = opened(&[("EVENKEEL_LIBNRT", "/nowhere/libnrt.so.1")]);
    assert!(
        missing.starts_with("FallBack: EVENKEEL_LIBNRT can't be loaded: /nowhere/libnrt.so.1: cannot open"),
        "`EVENKEEL_LIBNRT` with the path of a missing file: the reason for the fallback must name the path, got: \
         {missing}"
    );
    let usual = opened(&[("EVENKEEL_LIBNRT", "")]);
    assert_eq!(
        usual,
        "FallBack: there is no Neuron runtime on this machine: no libnrt.so.1, no libnrt.so, no \
         /opt/aws/neuron/lib/libnrt.so.1"
    );
    // The file has the right name, but is not a library.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libnrt.so.1"), "no library").unwrap();
    let broken = opened(&[("EVENKEEL_LIBNRT", ""), ("LD_LIBRARY_PATH", folder.path().to_str().unwrap())]);
    assert!(
        broken.starts_with("FallBack: the Neuron runtime can't be loaded: ") && broken.contains("too short"),
        "a file `libnrt.so.1` with the text `no library`: the reason for the fallback must contain `too short`, got: \
         {broken}"
    );
    let lacking = opened(&[("EVENKEEL_LIBNRT", library(Kind::Lacking).to_str().unwrap())]);
    assert!(
        lacking.ends_with(" is not a usable Neuron runtime: it lacks nrt_execute"),
        "`libnrt` without `nrt_execute`: expected an error that names `nrt_execute`, got: {lacking}"
    );
    for (variables, expected) in [
        (("STANDIN_CORES", "0"), "FallBack: the Neuron runtime is installed, but found no device: it reports no core"),
        (
            ("STANDIN_FAIL", "count:1"),
            "FallBack: the Neuron runtime is installed, but found no device: an unspecified failure (NRT_FAILURE, 1)",
        ),
        (("STANDIN_FAIL", "nrt_init:1"), "FallBack: nrt_init: an unspecified failure (NRT_FAILURE, 1)"),
        (("STANDIN_FAIL", "nrt_init:4"), "FallBack: nrt_init: a resource is not available (NRT_RESOURCE, 4)"),
        (("STANDIN_FAIL", "nrt_init:6"), "Surface: nrt_init: the hardware failed (NRT_HW_ERROR, 6)"),
        (
            ("STANDIN_FAIL", "nrt_init:2"),
            "Bug: nrt_init: an invalid program, descriptor, name or size (NRT_INVALID, 2)",
        ),
        (("STANDIN_FAIL", "nrt_init:4711"), "Surface: nrt_init: an unknown status (4711)"),
        (("STANDIN_FAIL", "nrt_get_version:1"), "Ok: runtime of unknown version, instance family 2, 2 cores"),
        (("NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS", "0"), "Ok: runtime 2.32.7.0, instance family 2, 2 cores"),
        (
            ("NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS", "3"),
            "FallBack: NEURON_RT_ASYNC_EXEC_MAX_INFLIGHT_REQUESTS is 3: runs would return before they finish, and \
             their errors would be lost; unset it",
        ),
        (
            ("NEURON_RT_STOCHASTIC_ROUNDING_EN", "1"),
            "Ok: runtime 2.32.7.0, instance family 2, 2 cores, casts rounded stochastically \
             (NEURON_RT_STOCHASTIC_ROUNDING_EN is 1)",
        ),
    ] {
        assert_eq!(opened(&[variables]), expected, "opening a device with {variables:?}: expected {expected:?}");
    }
}
