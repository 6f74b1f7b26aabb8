//! Predicted steps beside real ones, in Markdown.

use memory_planner::{Checkpointing, Precision, format_bytes};
use serde::Serialize;

/// The head of a table of [`Row`]s.
pub(super) const HEAD: &str = "\
| model | image | precision | checkpointing | batch | source | predicted | real | error |
|---|---|---|---|---|---|---|---|---|";

const ERRORS_HEAD: &str = "\
| source | family | steps | median error | 95th percentile | largest | too low | by at most |
|---|---|---|---|---|---|---|---|";

/// One step, predicted and real.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) family: &'static str,
    pub(super) model: String,
    pub(super) image_size: usize,
    pub(super) precision: Precision,
    pub(super) checkpointing: Checkpointing,
    pub(super) batch: usize,
    /// How the prediction was made.
    pub(super) source: &'static str,
    pub(super) predicted_bytes: u64,
    pub(super) real_bytes: u64,
}

impl Row {
    /// Predicted over real, less one.
    fn error(&self) -> f64 {
        self.predicted_bytes as f64 / self.real_bytes as f64 - 1.0
    }

    pub(super) fn in_markdown(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:+.1} % |",
            self.model,
            self.image_size,
            self.precision,
            self.checkpointing,
            self.batch,
            self.source,
            format_bytes(self.predicted_bytes),
            format_bytes(self.real_bytes),
            100.0 * self.error()
        )
    }
}

/// How far each source is from what was real: family by family, and in all.
pub(super) fn errors_in_markdown(rows: &[Row]) -> String {
    let mut lines = vec![ERRORS_HEAD.to_owned()];
    for source in ["measured", "dry run", "captured"] {
        let of_source: Vec<&Row> = rows.iter().filter(|row| row.source == source).collect();
        let mut families: Vec<&str> = Vec::new();
        for row in &of_source {
            if !families.contains(&row.family) {
                families.push(row.family);
            }
        }
        for family in families.iter().filter(|_| families.len() > 1) {
            let of_family: Vec<&Row> = of_source.iter().copied().filter(|row| row.family == *family).collect();
            lines.push(errors(source, family, &of_family));
        }
        if !of_source.is_empty() {
            lines.push(errors(source, "all", &of_source));
        }
    }
    lines.join("\n")
}

/// Median and 95th percentile of the absolute error, and how often the prediction was too low. There is at least one row.
fn errors(source: &str, family: &str, rows: &[&Row]) -> String {
    let mut errors: Vec<f64> = rows.iter().map(|row| row.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let at = |share: f64| 100.0 * errors[((errors.len() - 1) as f64 * share).round() as usize];
    let low = rows.iter().filter(|row| row.predicted_bytes < row.real_bytes).count();
    let worst_low = rows.iter().map(|row| row.error()).fold(0.0, f64::min);
    format!(
        "| {source} | {family} | {} | {:.2} % | {:.2} % | {:.2} % | {low} ({:.1} %) | {:.2} % |",
        rows.len(),
        at(0.5),
        at(0.95),
        at(1.0),
        100.0 * low as f64 / rows.len() as f64,
        100.0 * worst_low.abs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(family: &'static str, source: &'static str, predicted_bytes: u64) -> Row {
        Row {
            family,
            model: "convnext_atto".to_owned(),
            image_size: 64,
            precision: Precision::Fp32,
            checkpointing: Checkpointing::None,
            batch: 4,
            source,
            predicted_bytes,
            real_bytes: 1_000,
        }
    }

    #[test]
    fn errors_are_told_by_family_and_in_all() {
        let rows = [
            row("ConvNeXt", "measured", 1_010),
            row("Swin", "measured", 960),
            row("ConvNeXt", "measured", 1_020),
            row("Swin", "captured", 1_000),
        ];
        let lines = errors_in_markdown(&rows);
        let lines: Vec<&str> = lines.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| measured | ConvNeXt | 2 | 2.00 % | 2.00 % | 2.00 % | 0 (0.0 %) | 0.00 % |",
                "| measured | Swin | 1 | 4.00 % | 4.00 % | 4.00 % | 1 (100.0 %) | 4.00 % |",
                "| measured | all | 3 | 2.00 % | 4.00 % | 4.00 % | 1 (33.3 %) | 4.00 % |",
                "| captured | all | 1 | 0.00 % | 0.00 % | 0.00 % | 0 (0.0 %) | 0.00 % |",
            ]
        );
    }
}
