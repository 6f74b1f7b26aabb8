//! From a table of relative positions to the bias of every pair in a window.

use burn::tensor::Tensor;
use vision_nn::permute;

/// The bias of each pair of tokens: the row of the table that belongs to the first token's place less the second's.
///
/// The table is unrolled axis by axis, with copies and views only: a gather by index would say the same, but its gradient is a
/// scatter of N² rows onto a few hundred, which CubeCL runs one row after the other.
///
/// # Shapes
/// - `table`: `[(2 rows - 1) (2 columns - 1), nH]`, by rows apart, then columns apart, from the most negative
/// - output: `[nH, N, N]`
pub(crate) fn pairwise_bias(table: Tensor<2>, [rows, columns]: [usize; 2]) -> Tensor<3> {
    let [_, heads] = table.dims();
    let (rows_apart, columns_apart, tokens) = (2 * rows - 1, 2 * columns - 1, rows * columns);
    let by_rows = unroll(table.reshape([rows_apart, columns_apart * heads]), rows); // [y2, y1, columns apart * nH]
    let by_rows = by_rows.reshape([rows * rows, columns_apart, heads]).swap_dims(0, 1);
    let by_both = unroll(by_rows.reshape([columns_apart, rows * rows * heads]), columns); // [x2, x1, y2 * y1 * nH]
    let by_both = by_both.reshape([columns, columns, rows, rows, heads]); // [x2, x1, y2, y1, nH]
    let by_both = permute(by_both, [4, 3, 1, 2, 0]); // [nH, y1, x1, y2, x2]
    by_both.reshape([heads, tokens, tokens])
}

/// The Toeplitz tensor whose entry `[j, i]` is row `i - j + length - 1` of `diagonals`.
///
/// The rows are laid end to end again and again and cut every `2 length - 2`: each cut begins one row before the last one did.
///
/// # Shapes
/// - `diagonals`: `[2 length - 1, R]`
/// - output: `[length, length, R]`
fn unroll(diagonals: Tensor<2>, length: usize) -> Tensor<3> {
    let [count, inner] = diagonals.dims();
    if length == 1 {
        return diagonals.unsqueeze();
    }
    let stride = count - 1;
    let endless = diagonals.unsqueeze::<3>().expand([length, count, inner]).reshape([length * count, inner]);
    let cuts = endless.slice_dim(0, length - 1..length - 1 + length * stride).reshape([length, stride, inner]);
    cuts.slice_dim(1, 0..length) // [length, length, R]
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn each_pair_gets_the_row_of_its_difference() {
        for [rows, columns] in [[3, 3], [2, 4], [1, 3], [3, 1], [1, 1]] {
            let heads = 2;
            let count = (2 * rows - 1) * (2 * columns - 1);
            // Exact in f32 and different everywhere, so that no two entries can be mistaken for each other.
            let numbers: Vec<f32> = (0..count * heads).map(|number| number as f32).collect();
            let table = Tensor::from_data(TensorData::new(numbers, [count, heads]), &Device::flex());
            let bias = pairwise_bias(table, [rows, columns]).into_data();
            let mut expected = Vec::new();
            for head in 0..heads {
                for (one, other) in pairs(rows * columns) {
                    let down = one / columns + rows - 1 - other / columns;
                    let across = one % columns + columns - 1 - other % columns;
                    expected.push(((down * (2 * columns - 1) + across) * heads + head) as f32);
                }
            }
            assert_eq!(bias.iter::<f32>().collect::<Vec<_>>(), expected, "{rows}x{columns}");
        }
    }

    fn pairs(tokens: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..tokens).flat_map(move |one| (0..tokens).map(move |other| (one, other)))
    }
}
