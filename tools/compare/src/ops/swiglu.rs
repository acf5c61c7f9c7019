//! The gate of a feed-forward layer: silu of one operand, times the other.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::Rten;
use crate::problem::{Problem, Shape};
use anyhow::Result;
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};

pub struct Swiglu;

impl Op for Swiglu {
    const NAME: &'static str = "swiglu";
    const SHAPES: &'static [Shape] = shapes::ELEMENTS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let pairs = problem.row(problem.x(), row).iter().zip(problem.row(problem.dy(), row));
        pairs.map(|(&gate, &up)| reference::swiglu(gate, up).to_f64()).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        // The second operand is the problem's `dy`, which other ops use as a gradient.
        let (gate, up) = (problem.x(), problem.dy());
        let (gates, ups) = (problem.tensor(gate)?, problem.tensor(up)?);
        let [(gates_2, ups_2), (gates_3, ups_3)] = [(); 2].map(|()| (gates.clone(), ups.clone()));
        Ok(vec![
            Contender::try_into("evenkeel", move |y| evenkeel::swiglu_into(gate, up, y).map(drop)),
            Contender::try_into("evenkeel", move |y| {
                let y = evenkeel::silu_into(gate, y)?;
                y.iter_mut().zip(up).for_each(|(y, up)| *y = E::narrow(y.single() * up.single()));
                Ok::<(), evenkeel::Error>(())
            })
            .form("not fused"),
            Contender::tensor("evenkeel", "guarded", move || Ok(guarded::swiglu(&gates_2, &ups_2)?)),
            Contender::tensor("evenkeel", "guarded, not fused", move || guarded::silu(&gates_3)? * &ups_3),
            Contender::tensor("candle", "tensor", move || candle_nn::ops::silu(&gates)? * &ups),
            Contender::into("naive", move |y| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    let gate = gate.single();
                    *y = E::narrow(gate / (1.0 + (-gate).exp()) * up.single());
                }
            }),
        ])
    }
}
