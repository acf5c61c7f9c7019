//! Steps of AdamW.

use super::{Extent, Number, Op, Ready, Results, Shape};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::DType;
use evenkeel::cuda::adamw::{Parameter, Progress, Rounding, begin, step};
use evenkeel::cuda::cudarc::driver::CudaSlice;
use evenkeel::train::{AdamW as Options, Numbers, Optimizer, init};

pub struct AdamW;

const STOCHASTIC: usize = 1;
const SKIPPED: usize = 2;
const SEED: u64 = 9;

/// Returns finite gradients, which are repeated for all weights. Their number is prime, so that neighbouring rows get
/// different gradients.
fn gradients<E: Number>() -> Vec<E> {
    let number = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 23) - 1.0;
    (1..=65_521).map(|i| E::from_wide(number(i))).collect()
}

fn options() -> Options {
    Options::default().lr(0.01)
}

fn hash(numbers: impl IntoIterator<Item = f32>) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    numbers.into_iter().fold(start, |hash: u64, v| (hash ^ u64::from(v.to_bits())).wrapping_mul(0x0100_0000_01b3))
}

/// Weights of 16 bits and their state. The first step runs when the results are filled, so that the measured step
/// starts from a state that is not zero.
struct Step<E> {
    stream: Stream,
    way: usize,
    progress: Progress,
    norm: CudaSlice<f64>,
    gradients: Placed<E>,
    /// Mean of the gradients, root of the mean of their squares, and master weights.
    state: [CudaSlice<f32>; 3],
}

impl<E: Number> Step<E> {
    fn has_master(&self) -> bool {
        E::DTYPE != DType::F32 && self.way != STOCHASTIC
    }

    fn step(&mut self, weights: &mut Placed<E>) -> Result<()> {
        let has_master = self.has_master();
        let [mean, root_mean_square, master] = &mut self.state;
        let rounding = match E::DTYPE {
            DType::F32 => Rounding::None,
            _ if has_master => Rounding::Master(master.as_view_mut()),
            _ => Rounding::Stochastic(init::Stream::numbered(SEED, 0)),
        };
        begin(&self.stream, &mut self.progress, &options(), Some(self.norm.as_view()))?;
        let parameter = Parameter {
            weights: E::operand_mut(weights.view_mut()),
            rounding,
            mean: mean.as_view_mut(),
            root_mean_square: root_mean_square.as_view_mut(),
            gradient: E::operand(self.gradients.view()),
        };
        Ok(step(&self.stream, &self.progress, parameter)?)
    }
}

impl<E: Number> Ready<E> for Step<E> {
    fn fill(&mut self, read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        self.stream.memcpy_dtod(&read[0].view(), &mut written[0].view_mut())?;
        for of in &mut self.state[..2] {
            self.stream.memset_zeros(of)?;
        }
        if self.has_master() {
            let wide: Vec<f32> = read[0].values(&self.stream)?.iter().map(|w| w.widen() as f32).collect();
            self.stream.memcpy_htod(&wide, &mut self.state[2])?;
        }
        self.stream.memcpy_htod(&[1.0], &mut self.norm)?;
        self.step(&mut written[0])?;
        let norm = if self.way == SKIPPED { f64::NAN } else { 1.0 };
        Ok(self.stream.memcpy_htod(&[norm], &mut self.norm)?)
    }

    fn launch(&mut self, _read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        self.step(&mut written[0])
    }

    fn words(&self) -> Result<Vec<u64>> {
        let hash = |of: &CudaSlice<f32>| Ok::<_, crate::error::Error>(hash(self.stream.clone_dtoh(of)?));
        let counts = self.progress.counts()?;
        let mut words = vec![counts.taken, counts.skipped, hash(&self.state[0])?, hash(&self.state[1])?];
        if self.has_master() {
            words.push(hash(&self.state[2])?);
        }
        Ok(words)
    }
}

impl Op for AdamW {
    const NAME: &'static str = "adamw";
    // The op works in place, so `fill` copies the operands to the memory of the results before the call.
    const READ: &'static [Extent] = &[Extent::Whole];
    const WRITTEN: &'static [Extent] = &[Extent::Whole];
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = &["with master weights", "stochastic rounding", "skipped"];

    fn on_cpu<E: Number>(_shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let mut weights = read[0].clone();
        let mut optimizer = Optimizer::new(options(), &[E::floats(&weights)])?;
        if way == STOCHASTIC {
            optimizer = optimizer.stochastic_rounding(SEED);
        }
        let gradients: Vec<E> = gradients().into_iter().cycle().take(weights.len()).collect();
        let taken = if way == SKIPPED { 1 } else { 2 };
        for _ in 0..taken {
            optimizer.step(&mut [E::floats_mut(&mut weights)], &[Some(E::floats(&gradients))])?;
        }
        let state = &optimizer.state()[0];
        let mut words = vec![taken, 2 - taken];
        for kept in &state.kept {
            if let Numbers::F32(kept) = kept {
                words.push(hash(kept.iter().copied()));
            }
        }
        words.extend(state.master.as_ref().map(|master| hash(master.iter().copied())));
        Ok(Results { written: vec![weights], words })
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let len = shape.elements();
        let zeros = || stream.alloc_zeros::<f32>(len);
        Ok(Step {
            stream: stream.clone(),
            way,
            progress: Progress::new(stream, 0)?,
            norm: stream.alloc_zeros(1)?,
            gradients: Placed::repeated(stream, &gradients::<E>(), len)?,
            state: [zeros()?, zeros()?, zeros()?],
        })
    }

    /// For each element, the op reads and writes a weight and two or three f32 of state, and reads a gradient.
    fn bytes<E>(shape: Shape) -> usize {
        let state = if size_of::<E>() == 2 { 3 } else { 2 };
        shape.elements() * (3 * size_of::<E>() + state * 2 * size_of::<f32>())
    }
}
