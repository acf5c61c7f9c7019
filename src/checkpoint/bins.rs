//! Counts of bit patterns. A pattern has at most 16 bits, and its highest bit is the sign.

/// Counters of a thread, in two tables with one counter for each bit pattern. One table is for elements at even
/// indices, and the other for elements at odd indices. Two equal neighbours therefore increment different counters.
pub(crate) struct Tables {
    even: Box<[u32; 1 << 16]>,
    odd: Box<[u32; 1 << 16]>,
}

/// Numbers of negative and positive elements with the same magnitude. The magnitude is a bit pattern without the sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bin {
    pub magnitude: u16,
    pub negative: u64,
    pub positive: u64,
}

impl Tables {
    /// Creates tables of zeros.
    pub fn new() -> Self {
        let table = || vec![0; 1 << 16].into_boxed_slice().try_into();
        match (table(), table()) {
            (Ok(even), Ok(odd)) => Tables { even, odd },
            _ => unreachable!("both tables must have 2^16 counters"),
        }
    }

    /// Counts the pattern of each element. A counter has 32 bits, so [`Tables::take`] must be called before 2^32
    /// elements are counted.
    #[inline]
    pub fn add<T: Copy>(&mut self, x: &[T], pattern: impl Fn(T) -> u16) {
        let (pairs, rest) = x.as_chunks::<2>();
        for &[even, odd] in pairs {
            self.even[usize::from(pattern(even))] += 1;
            self.odd[usize::from(pattern(odd))] += 1;
        }
        rest.iter().for_each(|&x| self.even[usize::from(pattern(x))] += 1);
    }

    /// Counts 16-bit patterns. Reading four patterns at a time takes two thirds of the time that single reads take.
    pub fn add_bits16(&mut self, bytes: &[u8]) {
        let (fours, rest) = bytes.as_chunks::<8>();
        for &four in fours {
            let four = u64::from_le_bytes(four);
            for two in [four, four >> 32] {
                self.even[usize::from(two as u16)] += 1;
                self.odd[usize::from((two >> 16) as u16)] += 1;
            }
        }
        self.add(rest.as_chunks::<2>().0, u16::from_le_bytes);
    }

    /// Returns how often each pattern of `bits` bits occurred, from the smallest magnitude to the largest. Resets the
    /// tables to 0.
    pub fn take(&mut self, bits: u32) -> Vec<Bin> {
        let sign = 1usize << (bits - 1);
        let count = |pattern: usize| u64::from(self.even[pattern]) + u64::from(self.odd[pattern]);
        let bin = |magnitude| Bin {
            magnitude: magnitude as u16,
            negative: count(magnitude | sign),
            positive: count(magnitude),
        };
        let bins = (0..sign).map(bin).filter(|bin| bin.negative + bin.positive > 0).collect();
        self.even.fill(0);
        self.odd.fill(0);
        bins
    }
}

/// Merges the counts of two lists that are sorted by magnitude.
pub(crate) fn merged(a: &[Bin], b: &[Bin]) -> Vec<Bin> {
    let mut all = [a, b].concat();
    all.sort_by_key(|bin| bin.magnitude);
    all.dedup_by(|next, bin| {
        let same = next.magnitude == bin.magnitude;
        if same {
            bin.negative += next.negative;
            bin.positive += next.positive;
        }
        same
    });
    all
}
