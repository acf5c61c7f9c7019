//! Rows of f64 for which almost every addition of a tiled sum is rounded in the same direction. A bound must cover such
//! rows, but random rows never show them.

use rand::RngExt;
use rand::rngs::SmallRng;
use std::rc::Rc;

/// Node of the tree of additions: one lane of the tiled sum, or the sum of two nodes.
enum Node {
    /// Four elements of one lane.
    Lane([f64; 4]),
    Pair(Rc<Partial>, Rc<Partial>),
}

struct Partial {
    node: Node,
    sum: f64,
    /// Rounded sum minus the exact sum.
    error: f64,
}

/// Number of partial sums that are kept at each level of the tree. Each kept sum is paired with `PARTNERS` random kept
/// sums of the same level.
const KEPT: usize = 400;
const PARTNERS: usize = 40;

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// Returns a row and the relative error of the tiled sum of its squares, in units of 2^-53. The row has 16,384
/// elements, which fill 64 tiles. A greedy search chooses the partial sums so that the rounded sum exceeds the exact
/// sum as much as possible.
pub fn one_way(rng: &mut SmallRng) -> (Vec<f64>, f64) {
    let mut level: Vec<Rc<Partial>> = (0..20 * KEPT).map(|_| Rc::new(lane(rng))).collect();
    keep_worst(&mut level);
    // The first six levels add the lanes of a tile. The last six add the tiles.
    for _ in 0..12 {
        let mut next = Vec::with_capacity(KEPT * PARTNERS);
        for a in &level {
            for _ in 0..PARTNERS {
                let b = &level[rng.random_range(0..level.len())];
                let (sum, lost) = two_sum(a.sum, b.sum);
                let node = Node::Pair(a.clone(), b.clone());
                next.push(Rc::new(Partial { node, sum, error: a.error + b.error - lost }));
            }
        }
        keep_worst(&mut next);
        level = next;
    }
    let worst = &level[0];
    let mut lanes = Vec::new();
    worst.lanes(&mut lanes);
    let row = lanes.chunks(64).flat_map(|tile| (0..4).flat_map(move |i| tile.iter().map(move |lane| lane[i])));
    (row.collect(), worst.error / worst.sum * 2f64.powi(53))
}

fn keep_worst(partials: &mut Vec<Rc<Partial>>) {
    partials.sort_by(|a, b| (b.error / b.sum).total_cmp(&(a.error / a.sum)));
    partials.truncate(KEPT);
}

/// Chooses the four elements of a lane. The first element is about 1 and the others are about 0.15. The sums of their
/// squares therefore stay just above 1, where a rounding error is largest relative to the sum.
fn lane(rng: &mut SmallRng) -> Partial {
    let (mut elements, mut sum, mut error) = ([0.0; 4], 0.0, 0.0);
    for (i, element) in elements.iter_mut().enumerate() {
        let base: f64 = if i == 0 { 1.0 } else { 0.15 };
        let candidates = (0..60).map(|_| {
            let x = base * (1.0 + 0.02 * rng.random::<f64>());
            let square = x * x;
            let (sum, lost) = two_sum(sum, square);
            (x, sum, error - x.mul_add(x, -square) - lost)
        });
        let worst = candidates.max_by(|a, b| (a.2 / a.1).total_cmp(&(b.2 / b.1)));
        (*element, sum, error) = worst.expect("one of the 60 candidates must have the largest error");
    }
    Partial { node: Node::Lane(elements), sum, error }
}

impl Partial {
    fn lanes(&self, to: &mut Vec<[f64; 4]>) {
        match &self.node {
            Node::Lane(elements) => to.push(*elements),
            Node::Pair(a, b) => {
                a.lanes(to);
                b.lanes(to);
            }
        }
    }
}
