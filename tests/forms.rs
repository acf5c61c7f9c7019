//! Runs every op once in each of its forms, on small inputs. Miri runs this program to find reads or writes out of
//! bounds.

#![forbid(unsafe_code)]

use evenkeel::registry::OPS;
use evenkeel::{
    Attention, BceWithLogits, CrossEntropy, Draw, Element, Heads, KlDiv, Lanes, LanesMut, LayerNorm, Mask, MeanPool,
    Reduction, Result, RmsNorm, RmsNormLinear, Rope, RopeTable, Rows, RowsMut, SamplerConfig, Softmax,
    SoftmaxFromOutput,
};
use half::{bf16, f16};
use std::cell::RefCell;
use std::mem::MaybeUninit;

/// Shape of the data: two rows, each of one SIMD block of 16 elements and a tail of 2, with a gap of four elements
/// between the rows.
const ROWS: usize = 2;
const COLS: usize = 18;
const STRIDE: usize = COLS + 4;

/// Type of the function that writes the results to a buffer of the caller.
type Writes<'f, E> = dyn for<'a> Fn(Rows<'_, E>, RowsMut<'a, E>) -> Result<&'a mut [E]> + 'f;

/// Forms of an op on rows. All forms must give the same results as the form `new`.
struct Forms<'f, E> {
    new: &'f dyn Fn(Rows<'_, E>) -> Result<Vec<E>>,
    into: &'f Writes<'f, E>,
    in_place: &'f dyn Fn(RowsMut<'_, E>) -> Result<()>,
}

impl<E: Element> Forms<'_, E> {
    fn check(&self, op: &str, x: &[E]) {
        let view = || Rows::strided(x, ROWS, COLS, STRIDE).unwrap();
        let expected = (self.new)(view()).unwrap();
        let mut room = [MaybeUninit::<E>::uninit(); ROWS * COLS];
        let written = (self.into)(view(), RowsMut::new(&mut room[..], ROWS, COLS).unwrap()).unwrap();
        assert_eq!(
            written, expected,
            "{op}: the result written to uninitialised memory must equal the result in new memory"
        );
        let mut data = x.to_vec();
        (self.in_place)(RowsMut::strided(&mut data, ROWS, COLS, STRIDE).unwrap()).unwrap();
        for (data, expected) in data.chunks(STRIDE).zip(expected.chunks(COLS)) {
            assert_eq!(
                &data[..COLS],
                expected,
                "{op}: the result computed in place must equal the result in new memory"
            );
        }
    }
}

macro_rules! elementwise {
    ($(
        $name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident
            [$backward:ident $backward_into:ident $backward_in_place:ident];
    )*) => {
        /// Runs the elementwise function or gradient with this name. Returns `false` for other ops.
        fn is_elementwise<E: Element>(op: &str, x: &[E]) -> bool {
            match op {
                $(
                    stringify!($name) => {
                        elements(x, evenkeel::$name, |x, y| evenkeel::$into(x, y), evenkeel::$in_place)
                    }
                    stringify!($backward) => gradients(
                        x,
                        evenkeel::$backward,
                        |x, dy, dx| evenkeel::$backward_into(x, dy, dx),
                        evenkeel::$backward_in_place,
                    ),
                )*
                _ => return false,
            }
            true
        }
    };
}
evenkeel::for_each_elementwise!(elementwise);

