//! Checks the kernels that rotate attention heads by the positions of tokens. They must give the same bits as the CPU
//! for any strides.

use crate::support::{Guarded, How, KINDS, Shapes, row};
use evenkeel::cuda::heads::{HeadLayout, PositionIds, Rotation};
use evenkeel::cuda::{DeviceElement, qk_norm_rope, rope};
use evenkeel::{Element, RmsNorm, Rope, RopeTable, Rows, rms_norm};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Positions in the rotation table. Each token has an index into this list.
const TABLE: [i64; 5] = [0, 3, 70_001, -9, 131_071];
/// Indices that are out of range for the table.
const UNKNOWN: [i64; 3] = [5, 1 << 31, -1];

/// Layouts of the heads, the kind of rotation, and how to run the kernel.
#[derive(Clone, Copy, Debug)]
struct Case {
    layouts: [HeadLayout; 2],
    rotated: usize,
    interleaved: bool,
    is_wide: bool,
    is_normalised: bool,
    in_place: bool,
    how: How,
}

/// Returns the elements of each row of a buffer.
fn rows<E: Copy>(buffer: &[E], layout: HeadLayout) -> Vec<Vec<E>> {
    let start = |token, head| token * layout.token_stride + head * layout.head_stride;
    let each = (0..layout.tokens).flat_map(|token| (0..layout.heads).map(move |head| start(token, head)));
    each.map(|start| buffer[start..start + layout.cols].to_vec()).collect()
}

fn extent(layout: HeadLayout) -> usize {
    (layout.tokens - 1) * layout.token_stride + (layout.heads - 1) * layout.head_stride + layout.cols
}

/// Returns the rows' results on the CPU.
fn on_cpu<E: Element>(rows: &[Vec<E>], ids: &[i64], case: &Case) -> Vec<Vec<E>> {
    let Case { rotated, interleaved, is_normalised, .. } = *case;
    let (heads, cols) = (case.layouts[0].heads, case.layouts[0].cols);
    let options = Rope::default().interleaved(interleaved);
    let of_row = |(index, row): (usize, &Vec<E>)| {
        let mut row = row.clone();
        if is_normalised {
            row = rms_norm(Rows::new(&row, 1, cols).unwrap(), &RmsNorm::default()).unwrap();
        }
        let position = usize::try_from(ids[index / heads]).ok().and_then(|id| TABLE.get(id));
        let turned = match position {
            Some(&position) => {
                let table = RopeTable::new(&[position], rotated, &options).unwrap();
                evenkeel::rope(Rows::new(&row[..rotated], 1, rotated).unwrap(), &table).unwrap()
            }
            None => vec![E::from_wide(f64::NAN); rotated],
        };
        row[..rotated].copy_from_slice(&turned);
        row
    };
    rows.iter().enumerate().map(of_row).collect()
}

/// Runs a case. Fails if the results differ from the CPU's.
fn check<E: DeviceElement>(emulator: &Emulator, rng: &mut StdRng, case: Case) -> Result<(), String> {
    let Case { layouts: [from, to], rotated, interleaved, is_wide, is_normalised, in_place, how } = case;
    let kind = KINDS[rng.random_range(0..KINDS.len())];
    let x: Vec<E> = row(rng, kind, extent(from));
    let pick = |rng: &mut StdRng| match rng.random_bool(0.2) {
        true => UNKNOWN[rng.random_range(0..if is_wide { 3 } else { 2 })],
        false => rng.random_range(0..TABLE.len() as i64),
    };
    let ids: Vec<i64> = (0..from.tokens).map(|_| pick(rng)).collect();
    let narrow: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let mut before: Vec<E> = if in_place { x.clone() } else { row(rng, kind, extent(to)) };
    let (mut read, mut written) = (Guarded::of(&x, how.shift), Guarded::of(&before, how.shift));

    let results = on_cpu(&rows(&x, from), &ids, &case);
    for (index, row) in results.iter().enumerate() {
        let start = index / to.heads * to.token_stride + index % to.heads * to.head_stride;
        before[start..start + to.cols].copy_from_slice(row);
    }

    // Rotating (1, 0) gives cosine and sine.
    let ones: Vec<f64> = [1.0, 0.0].repeat(rotated / 2 * TABLE.len());
    let table = RopeTable::new(&TABLE, rotated, &Rope::default().interleaved(true)).unwrap();
    let turned = evenkeel::rope(Rows::new(&ones, TABLE.len(), rotated).unwrap(), &table).unwrap();
    let (cos, sin): (Vec<f64>, Vec<f64>) = turned.chunks(2).map(|pair| (pair[0], pair[1])).unzip();

    let y = if in_place { read.address() } else { written.address() };
    let rotation = Rotation {
        addresses: [read.address(), y, cos.as_ptr() as u64, sin.as_ptr() as u64],
        layouts: [from, to],
        ids: PositionIds { address: if is_wide { ids.as_ptr() as u64 } else { narrow.as_ptr() as u64 }, is_wide },
        positions: TABLE.len(),
        rotated,
        interleaved,
    };
    let describe = |found: String| format!("{case:?} of {}: {found}", E::DTYPE);
    // SAFETY: the addresses point to the buffers with the rows, to the positions, and to the table. All of these
    // outlive the kernel run.
    let outcome = unsafe {
        if is_normalised {
            let planned = qk_norm_rope::launch_heads(E::DTYPE, &rotation, None, &RmsNorm::default()).unwrap();
            how.run(emulator, planned.expect("rotating a non-empty tensor must launch a kernel"))
        } else {
            let planned = rope::launch_heads(E::DTYPE, &rotation, false).unwrap();
            how.run(emulator, planned.expect("rotating a non-empty tensor must launch a kernel"))
        }
    };
    outcome.map_err(describe)?;
    if in_place { &read } else { &written }.compare(&before).map_err(describe)
}

