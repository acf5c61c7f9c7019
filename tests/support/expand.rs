//! Random masks with their expansion: the keep flag and the biases of every position.

use evenkeel::Mask;
use rand::RngExt;
use rand::rngs::SmallRng;

/// Parts of a mask over `dims`, whose last two axes are queries and keys.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub dims: Vec<usize>,
    pub keeps: Vec<(Vec<bool>, Vec<usize>)>,
    pub biases: Vec<(Vec<f32>, Vec<usize>)>,
    pub lengths: Option<Vec<usize>>,
    pub causal: bool,
    pub window: Option<usize>,
    pub offset: Option<isize>,
}

impl Parts {
    /// Generates random parts in shapes that broadcast to `dims`. Each part may be absent.
    pub fn any(rng: &mut SmallRng, dims: &[usize]) -> Self {
        let keys = dims[dims.len() - 1];
        let mut parts = Parts { dims: dims.to_vec(), ..Parts::default() };
        for _ in 0..rng.random_range(0..3) {
            let shape = broadcasting(rng, dims);
            let flags = (0..shape.iter().product()).map(|_| rng.random_bool(0.8)).collect();
            parts.keeps.push((flags, shape));
        }
        for _ in 0..rng.random_range(0..3) {
            let shape = broadcasting(rng, dims);
            let bias = |rng: &mut SmallRng| match rng.random_range(0..10) {
                0 => f32::NEG_INFINITY,
                _ => rng.random_range(-5.0..5.0),
            };
            parts.biases.push(((0..shape.iter().product()).map(|_| bias(rng)).collect(), shape));
        }
        if rng.random_bool(0.4) {
            let batch = if dims.len() > 1 && rng.random_bool(0.7) { dims[0] } else { 1 };
            parts.lengths = Some((0..batch).map(|_| rng.random_range(0..=keys)).collect());
        }
        if dims.len() > 1 {
            parts.causal = rng.random_bool(0.5);
            parts.window = rng.random_bool(0.3).then(|| rng.random_range(1..=keys + 2));
            parts.offset = rng.random_bool(0.3).then(|| rng.random_range(-3..=keys as i64 + 3) as isize);
        }
        parts
    }

    pub fn mask(&self) -> Mask<'_> {
        let mut mask = Mask::none();
        for (flags, shape) in &self.keeps {
            mask = mask.and_keep(flags, shape);
        }
        for (values, shape) in &self.biases {
            mask = mask.and_bias(values, shape);
        }
        if let Some(lengths) = &self.lengths {
            mask = mask.and_lengths(lengths);
        }
        if self.causal {
            mask = mask.and_causal();
        }
        if let Some(window) = self.window {
            mask = mask.and_window(window);
        }
        if let Some(offset) = self.offset {
            mask = mask.offset(offset);
        }
        mask
    }

    /// Returns the `keep` flag of every position, and for each bias its value at every position.
    pub fn expand(&self) -> (Vec<bool>, Vec<Vec<f64>>) {
        let rank = self.dims.len();
        let keys = self.dims[rank - 1];
        let queries = if rank > 1 { self.dims[rank - 2] } else { 1 };
        let offset = self.offset.unwrap_or(keys as isize - queries as isize);
        let index = |position: usize| {
            let mut at = vec![0; rank];
            let mut rest = position;
            for axis in (0..rank).rev() {
                (at[axis], rest) = (rest % self.dims[axis], rest / self.dims[axis]);
            }
            at
        };
        let keep = |position: usize| {
            let at = index(position);
            let key = at[rank - 1] as isize;
            let query = offset + if rank > 1 { at[rank - 2] as isize } else { 0 };
            let within_length = self.lengths.as_ref().is_none_or(|lengths| {
                let length = if lengths.len() == 1 { lengths[0] } else { lengths[at[0]] };
                key < length as isize
            });
            within_length
                && (!self.causal || key <= query)
                && self.window.is_none_or(|window| key > query - window as isize)
                && self.keeps.iter().all(|(flags, shape)| flags[place(shape, &at)])
        };
        let positions = 0..self.dims.iter().product();
        let written_out = |(values, shape): &(Vec<f32>, Vec<usize>)| {
            positions.clone().map(|p| f64::from(values[place(shape, &index(p))])).collect()
        };
        (positions.clone().map(keep).collect(), self.biases.iter().map(written_out).collect())
    }
}

/// Returns the index of the element that applies to position `at` of the full shape, in a part with this shape. Follows
/// NumPy's broadcasting rules: shapes are aligned at their last axes, and an axis of length 1 applies to every index.
fn place(shape: &[usize], at: &[usize]) -> usize {
    let aligned = &at[at.len() - shape.len()..];
    shape.iter().zip(aligned).fold(0, |place, (&len, &i)| place * len + if len == 1 { 0 } else { i })
}

/// Generates a random shape that broadcasts to `dims`. The shape may omit leading axes, and some of its axes have
/// length 1.
fn broadcasting(rng: &mut SmallRng, dims: &[usize]) -> Vec<usize> {
    let skipped = rng.random_range(0..=dims.len());
    dims[skipped..].iter().map(|&d| if rng.random_bool(0.4) { 1 } else { d }).collect()
}
