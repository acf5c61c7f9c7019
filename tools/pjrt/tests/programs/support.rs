//! Devices that run the programs, rows to run them on, and comparisons.

use evenkeel::neuron::{ElementType, Execute, Interpreter, Program};
use evenkeel::testing::ulp;
use evenkeel::testing::values::Bits;
use evenkeel::{Element, Error, Result, accuracy};
use evenkeel_pjrt::{Form, Plugin, plugin_path};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::OnceLock;

/// A device that runs programs.
pub enum Device {
    /// The interpreter, which runs a program operator by operator. It rejects arithmetic with NaN, and operands outside
    /// the range that devices support.
    Interpreter,
    /// A plugin, which runs each program as HLO. Each mode of `nan_modes` adds one check. In the default mode, the
    /// program also runs as StableHLO, and both results must have the same bits. In the mode that keeps NaN, the
    /// instrumented program also runs on the inputs with each NaN replaced by 0. None of its intermediate values may
    /// then be NaN. Running both checks in each mode would take twice the time, mostly for compilation.
    Plugin(&'static Plugin),
}

/// Calls `check` for the interpreter and for the plugin. If there is no plugin, prints that the test was skipped.
pub fn on_each_device(test: &str, check: impl Fn(&Device)) {
    if !crate::nan_modes::is_other() {
        check(&Device::Interpreter);
    }
    static PLUGIN: OnceLock<Option<Plugin>> = OnceLock::new();
    let plugin = PLUGIN.get_or_init(|| plugin_path().map(|path| Plugin::load(&path).unwrap()));
    match plugin {
        Some(plugin) => check(&Device::Plugin(plugin)),
        None => println!("{test}: skipped: no PJRT plugin"),
    }
}

impl Execute for Device {
    fn execute(&self, program: &Program, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let Device::Plugin(plugin) = self else { return Interpreter.execute(program, inputs) };
        let failed = |reason: String| Err(Error::failed(program.name(), reason));
        let outputs = plugin.run(program, Form::Hlo, inputs)?;
        if !crate::nan_modes::is_other() {
            let same = plugin.run(program, Form::StableHlo, inputs)? == outputs;
            return if same { Ok(outputs) } else { failed("HLO and StableHLO give different results".into()) };
        }
        let specs = program.inputs().iter().zip(inputs);
        let without: Vec<Vec<u8>> = specs.map(|(spec, bytes)| without_nan(spec.dtype, bytes)).collect();
        let without: Vec<&[u8]> = without.iter().map(Vec::as_slice).collect();
        match self.flags(program, &without)?.iter().position(|flag| *flag > 1) {
            None => Ok(outputs),
            Some(at) => {
                failed(format!("intermediate value {at} is NaN, although each NaN in the inputs was replaced by 0"))
            }
        }
    }
}

impl Device {
    /// Runs the instrumented program; returns a flag for each intermediate value: 0 if it is finite, 1 if it has an
    /// infinity, 2 if it has a NaN.
    pub fn flags(&self, program: &Program, inputs: &[&[u8]]) -> Result<Vec<u8>> {
        let program = program.instrumented()?;
        let flags = match self {
            Device::Interpreter => Interpreter.execute(&program, inputs)?,
            Device::Plugin(plugin) => plugin.run(&program, Form::Hlo, inputs)?,
        };
        Ok(flags.concat().as_chunks::<4>().0.iter().map(|flag| f32::from_le_bytes(*flag) as u8).collect())
    }
}

/// Replaces each NaN by 0.
fn without_nan(dtype: ElementType, bytes: &[u8]) -> Vec<u8> {
    let is_nan: fn(&[u8]) -> bool = match dtype {
        ElementType::F32 => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_nan(),
        ElementType::F16 => |b| f16::from_le_bytes([b[0], b[1]]).is_nan(),
        ElementType::BF16 => |b| bf16::from_le_bytes([b[0], b[1]]).is_nan(),
        _ => return bytes.to_vec(),
    };
    let mut without = bytes.to_vec();
    let size = if matches!(dtype, ElementType::F32) { 4 } else { 2 };
    without.chunks_exact_mut(size).filter(|value| is_nan(value)).for_each(|value| value.fill(0));
    without
}

/// Defines a test for each function. The test runs the function for each type on each device.
macro_rules! for_each_dtype {
    ($($test:ident),*) => {$(
        #[test]
        fn $test() {
            $crate::support::on_each_device(stringify!($test), |device| {
                super::$test::<f32>(device);
                // In the mode that keeps NaN, f32 alone suffices, because programs compute all types in f32.
                if !$crate::nan_modes::is_other() {
                    super::$test::<half::f16>(device);
                    super::$test::<half::bf16>(device);
                }
            });
        }
    )*};
}
pub(crate) use for_each_dtype;

pub const SEED: u64 = 7;

pub fn rng() -> StdRng {
    StdRng::seed_from_u64(SEED)
}

/// A matrix with a name for each row.
pub struct Matrix<E> {
    pub names: Vec<String>,
    pub data: Vec<E>,
    pub cols: usize,
}

impl<E: Bits> Matrix<E> {
    pub fn new(cols: usize) -> Self {
        Matrix { names: Vec::new(), data: Vec::new(), cols }
    }

