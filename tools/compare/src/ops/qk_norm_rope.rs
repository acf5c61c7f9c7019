//! RMSNorm and rotary embedding of queries and keys, fused and as two calls.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::Rten;
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use candle_core::{Device, Tensor};
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{RmsNorm, Rope, RopeTable, Rows, RowsMut, qk_norm_rope_into, rms_norm_into, rope_in_place};

pub struct QkNormRope;

const EPS: f32 = 1e-5;

impl Op for QkNormRope {
    const NAME: &'static str = "qk_norm_rope";
    const SHAPES: &'static [Shape] = shapes::HEADS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let position = (row % problem.shape.0[1]) as i64;
        let (x, weight) = (problem.row(problem.x(), row), wide(problem.weight()));
        let exact = reference::qk_norm_rope(x, Some(&weight), 0.0, EPS.into(), (position, &Rope::default()));
        exact.into_iter().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, rows, cols) = (problem.x(), problem.rows(), problem.cols());
        let (positions, shape) = (problem.shape.0[1], problem.shape.0);
        let places: Vec<i64> = (0..positions as i64).collect();
        let table = RopeTable::new(&places, cols, &Rope::default())?;
        let (table_2, table_3, table_4) = (table.clone(), table.clone(), table.clone());
        let options = RmsNorm::default().weight(problem.weight()).eps(EPS.into());
        let input = Rows::shaped(x, shape)?;
        let angles = places.iter().flat_map(|&p| (0..cols / 2).map(move |i| angle(p, i, cols)));
        let (sin, cos): (Vec<E>, Vec<E>) = angles.map(|a| (E::from_wide(a.sin()), E::from_wide(a.cos()))).unzip();
        let half = |numbers| Tensor::from_vec(numbers, (positions, cols / 2), &Device::Cpu);
        let (sin, cos, weight) = (half(sin)?, half(cos)?, problem.line(problem.weight())?);
        let xs = problem.tensor(x)?.unsqueeze(0)?;
        let [(xs_2, weight_2), (xs_3, weight_3)] = [(); 2].map(|()| (xs.clone(), weight.clone()));
        let bare = RmsNorm::default().eps(EPS.into());
        Ok(vec![
            Contender::try_into("evenkeel", move |y| {
                qk_norm_rope_into(input, RowsMut::new(y, rows, cols)?, &table, &options).map(drop)
            }),
            Contender::try_into("evenkeel", move |y: &mut [E]| {
                rms_norm_into(input, RowsMut::new(&mut *y, rows, cols)?, &options)?;
                rope_in_place(RowsMut::shaped(y, shape)?, &table_2)
            })
            .form("not fused"),
            Contender::tensor("evenkeel", "guarded", move || {
                Ok(guarded::qk_norm_rope(&xs_2, Some(&weight_2), &table_3, &bare)?)
            }),
            Contender::tensor("evenkeel", "guarded, not fused", move || {
                Ok(guarded::rope(&guarded::rms_norm(&xs_3, Some(&weight_3), &bare)?, &table_4)?)
            }),
            Contender::tensor("candle", "tensor", move || {
                candle_nn::rotary_emb::rope(&candle_nn::ops::rms_norm(&xs, &weight, EPS)?, &cos, &sin)
            }),
        ])
    }
}

fn angle(position: i64, pair: usize, cols: usize) -> f64 {
    position as f64 * 10_000f64.powf(-2.0 * pair as f64 / cols as f64)
}
