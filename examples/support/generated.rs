//! Pseudorandom test data, identical on every machine.

/// Pseudorandom number generator (splitmix64).
pub struct Generator(u64);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator(seed)
    }

    /// Returns a number distributed uniformly in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns `count` approximately normal numbers with mean 0 and the given standard deviation.
    pub fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        // The sum of four uniform numbers has mean 2 and variance 1/3.
        let scale = deviation * 3f64.sqrt();
        let mut normal = || (scale * ((0..4).map(|_| self.uniform()).sum::<f64>() - 2.0)) as f32;
        (0..count).map(|_| normal()).collect()
    }
}
