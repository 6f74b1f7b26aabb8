//! Fitting the tables of a checkpoint to windows of another size.

use std::collections::BTreeMap;

use burn::tensor::TensorData;

use crate::SwinConfig;

/// Resizes the tables of relative positions that were made for other windows than the config's, as timm does when it loads a
/// checkpoint into a model for another image size. Returns the names of those that it has changed.
///
/// A table is taken for one of square windows. What cannot be one is left as it is, as are tables that fit: the comparison of
/// names and shapes that follows ([`vision_nn::assign_parameters`]) says what is still wrong.
pub fn resize_bias_tables(tensors: &mut BTreeMap<String, TensorData>, config: &SwinConfig) -> Vec<String> {
    let mut resized = Vec::new();
    for (stage, (layout, depth)) in config.layouts().into_iter().zip(config.depths).enumerate() {
        for block in 0..depth {
            let name = format!("layers.{stage}.blocks.{block}.attn.relative_position_bias_table");
            let found = tensors.get(&name).and_then(|table| resize_table(table, layout.size));
            if let Some(table) = found {
                tensors.insert(name.clone(), table);
                resized.push(name);
            }
        }
    }
    resized
}

/// The table for windows of another size; none if it fits already or is none of square windows.
///
/// # Shapes
/// - `table`: `[(2 side - 1)^2, nH]`
/// - output: `[(2 rows - 1) (2 columns - 1), nH]`
fn resize_table(table: &TensorData, window: [usize; 2]) -> Option<TensorData> {
    let &[rows, heads] = table.shape.as_slice() else {
        return None;
    };
    let [down, across] = window.map(|side| 2 * side - 1);
    let source = rows.isqrt();
    if rows == down * across || source * source != rows || source % 2 == 0 || !table.dtype.is_float() {
        return None;
    }
    let values: Vec<f64> = table.iter().collect();
    let (down, across) = (spread(source, down), spread(source, across));
    let mut resized = Vec::with_capacity(down.len() * across.len() * heads);
    for &(upper, lower_share) in &down {
        for &(left, right_share) in &across {
            for head in 0..heads {
                let at = |row: usize, column: usize| values[(row * source + column) * heads + head];
                let along = |row| mix(at(row, left), right_share, || at(row, left + 1));
                resized.push(mix(along(upper), lower_share, || along(upper + 1)));
            }
        }
    }
    let shape = [down.len() * across.len(), heads];
    Some(TensorData::new(resized, shape).convert_dtype(table.dtype))
}

/// The share of `after` in a mixture with `before`. It is asked for only where it counts: the last number has none after it.
fn mix(before: f64, share: f64, after: impl FnOnce() -> f64) -> f64 {
    if share == 0.0 { before } else { (1.0 - share) * before + share * after() }
}

/// For each of `target` distances, one apart: the source entry before it, and the share of the entry after that.
///
/// The source's entries are laid over the target's distances further and further apart from the middle outwards, so that near
/// neighbours keep their detail (Bao et al., BEiT, 2021; timm's `resize_rel_pos_bias_table` in its linear form).
fn spread(source: usize, target: usize) -> Vec<(usize, f64)> {
    let ratio = spacing_ratio(source / 2, target / 2);
    let outwards: Vec<f64> = (0..source / 2)
        .scan((0.0, 1.0), |(place, step), _| {
            (*place, *step) = (*place + *step, *step * ratio);
            Some(*place)
        })
        .collect();
    let places: Vec<f64> =
        outwards.iter().rev().map(|place| -place).chain([0.0]).chain(outwards.iter().copied()).collect();
    let first = -((target / 2) as f64);
    (0..target).map(|index| between(&places, first + index as f64)).collect()
}

/// The ratio of a geometric series of `terms`, from one on, whose sum is `sum`; between 1.01 and 1.5, by the reference's bisection.
fn spacing_ratio(terms: usize, sum: usize) -> f64 {
    let (mut low, mut high, mut ratio) = (1.01, 1.5, 1.01);
    while high - low > 1e-6 {
        ratio = (low + high) / 2.0;
        let reached = (1.0 - f64::powi(ratio, terms as i32)) / (1.0 - ratio);
        if reached > sum as f64 { high = ratio } else { low = ratio }
    }
    ratio
}

/// The entry at or before `place`, and how far it is to the next; outside, the outermost entry.
fn between(places: &[f64], place: f64) -> (usize, f64) {
    let after = places.partition_point(|&other| other <= place);
    match (after.checked_sub(1), places.get(after)) {
        (Some(before), Some(next)) => (before, (place - places[before]) / (next - places[before])),
        (Some(last), None) => (last, 0.0),
        (None, _) => (0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VARIANTS;

    #[test]
    fn the_middle_stays_the_middle() {
        for (source, target) in [(13, 9), (13, 23), (13, 13), (7, 3), (1, 5), (5, 1)] {
            let places = spread(source, target);
            assert_eq!(places.len(), target);
            assert_eq!(places[target / 2], (source / 2, 0.0), "{source} to {target}");
        }
    }

    #[test]
    fn only_tables_of_other_square_windows_are_resized() {
        let name = |stage| format!("layers.{stage}.blocks.0.attn.relative_position_bias_table");
        let table = |rows: usize| TensorData::new(vec![0.5f32; rows * 3], [rows, 3]);
        // Windows of 7, 7, 4 and 2: a table that fits, one of 12, one of 5 and one that is of no square.
        let config = VARIANTS[0].config.at_image_size(64, 64).unwrap();
        let mut tensors: BTreeMap<_, _> =
            [169, 529, 81, 35].into_iter().enumerate().map(|(stage, rows)| (name(stage), table(rows))).collect();
        assert_eq!(resize_bias_tables(&mut tensors, &config), [name(1), name(2)]);
        let rows: Vec<usize> = tensors.values().map(|table| table.shape[0]).collect();
        assert_eq!(rows, [169, 169, 49, 35]);
        let flat = tensors.values().all(|table| table.iter::<f32>().all(|value| (value - 0.5).abs() < 1e-6));
        assert!(flat, "interpolation between equal numbers gives the same");
    }
}
