//! Tests of attention over key ranges. Merged partial results must have the same bits as attention over all keys,
//! wherever the keys are split. Incompatible parts must be rejected.

use super::attention::{Case, SHAPES, Shape};
use crate::support::compare::assert_same_bits;
use crate::support::generate::{self, Bits};
use evenkeel::{Attention, AttentionPartial, Error, FullyMasked, Heads, Mask, attention_with_lse};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::ops::Range;

for_each_dtype!(equal_the_whole, broken_keys_spoil_their_rows);

/// Computes partial attention over one range of keys.
fn part<E: Bits>(case: &Case<E>, shape: Shape, keys: Range<usize>, options: &Attention<'_>) -> AttentionPartial {
    let Shape([batch, _, of_keys, _, all, features, of_values]) = shape;
    let of = |data: &[E], width: usize| -> Vec<E> {
        data.chunks(all * width).flat_map(|head| head[keys.start * width..keys.end * width].to_vec()).collect()
    };
    let (k, v) = (of(&case.k, features), of(&case.v, of_values));
    let [q, ..] = case.views();
    let k = Heads::new(&k, [batch, of_keys, keys.len(), features]).unwrap();
    let v = Heads::new(&v, [batch, of_keys, keys.len(), of_values]).unwrap();
    AttentionPartial::new(q, k, v, (keys.start, all), options).unwrap()
}

#[track_caller]
fn same<E: Bits>(what: &str, case: &Case<E>, shape: Shape, cuts: &[Range<usize>], options: &Attention<'_>) {
    let [q, k, v] = case.views();
    let (y, lse) = attention_with_lse(q, k, v, options).unwrap();
    let mut parts = cuts.iter().map(|keys| part(case, shape, keys.clone(), options));
    let mut all = parts.next().unwrap();
    parts.for_each(|part| all.merge(part).unwrap());
    let (in_parts, lse_in_parts) = all.finish::<E>(options).unwrap();
    assert_same_bits(what, &in_parts, &y);
    assert_same_bits(what, &lse_in_parts, &lse);
}

fn equal_the_whole<E: Bits>() {
    let mut rng = generate::rng("partial");
    for shape in SHAPES {
        let Shape([_, heads, .., keys, _, _]) = shape;
        let case = Case::<E>::new(&mut rng, shape, 1.0);
        let (causal, window) = (Mask::causal(), Mask::causal().and_window(300));
        let sinks: Vec<f32> = (0..heads).map(|head| head as f32 / 4.0).collect();
        for options in [
            Attention::default(),
            Attention::default().mask(&causal).softcap(20.0),
            Attention::default().mask(&window).sinks(&sinks[..]),
        ] {
            let mut ends: Vec<usize> = (0..keys).step_by(256).skip(1).filter(|_| rng.random_bool(0.7)).collect();
            ends.push(keys);
            let starts = [0].into_iter().chain(ends.clone());
            let mut cuts: Vec<Range<usize>> = starts.zip(ends.clone()).map(|(start, end)| start..end).collect();
            cuts.shuffle(&mut rng);
            same(&format!("{shape:?} in {cuts:?}"), &case, shape, &cuts, &options);
        }
    }
}

fn broken_keys_spoil_their_rows<E: Bits>() {
    let shape = Shape([1, 2, 1, 3, 600, 4, 5]);
    let mut case = Case::<E>::new(&mut generate::rng("broken partial"), shape, 1.0);
    case.k[300 * 4] = E::from_wide(f64::NAN);
    case.k[599 * 4] = E::from_wide(f64::INFINITY);
    let mask = Mask::causal();
    let cuts = [512..600, 0..256, 256..512];
    same("NaN and infinity", &case, shape, &cuts, &Attention::default().mask(&mask));
    let lengths = [0];
    let nothing = Mask::default().and_lengths(&lengths);
    same("no unmasked key", &case, shape, &cuts, &Attention::default().mask(&nothing));
}

#[test]
fn what_cannot_be_put_together() {
    let shape = Shape([1, 1, 1, 2, 600, 4, 5]);
    let case = Case::<f32>::new(&mut generate::rng("partial errors"), shape, 1.0);
    let options = Attention::default();
    let mut all = part(&case, shape, 0..256, &options);
    let message = |error: Error| error.to_string();
    let twice = message(all.merge(part(&case, shape, 0..512, &options)).unwrap_err());
    assert!(
        twice.contains("key 0") && twice.contains("not merged yet"),
        "merging key 0 twice: the error must name key 0, got {twice}"
    );
    let missing = message(all.finish::<f32>(&options).unwrap_err());
    assert!(
        missing.contains("missing the shard with key 256"),
        "finishing with keys 0..256 of 600: the error must contain `missing the shard with key 256`, got {missing}"
    );
    let other = Shape([1, 1, 1, 2, 512, 4, 5]);
    let other_case = Case::<f32>::new(&mut generate::rng("partial errors"), other, 1.0);
    let unlike = message(all.merge(part(&other_case, other, 256..512, &options)).unwrap_err());
    assert!(
        unlike.contains("of 512 keys") && unlike.contains("of 600 keys"),
        "merging parts of 512 and of 600 keys: the error must name both numbers, got {unlike}"
    );
    all.merge(part(&case, shape, 256..600, &options)).unwrap();
    let unlike = message(all.finish::<f64>(&options).unwrap_err());
    assert!(unlike.contains("F32"), "finishing f32 parts as f64: the error must contain `F32`, got {unlike}");
    let uniform = options.fully_masked(FullyMasked::Uniform);
    assert!(message(all.finish::<f32>(&uniform).unwrap_err()).contains("Uniform"));
    let [q, k, v] = case.views();
    let start = message(AttentionPartial::new(q, k, v, (100, 700), &options).unwrap_err());
    assert!(
        start.contains("100") && start.contains("256"),
        "a part that starts at key 100: the error must contain 100 and 256, got {start}"
    );
    let end = message(AttentionPartial::new(q, k, v, (0, 700), &options).unwrap_err());
    assert!(end.contains("600"), "a part that ends at key 600 of 700: the error must contain 600, got {end}");
    all.finish::<f32>(&options).unwrap();
}
