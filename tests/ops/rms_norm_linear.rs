//! Tests of a norm fused with a linear layer. Results must be accurate, and equal to `rms_norm` followed by tiled sums.
//! A row must have the same bits in any batch. Results must be finite even if their products exceed the range of the
//! type.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::math::sum::tiled_sum;
use evenkeel::{
    DType, Element, Error, Floats, RmsNorm, RmsNormLinear, Rounding, Rows, RowsMut, reference, rms_norm,
    rms_norm_linear, rms_norm_linear_into,
};
use half::bf16;

for_each_dtype!(
    accuracy,
    large_weights,
    sums_by_definition,
    rounded_first,
    alone_as_in_a_batch,
    products_beyond_the_type,
    broken_rows,
    without_rows_or_columns,
);

fn wide<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|value| value.widen()).collect()
}

/// Rows, and a matrix with a bias.
struct Layer<E> {
    x: Vec<E>,
    matrix: Vec<E>,
    bias: Vec<E>,
    cols: usize,
}

impl<E: Bits> Layer<E> {
    fn new(what: &str, [rows, results, cols]: [usize; 3]) -> Self {
        let mut rng = generate::rng(what);
        let spread = 1.0 / (cols.max(1) as f64).sqrt();
        Layer {
            x: generate::bell(&mut rng, rows * cols, 0.0, 2.0),
            matrix: generate::bell(&mut rng, results * cols, 0.0, spread),
            bias: generate::bell(&mut rng, results, 0.0, 0.1),
            cols,
        }
    }

    fn run(&self, options: &RmsNormLinear<'_>) -> Vec<E> {
        let x = Rows::new(&self.x, self.x.len() / self.cols, self.cols).unwrap();
        rms_norm_linear(x, Rows::new(&self.matrix, self.bias.len(), self.cols).unwrap(), options).unwrap()
    }

    fn check(&self, checker: &Checker, what: &str, weight: Floats<'_>, offset: f64) {
        let norm = RmsNorm::default().weight(weight).weight_offset(offset);
        let options = RmsNormLinear::default().norm(norm).bias(&self.bias);
        let (of_weight, bias) = ((0..self.cols).map(|i| weight.get(i).unwrap()).collect::<Vec<_>>(), wide(&self.bias));
        let (mut exact, mut terms) = (Vec::new(), Vec::new());
        for x in self.x.chunks(self.cols) {
            let (y, of_y) = reference::rms_norm_linear(x, &self.matrix, Some(&of_weight), offset, norm.eps, &bias);
            exact.extend(y);
            terms.extend(of_y);
        }
        each_level(|level| {
            let y = self.run(&options);
            checker.check_terms(&format!("{what}, {level}"), &y.clone(), &y, &exact, &|i| terms[i]);
        });
    }
}

fn accuracy<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("rms_norm_linear");
    for cols in [1, 15, 16, 64, 255, 256, 257, 600, 4097] {
        for [rows, results] in [[1, 1], [1, 9], [3, 6], [35, 5]] {
            if rows * results * cols > 200_000 {
                continue;
            }
            let layer = Layer::<E>::new("rms_norm_linear", [rows, results, cols]);
            let weight = generate::bell::<E>(&mut generate::rng("weight"), cols, 1.0, 0.3);
            layer.check(&checker, &format!("{rows} x {results} x {cols}"), (&weight).into(), 0.0);
            layer.check(&checker, "offset", (&weight).into(), 1.0);
        }
    }
    for hostile in generate::hostile_vectors::<E>(300) {
        let layer = Layer { x: hostile.row, ..Layer::<E>::new("hostile", [1, 5, 300]) };
        layer.check(&checker, hostile.name, Floats::from(&vec![1.0f32; 300]), 0.0);
    }
}

