//! Timing of contenders in turns: every round times each contender once, so other load on the machine affects all
//! contenders equally.

use crate::clock::{Time, time};
use crate::contender::{Contender, Run, numbers};
use crate::float::Float;
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::hint::black_box;

#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Number of turns of each contender, unless it reaches its time limit first.
    pub rounds: usize,
    /// Time limit in nanoseconds. A contender gets no further turn once it has used this time and had [`Pace::LEAST`]
    /// turns.
    pub limit: f64,
}

impl Pace {
    pub const FULL: Pace = Pace { rounds: 30, limit: 2e8 };
    pub const QUICK: Pace = Pace { rounds: 5, limit: 3e7 };
    /// Smallest number of turns.
    const LEAST: usize = 3;
    /// Minimum total duration of the calls of a turn, in nanoseconds.
    const TURN: f64 = 1e6;
    /// If a call takes less than this time, in nanoseconds, each turn begins with an untimed call that fills the
    /// caches.
    const WARMED: f64 = 2e7;
}

/// Largest total size, in bytes, of the input copies that an in-place function overwrites one after the other. At this
/// size, the copies fill half of a second-level cache.
const RING: usize = 512 << 10;

/// Result and times of one contender.
pub struct Timed<E> {
    pub name: &'static str,
    pub form: &'static str,
    pub threads: usize,
    /// Time per call in each turn.
    pub turns: Vec<Time>,
    pub result: Result<Vec<E>>,
}

struct Runner<'c, 'a, E> {
    contender: &'c mut Contender<'a, E>,
    ring: Vec<Vec<E>>,
    calls: usize,
    spent: f64,
    timed: Timed<E>,
}

/// Runs every contender once and keeps the first `kept` elements of its result. Then times the contenders whose run
/// succeeded.
pub fn race<E: Float>(mut contenders: Vec<Contender<'_, E>>, outputs: usize, kept: usize, pace: Pace) -> Vec<Timed<E>> {
    // Memory is written before it is timed, because the first access to a page costs more.
    let mut y = vec![E::narrow(1.0); outputs];
    let mut runners: Vec<Runner<'_, '_, E>> = Vec::new();
    for contender in &mut contenders {
        let (name, form, threads) = (contender.name, contender.form, contender.threads);
        let mut runner = Runner {
            contender,
            ring: Vec::new(),
            calls: 1,
            spent: 0.0,
            timed: Timed { name, form, threads, turns: Vec::new(), result: Ok(Vec::new()) },
        };
        runner.timed.result = runner.compute(&mut y, kept);
        if runner.timed.result.is_ok() {
            runner.calibrate(&mut y);
        }
        runners.push(runner);
    }
    for round in 0..pace.rounds {
        for runner in runners.iter_mut().filter(|runner| runner.timed.result.is_ok()) {
            if round < Pace::LEAST || runner.spent < pace.limit {
                runner.turn(&mut y);
            }
        }
    }
    runners.into_iter().map(|runner| runner.timed).collect()
}

impl<E: Float> Runner<'_, '_, E> {
    fn compute(&mut self, y: &mut [E], kept: usize) -> Result<Vec<E>> {
        let mut all = match &mut self.contender.run {
            Run::Into(f) => {
                let outputs = self.contender.outputs.min(y.len());
                f(&mut y[..outputs])?;
                return Ok(y[..kept.min(outputs)].to_vec());
            }
            Run::InPlace(x, f) => {
                let mut x = x.to_vec();
                f(&mut x)?;
                x
            }
            Run::Allocating(f) => f()?,
            Run::Tensor(f) => numbers(&f()?)?,
            Run::TensorInPlace(x, dims, f) => {
                let xs = Tensor::from_slice(x, *dims, &Device::Cpu)?;
                f(&xs)?;
                numbers(&xs)?
            }
        };
        all.truncate(kept);
        Ok(all)
    }

    /// Finds the number of calls that fill a turn.
    fn calibrate(&mut self, y: &mut [E]) {
        let first = self.batch(y, 1).wall;
        let call = if first < Pace::WARMED { self.batch(y, 1).wall } else { first };
        self.calls = ((Pace::TURN / call.max(1.0)).ceil() as usize).max(1);
    }

    fn turn(&mut self, y: &mut [E]) {
        let before = self.timed.turns.last().map_or(0.0, |call| call.wall);
        if before < Pace::WARMED {
            self.batch(y, 1);
        }
        let time = self.batch(y, self.calls);
        self.spent += time.wall;
        let calls = self.calls as f64;
        self.timed.turns.push(Time { cpu: time.cpu / calls, wall: time.wall / calls });
    }

    /// Measures `calls` calls. Results are ignored: if the first call of a contender succeeded, all later calls
    /// succeed.
    fn batch(&mut self, y: &mut [E], calls: usize) -> Time {
        match &mut self.contender.run {
            Run::Into(f) => {
                let outputs = self.contender.outputs.min(y.len());
                time(|| {
                    for _ in 0..calls {
                        let _ = black_box(f(black_box(&mut y[..outputs])));
                    }
                })
            }
            Run::Allocating(f) => time(|| {
                for _ in 0..calls {
                    let _ = black_box(f());
                }
            }),
            Run::Tensor(f) => time(|| {
                for _ in 0..calls {
                    let _ = black_box(f());
                }
            }),
            Run::InPlace(x, f) => {
                let most = (RING / size_of_val(*x)).max(1);
                self.ring.resize(most.min(calls).max(self.ring.len()), x.to_vec());
                in_parts(calls, most, |part| {
                    self.ring[..part].iter_mut().for_each(|copy| copy.copy_from_slice(x));
                    time(|| self.ring[..part].iter_mut().for_each(|copy| drop(black_box(f(copy)))))
                })
            }
            Run::TensorInPlace(x, dims, f) => in_parts(calls, (RING / size_of_val(*x)).max(1), |part| {
                let fresh = || {
                    Tensor::from_slice(x, *dims, &Device::Cpu).expect("candle must make a tensor from the input slice")
                };
                let copies: Vec<Tensor> = (0..part).map(|_| fresh()).collect();
                time(|| copies.iter().for_each(|copy| drop(black_box(f(copy)))))
            }),
        }
    }
}

/// Measures `calls` calls, divided into parts of at most `most` calls.
fn in_parts(calls: usize, most: usize, mut part: impl FnMut(usize) -> Time) -> Time {
    let mut all = Time::default();
    for start in (0..calls).step_by(most) {
        let time = part(most.min(calls - start));
        all = Time { cpu: all.cpu + time.cpu, wall: all.wall + time.wall };
    }
    all
}
