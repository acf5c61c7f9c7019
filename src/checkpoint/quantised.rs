//! Decoders for the block formats of llama.cpp.
//!
//! In the formulas, `d` is the scale of a block, `m` its offset, and `q` the integer that is stored for an element in a
//! few bits. Blocks of 32 elements have one scale. Blocks of 256 elements (`_k`) also have a quantised scale for every
//! 16 or 32 elements, except for `q8_k`.

use half::f16;

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Returns the low nibbles of the bytes, followed by the high nibbles, each with its index.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let low = bytes.iter().map(|byte| byte & 15);
    low.chain(bytes.iter().map(|byte| byte >> 4)).enumerate()
}

/// Decodes elements with the value `q * d - 8 * d`, where `q` has 4 bits.
pub(super) fn q4_0(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<18>().0 {
        let d = half(block, 0);
        out.extend(nibbles(&block[2..]).map(|(_, q)| (f32::from(q) - 8.0) * d));
    }
}

/// Decodes elements with the value `q * d + m`, where `q` has 4 bits.
pub(super) fn q4_1(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<20>().0 {
        let (d, m) = (half(block, 0), half(block, 2));
        out.extend(nibbles(&block[4..]).map(|(_, q)| f32::from(q) * d + m));
    }
}

/// Returns a function of an element's index in the block. The function returns 16 if the element's fifth bit is set,
/// and 0 otherwise.
fn fifth(block: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |i| (bits >> i & 1) as u8 * 16
}

/// Decodes elements with the value `q * d - 16 * d`, where `q` has 5 bits.
pub(super) fn q5_0(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<22>().0 {
        let (d, high) = (half(block, 0), fifth(block, 2));
        out.extend(nibbles(&block[6..]).map(|(i, q)| (f32::from(q | high(i)) - 16.0) * d));
    }
}

/// Decodes elements with the value `q * d + m`, where `q` has 5 bits.
pub(super) fn q5_1(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<24>().0 {
        let (d, m, high) = (half(block, 0), half(block, 2), fifth(block, 4));
        out.extend(nibbles(&block[8..]).map(|(i, q)| f32::from(q | high(i)) * d + m));
    }
}

/// Decodes elements with the value `q * d`, where `q` is a signed byte.
pub(super) fn q8_0(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<34>().0 {
        let d = half(block, 0);
        out.extend(block[2..].iter().map(|&q| f32::from(q as i8) * d));
    }
}

/// Decodes 2-bit elements. Each group of 16 has a 4-bit scale and a 4-bit offset.
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

/// Returns the 16 bytes that hold the lowest two bits of each element of a group, one byte for each element. Four
/// groups share these bytes: a byte holds two bits for one element of each group.
fn two_bits(quants: &[u8], group: usize) -> &[u8] {
    let start = group / 8 * 32 + group % 2 * 16;
    &quants[start..start + 16]
}

/// Decodes 3-bit elements, whose third bit is stored separately and inverted. Each group of 16 has a signed 6-bit
/// scale.
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

/// Unpacks the 6-bit scale and the 6-bit offset of a group of 32 elements. `q4_k` and `q5_k` store the scales and
/// offsets of eight groups in twelve bytes.
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

/// Decodes 4-bit elements. Each group of 32 has a 6-bit scale and a 6-bit offset.
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

/// Decodes elements like `q4_k`, with a fifth bit that is stored separately.
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

/// Decodes 6-bit elements, whose upper two bits are stored separately. Each group of 16 has a scale of one signed byte.
pub(super) fn q6_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<210>().0 {
        let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
        for (group, &scale) in scales.iter().enumerate() {
            let d = d * f32::from(scale as i8);
            // Half a block has 8 groups, in four rows of two groups. Rows 0 and 2 use the same bytes of `low`, and rows
            // 1 and 3 use the next bytes. All four rows use the same bytes of `high`.
            let (half, row, side) = (group / 8, group % 8 / 2, group % 2 * 16);
            let low = &low[half * 64 + row % 2 * 32 + side..][..16];
            let high = &high[half * 32 + side..][..16];
            let (low_shift, high_shift) = (row / 2 * 4, row * 2);
            let quants = low.iter().zip(high).map(|(l, h)| (l >> low_shift & 15) | (h >> high_shift & 3) << 4);
            out.extend(quants.map(|q| d * (f32::from(q) - 32.0)));
        }
    }
}

/// Decodes elements with the value `q * d`, where `q` is a signed byte and `d` an f32. The sums of `q` at the end of
/// each block are not needed.
pub(super) fn q8_k(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<292>().0 {
        let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        out.extend(block[4..260].iter().map(|&q| f32::from(q as i8) * d));
    }
}