/// Checks the largest weight of Qwen3-0.6B's key norms, and weights far beyond f16.
fn large_weights<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("rms_norm_linear");
    let mut layer = Layer::<E>::new("large weights", [2, 4, 128]);
    let mut weight = vec![bf16::from_f32(3.56); 128];
    weight[77] = bf16::from_f32(96.5);
    layer.check(&checker, "96.5", (&weight).into(), 0.0);
    // The matrix has tiny elements, which scale the large weighted rows back into the range of the type.
    let weight = vec![1e30f32; 128];
    let small = E::LIMITS.min_subnormal * 8.0;
    layer.matrix.iter_mut().for_each(|m| *m = E::from_wide(m.widen().signum() * small.max(1e-29)));
    let options = RmsNormLinear::default().norm(RmsNorm::default().weight(&weight));
    let exact = reference::rms_norm_linear(&layer.x[..128], &layer.matrix, Some(&[1e30; 128]), 0.0, 1e-6, &[0.0; 4]);
    if exact.1.iter().all(|terms| *terms < E::LIMITS.max) {
        assert!(wide(&layer.run(&options)).iter().all(|y| y.is_finite()));
        layer.check(&checker, "1e30", (&weight).into(), 0.0);
    }
}

/// Checks that each result is the tiled sum ([`tiled_sum`]) of the products of a normalised row and a matrix row. The
/// normalised row is first rounded to its type. If the type is f32 or narrower, the products are exact in f64.
fn sums_by_definition<E: Bits>() {
    // The kernel transposes the matrix for batches of at least 8 rows, or 16 rows in f64. Rows of more than 64 tiles
    // add several tiles to a lane.
    let shapes = [(3, 1), (3, 40), (3, 256), (3, 257), (3, 700), (3, 5000), (9, 257), (17, 700), (16, 17_000)];
    for (rows, cols) in shapes {
        let layer = Layer::<E>::new("by definition", [rows, 7, cols]);
        let options = RmsNormLinear::default().rounded(true);
        let n = rms_norm(Rows::new(&layer.x, rows, cols).unwrap(), &options.norm).unwrap();
        let dot = |n: &[E], row: &[E]| {
            let products: Vec<f64> = n.iter().zip(row).map(|(n, m)| n.widen() * m.widen()).collect();
            E::from_wide(tiled_sum(&products))
        };
        let expected: Vec<E> =
            n.chunks(cols).flat_map(|n| layer.matrix.chunks(cols).map(move |row| dot(n, row))).collect();
        each_level(|level| {
            let y = layer.run(&options);
            if E::DTYPE != DType::F64 {
                assert_same_bits(&format!("{rows} rows, {cols} columns, {level}"), &y, &expected);
            }
        });
    }
}

/// Checks the option `rounded`, which rounds the normalised row before the multiplication by the matrix. Without this
/// option, `Rounding::BeforeWeight` still rounds the row before the multiplication by the norm's weight.
fn rounded_first<E: Bits>() {
    let layer = Layer::<E>::new("rounded", [4, 6, 300]);
    let weight = generate::bell::<f32>(&mut generate::rng("weight"), 300, 1.0, 0.3);
    let of_weight = wide(&weight);
    for rounding in [Rounding::Once, Rounding::BeforeWeight] {
        let norm = RmsNorm::default().weight(&weight).rounding(rounding);
        let n = rms_norm(Rows::new(&layer.x, 4, 300).unwrap(), &norm).unwrap();
        let y = layer.run(&RmsNormLinear::default().norm(norm).rounded(true));
        let before = layer.run(&RmsNormLinear::default().norm(norm));
        for (row, (n, x)) in n.chunks(300).zip(layer.x.chunks(300)).enumerate() {
            let products = |n: Vec<f64>| -> (Vec<f64>, Vec<f64>) {
                let each = layer.matrix.chunks(300).map(|m| m.iter().zip(&n).map(|(m, n)| m.widen() * n));
                each.map(|terms| terms.fold((0.0, 0.0), |(sum, all), term| (sum + term, all + term.abs()))).unzip()
            };
            let unweighted = |x: &[E]| -> Vec<f64> {
                let n = reference::rms_norm(x, None, 0.0, norm.eps);
                n.iter().map(|n| E::from_wide(evenkeel::reference::Real::to_f64(*n)).widen()).collect()
            };
            let slack = |terms: f64| terms * (E::LIMITS.epsilon * 0.51 + 1e-12);
            let (sums, terms) = products(wide(n));
            for (y, (sum, terms)) in y[row * 6..].iter().zip(sums.iter().zip(&terms)) {
                assert!(
                    (y.widen() - sum).abs() <= slack(*terms),
                    "rms_norm_linear with rows rounded before the product: expected {sum}, got {y:?}"
                );
            }
            if rounding == Rounding::BeforeWeight {
                let (sums, terms) = products(unweighted(x).iter().zip(&of_weight).map(|(n, w)| n * w).collect());
                for (y, (sum, terms)) in before[row * 6..].iter().zip(sums.iter().zip(&terms)) {
                    assert!((y.widen() - sum).abs() <= slack(*terms), "expected {sum}, got {y:?}");
                }
            }
        }
    }
}