    pub fn push(&mut self, name: impl ToString, row: &[E]) {
        assert_eq!(row.len(), self.cols);
        self.names.push(name.to_string());
        self.data.extend_from_slice(row);
    }

    /// Appends rows of random numbers around 0, one for each of these approximate standard deviations.
    pub fn push_random(&mut self, rng: &mut StdRng, spreads: &[f64]) {
        for spread in spreads {
            let bell = |rng: &mut StdRng| (0..4).map(|_| rng.random_range(-1.0..1.0)).sum::<f64>() * spread;
            let row: Vec<E> = (0..self.cols).map(|_| E::from_wide(bell(rng))).collect();
            self.push(format!("random, of spread {spread}, seed {SEED}"), &row);
        }
    }

    /// Appends a copy of the last row with one number replaced.
    pub fn push_with(&mut self, name: &str, value: E) {
        let mut row = self.row(self.rows() - 1).to_vec();
        row[self.cols / 2] = value;
        self.push(name, &row);
    }

    pub fn rows(&self) -> usize {
        self.names.len()
    }

    pub fn row(&self, row: usize) -> &[E] {
        &self.data[row * self.cols..][..self.cols]
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.data.iter().flat_map(|x| x.bits().to_le_bytes().into_iter().take(size_of::<E>())).collect()
    }

    pub fn view(&self) -> evenkeel::Rows<'_, E> {
        evenkeel::Rows::new(&self.data, self.rows(), self.cols).unwrap()
    }
}

/// Returns the value that a device computes with: rounded to f32, and 0 if subnormal.
pub fn flushed(x: f64) -> f64 {
    let narrow = x as f32;
    if narrow.is_subnormal() { 0.0 } else { f64::from(narrow) }
}

/// A check of results against the bound of their op. It prints the largest error when it is dropped.
pub struct Worst {
    what: String,
    bound: f64,
    worst: f64,
    /// Absolute error that is allowed because devices flush subnormal numbers to 0.
    pub lost: f64,
}

impl Worst {
    pub fn new<E: Element>(op: &str, device: &Device) -> Self {
        let bound = accuracy::neuron_bound(op, E::DTYPE)
            .unwrap_or_else(|| panic!("{op} of {} must have an error bound for Neuron", E::DTYPE));
        let device = if matches!(device, Device::Interpreter) { "interpreted" } else { "compiled" };
        Worst {
            what: format!("{op} {} {device}", E::DTYPE),
            bound: bound.ulps,
            worst: 0.0,
            lost: f64::from(f32::MIN_POSITIVE),
        }
    }

    /// Multiplies the bound by a factor.
    pub fn times(mut self, factor: f64) -> Self {
        self.bound *= factor;
        self
    }

    /// Checks a result. The unit of error is the ULP of the exact result, or of `term` if that is larger in magnitude.
    pub fn check<E: Element>(&mut self, case: &str, got: E, exact: f64, term: f64) {
        if (got.widen() - exact).abs() <= self.lost {
            return;
        }
        let near = ulp::toward_zero(exact);
        let at = if near.is_finite() { near.max(term.abs()) } else { near };
        let error = ulp::error_at(got, exact, at);
        let Worst { what, bound, .. } = self;
        assert!(
            error <= *bound,
            "{what}, {case}: expected {exact:e} within {bound} ULP, got {:e} with an error of {error} ULP",
            got.widen()
        );
        self.worst = self.worst.max(error);
    }

    pub fn check_row<E: Element>(&mut self, case: &str, got: &[E], exact: &[f64], term: impl Fn(usize) -> f64) {
        assert_eq!(got.len(), exact.len());
        for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
            self.check(&format!("{case}, [{i}]"), *got, *exact, term(i));
        }
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        println!("{}: largest error {:.4} ULP, bound {} ULP", self.what, self.worst, self.bound);
    }
}
