//! Sums in an order that does not depend on the number of threads.

use multiversion::multiversion;
use rayon::prelude::*;

/// Numbers a task.
const TASK: usize = 1 << 15;

/// The sum over rows of each column.
///
/// # Shapes
/// - `rows`: `[N, C]`
/// - result: `[C]`
pub fn sum_of_rows(rows: &[f32], columns: usize) -> Vec<f32> {
    let task = (TASK / columns.max(1)).max(1) * columns.max(1);
    let partial: Vec<Vec<f32>> = rows.par_chunks(task).map(|rows| sum_of_rows_task(rows, columns)).collect();
    total_of(&partial, columns)
}

/// The sum of tasks' sums in their order, in f64.
pub(crate) fn total_of(partial: &[Vec<f32>], columns: usize) -> Vec<f32> {
    let mut total = vec![0.0f64; columns];
    for sums in partial {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(*sum));
    }
    total.into_iter().map(|sum| sum as f32).collect()
}

#[multiversion(targets = "simd")]
fn sum_of_rows_task(rows: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for row in rows.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// The sum of squares over all slices.
pub fn squares_of_all(slices: Vec<&[f32]>) -> f64 {
    let tasks = slices.into_par_iter().flat_map(|slice| slice.par_chunks(TASK));
    let partial: Vec<f32> = tasks.map(sum_of_squares_task).collect();
    partial.into_iter().map(f64::from).sum()
}

#[multiversion(targets = "simd")]
fn sum_of_squares_task(numbers: &[f32]) -> f32 {
    /// Enough for additions not to wait for each other.
    const LANES: usize = 64;
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = numbers.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = value.mul_add(*value, *lane);
        }
    }
    lanes.into_iter().chain(rest.iter().map(|value| value * value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn sums_follow_the_definition() {
        for (rows, columns) in [(1, 1), (7, 5), (3000, 33), (2, 50_000)] {
            let values = numbers(rows * columns, 1);
            for (column, found) in sum_of_rows(&values, columns).into_iter().enumerate() {
                let expected: f64 = values.iter().skip(column).step_by(columns).map(|value| f64::from(*value)).sum();
                // Some thousand numbers below one in f32.
                assert!((f64::from(found) - expected).abs() < 1e-4, "{found} is not {expected}");
            }
            let expected: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!((squares_of_all(vec![&values]) / expected - 1.0).abs() < 1e-6);
        }
        assert!(sum_of_rows(&[], 3) == [0.0; 3] && squares_of_all(vec![&[]]) == 0.0);
    }
}
