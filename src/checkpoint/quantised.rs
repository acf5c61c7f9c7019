//! The block formats of llama.cpp: what their bytes mean, block after block.
//!
//! `d` is a block's scale, `m` its offset, `q` a number of few bits. Formats of 32 elements have one scale, those of
//! 256 (`_k`) one for each 16 or 32 elements, themselves quantised.

use half::f16;

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The low halves of the bytes, then the high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let low = bytes.iter().map(|byte| byte & 15);
    low.chain(bytes.iter().map(|byte| byte >> 4)).enumerate()
}

/// `q d - 8 d`.
pub(super) fn q4_0(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<18>().0 {
        let d = half(block, 0);
        out.extend(nibbles(&block[2..]).map(|(_, q)| (f32::from(q) - 8.0) * d));
    }
}

/// `q d + m`.
pub(super) fn q4_1(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<20>().0 {
        let (d, m) = (half(block, 0), half(block, 2));
        out.extend(nibbles(&block[4..]).map(|(_, q)| f32::from(q) * d + m));
    }
}

/// The fifth bits of a block, one an element.
fn fifth(block: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |i| (bits >> i & 1) as u8 * 16
}

/// `q d - 16 d`.
pub(super) fn q5_0(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<22>().0 {
        let (d, high) = (half(block, 0), fifth(block, 2));
        out.extend(nibbles(&block[6..]).map(|(i, q)| (f32::from(q | high(i)) - 16.0) * d));
    }
}

/// `q d + m`.
pub(super) fn q5_1(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<24>().0 {
        let (d, m, high) = (half(block, 0), half(block, 2), fifth(block, 4));
        out.extend(nibbles(&block[8..]).map(|(i, q)| f32::from(q | high(i)) * d + m));
    }
}

/// `q d`, of signed bytes.
pub(super) fn q8_0(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<34>().0 {
        let d = half(block, 0);
        out.extend(block[2..].iter().map(|&q| f32::from(q as i8) * d));
    }
}

/// Two bits an element; for each 16 a scale and an offset of four bits.
pub(super) fn q2_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<84>().0 {
        let (scales, quants) = (&block[..16], &block[16..80]);
        let (d, m) = (half(block, 80), half(block, 82));
        for (group, &scale) in scales.iter().enumerate() {
            let (d, m) = (d * f32::from(scale & 15), m * f32::from(scale >> 4));
            let (quants, shift) = (two_bits(quants, group), group % 8 / 2 * 2);
            out.extend(quants.iter().map(|q| d * f32::from(q >> shift & 3) - m));
        }
    }
}

/// The 16 bytes that hold two bits of each element of a group: 32 bytes hold 8 groups.
fn two_bits(quants: &[u8], group: usize) -> &[u8] {
    let start = group / 8 * 32 + group % 2 * 16;
    &quants[start..start + 16]
}

/// Three bits an element, the third apart and inverted; for each 16 a signed scale of six bits.
pub(super) fn q3_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<110>().0 {
        let (high, quants, scales, d) = (&block[..32], &block[32..96], &block[96..108], half(block, 108));
        for group in 0..16 {
            let low = scales[group % 8] >> (group / 8 * 4) & 15;
            let top = scales[8 + group % 4] >> (group / 4 * 2) & 3;
            let d = d * (f32::from(low | top << 4) - 32.0);
            let (quants, shift) = (two_bits(quants, group), group % 8 / 2 * 2);
            let high = high[group % 2 * 16..].iter().map(|bits| bits >> (group / 2) & 1);
            out.extend(quants.iter().zip(high).map(|(q, high)| d * (f32::from((q >> shift & 3) | high << 2) - 4.0)));
        }
    }
}

/// The scale and the offset of a group of 32, six bits each, of the twelve bytes of `q4_k` and `q5_k`.
fn scale_and_offset(scales: &[u8], group: usize) -> (f32, f32) {
    let (d, m) = match group {
        0..4 => (scales[group] & 63, scales[group + 4] & 63),
        _ => (
            (scales[group + 4] & 15) | (scales[group - 4] >> 6 << 4),
            (scales[group + 4] >> 4) | (scales[group] >> 6 << 4),
        ),
    };
    (f32::from(d), f32::from(m))
}

/// Four bits an element; for each 32 a scale and an offset of six bits.
pub(super) fn q4_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<144>().0 {
        let (d, m) = (half(block, 0), half(block, 2));
        for group in 0..8 {
            let (scale, offset) = scale_and_offset(&block[4..16], group);
            let (d, m, shift) = (d * scale, m * offset, group % 2 * 4);
            let quants = &block[16 + group / 2 * 32..][..32];
            out.extend(quants.iter().map(|q| d * f32::from(q >> shift & 15) - m));
        }
    }
}

/// As `q4_k`, with a fifth bit apart.
pub(super) fn q5_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<176>().0 {
        let (d, m, high) = (half(block, 0), half(block, 2), &block[16..48]);
        for group in 0..8 {
            let (scale, offset) = scale_and_offset(&block[4..16], group);
            let (d, m, shift) = (d * scale, m * offset, group % 2 * 4);
            let quants = block[48 + group / 2 * 32..][..32].iter().zip(high);
            out.extend(quants.map(|(q, high)| d * f32::from((q >> shift & 15) | (high >> group & 1) << 4) - m));
        }
    }
}

/// Six bits an element, the upper two apart; for each 16 a scale that is a signed byte.
pub(super) fn q6_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<210>().0 {
        let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
        for (group, &scale) in scales.iter().enumerate() {
            let d = d * f32::from(scale as i8);
            // Half of a block has 8 groups in rows of two: two rows share the bytes of low, all four those of high.
            let (half, row, side) = (group / 8, group % 8 / 2, group % 2 * 16);
            let low = &low[half * 64 + row % 2 * 32 + side..][..16];
            let high = &high[half * 32 + side..][..16];
            let (low_shift, high_shift) = (row / 2 * 4, row * 2);
            let quants = low.iter().zip(high).map(|(l, h)| (l >> low_shift & 15) | (h >> high_shift & 3) << 4);
            out.extend(quants.map(|q| d * (f32::from(q) - 32.0)));
        }
    }
}

/// `q d`, of signed bytes and a scale in f32; their sums, which follow, are not needed.
pub(super) fn q8_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<292>().0 {
        let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        out.extend(block[4..260].iter().map(|&q| f32::from(q as i8) * d));
    }
}
