use super::Matrix;
use super::product::{portable, product, product_of_gelu};
#[cfg(target_arch = "x86_64")]
use super::vectors;
#[cfg(target_arch = "x86_64")]
use crate::gelu;
use crate::test_numbers::numbers;

/// A product of two matrices and a bias.
type Product = fn(Matrix<'_>, Matrix<'_>, Option<&[f32]>) -> Vec<f32>;

/// All there are for this processor, whatever pays.
fn products() -> Vec<Product> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return vec![product, portable, vectors::compute];
    }
    vec![product, portable]
}

/// Rows, columns, depth.
const SHAPES: [[usize; 3]; 14] = [
    [1, 1, 1],
    [5, 9, 10_000],
    [9_000, 240, 3],
    [33, 47, 65],
    [700, 40, 17],
    [5, 2000, 300],
    [96, 100, 5000],
    [64, 64, 64],
    [31, 1, 2000],
    [3, 300, 33],
    [49, 80, 800],
    [1_000, 33, 70],
    [29, 31, 3_100],
    [31, 70, 2_048],
];

/// The product in f64, and the product of magnitudes.
fn reference(left: Matrix<'_>, right: Matrix<'_>, bias: &[f32]) -> Vec<[f64; 2]> {
    let at = |matrix: &Matrix<'_>, row: usize, column: usize| {
        f64::from(matrix.values[row * matrix.row_stride + column * matrix.column_stride])
    };
    let element = |row: usize, column: usize| {
        let start = f64::from(bias[column]);
        (0..left.columns).fold([start, start.abs()], |[sum, size], depth| {
            let product = at(&left, row, depth) * at(&right, depth, column);
            [sum + product, size + product.abs()]
        })
    };
    (0..left.rows).flat_map(|row| (0..right.columns).map(move |column| element(row, column))).collect()
}

#[test]
fn products_are_as_exact_as_f32_whichever_way_operands_lie() {
    for [rows, columns, depth] in SHAPES {
        let (one, other, bias) = (numbers(rows * depth, 1), numbers(depth * columns, 2), numbers(columns, 3));
        let lefts = [Matrix::of_rows(&one, depth), Matrix::of_rows(&one, rows).transposed()];
        let rights = [Matrix::of_rows(&other, columns), Matrix::of_rows(&other, depth).transposed()];
        for (left, right) in lefts.into_iter().flat_map(|left| rights.map(|right| (left, right))) {
            for bias in [Some(bias.as_slice()), None] {
                let expected = reference(left, right, bias.unwrap_or(&vec![0.0; columns]));
                products().into_iter().for_each(|product| assert_exact(&product(left, right, bias), &expected));
            }
        }
    }
}

fn assert_exact(found: &[f32], expected: &[[f64; 2]]) {
    assert_eq!(found.len(), expected.len());
    for (found, [expected, size]) in found.iter().zip(expected) {
        // A few units in the last place of f32 of what was added up.
        assert!((f64::from(*found) - expected).abs() <= 4e-7 * size, "{found} is not {expected}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn layers_of_convnext_and_their_gradients_are_computed_on_vector_registers() {
    // Rows of eight images, and what a layer takes and gives.
    for [rows, inner, out] in [[25_088, 96, 384], [6_272, 768, 192], [1_568, 384, 1_536], [392, 3_072, 768]] {
        let numbers = vec![0.0; rows.max(inner).max(out) * inner.max(out)];
        let of = |rows: usize, columns: usize| Matrix::of_rows(&numbers[..rows * columns], columns);
        let image = [of(rows / 8, inner), of(out, inner).transposed()];
        let layer = [of(rows, inner), of(out, inner).transposed()];
        let of_rows = [of(rows, out), of(out, inner)];
        let of_weight = [of(rows, out).transposed(), of(rows, inner)];
        for [left, right] in [image, layer, of_rows, of_weight] {
            let found = vectors::product(left, right, None);
            assert_eq!(found.is_some(), is_x86_feature_detected!("avx512f"), "{} rows", left.rows);
            assert!(found.is_none_or(|found| found.len() == left.rows * right.columns));
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn gelu_on_the_way_is_a_pass_before_to_the_bit_for_any_number_of_threads() {
    // Rows and columns that fill no tile; one panel of columns, and more; a depth that is packed at once, and one that is not.
    for [rows, columns, depth] in [[300, 90, 70], [3_200, 96, 51], [2_800, 150, 1_030], [150, 31, 1_600]] {
        let (left, right, bias) = (numbers(rows * depth, 1), numbers(columns * depth, 2), numbers(columns, 3));
        let hidden = gelu(&left);
        let of = |left| (Matrix::of_rows(left, depth), Matrix::of_rows(&right, depth).transposed());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (left, right) = of(&left);
            pool.install(|| vectors::product_of_gelu(left, right, Some(&bias)))
        };
        let (hidden, right) = of(&hidden);
        let expected = is_x86_feature_detected!("avx512f").then(|| vectors::compute(hidden, right, Some(&bias)));
        for threads in [1, 3] {
            assert!(run(threads) == expected, "{rows} by {columns} by {depth}, {threads} threads");
        }
    }
}

#[test]
fn where_gelu_would_be_computed_more_than_once_it_is_left_to_a_pass() {
    // Columns in six blocks, in two, and panel by panel for few rows; parts of the depth. And a left side that lies column by column.
    for [rows, columns, depth] in [[784, 192, 768], [2_048, 96, 384], [49, 96, 384], [200, 64, 7_000]] {
        let (left, right) = (numbers(rows * depth, 1), numbers(columns * depth, 2));
        let right = Matrix::of_rows(&right, depth).transposed();
        assert!(product_of_gelu(Matrix::of_rows(&left, depth), right, None).is_none(), "{rows} rows");
        assert!(product_of_gelu(Matrix::of_rows(&left, rows).transposed(), right, None).is_none(), "{rows} rows");
    }
}

#[test]
fn without_depth_there_is_the_bias() {
    let nothing = Matrix::of_rows(&[], 0);
    assert_eq!(nothing.rows, 0);
    let (left, right) = (Matrix { rows: 2, ..nothing }, Matrix { columns: 3, ..nothing });
    assert_eq!(product(left, right, Some(&[1.0, 2.0, 3.0])), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for [rows, columns, depth] in [[300, 90, 700], [40, 30, 20_000], [7_000, 320, 40]] {
        let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        for compute in products() {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| compute(Matrix::of_rows(&left, depth), Matrix::of_rows(&right, columns), None))
            };
            assert_eq!(run(1), run(3));
        }
    }
}
