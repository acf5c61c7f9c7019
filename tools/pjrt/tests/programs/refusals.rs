//! Arguments that programs reject.

use evenkeel::neuron::{self, Execute, Interpreter};
use evenkeel::{
    ClampedExp, ClampedLog, CrossEntropy, DType, Error, LayerNorm, Mask, Result, RmsNorm, Rows, Softmax, neuron::run,
};

/// Makes every program for a type and a shape.
fn programs(dtype: DType, rows: usize, cols: usize) -> Vec<Result<neuron::Program>> {
    vec![
        neuron::softmax(dtype, rows, cols, &Softmax::default()),
        neuron::log_softmax(dtype, rows, cols, &Softmax::default()),
        neuron::logsumexp(dtype, rows, cols, &Softmax::default()),
        neuron::rms_norm(dtype, rows, cols, &RmsNorm::default()),
        neuron::rms_norm_residual(dtype, rows, cols, &RmsNorm::default()),
        neuron::layer_norm(dtype, rows, cols, &LayerNorm::default()),
        neuron::clamped_exp(dtype, rows, cols, &ClampedExp::default()),
        neuron::clamped_log(dtype, rows, cols, &ClampedLog::default()),
        neuron::cross_entropy(dtype, rows, cols, &CrossEntropy::default()),
        neuron::squared_norm(dtype, rows, cols),
        neuron::sample(dtype, rows, cols, 8, None),
    ]
}

#[test]
fn types_and_shapes() {
    let refused = |dtype, rows, cols, error: &str| {
        for program in programs(dtype, rows, cols) {
            let got = program.unwrap_err();
            assert_eq!(got.name(), error, "{rows} rows of {cols} in {dtype}: expected the error {error}, got {got}");
        }
    };
    refused(DType::F64, 2, 2, "UnsupportedDType");
    refused(DType::F32, 0, 2, "EmptyInput");
    refused(DType::F32, 2, 0, "EmptyInput");
    refused(DType::F32, 1, (1 << 21) + 1, "InvalidArgument");
    refused(DType::F32, usize::MAX, 2, "InvalidArgument");
    refused(DType::F32, 1 << 11, 1 << 20, "InvalidArgument");
}

#[test]
fn candidates_and_biases() {
    for candidates in [0, 257] {
        let error = neuron::sample(DType::F32, 2, 2, candidates, None).unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { argument: "candidates", .. }),
            "{candidates} candidates: expected an InvalidArgument error, got {error}"
        );
    }
    let bias = [0.0f32; 4];
    let error = neuron::sample(DType::F32, 2, 2, 2, Some(&Mask::bias(&bias, &[2, 2]))).unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { argument: "mask", .. }),
        "expected an error about the mask, got {error}"
    );
}

#[test]
fn nothing_to_compute() {
    let empty = Rows::new(&[0.0f32; 0], 0, 4).unwrap();
    assert_eq!(run::softmax(&Interpreter, empty, &Softmax::default()), Ok(Vec::new()));
    let empty = Rows::new(&[0.0f32; 0], 2, 0).unwrap();
    assert_eq!(run::logsumexp(&Interpreter, empty, &Softmax::default()), Ok(vec![f32::NEG_INFINITY; 2]));
}

/// A device whose outputs do not match the program.
struct Broken(Vec<Vec<u8>>);

impl Execute for Broken {
    fn execute(&self, _: &neuron::Program, _: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        Ok(self.0.clone())
    }
}

#[test]
fn devices_that_do_not_keep_to_the_program() {
    let x = [1.0f32, 2.0];
    let y = vec![0; 8];
    let ran = |outputs: Vec<Vec<u8>>| run::softmax(&Broken(outputs), Rows::new(&x, 1, 2).unwrap(), &Softmax::default());
    assert!(ran(vec![y.clone(), vec![0; 4]]).is_ok());
    for outputs in
        [vec![], vec![y.clone()], vec![y.clone(), vec![0; 3]], vec![y.clone(), vec![4, 0, 0, 0]], vec![vec![0; 4]; 2]]
    {
        let error = ran(outputs).unwrap_err();
        assert_eq!(error.name(), "Backend", "the error for wrong outputs must be Backend, got {error}");
    }
}

/// Tests that a program's HLO is shorter than 16 KiB, and that the same arguments give an equal program. The HLO
/// numbers its instructions from 1, because Neuron's compiler crashes on instruction ids of 64 bits.
#[test]
fn programs_are_small() {
    let program = neuron::softmax(DType::BF16, 128, 4096, &Softmax::default()).unwrap();
    assert!(
        program.hlo().len() < 16 << 10,
        "HLO of softmax: expected less than 16384 bytes, got {}",
        program.hlo().len()
    );
    assert_eq!(program, neuron::softmax(DType::BF16, 128, 4096, &Softmax::default()).unwrap());
}