fn every_form<E: Element>() {
    let x: Vec<E> = (0..ROWS * STRIDE).map(|i| E::from_wide(0.25 + (i * 7 % 13) as f64)).collect();
    let weight = &x[..COLS];
    let keep: Vec<bool> = (0..COLS).map(|i| i % 3 != 1).collect();
    let mask = Mask::keep(&keep, &[COLS]).and_bias(weight, &[COLS]).and_causal();
    let table = RopeTable::new(&[3], COLS, &Rope::default()).unwrap();
    // All elementwise functions share the unsafe code that loads and stores elements, so Miri runs only two of them.
    let elements_of = |op| if cfg!(miri) && !["exp", "exp_backward"].contains(&op) { &x[..0] } else { &x[..] };
    for op in OPS.iter().filter(|op| !is_elementwise(op.name, elements_of(op.name))) {
        match op.name {
            "clamped_exp" => {
                let o = evenkeel::ClampedExp::default().max(5.0);
                elements(
                    &x,
                    |x| evenkeel::clamped_exp(x, &o),
                    |x, y| evenkeel::clamped_exp_into(x, y, &o),
                    |x| evenkeel::clamped_exp_in_place(x, &o),
                )
            }
            "clamped_exp_backward" => {
                let o = evenkeel::ClampedExp::default().max(5.0);
                gradients(
                    &x,
                    |x, dy| evenkeel::clamped_exp_backward(x, dy, &o),
                    |x, dy, dx| evenkeel::clamped_exp_backward_into(x, dy, dx, &o),
                    |x, dy| evenkeel::clamped_exp_backward_in_place(x, dy, &o),
                )
            }
            "clamped_log" => {
                let o = evenkeel::ClampedLog::default().floor(5.0);
                elements(
                    &x,
                    |x| evenkeel::clamped_log(x, &o),
                    |x, y| evenkeel::clamped_log_into(x, y, &o),
                    |x| evenkeel::clamped_log_in_place(x, &o),
                )
            }
            "clamped_log_backward" => {
                let o = evenkeel::ClampedLog::default().floor(5.0);
                gradients(
                    &x,
                    |x, dy| evenkeel::clamped_log_backward(x, dy, &o),
                    |x, dy, dx| evenkeel::clamped_log_backward_into(x, dy, dx, &o),
                    |x, dy| evenkeel::clamped_log_backward_in_place(x, dy, &o),
                )
            }
            "log_add_exp" => elements(
                &x,
                |a| evenkeel::log_add_exp(a, &x),
                |a, y| evenkeel::log_add_exp_into(a, &x, y),
                |a| evenkeel::log_add_exp_in_place(a, &x),
            ),
            "safe_div" => {
                let o = evenkeel::SafeDiv::default().eps(5.0);
                elements(
                    &x,
                    |a| evenkeel::safe_div(a, &x, &o),
                    |a, y| evenkeel::safe_div_into(a, &x, y, &o),
                    |a| evenkeel::safe_div_in_place(a, &x, &o),
                )
            }
            "softmax" => {
                for options in [Softmax::default(), Softmax::default().mask(&mask).softcap(9.0)] {
                    Forms {
                        new: &|x| evenkeel::softmax(x, &options),
                        into: &|x, y| evenkeel::softmax_into(x, y, &options),
                        in_place: &|x| evenkeel::softmax_in_place(x, &options),
                    }
                    .check(op.name, &x);
                }
                let (lanes, mut data) = (Lanes::new(&x, 2, 2, 11).unwrap(), x.clone());
                let y = evenkeel::softmax(lanes, &Softmax::default()).unwrap();
                let whole = LanesMut::new(&mut data, 2, 2, 11).unwrap();
                evenkeel::softmax_in_place(whole, &Softmax::default()).unwrap();
                assert_eq!(
                    data, y,
                    "softmax along axis 1: the result computed in place must equal the result in new memory"
                );
            }
            "log_softmax" => {
                let options = Softmax::default().mask(&mask);
                Forms {
                    new: &|x| evenkeel::log_softmax(x, &options),
                    into: &|x, y| evenkeel::log_softmax_into(x, y, &options),
                    in_place: &|x| evenkeel::log_softmax_in_place(x, &options),
                }
                .check(op.name, &x);
            }
            "softmax_backward" => lane_gradients(
                &x,
                &Softmax::default().mask(&mask).softcap(9.0),
                |x, dy, options| evenkeel::softmax_backward(x, dy, options),
                |x, dy, dx, options| evenkeel::softmax_backward_into(x, dy, dx, options),
                |x, dy, options| evenkeel::softmax_backward_in_place(x, dy, options),
            ),
            "log_softmax_backward" => lane_gradients(
                &x,
                &Softmax::default().mask(&mask),
                |x, dy, options| evenkeel::log_softmax_backward(x, dy, options),
                |x, dy, dx, options| evenkeel::log_softmax_backward_into(x, dy, dx, options),
                |x, dy, options| evenkeel::log_softmax_backward_in_place(x, dy, options),
            ),
            "softmax_backward_from_output" => lane_gradients(
                &x.iter().map(|x| E::from_wide(x.widen() / 16.0)).collect::<Vec<E>>(),
                &SoftmaxFromOutput::default().scale(0.3),
                |y, dy, options| evenkeel::softmax_backward_from_output(y, dy, options),
                |y, dy, dx, options| evenkeel::softmax_backward_from_output_into(y, dy, dx, options),
                |y, dy, options| evenkeel::softmax_backward_from_output_in_place(y, dy, options),
            ),
            "log_softmax_backward_from_output" => lane_gradients(
                &x.iter().map(|x| E::from_wide(-x.widen())).collect::<Vec<E>>(),
                &SoftmaxFromOutput::default().scale(0.3),
                |y, dy, options| evenkeel::log_softmax_backward_from_output(y, dy, options),
                |y, dy, dx, options| evenkeel::log_softmax_backward_from_output_into(y, dy, dx, options),
                |y, dy, options| evenkeel::log_softmax_backward_from_output_in_place(y, dy, options),
            ),
            "logsumexp_backward" => {
                let options = Softmax::default().mask(&mask);
                let dy = &x[..ROWS];
                Forms {
                    new: &|x| evenkeel::logsumexp_backward(x, dy, &options),
                    into: &|x, dx| evenkeel::logsumexp_backward_into(x, dy, dx, &options),
                    in_place: &|x| evenkeel::logsumexp_backward_in_place(x, dy, &options),
                }
                .check(op.name, &x);
            }
            "logsumexp" => {
                let (rows, options) = (Rows::strided(&x, ROWS, COLS, STRIDE).unwrap(), Softmax::default().mask(&mask));
                let mut room = [MaybeUninit::<E>::uninit(); ROWS];
                let written = evenkeel::logsumexp_into(rows, &mut room[..], &options).unwrap();
                assert_eq!(written, evenkeel::logsumexp(rows, &options).unwrap());
            }
            "rms_norm" => {
                let options = RmsNorm::default().weight(weight);
                Forms {
                    new: &|x| evenkeel::rms_norm(x, &options),
                    into: &|x, y| evenkeel::rms_norm_into(x, y, &options),
                    in_place: &|x| evenkeel::rms_norm_in_place(x, &options),
                }
                .check(op.name, &x);
                residuals(&x, &options);
            }
            "layer_norm" => {
                let options = LayerNorm::default().weight(weight).bias(weight);
                Forms {
                    new: &|x| evenkeel::layer_norm(x, &options),
                    into: &|x, y| evenkeel::layer_norm_into(x, y, &options),
                    in_place: &|x| evenkeel::layer_norm_in_place(x, &options),
                }
                .check(op.name, &x);
            }
            "rms_norm_backward" => {
                let (data, options) = (&x, RmsNorm::default().weight(weight));
                let x = Rows::strided(data, ROWS, COLS, STRIDE).unwrap();
                let dweight = [(); 3].map(|()| vec![E::ZERO; COLS]);
                let [new, into, over] = &dweight.map(RefCell::new);
                Forms {
                    new: &|dy| {
                        let gradients = evenkeel::rms_norm_backward(x, dy, &options)?;
                        new.replace(gradients.dweight.unwrap());
                        Ok(gradients.dx)
                    },
                    into: &|dy, dx| {
                        let mut dweight = into.borrow_mut();
                        let room = Some((&mut *dweight).into());
                        evenkeel::rms_norm_backward_into(x, dy, dx, room, &options)
                    },
                    in_place: &|dy| {
                        let mut dweight = over.borrow_mut();
                        let room = Some((&mut *dweight).into());
                        evenkeel::rms_norm_backward_in_place(x, dy, room, &options)
                    },
                }
                .check(op.name, data);
                assert_eq!((new, new), (into, over));
            }
            "layer_norm_backward" => {
                let data = &x;
                let x = Rows::strided(data, ROWS, COLS, STRIDE).unwrap();
                let options = LayerNorm::default().weight(weight).bias(weight);
                let sums = [(); 6].map(|()| vec![E::ZERO; COLS]);
                let [weight_new, bias_new, weight_into, bias_into, weight_over, bias_over] = &sums.map(RefCell::new);
                Forms {
                    new: &|dy| {
                        let gradients = evenkeel::layer_norm_backward(x, dy, &options)?;
                        weight_new.replace(gradients.dweight.unwrap());
                        bias_new.replace(gradients.dbias.unwrap());
                        Ok(gradients.dx)
                    },
                    into: &|dy, dx| {
                        let (mut weight, mut bias) = (weight_into.borrow_mut(), bias_into.borrow_mut());
                        let rooms = (Some((&mut *weight).into()), Some((&mut *bias).into()));
                        evenkeel::layer_norm_backward_into(x, dy, dx, rooms.0, rooms.1, &options)
                    },
                    in_place: &|dy| {
                        let (mut weight, mut bias) = (weight_over.borrow_mut(), bias_over.borrow_mut());
                        let rooms = (Some((&mut *weight).into()), Some((&mut *bias).into()));
                        evenkeel::layer_norm_backward_in_place(x, dy, rooms.0, rooms.1, &options)
                    },
                }
                .check(op.name, data);
                assert_eq!((weight_new, bias_new), (weight_into, bias_into));
                assert_eq!((weight_new, bias_new), (weight_over, bias_over));
            }
            "group_norm" => {
                let options = evenkeel::GroupNorm::new(3).weight(weight).bias(weight);
                Forms {
                    new: &|x| evenkeel::group_norm(x, &options),
                    into: &|x, y| evenkeel::group_norm_into(x, y, &options),
                    in_place: &|x| evenkeel::group_norm_in_place(x, &options),
                }
                .check(op.name, &x);
                let (lanes, mut data) = (Lanes::new(&x, 2, 2, 11).unwrap(), x.clone());
                let options = evenkeel::GroupNorm::new(2).weight(&weight[..2]);
                let y = evenkeel::group_norm(lanes, &options).unwrap();
                evenkeel::group_norm_in_place(LanesMut::new(&mut data, 2, 2, 11).unwrap(), &options).unwrap();
                assert_eq!(
                    data, y,
                    "group_norm with 2 groups: the result computed in place must equal the result in new memory"
                );
            }
            "l2_normalize" => {
                let options = evenkeel::L2Normalize::default();
                Forms {
                    new: &|x| evenkeel::l2_normalize(x, &options),
                    into: &|x, y| evenkeel::l2_normalize_into(x, y, &options),
                    in_place: &|x| evenkeel::l2_normalize_in_place(x, &options),
                }
                .check(op.name, &x);
            }
            "qk_norm_rope" => {
                let options = RmsNorm::default().weight(weight);
                Forms {
                    new: &|x| evenkeel::qk_norm_rope(x, &table, &options),
                    into: &|x, y| evenkeel::qk_norm_rope_into(x, y, &table, &options),
                    in_place: &|x| evenkeel::qk_norm_rope_in_place(x, &table, &options),
                }
                .check(op.name, &x);
            }
            "swiglu" => elements(
                &x,
                |gate| evenkeel::swiglu(gate, &x),
                |gate, y| evenkeel::swiglu_into(gate, &x, y),
                |gate| evenkeel::swiglu_in_place(gate, &x),
            ),
            "swiglu_backward" => {
                let dy: Vec<E> = x.iter().rev().copied().collect();
                let (dgate, dup) = evenkeel::swiglu_backward(&x, &dy, &x).unwrap();
                let mut rooms = [(); 2].map(|()| vec![MaybeUninit::<E>::uninit(); x.len()]);
                let [to_gate, to_up] = rooms.each_mut().map(|room| &mut room[..]);
                let (a, b) = evenkeel::swiglu_backward_into(&x, &dy, &x, to_gate, to_up).unwrap();
                assert_eq!((&*a, &*b), (&dgate[..], &dup[..]));
                let (mut gate, mut up) = (x.clone(), dy);
                evenkeel::swiglu_backward_in_place(&mut gate, &mut up, &x).unwrap();
                assert_eq!((gate, up), (dgate, dup));
            }
            "rope_backward" => Forms {
                new: &|dy| evenkeel::rope_backward(dy, &table),
                into: &|dy, dx| evenkeel::rope_backward_into(dy, dx, &table),
                in_place: &|dy| evenkeel::rope_backward_in_place(dy, &table),
            }
            .check(op.name, &x),
            "clip_grad_norm" => {
                let (mut a, mut b) = (x.clone(), [3.0f32, 4.0]);
                let options = evenkeel::ClipGradNorm::new(5.0);
                assert_eq!(evenkeel::clip_grad_norm(&mut [(&mut b).into()], &options), Ok(5.0));
                let norm = evenkeel::clip_grad_norm(&mut [(&mut a).into(), (&mut b).into()], &options).unwrap();
                assert!(norm > 5.0 && b[0] < 3.0 && a[0].widen() < 0.25);
            }
            "clip_grad_value" => {
                let mut grads = x.clone();
                evenkeel::clip_grad_value(&mut [(&mut grads).into()], 5.0).unwrap();
                assert!(x.iter().zip(&grads).all(|(x, y)| y.widen() == x.widen().min(5.0)));
            }
            "bce_with_logits" => {
                let (t, options) = ([0.25f32; ROWS * COLS], BceWithLogits::default());
                Forms {
                    new: &|x| evenkeel::bce_with_logits_backward(x, &t, &[2.0], &options).map(|(_, y)| y),
                    into: &|x, y| evenkeel::bce_with_logits_backward_into(x, &t, &[2.0], y, &options).map(|(_, y)| y),
                    in_place: &|x| evenkeel::bce_with_logits_backward_in_place(x, &t, &[2.0], &options).map(drop),
                }
                .check(op.name, &x);
            }
            "kl_div" => {
                let (t, options) = ([0.0625f32; ROWS * COLS], KlDiv::default().scale(0.5));
                Forms {
                    new: &|x| evenkeel::kl_div_backward(x, &t, &[2.0], &options).map(|(_, y)| y),
                    into: &|x, y| evenkeel::kl_div_backward_into(x, &t, &[2.0], y, &options).map(|(_, y)| y),
                    in_place: &|x| evenkeel::kl_div_backward_in_place(x, &t, &[2.0], &options).map(drop),
                }
                .check(op.name, &x);
            }
            "cross_entropy" => {
                let rows = Rows::strided(&x, ROWS, COLS, STRIDE).unwrap();
                let options = CrossEntropy::default().weight(weight).label_smoothing(0.1).z_loss(1e-3).softcap(9.0);
                let mean = evenkeel::cross_entropy(rows, &[3, -100], &options).unwrap().value();
                let each = evenkeel::cross_entropy(rows, &[3, -100], &options.reduction(Reduction::None)).unwrap();
                assert!(mean > 0.0 && each.as_slice()[0] > 0.0 && each.as_slice()[1] == 0.0);
            }
            "cross_entropy_backward" => {
                for options in [CrossEntropy::default(), CrossEntropy::default().label_smoothing(0.1).softcap(9.0)] {
                    let t = [3, 17];
                    Forms {
                        new: &|x| evenkeel::cross_entropy_backward(x, &t, &[2.0], &options).map(|(_, y)| y),
                        into: &|x, y| evenkeel::cross_entropy_backward_into(x, &t, &[2.0], y, &options).map(|(_, y)| y),
                        in_place: &|x| evenkeel::cross_entropy_backward_in_place(x, &t, &[2.0], &options).map(drop),
                    }
                    .check(op.name, &x);
                }
            }
            "rms_norm_linear" => {
                let options = RmsNormLinear::default().bias(&weight[..ROWS]);
                let rows = Rows::strided(&x, ROWS, COLS, STRIDE).unwrap();
                let y = evenkeel::rms_norm_linear(rows, rows, &options).unwrap();
                let mut room = [MaybeUninit::<E>::uninit(); ROWS * ROWS];
                let out = RowsMut::new(&mut room[..], ROWS, ROWS).unwrap();
                assert_eq!(evenkeel::rms_norm_linear_into(rows, rows, out, &options).unwrap(), y);
            }
            "attention" => attended(&x),
            "mean_pool" => pooled(&x, &keep),
            // The cases of the forward ops also run these gradients.
            "attention_backward" | "mean_pool_backward" => {}
            "inspect" => {
                let (stats, found) = (evenkeel::inspect(&x).unwrap(), evenkeel::finite(&x).unwrap());
                assert_eq!((stats.count, stats.min, stats.max, found.first), (x.len(), 0.25, 12.25, None));
            }
            "rope" => Forms {
                new: &|x| evenkeel::rope(x, &table),
                into: &|x, y| evenkeel::rope_into(x, y, &table),
                in_place: &|x| evenkeel::rope_in_place(x, &table),
            }
            .check(op.name, &x),
            "sample" => {
                let sampler = SamplerConfig::default().top_k(5).top_p(0.9).min_p(0.01).validate().unwrap();
                let draws = [Draw { seed: 1, row: 0, draw: 0 }, Draw { seed: 1, row: 1, draw: 0 }];
                let rows = Rows::strided(&x, ROWS, COLS, STRIDE).unwrap();
                for sampled in sampler.sample_rows(rows, Some(&Mask::keep(&keep, &[COLS])), &draws).unwrap() {
                    assert!(keep[sampled.unwrap().token as usize]);
                }
            }
            other => panic!("`tests/forms.rs` must have a case for the op {other}"),
        }
    }
}

