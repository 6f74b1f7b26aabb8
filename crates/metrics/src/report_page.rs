//! A run on one page: `report.html`, with everything in it.

use std::fmt::Write;

use crate::svg::{escaped, jpeg_uri};
use crate::{ConfusionMatrix, EpochRecord, PlannedMemory, confusion_matrix_svg, curves_svg, memory_svg};

const STYLE: &str = include_str!("report_page.css");

/// What the page shows of a run.
#[derive(Debug, Clone, Copy)]
pub struct RunReport<'a> {
    /// The run's name.
    pub title: &'a str,
    /// One sentence: model, data, device.
    pub subtitle: &'a str,
    /// Names and values with their units, the most important first.
    pub facts: &'a [(&'a str, String)],
    /// All epochs.
    pub history: &'a [EpochRecord],
    /// The memory plan.
    pub memory: PlannedMemory,
    /// Of the best weights on the validation images.
    pub confusion: &'a ConfusionMatrix,
    /// Wrong predictions, the worst first.
    pub mistakes: &'a [Mistake],
    /// The resolved configuration, as YAML.
    pub config: &'a str,
    /// The command that uses the run.
    pub next: &'a str,
}

/// One image that was taken for something else.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// Its file, as the reader can find it.
    pub file: String,
    /// Its class.
    pub label: String,
    /// What it was taken for.
    pub predicted: String,
    /// How sure the model was of that, 0 to 1.
    pub probability: f64,
    /// A small JPEG of it; none where the file could not be read again.
    pub thumbnail_jpeg: Option<Vec<u8>>,
}

/// The page: one file without references to others, readable on light and dark screens, in print, and without scripts.
#[must_use]
pub fn report_html(report: &RunReport<'_>) -> String {
    let title = lines_escaped(report.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n",
        lines_escaped(report.subtitle)
    );
    page.push_str(&facts(report.facts));
    section(&mut page, "Training", &figure(&curves_svg(report.history)));
    section(&mut page, "Memory against the plan", &figure(&memory_svg(report.history, report.memory)));
    section(&mut page, "Confusion matrix on the validation images", &figure(&confusion_matrix_svg(report.confusion)));
    section(&mut page, "Scores by class", &class_table(report.confusion));
    section(&mut page, "Worst mistakes on the validation images", &mistakes(report.mistakes));
    section(&mut page, "Configuration", &format!("<pre>{}</pre>", lines_escaped(report.config)));
    section(&mut page, "Next", &format!("<pre>{}</pre>", lines_escaped(report.next)));
    page.push_str("</body>\n</html>\n");
    page
}

fn section(page: &mut String, title: &str, content: &str) {
    let _ = write!(page, "<section>\n<h2>{title}</h2>\n{content}\n</section>\n"); // a String takes every write
}

fn figure(svg: &str) -> String {
    format!("<figure>\n{svg}</figure>")
}

fn facts(facts: &[(&str, String)]) -> String {
    let entries = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", lines_escaped(name), lines_escaped(value)));
    format!("<dl class=\"facts\">\n{}</dl>\n", entries.collect::<String>())
}

fn class_table(confusion: &ConfusionMatrix) -> String {
    let mut table =
        "<table>\n<tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>images</th></tr>\n".to_owned();
    let row = |name: &str, [precision, recall, f1]: [f64; 3], images: u64| {
        let name = lines_escaped(name);
        format!(
            "<tr><td>{name}</td><td>{precision:.3}</td><td>{recall:.3}</td><td>{f1:.3}</td><td>{images}</td></tr>\n"
        )
    };
    for (name, scores) in confusion.classes().iter().zip(confusion.per_class()) {
        table.push_str(&row(name, [scores.precision, scores.recall, scores.f1], scores.support));
    }
    let mean = confusion.macro_scores();
    table.push_str(&row("mean over classes", [mean.precision, mean.recall, mean.f1], confusion.total()));
    table + "</table>"
}

fn mistakes(mistakes: &[Mistake]) -> String {
    if mistakes.is_empty() {
        return "<p>None: every validation image was predicted right.</p>".to_owned();
    }
    format!("<ul class=\"mistakes\">\n{}</ul>", mistakes.iter().map(mistake).collect::<String>())
}

fn mistake(mistake: &Mistake) -> String {
    let picture = match &mistake.thumbnail_jpeg {
        Some(jpeg) => format!("<img alt=\"\" src=\"{}\">", jpeg_uri(jpeg)),
        None => "<div class=\"blank\"></div>".to_owned(),
    };
    let [file, label, predicted] = [&mistake.file, &mistake.label, &mistake.predicted].map(|text| lines_escaped(text));
    format!(
        "<li>{picture}<span class=\"wrong\">{predicted}, {:.1} %</span><span>is {label}</span>\
         <span class=\"file\">{file}</span></li>\n",
        100.0 * mistake.probability
    )
}

/// Text as HTML content, its line breaks kept.
fn lines_escaped(text: &str) -> String {
    text.lines().map(escaped).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn page(mistakes: &[Mistake]) -> String {
        let mut confusion = ConfusionMatrix::new(vec!["cat".to_owned(), "<dog>".to_owned()]);
        confusion.record(0, 1).unwrap();
        report_html(&RunReport {
            title: "pets & more",
            subtitle: "convnext_atto at 64x64",
            facts: &[("macro-F1", "0.9".to_owned())],
            history: &[record(1), record(2)],
            memory: PlannedMemory { predicted_peak_bytes: 1 << 29, budget_bytes: 1 << 30 },
            confusion: &confusion,
            mistakes,
            config: "name: pets\nseed: 1\n",
            next: "stoker predict --run <RUN>",
        })
    }

    #[test]
    fn text_of_the_user_is_escaped_and_keeps_its_lines() {
        let page = page(&[]);
        assert!(page.contains("<h1>pets &amp; more</h1>"));
        assert!(page.contains("<td>&lt;dog&gt;</td>") && !page.contains("<dog>"));
        assert!(page.contains("<pre>name: pets\nseed: 1</pre>"));
        assert!(page.contains("every validation image was predicted right"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let mistake = Mistake {
            file: "cats/1.jpg".to_owned(),
            label: "cat".to_owned(),
            predicted: "<dog>".to_owned(),
            probability: 0.987,
            thumbnail_jpeg: Some(vec![0xff, 0xd8, 0xff]),
        };
        let unread = Mistake { thumbnail_jpeg: None, ..mistake.clone() };
        let page = page(&[mistake, unread]);
        assert!(page.contains("src=\"data:image/jpeg;base64,/9j/\"") && page.contains("&lt;dog&gt;, 98.7 %"));
        assert!(page.contains("class=\"blank\""));
        let sources = page.matches("src=").count() + page.matches("href=").count();
        assert_eq!(sources, page.matches("src=\"data:").count());
        assert!(!page.contains("<script") && !page.contains("@import"));
    }
}
