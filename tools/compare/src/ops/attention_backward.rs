//! Gradients of attention. Errors are measured on the queries' gradient.

use super::attention::{composed, of_prompt};
use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Rten, gradient};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{Tensor, Var};
use evenkeel::candle::guarded;
use evenkeel::reference::attention_backward_of;
use evenkeel::{Attention, Heads, attention_backward_into};

pub struct AttentionBackward;

impl Op for AttentionBackward {
    const NAME: &'static str = "attention_backward";
    const SHAPES: &'static [Shape] = shapes::PROMPTS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let of = of_prompt(problem);
        let (logits, [keys, values]) = of.of_query(row);
        let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        let dy: Vec<f64> = problem.row(problem.dy(), row).iter().map(|dy| dy.widen()).collect();
        let dlogits = attention_backward_of(&logits, &values, None, &dy).map_or(Vec::new(), |of| of.dlogits);
        let of_feature = |i: usize| keys.iter().zip(&dlogits).map(|(key, d)| d * key[i]).sum::<f64>() * of.scale();
        (0..of.features).map(of_feature).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let of = of_prompt(problem);
        let views = of.views()?;
        let dy = Heads::new(problem.dy(), [1, of.heads, of.queries, of.features])?;
        let [q, k, v] = of.tensors()?.map(|xs| Var::from_tensor(&xs));
        let (q, k, v) = (q?, k?, v?);
        let dys = Tensor::from_slice(problem.dy(), q.shape(), q.device())?;
        let (q_2, k_2, v_2, dys_2) = (q.clone(), k.clone(), v.clone(), dys.clone());
        let scale = of.scale();
        let (mut dk, mut dv) = (of.k.to_vec(), of.v.to_vec());
        Ok(vec![
            Contender::try_into("evenkeel", move |dq: &mut [E]| {
                let out = [dq.into(), (&mut dk).into(), (&mut dv).into()];
                attention_backward_into(views, dy, out, None, &Attention::default()).map(drop)
            }),
            Contender::tensor("evenkeel", "autograd", move || {
                gradient(&q, &dys, |q| Ok(guarded::attention(q, &k, &v, &Attention::default())?))
            }),
            Contender::tensor("candle", "autograd", move || {
                let (k, v) = (k_2.as_tensor(), v_2.as_tensor());
                gradient(&q_2, &dys_2, |q| composed(&[q.clone(), k.clone(), v.clone()], scale))
            }),
        ])
    }
}