/// Runs attention and its gradients. Two query heads with three queries each share one key head with three keys. All
/// have eleven features.
fn attended<E: Element>(x: &[E]) {
    let (q, k) = (Heads::strided(x, [1, 2, 3, 11], [0, 1, 12]), Heads::strided(x, [1, 1, 3, 11], [0, 0, 11]));
    let (q, k, mask) = (q.unwrap(), k.unwrap(), Mask::causal());
    let options = Attention::default().mask(&mask).sinks(&[0.5f32, -1.0]);
    let (y, lse) = evenkeel::attention_with_lse(q, k, k, &options).unwrap();
    assert!(y.len() == 66 && lse.len() == 6);
    let mut room = [MaybeUninit::<E>::uninit(); 66];
    assert_eq!(evenkeel::attention_into(q, k, k, &mut room[..], &options).unwrap(), y);
    let gradients = evenkeel::attention_backward(q, k, k, q, &options).unwrap();
    let [mut dq, mut dk, mut dv] = [66, 33, 33].map(|len| vec![MaybeUninit::<E>::uninit(); len]);
    let (out, mut dsinks) = ([&mut dq, &mut dk, &mut dv].map(|room| room.as_mut_slice().into()), [0.0f64; 2]);
    let into = evenkeel::attention_backward_into([q, k, k], q, out, Some((&mut dsinks).into()), &options).unwrap();
    assert!(into[0] == gradients.dq && into[1] == gradients.dk && into[2] == gradients.dv);
    assert_eq!(gradients.dsinks.unwrap(), dsinks.map(E::from_wide));
}

