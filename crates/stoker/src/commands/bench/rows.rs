//! Predicted steps beside real ones, in Markdown.

use memory_planner::{Checkpointing, Precision, format_bytes};
use serde::Serialize;

/// How predictions are made.
const SOURCES: [&str; 3] = ["measured", "dry run", "captured"];

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
    /// By how much the driver says that the card filled meanwhile, where one is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) driver_bytes: Option<u64>,
}

impl Row {
    /// Predicted over real, less one.
    fn error(&self) -> f64 {
        self.predicted_bytes as f64 / self.real_bytes as f64 - 1.0
    }
}

/// A table with a line for each configuration and source, as `docs/benchmarks/memory.md` has it: what steps really take at the smallest and the largest batch,
/// and the error of the prediction at each. What is the same in all lines has no column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) batches: Vec<usize>,
    pub(super) shows_precision: bool,
    pub(super) shows_source: bool,
    pub(super) shows_driver: bool,
}

impl Table {
    /// The head, two lines.
    pub(super) fn head(&self) -> String {
        let mut cells = vec!["model".to_owned(), "image".to_owned()];
        cells.extend(self.shows_precision.then(|| "precision".to_owned()));
        cells.push("checkpointing".to_owned());
        cells.extend(self.shows_source.then(|| "source".to_owned()));
        let ends = self.ends();
        cells.extend(ends.iter().map(|batch| format!("real, batch {batch}")));
        if self.shows_driver {
            cells.extend(ends.iter().map(|batch| format!("driver, batch {batch}")));
        }
        let first = |index: usize| if index == 0 { "error at batch " } else { "" };
        cells.extend(self.batches.iter().enumerate().map(|(index, batch)| format!("{}{batch}", first(index))));
        format!("{}\n|{}", line(&cells), "---|".repeat(cells.len()))
    }

    /// The rows of one configuration, a line for each source.
    pub(super) fn lines(&self, rows: &[Row]) -> String {
        let sources = SOURCES.iter().filter_map(|source| {
            let of_source: Vec<&Row> = rows.iter().filter(|row| row.source == *source).collect();
            of_source.first().map(|first| self.line(first, &of_source))
        });
        sources.collect::<Vec<_>>().join("\n")
    }

    fn line(&self, first: &Row, rows: &[&Row]) -> String {
        let at = |batch: usize| rows.iter().find(|row| row.batch == batch);
        let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let mut cells = vec![first.model.clone(), first.image_size.to_string()];
        cells.extend(self.shows_precision.then(|| first.precision.to_string()));
        cells.push(first.checkpointing.to_string());
        cells.extend(self.shows_source.then(|| first.source.to_owned()));
        let ends = self.ends();
        cells.extend(ends.iter().map(|batch| or_none(at(*batch).map(|row| format_bytes(row.real_bytes)))));
        if self.shows_driver {
            let driver = |batch: usize| at(batch).and_then(|row| row.driver_bytes).map(format_bytes);
            cells.extend(ends.iter().map(|batch| or_none(driver(*batch))));
        }
        let error = |batch| or_none(at(batch).map(|row| format!("{:+.1} %", 100.0 * row.error())));
        cells.extend(self.batches.iter().map(|batch| error(*batch)));
        line(&cells)
    }

    /// The smallest and the largest batch.
    fn ends(&self) -> Vec<usize> {
        let mut ends: Vec<usize> =
            [self.batches.iter().min(), self.batches.iter().max()].into_iter().flatten().copied().collect();
        ends.dedup();
        ends
    }
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// How far each source is from what was real: family by family, and in all.
pub(super) fn errors_in_markdown(rows: &[Row]) -> String {
    let mut lines = vec![ERRORS_HEAD.to_owned()];
    for source in SOURCES {
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
            driver_bytes: None,
        }
    }

    /// The columns of `docs/benchmarks/memory.md`.
    #[test]
    fn a_configuration_is_a_line_with_its_errors_by_batch() {
        let table = Table { batches: vec![1, 4, 16], shows_precision: false, shows_source: false, shows_driver: false };
        assert_eq!(
            table.head(),
            "| model | image | checkpointing | real, batch 1 | real, batch 16 | error at batch 1 | 4 | 16 |\n|---|---|---|---|---|---|---|---|"
        );
        let of = |batch, predicted_bytes| Row { batch, ..row("ConvNeXt", "measured", predicted_bytes) };
        let rows = [of(1, 1_010), of(4, 990), of(16, 1_000)];
        assert_eq!(table.lines(&rows), "| convnext_atto | 64 | none | 1000 B | 1000 B | +1.0 % | -1.0 % | +0.0 % |");
    }

    #[test]
    fn a_card_has_a_line_for_each_source_with_the_drivers_own_figure() {
        let table = Table { batches: vec![4], shows_precision: true, shows_source: true, shows_driver: true };
        let of = |source, predicted_bytes| Row { driver_bytes: Some(2_048), ..row("Swin", source, predicted_bytes) };
        let lines = table.lines(&[of("captured", 1_100), of("dry run", 1_000)]);
        let expected = "\
| convnext_atto | 64 | fp32 | none | dry run | 1000 B | 2.0 KiB | +0.0 % |
| convnext_atto | 64 | fp32 | none | captured | 1000 B | 2.0 KiB | +10.0 % |";
        assert_eq!(lines, expected);
        assert_eq!(table.head().matches('|').count(), 2 * (8 + 1));
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