/// Checks that a row has the same bits in any batch, on every instruction set, with any number of threads, and for any
/// destination.
fn alone_as_in_a_batch<E: Bits>() {
    let [rows, results, cols] = [70, 37, 300];
    let layer = Layer::<E>::new("alone", [rows, results, cols]);
    let options = RmsNormLinear::default().bias(&layer.bias);
    let all = layer.run(&options);
    let matrix = Rows::new(&layer.matrix, results, cols).unwrap();
    for (row, x) in layer.x.chunks(cols).enumerate() {
        let alone = rms_norm_linear(Rows::new(x, 1, cols).unwrap(), matrix, &options).unwrap();
        assert_same_bits(&format!("row {row} alone"), &alone, &all[row * results..][..results]);
    }
    each_level(|level| {
        for threads in [1, 2, 3] {
            let y = on_threads(threads, level, || layer.run(&options));
            assert_same_bits(&format!("{threads} threads, {level}"), &y, &all);
        }
    });
    let mut strided = vec![E::ZERO; rows * 40];
    let x = Rows::new(&layer.x, rows, cols).unwrap();
    let out = RowsMut::strided(&mut strided, rows, results, 40).unwrap();
    rms_norm_linear_into(x, matrix, out, &options).unwrap();
    let dense: Vec<E> = strided.chunks(40).flat_map(|row| row[..results].to_vec()).collect();
    assert_same_bits("strided", &dense, &all);
}

/// Checks that results are finite if the sums are within the range of the type, even if some products exceed it.
fn products_beyond_the_type<E: Bits>() {
    let most = E::from_wide(E::LIMITS.max);
    let less = E::from_wide(-E::LIMITS.max);
    // The normalised row is 1, -1, 1, ... The products cancel except for a single 1/2. The sums are in f64. In f16, the
    // products are small enough for the sum to keep this 1/2. In the other types, the products are so large that the
    // sum loses it.
    let x: Vec<E> = (0..300).map(|i| if i % 2 == 0 { most } else { less }).collect();
    let mut matrix = vec![most; 300];
    (matrix[0], matrix[1]) = (E::from_wide(0.5), E::ZERO);
    let (rows, row) = (Rows::new(&x, 1, 300).unwrap(), Rows::new(&matrix, 1, 300).unwrap());
    let options = RmsNormLinear::default().norm(RmsNorm::default().eps(0.0));
    each_level(|level| {
        for rounded in [false, true] {
            let y = rms_norm_linear(rows, row, &options.rounded(rounded)).unwrap()[0].widen();
            let expected = if E::DTYPE == DType::F16 { 0.5 } else { 0.0 };
            assert_eq!(y, expected, "rms_norm_linear on {level}: expected {expected}, got {y}");
        }
    });
    // In the first case, tiny elements of the matrix compensate for a huge weight. In the second case, a product
    // exceeds the range of the type, and the bias brings the result back into the range.
    let weight = vec![E::LIMITS.max * 0.75; 300];
    let tiny = vec![E::from_wide(E::LIMITS.min_normal); 300];
    let options = RmsNormLinear::default().norm(RmsNorm::default().eps(0.0).weight(&weight));
    let x = vec![most; 300];
    let rows = Rows::new(&x, 1, 300).unwrap();
    let y = rms_norm_linear(rows, Rows::new(&tiny, 1, 300).unwrap(), &options).unwrap()[0].widen();
    let expected = E::LIMITS.max * E::LIMITS.min_normal * (0.75 * 300.0);
    assert!(
        (y - expected).abs() <= expected * E::LIMITS.epsilon,
        "rms_norm_linear with a large weight and a tiny matrix: expected {expected}, got {y}"
    );
    let mut one = vec![E::ZERO; 300];
    one[5] = most;
    let (less, weight) = ([less], [1.5f32; 300]);
    let options = RmsNormLinear::default().norm(RmsNorm::default().eps(0.0).weight(&weight)).bias(&less);
    let y = rms_norm_linear(rows, Rows::new(&one, 1, 300).unwrap(), &options).unwrap()[0].widen();
    assert!(
        (y / E::LIMITS.max - 0.5).abs() <= E::LIMITS.epsilon,
        "rms_norm_linear with a large weight and a bias: expected half of the largest finite value, got {y}"
    );
}