/// Runs `count` random cases, and adds their shapes to `shapes`. Without `with_norms`, runs only the cases of rope.
pub fn cases<E: DeviceElement>(
    emulator: &Emulator,
    seed: u64,
    count: usize,
    with_norms: bool,
    shapes: &mut Shapes,
) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let is_normalised = |i: &usize| i / 5 % 3 == 2;
    for i in (0..count).filter(|i| with_norms || !is_normalised(i)) {
        let cols = [2, 4, 8, 16, 20, 32, 48, 64, 80, 96, 128, 136, 192, 256, 512][i % 15];
        let rotated = [cols, cols / 4 * 2, cols.min(16), cols][i / 15 % 4].max(2);
        let (tokens, heads) = (1 + i % 7, 1 + i % 5);
        // Three layouts: rows with gaps between them, the rows of a head next to each other, and contiguous rows.
        let (apart, gap) = ([0, 8, 3][i % 3], [0, 16, 1][i / 3 % 3]);
        let head_stride = cols + apart;
        let strided = HeadLayout { tokens, heads, cols, token_stride: heads * head_stride + gap, head_stride };
        let turned = HeadLayout { token_stride: cols + apart, head_stride: tokens * (cols + apart), ..strided };
        let contiguous = HeadLayout::contiguous([tokens, heads, cols]);
        let layouts = [[strided, contiguous], [turned, strided], [contiguous, turned]][i % 3];
        let in_place = i % 4 == 0;
        let case = Case {
            layouts: if in_place { [layouts[0]; 2] } else { layouts },
            rotated,
            interleaved: i % 2 == 1,
            is_wide: i / 2 % 2 == 1,
            is_normalised: is_normalised(&i),
            in_place,
            how: How { shift: [0, 0, 1 + i % 7][i / 7 % 3], one_block: i % 11 == 0, order: Order::ALL[i % 3] },
        };
        check::<E>(emulator, &mut rng, case)?;
        shapes.add(&[tokens, heads, cols, rotated, apart, gap, i % 3]);
    }
    Ok(())
}

fn heads_of_every_layout<E: DeviceElement>() {
    let (seed, mut shapes) = (61, Shapes::default());
    cases::<E>(&Emulator::linked(), seed, 420, true, &mut shapes).unwrap_or_else(|found| panic!("{found}"));
    shapes.are_enough(format!("seed {seed}, {}", E::DTYPE));
}

#[test]
fn f32s() {
    heads_of_every_layout::<f32>();
}

#[test]
fn f16s() {
    heads_of_every_layout::<f16>();
}

#[test]
fn bf16s() {
    heads_of_every_layout::<bf16>();
}

#[test]
fn layouts_that_are_refused() {
    let layout = HeadLayout::contiguous([2, 3, 8]);
    let rotation = Rotation {
        addresses: [0; 4],
        layouts: [layout; 2],
        ids: PositionIds::default(),
        positions: 2,
        rotated: 8,
        interleaved: false,
    };
    let refused = |rotation: Rotation| rope::launch_heads(f32::DTYPE, &rotation, false).unwrap_err().to_string();
    let other = HeadLayout::contiguous([2, 3, 6]);
    assert!(refused(Rotation { layouts: [layout, other], ..rotation }).contains("[2, 3, 6]"));
    assert!(refused(Rotation { rotated: 10, ..rotation }).contains("at least the table's 10 columns"));
    assert!(refused(Rotation { rotated: 7, ..rotation }).contains("an even number"));
    let empty = HeadLayout::contiguous([0, 3, 8]);
    let planned = rope::launch_heads(f32::DTYPE, &Rotation { layouts: [empty; 2], ..rotation }, false);
    assert!(planned.unwrap().is_none());
}
