//! Aligned text: a label, a right-aligned value, a note.

/// Rows under headings, aligned over the whole text.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

enum Row {
    Heading(String),
    Cells { label: String, value: String, note: String },
}

impl Table {
    /// Starts a section, after an empty line.
    pub(crate) fn heading(&mut self, text: impl Into<String>) {
        self.rows.push(Row::Heading(text.into()));
    }

    pub(crate) fn row(&mut self, label: impl Into<String>, value: impl Into<String>, note: impl Into<String>) {
        self.rows.push(Row::Cells { label: label.into(), value: value.into(), note: note.into() });
    }

    /// The text, without blanks at line ends, closed by a line break.
    pub(crate) fn render(&self) -> String {
        let (label_width, value_width) = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            match row {
                Row::Heading(heading) => {
                    text.push_str(if text.is_empty() { "" } else { "\n" });
                    text.push_str(heading);
                }
                Row::Cells { label, value, note } => {
                    let line = format!("  {label:<label_width$}  {value:>value_width$}  {note}");
                    text.push_str(line.trim_end());
                }
            }
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> (usize, usize) {
        let mut widths = (0, 0);
        for row in &self.rows {
            if let Row::Cells { label, value, .. } = row {
                widths.0 = widths.0.max(label.chars().count());
                widths.1 = widths.1.max(value.chars().count());
            }
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_over_all_sections() {
        let mut table = Table::default();
        table.heading("one");
        table.row("a", "10.0 GiB", "");
        table.heading("two");
        table.row("longer", "1 B", "note");
        assert_eq!(table.render(), "one\n  a       10.0 GiB\n\ntwo\n  longer       1 B  note\n");
    }
}
