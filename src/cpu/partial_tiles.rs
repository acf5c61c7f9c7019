//! The tiled sum over a row that is split into pieces. A piece holds the sum of each tile that lies completely inside
//! it. The other terms of the piece are held one by one.

use crate::math::sum::{TILE, sum_o, sum_of_tiles, tiled_sum};
use crate::simd::{Isa, load_wide};

/// Piece of a row: consecutive terms. Each complete tile is stored as its sum.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialTiles {
    /// Index of the first term.
    start: usize,
    /// Terms before the first tile that begins in this piece.
    head: Vec<f64>,
    tiles: Vec<f64>,
    /// Terms after the last complete tile.
    tail: Vec<f64>,
}

impl PartialTiles {
    #[inline(always)]
    pub fn of<I: Isa>(isa: I, start: usize, terms: &[f64]) -> Self {
        let (head, rest) = terms.split_at((start.next_multiple_of(TILE) - start).min(terms.len()));
        let (tiles, tail) = rest.as_chunks::<TILE>();
        let mut sums = Vec::with_capacity(tiles.len());
        for tile in tiles {
            sums.push(sum_o(
                isa,
                TILE,
                #[inline(always)]
                |i| load_wide(isa, tile, i, 0.0),
            ));
        }
        PartialTiles { start, head: head.to_vec(), tiles: sums, tail: tail.to_vec() }
    }

    /// Appends the piece as integers: its start, the lengths of `head`, `tiles` and `tail`, then the bits of all
    /// numbers.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        let PartialTiles { start, head, tiles, tail } = self;
        words.extend([*start, head.len(), tiles.len(), tail.len()].map(|count| count as u64));
        words.extend([head, tiles, tail].into_iter().flatten().map(|number| number.to_bits()));
    }

    /// Decodes a piece written by [`PartialTiles::to_words`], and returns it with the remaining words. Returns `None`
    /// if there are too few words, or if the piece extends past the end of the row. `all` is the number of terms in the
    /// row.
    pub fn of_words(words: &[u64], all: usize) -> Option<(Self, &[u64])> {
        let (&[start, head, tiles, tail], mut rest) = words.split_first_chunk()?;
        let terms = u128::from(head) + u128::from(tiles) * TILE as u128 + u128::from(tail);
        if u128::from(start) + terms > all as u128 {
            return None;
        }
        let mut take = |count: u64| {
            let (numbers, behind) = rest.split_at_checked(count as usize)?;
            rest = behind;
            Some(numbers.iter().map(|bits| f64::from_bits(*bits)).collect::<Vec<f64>>())
        };
        let (head, tiles, tail) = (take(head)?, take(tiles)?, take(tail)?);
        Some((PartialTiles { start: start as usize, head, tiles, tail }, rest))
    }
}

/// Returns the sum over all pieces of a row. Terms that are in no piece count as zeros.
pub fn sum(pieces: &[PartialTiles]) -> f64 {
    let mut pieces: Vec<&PartialTiles> = pieces.iter().collect();
    pieces.sort_by_key(|piece| piece.start);
    let mut sums = Sums::default();
    for piece in pieces {
        sums.reach(piece.start);
        sums.open.extend_from_slice(&piece.head);
        sums.close();
        sums.tiles.extend_from_slice(&piece.tiles);
        sums.open.extend_from_slice(&piece.tail);
    }
    if !sums.open.is_empty() {
        sums.tiles.push(tiled_sum(&sums.open));
    }
    sum_of_tiles(&sums.tiles)
}

/// Sums of complete tiles in order, and the terms of the incomplete tile after them.
#[derive(Default)]
struct Sums {
    tiles: Vec<f64>,
    open: Vec<f64>,
}

impl Sums {
    /// Appends zeros for the missing terms before this index.
    fn reach(&mut self, index: usize) {
        while self.tiles.len() * TILE + self.open.len() < index {
            let rest = index - self.tiles.len() * TILE;
            self.open.resize(rest.min(TILE), 0.0);
            self.close();
        }
    }

    /// If `open` has become a complete tile, moves its sum to `tiles`.
    fn close(&mut self) {
        if self.open.len() == TILE {
            self.tiles.push(tiled_sum(&self.open));
            self.open.clear();
        }
    }
}
