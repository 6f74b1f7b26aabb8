//! The scores of every class as a table.

use crate::ConfusionMatrix;
use crate::confusion::csv_field;

/// `class,images,predicted,right,precision,recall,f1,f1_without_tta` as CSV, a line a class in the order of the model's outputs. All but the last column are of `merged`, with
/// test-time augmentation; the last is of `plain`, without. Scores are 0 to 1, in the fewest digits that read back as the same `f64`.
///
/// The matrices are of the same samples and classes; a class that `plain` lacks has an empty last field.
#[must_use]
pub fn class_table_csv(plain: &ConfusionMatrix, merged: &ConfusionMatrix) -> String {
    let mut csv = "class,images,predicted,right,precision,recall,f1,f1_without_tta\n".to_owned();
    let plain = plain.per_class();
    for (class, (name, scores)) in merged.classes().iter().zip(merged.per_class()).enumerate() {
        let (predicted, right) = (merged.predicted_count(class), merged.counts()[class][class]);
        let without = plain.get(class).map_or_else(String::new, |plain| plain.f1.to_string());
        let (precision, recall, f1) = (scores.precision, scores.recall, scores.f1);
        csv.push_str(&csv_field(name));
        csv.push_str(&format!(",{},{predicted},{right},{precision},{recall},{f1},{without}\n", scores.support));
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(predictions: &[(usize, usize)]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(["cat", "dog, big", "owl"].map(str::to_owned).to_vec());
        predictions.iter().for_each(|&(label, predicted)| matrix.record(label, predicted).unwrap());
        matrix
    }

    #[test]
    fn every_class_has_a_line_with_its_counts_and_both_f1() {
        let plain = matrix(&[(0, 1), (0, 1), (1, 1), (1, 1)]);
        let merged = matrix(&[(0, 0), (0, 1), (1, 1), (1, 1)]);
        let expected = "\
class,images,predicted,right,precision,recall,f1,f1_without_tta
cat,2,1,1,1,0.5,0.6666666666666666,0
\"dog, big\",2,3,2,0.6666666666666666,1,0.8,0.6666666666666666
owl,0,0,0,0,0,0,0
";
        assert_eq!(class_table_csv(&plain, &merged), expected);
    }
}