/// Runs `mean_pool` and its gradient on two sequences of eleven tokens.
fn pooled<E: Element>(x: &[E], keep: &[bool]) {
    let mask = Mask::keep(&keep[..11], &[11]);
    let options = MeanPool::default().mask(&mask);
    let lanes = Lanes::shaped(&x[..44], &[2, 11, 2], 1).unwrap();
    let y = evenkeel::mean_pool(lanes, &options).unwrap();
    let mut room = [MaybeUninit::<E>::uninit(); 4];
    assert_eq!(evenkeel::mean_pool_into(lanes, &mut room[..], &options).unwrap(), y);
    let dx = evenkeel::mean_pool_backward(&y, [2, 11, 2], &options).unwrap();
    let mut room = [MaybeUninit::<E>::uninit(); 44];
    let out = LanesMut::shaped(&mut room[..], &[2, 11, 2], 1).unwrap();
    assert_eq!(evenkeel::mean_pool_backward_into(&y, out, &options).unwrap(), dx);
}

fn elements<E: Element>(
    x: &[E],
    new: impl Fn(&[E]) -> Result<Vec<E>>,
    into: impl for<'a> Fn(&[E], &'a mut [MaybeUninit<E>]) -> Result<&'a mut [E]>,
    in_place: impl Fn(&mut [E]) -> Result<()>,
) {
    let expected = new(x).unwrap();
    let mut room = vec![MaybeUninit::<E>::uninit(); x.len()];
    assert_eq!(into(x, &mut room).unwrap(), expected);
    let mut data = x.to_vec();
    in_place(&mut data).unwrap();
    assert_eq!(data, expected);
}

