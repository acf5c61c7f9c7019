//! Checks that attention over a paged cache gives the same bits as on the CPU for any shape, layout, inputs and thread order.

use crate::support::Shapes;
use crate::support::attention_decode::{case_of_long, case_of_many, cases};
use evenkeel::cuda::attention_decode::{Memory, Shape, launches, workspace_words};
use evenkeel::cuda::paged::CacheShape;
use evenkeel::cuda::{DeviceElement, HeadLayout, PageLayout};
use evenkeel::{Attention, DType, FullyMasked, Mask};
use evenkeel_cuda_emulator::Emulator;
use half::{bf16, f16};

fn cases_of_every_shape<E: DeviceElement>(seed: u64) {
    let (emulator, mut shapes) = (Emulator::linked(), Shapes::default());
    let done = cases::<E>(&emulator, seed, 0..240, |case| {
        let lengths = case.lengths.iter().map(|length| *length as usize);
        let others = [case.key_heads, case.group, case.page_size, case.features[0], case.features[1]];
        shapes.add(&lengths.chain(others).collect::<Vec<_>>());
    });
    done.unwrap_or_else(|found| panic!("seed {seed}: {found}"));
    shapes.are_enough(format!("seed {seed}, {}", E::DTYPE));
}

#[test]
fn f32s() {
    cases_of_every_shape::<f32>(1000);
}

#[test]
fn f16s() {
    cases_of_every_shape::<f16>(2000);
}

#[test]
fn bf16s() {
    cases_of_every_shape::<bf16>(3000);
}

#[test]
fn thread_blocks_with_several_blocks_of_keys() {
    case_of_many(&Emulator::linked()).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn long_sequences() {
    case_of_long(&Emulator::linked()).unwrap_or_else(|found| panic!("{found}"));
}

/// Returns a shape of two sequences of up to 1,000 positions.
fn shape(heads: usize, [key_heads, features]: [usize; 2]) -> Shape {
    let layout = PageLayout::contiguous([5, 10, key_heads, features]);
    let heads = HeadLayout::contiguous([2, heads, features]);
    let cache = CacheShape { layouts: [layout; 2], sequences: 2, columns: 100, table_stride: 100 };
    Shape { q: heads, out: heads, cache }
}

#[test]
fn unsupported_arguments_are_refused() {
    let refusal = |shape: Shape, options: &Attention<'_>| {
        launches(DType::F32, &Memory::default(), &shape, options).unwrap_err().to_string()
    };
    let (plain, good) = (Attention::default(), shape(8, [2, 64]));
    assert_eq!(
        refusal(shape(8, [3, 64]), &plain),
        "attention_decode: keys has 3 heads; expected a number that divides the 8 heads of q"
    );
    assert_eq!(
        refusal(shape(8, [2, 257]), &plain),
        "attention_decode: keys has 257 features; expected 1 to 256 features"
    );
    let uniform = plain.fully_masked(FullyMasked::Uniform);
    assert!(refusal(good, &uniform).contains("fully_masked"));
    let (lengths, none) = (Mask::lengths(&[3]), Mask::window(0));
    assert!(refusal(good, &plain.mask(&lengths)).contains("a mask with lengths, keep flags, a bias or an offset"));
    assert!(refusal(good, &plain.mask(&none)).contains("window"));
    assert!(refusal(good, &plain.softcap(-1.0)).contains("softcap"));
    assert!(refusal(good, &plain.sinks(&[0.0f32; 8])).contains("sinks"));
    let f64s = launches(DType::F64, &Memory::default(), &good, &plain).unwrap_err();
    assert_eq!(f64s.to_string(), "attention_decode: F64 is not supported on cuda");
    let none = shape(0, [0, 64]);
    assert!(launches(DType::F32, &Memory::default(), &none, &plain).unwrap().is_none());
}

#[test]
fn a_window_limits_the_workspace() {
    let words = |mask: &Mask<'_>| workspace_words(&shape(8, [2, 64]), &Attention::default().mask(mask)).unwrap();
    let slot = 16 * (2 + 64 / 2);
    // 1,000 positions are four blocks of 256 keys. A window of 256 keys spans at most two blocks.
    assert_eq!(words(&Mask::none()), 4 * slot);
    assert_eq!(words(&Mask::window(1)), slot);
    assert_eq!(words(&Mask::window(256)), 2 * slot);
    assert_eq!(words(&Mask::window(258)), 3 * slot);
}
