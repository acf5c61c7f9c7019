//! Rule O over a row that is in pieces: sums of whole tiles, and as they are the terms of tiles that others have a part
//! of.

use crate::math::sum::{TILE, rule_o, sum_o, sum_of_tiles};
use crate::simd::{Isa, block};

/// Some of a row's terms, side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The first term's index.
    start: usize,
    /// The terms up to the first tile that begins here.
    head: Vec<f64>,
    tiles: Vec<f64>,
    /// The terms behind the last tile that is whole.
    tail: Vec<f64>,
}

impl Piece {
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
                |i| isa.load_f64(&block(tile, i, 0.0)),
            ));
        }
        Piece { start, head: head.to_vec(), tiles: sums, tail: tail.to_vec() }
    }

    /// Its numbers as integers, behind how many there are of each kind.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        let Piece { start, head, tiles, tail } = self;
        words.extend([*start, head.len(), tiles.len(), tail.len()].map(|count| count as u64));
        words.extend([head, tiles, tail].into_iter().flatten().map(|number| number.to_bits()));
    }

    /// What [`Piece::to_words`] made, and the words behind it; nothing if there are too few, or the piece ends behind the
    /// last of `all` terms.
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
        Some((Piece { start: start as usize, head, tiles, tail }, rest))
    }
}

/// The sum over all pieces of a row; what no piece has are zeros.
pub fn sum(pieces: &[Piece]) -> f64 {
    let mut pieces: Vec<&Piece> = pieces.iter().collect();
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
        sums.tiles.push(rule_o(&sums.open));
    }
    sum_of_tiles(&sums.tiles)
}

/// The sums of tiles in order, and the terms of the one that is not whole yet.
#[derive(Default)]
struct Sums {
    tiles: Vec<f64>,
    open: Vec<f64>,
}

impl Sums {
    /// Goes on with zeros up to the term of this index.
    fn reach(&mut self, index: usize) {
        while self.tiles.len() * TILE + self.open.len() < index {
            let rest = index - self.tiles.len() * TILE;
            self.open.resize(rest.min(TILE), 0.0);
            self.close();
        }
    }

    /// Adds the terms up once they are a tile.
    fn close(&mut self) {
        if self.open.len() == TILE {
            self.tiles.push(rule_o(&self.open));
            self.open.clear();
        }
    }
}