/// Allocating form of a gradient. Its arguments are the scores (or their softmax), the gradients of the results, and
/// the options.
type Gradient<E, O> = fn(Lanes<'_, E>, Lanes<'_, E>, &O) -> Result<Vec<E>>;
type GradientInto<E, O> = for<'a> fn(Lanes<'_, E>, Lanes<'_, E>, LanesMut<'a, E>, &O) -> Result<&'a mut [E]>;
type GradientInPlace<E, O> = fn(Lanes<'_, E>, LanesMut<'_, E>, &O) -> Result<()>;

/// Runs the gradient on rows, and on lanes along another axis.
fn lane_gradients<E: Element, O: Default>(
    x: &[E],
    options: &O,
    new: Gradient<E, O>,
    into: GradientInto<E, O>,
    in_place: GradientInPlace<E, O>,
) {
    let dy: Vec<E> = x.iter().rev().copied().collect();
    let [rows, grads] = [x, &dy].map(|data| Rows::strided(data, ROWS, COLS, STRIDE).unwrap());
    let expected = new(rows.into(), grads.into(), options).unwrap();
    let mut room = [MaybeUninit::<E>::uninit(); ROWS * COLS];
    let out = RowsMut::new(&mut room[..], ROWS, COLS).unwrap();
    assert_eq!(into(rows.into(), grads.into(), out.into(), options).unwrap(), expected);
    let mut data = dy.clone();
    in_place(rows.into(), RowsMut::strided(&mut data, ROWS, COLS, STRIDE).unwrap().into(), options).unwrap();
    for (data, expected) in data.chunks(STRIDE).zip(expected.chunks(COLS)) {
        assert_eq!(&data[..COLS], expected, "the gradient computed in place must equal the gradient in new memory");
    }
    let [lanes, grads] = [x, &dy].map(|data| Lanes::new(data, 2, 2, 11).unwrap());
    let expected = new(lanes, grads, &O::default()).unwrap();
    let mut data = dy.clone();
    in_place(lanes, LanesMut::new(&mut data, 2, 2, 11).unwrap(), &O::default()).unwrap();
    assert_eq!(data, expected, "along axis 1, the gradient computed in place must equal the gradient in new memory");
}