fn broken_rows<E: Bits>() {
    let (results, cols) = (5, 300);
    for (broken, rows) in [(f64::NAN, 3), (f64::INFINITY, 3), (f64::NAN, 19), (f64::INFINITY, 19)] {
        let mut layer = Layer::<E>::new("broken", [rows, results, cols]);
        let whole = layer.run(&RmsNormLinear::default());
        layer.x[cols + 17] = E::from_wide(broken);
        let y = layer.run(&RmsNormLinear::default());
        assert!(wide(&y[results..2 * results]).iter().all(|y| y.is_nan()));
        assert_same_bits("the row before", &y[..results], &whole[..results]);
        assert_same_bits("the rows after", &y[2 * results..], &whole[2 * results..]);
    }
    let mut layer = Layer::<E>::new("zeros", [2, results, cols]);
    layer.x.fill(E::ZERO);
    let options = RmsNormLinear::default().norm(RmsNorm::default().eps(0.0)).bias(&layer.bias);
    assert_same_bits("zeros", &layer.run(&options), &[&layer.bias[..], &layer.bias[..]].concat());
}

fn without_rows_or_columns<E: Bits>() {
    let bias = [E::from_wide(0.5), E::from_wide(-2.0)];
    let options = RmsNormLinear::default().bias(&bias);
    let none: [E; 0] = [];
    let view = |rows, cols| Rows::new(&none, rows, cols).unwrap();
    let y = rms_norm_linear(view(3, 0), view(2, 0), &options).unwrap();
    assert_same_bits("no columns", &y, &bias.repeat(3));
    assert!(rms_norm_linear(view(0, 0), view(2, 0), &options).unwrap().is_empty());
    assert!(rms_norm_linear(view(3, 0), view(0, 0), &RmsNormLinear::default()).unwrap().is_empty());
}

#[test]
fn refusals() {
    let (x, matrix, mut y) = ([0.5f32; 6], [0.5f32; 12], [0.0f32; 8]);
    let (rows, of_matrix) = (Rows::new(&x, 2, 3).unwrap(), Rows::new(&matrix, 4, 3).unwrap());
    let refused = |matrix: Rows<'_, f32>, options: &RmsNormLinear<'_>| -> String {
        let error: Error = rms_norm_linear(rows, matrix, options).unwrap_err();
        error.to_string()
    };
    let options = RmsNormLinear::default();
    let other = refused(Rows::new(&matrix, 3, 4).unwrap(), &options);
    assert!(
        other.contains("matrix has 4 columns") && other.contains("3 columns"),
        "a matrix with 4 columns for rows with 3 columns: the error must name both numbers, got {other}"
    );
    let bias = refused(of_matrix, &options.bias(&[0.0f32; 3]));
    assert!(
        bias.contains("bias has 3 elements") && bias.contains("4 rows"),
        "a bias of 3 elements for 4 rows: the error must name 3 elements and 4 rows, got {bias}"
    );
    let weight = refused(of_matrix, &options.norm(RmsNorm::default().weight(&[0.0f32; 4])));
    assert!(
        weight.contains("weight has 4 elements"),
        "a weight for 4 columns: the error must contain `weight has 4 elements`, got {weight}"
    );
    let eps = refused(of_matrix, &options.norm(RmsNorm::default().eps(-1.0)));
    assert!(eps.contains("eps is -1"), "rms_norm_linear with eps -1: the error must contain `eps is -1`, got {eps}");
    let out = RowsMut::new(&mut y, 4, 2).unwrap();
    let shape = rms_norm_linear_into(rows, of_matrix, out, &options).unwrap_err().to_string();
    assert!(
        shape.contains("out has shape [4, 2]") && shape.contains("2 rows of 4"),
        "an output of shape [4, 2]: the error must contain `2 rows of 4`, got {shape}"
    );
}
