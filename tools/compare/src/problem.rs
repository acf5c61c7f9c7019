//! Inputs of one op in one type and shape.

use crate::float::Float;
use crate::inputs::Distribution;
use candle_core::{Device, Result, Tensor};
use std::cell::OnceCell;

/// Lengths of the axes; the last is the length of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(pub &'static [usize]);

impl Shape {
    pub fn elements(self) -> usize {
        self.0.iter().product()
    }

    pub fn cols(self) -> usize {
        self.0[self.0.len() - 1]
    }

    pub fn rows(self) -> usize {
        self.elements() / self.cols()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axes: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&axes.join("x"))
    }
}

/// Inputs, each of which is made at its first use.
pub struct Problem<E> {
    pub shape: Shape,
    pub distribution: Distribution,
    x: OnceCell<Vec<E>>,
    dy: OnceCell<Vec<E>>,
    weight: OnceCell<Vec<E>>,
    bias: OnceCell<Vec<E>>,
    targets: OnceCell<Vec<i64>>,
    beside: OnceCell<Vec<E>>,
}

impl<E: Float> Problem<E> {
    pub fn new(shape: Shape, distribution: Distribution) -> Self {
        Problem {
            shape,
            distribution,
            x: OnceCell::new(),
            dy: OnceCell::new(),
            weight: OnceCell::new(),
            bias: OnceCell::new(),
            targets: OnceCell::new(),
            beside: OnceCell::new(),
        }
    }

    pub fn rows(&self) -> usize {
        self.shape.rows()
    }

    pub fn cols(&self) -> usize {
        self.shape.cols()
    }

    pub fn x(&self) -> &[E] {
        self.x.get_or_init(|| self.distribution.numbers(0, self.shape.elements()))
    }

    /// Returns the gradient of each result.
    pub fn dy(&self) -> &[E] {
        self.dy.get_or_init(|| Distribution::Normal.numbers(1, self.shape.elements()))
    }

    /// Returns the weights, one for each column.
    pub fn weight(&self) -> &[E] {
        self.weight.get_or_init(|| Distribution::Normal.numbers(2, self.cols()))
    }

    /// Returns the biases, one for each column.
    pub fn bias(&self) -> &[E] {
        self.bias.get_or_init(|| Distribution::Normal.numbers(3, self.cols()))
    }

    /// Returns a class for each row.
    pub fn targets(&self) -> &[i64] {
        self.targets.get_or_init(|| (0..self.rows()).map(|row| (row * 977 % self.cols()) as i64).collect())
    }

    /// Returns the op's other operands, for example a mask, and makes them at the first use.
    pub fn beside(&self, make: impl FnOnce() -> Vec<E>) -> &[E] {
        self.beside.get_or_init(make)
    }

    /// Returns a candle tensor that has the shape of the problem and contains these numbers.
    pub fn tensor(&self, numbers: &[E]) -> Result<Tensor> {
        Tensor::from_slice(numbers, self.shape.0, &Device::Cpu)
    }

    /// Returns a candle tensor with one axis. It contains these numbers, one for each column.
    pub fn line(&self, numbers: &[E]) -> Result<Tensor> {
        Tensor::from_slice(numbers, self.cols(), &Device::Cpu)
    }

    /// Returns the numbers of a row.
    pub fn row<'a>(&self, numbers: &'a [E], row: usize) -> &'a [E] {
        &numbers[row * self.cols()..][..self.cols()]
    }
}

/// Converts numbers to f64.
pub fn wide<E: Float>(numbers: &[E]) -> Vec<f64> {
    numbers.iter().map(|x| x.widen()).collect()
}