/// Runs the gradient of an elementwise function. `x` is the input of the function and also the gradient of its result.
fn gradients<E: Element>(
    x: &[E],
    new: impl Fn(&[E], &[E]) -> Result<Vec<E>>,
    into: impl for<'a> Fn(&[E], &[E], &'a mut [MaybeUninit<E>]) -> Result<&'a mut [E]>,
    in_place: impl Fn(&[E], &mut [E]) -> Result<()>,
) {
    elements(x, |dy| new(x, dy), |dy, dx| into(x, dy, dx), |dy| in_place(x, dy));
}

fn residuals<E: Element>(x: &[E], options: &RmsNorm<'_>) {
    let rows = Rows::strided(x, ROWS, COLS, STRIDE).unwrap();
    let (y, sum) = evenkeel::rms_norm_residual(rows, rows, options).unwrap();
    let [mut a, mut b] = [x.to_vec(), x.to_vec()];
    let views = [&mut a, &mut b].map(|data| RowsMut::strided(data, ROWS, COLS, STRIDE).unwrap());
    let [norm, residual] = views;
    evenkeel::rms_norm_residual_in_place(norm, residual, options).unwrap();
    for row in 0..ROWS {
        assert_eq!(a[row * STRIDE..][..COLS], y[row * COLS..][..COLS]);
        assert_eq!(b[row * STRIDE..][..COLS], sum[row * COLS..][..COLS]);
    }
}

#[test]
fn every_form_of_f64() {
    every_form::<f64>();
}

#[test]
fn every_form_of_f32() {
    every_form::<f32>();
}

#[test]
fn every_form_of_f16() {
    every_form::<f16>();
}

#[test]
fn every_form_of_bf16() {
    every_form::<bf16>();
}
