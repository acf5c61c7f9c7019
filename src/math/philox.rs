//! Philox4x32-10, the counter-based random number generator of Salmon et al. ("Parallel random numbers: as easy as 1,
//! 2, 3", 2011). The generator is stateless: on every machine, a random number depends only on a counter and a key.
//!
//! # Domains
//!
//! For a sampler's draw, the counter holds the draw's number and row, and the key is the seed. For an element of an
//! initialiser, the counter holds the element's index and the tensor's number. A draw and an element may have equal
//! counters, so their keys must differ. The initialiser's key is therefore the seed with the bits of [`INITIALISERS`]
//! flipped. Stochastic rounding flips the bits of [`ROUNDINGS`] in the seed, and derives a key for each step from the
//! flipped seed. One seed can therefore serve draws, initialisers and stochastic rounding without repeated random
//! numbers.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Mask that distinguishes an initialiser's key from a sampler's key if both have the same seed.
pub const INITIALISERS: u64 = u64::from_le_bytes(*b"evk-init");

/// Mask that distinguishes a key of stochastic rounding from a sampler's key if both have the same seed.
pub const ROUNDINGS: u64 = u64::from_le_bytes(*b"evk-rndg");

/// Returns four random words for a counter and a key.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::philox4x32;

    /// The known answers come with the authors' library (Random123, kat_vectors).
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
