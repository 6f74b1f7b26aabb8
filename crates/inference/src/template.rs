//! A table that is to be filled in: its columns, its ids, its order.

mod error;
mod labels;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use checkpoint::CheckpointError;
use csv::StringRecord;
use data_pipeline::{Dataset, class_spelt_otherwise};

pub use self::error::TemplateError;
use self::labels::Examples;
pub use self::labels::Labels;
use crate::predictions_csv::file_name;
use crate::table::{Content, TableLayout};

/// Spreadsheets begin UTF-8 files with this mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A table that is to be filled in, such as the `sample_submission.csv` of a competition.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    path: PathBuf,
    layout: TableLayout,
    /// The line of each id.
    lines: Vec<u64>,
    labels: Option<Labels>,
}

impl Template {
    /// Reads the table at `path`, for predictions of `classes`.
    ///
    /// The first column has the ids of images, whatever its name. A column named like a class takes its probability, and then every class
    /// needs one; `confidence`, `entropy` and `error` take what predictions have under these names. One other column may be there: it takes
    /// the label, as a class's name or as its index from 0. Which of the two is what the values that stand there show, unless `labels` says it.
    ///
    /// Of two classes one may have a column alone. A column that is no class takes the probability of the second, or of the class that it is
    /// called like but for case and spaces, where the values are probabilities.
    ///
    /// # Errors
    /// [`TemplateError`]: a file that is no such table, columns or labels of other classes, labels that can be read in two ways.
    pub fn read(path: &Path, classes: &[String], labels: Option<Labels>) -> Result<Self, TemplateError> {
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => CheckpointError::Missing { path: path.to_owned() },
            _ => CheckpointError::Read { path: path.to_owned(), source },
        });
        let bytes = bytes.map_err(|source| TemplateError::File { source })?;
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().map_err(|error| TemplateError::malformed(path, &error))?.clone();
        let mut columns = columns(path, &header, classes)?;
        let label = columns.iter().position(|(_, content)| *content == Content::Class);
        let may_be_probabilities = classes.len() == 2 && !columns.iter().any(|(_, content)| is_probability(*content));
        let mut examples = Examples::default();
        let (mut ids, mut lines) = (Vec::new(), Vec::new());
        let mut record = StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| TemplateError::malformed(path, &error))? {
            let line = record.position().map_or(0, csv::Position::line);
            ids.push(record[0].to_owned());
            lines.push(line);
            if let Some(label) = label {
                examples.add(&record[label], line, classes);
            }
        }
        refuse_ids(path, &ids, &lines)?;
        let labels = match label {
            None => None,
            Some(label) => {
                let shown = || examples.labels(path, &header[label], classes, may_be_probabilities);
                Some(labels.map_or_else(shown, Ok)?)
            }
        };
        if let (Some(label), Some(labels)) = (label, labels) {
            columns[label].1 = content(labels, path, &header[label], classes)?;
        }
        let layout = TableLayout { columns, classes: classes.to_vec(), ids };
        Ok(Self { path: path.to_owned(), layout, lines, labels })
    }

    /// The table to write.
    #[must_use]
    pub fn layout(&self) -> &TableLayout {
        &self.layout
    }

    /// How the label is written; none where there is no such column.
    #[must_use]
    pub fn labels(&self) -> Option<Labels> {
        self.labels
    }

    /// Where one of two classes has a column for its probability and the other has none: the column's name, the class, and the other class.
    #[must_use]
    pub fn single_probability(&self) -> Option<[&str; 3]> {
        let [first, second] = self.layout.classes.as_slice() else { return None };
        let mut columns = self.layout.columns.iter().filter(|(_, content)| is_probability(*content));
        let (column, content) = columns.next().filter(|_| columns.next().is_none())?;
        let [class, other] = if *content == Content::Probability(0) { [first, second] } else { [second, first] };
        Some([column.as_str(), class.as_str(), other.as_str()])
    }

    /// Puts the images in the order of the template's ids. An id is the relative path of an image, or that without its ending, or its file
    /// name, or that without its ending: the first of these that all ids are.
    ///
    /// # Errors
    /// [`TemplateError`] for an id without an image or with two, and for an image without an id.
    pub fn arrange(&self, mut dataset: Dataset) -> Result<Dataset, TemplateError> {
        let mut by_id: HashMap<&str, usize> = HashMap::with_capacity(self.layout.ids.len());
        by_id.extend(self.layout.ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)));
        let matches = NAMINGS.map(|naming| Matches::new(naming, &dataset, &by_id));
        let best = matches.iter().find(|matches| matches.found == by_id.len());
        let Some(best) = best else {
            let most = matches.iter().max_by_key(|matches| matches.found).expect("there are four namings");
            return Err(self.without_image(most, &dataset));
        };
        if let Some((place, [first, second])) = best.twice {
            let [first, second] = [first, second].map(|sample| dataset.relative_path(sample).to_owned());
            let (path, line, id) = (self.path.clone(), self.lines[place], self.layout.ids[place].clone());
            return Err(TemplateError::TwoImages { path, line, id, first, second });
        }
        if let Some(&image) = best.without_id.first() {
            let (path, count) = (self.path.clone(), best.without_id.len());
            return Err(TemplateError::NoId { path, image: dataset.relative_path(image).to_owned(), count });
        }
        let order = best.images.iter().flatten();
        dataset.samples = order.map(|&sample| dataset.samples[sample].clone()).collect();
        Ok(dataset)
    }

    fn without_image(&self, most: &Matches, dataset: &Dataset) -> TemplateError {
        let place = most.images.iter().position(Option::is_none).expect("not all ids have an image");
        TemplateError::NoImage {
            path: self.path.clone(),
            line: self.lines[place],
            id: self.layout.ids[place].clone(),
            count: self.layout.ids.len() - most.found,
            ids: self.layout.ids.len(),
            image: dataset.relative_path(0).to_owned(),
        }
    }
}

/// What an id may be of an image's relative path.
type Naming = fn(&Path) -> Option<String>;

/// From the most exact on. A later one is never unambiguous where an earlier one that names all is not.
const NAMINGS: [Naming; 4] = [
    |path| Some(file_name(path)),
    |path| Some(file_name(&path.with_extension(""))),
    |path| path.file_name().map(|name| name.to_string_lossy().into_owned()),
    |path| path.file_stem().map(|name| name.to_string_lossy().into_owned()),
];

/// Which images the ids are under one naming.
struct Matches {
    /// Of each id.
    images: Vec<Option<usize>>,
    /// Ids that have an image.
    found: usize,
    /// The first id with two images.
    twice: Option<(usize, [usize; 2])>,
    without_id: Vec<usize>,
}

impl Matches {
    fn new(naming: Naming, dataset: &Dataset, by_id: &HashMap<&str, usize>) -> Self {
        let mut matches = Self { images: vec![None; by_id.len()], found: 0, twice: None, without_id: Vec::new() };
        for sample in 0..dataset.len() {
            let place = naming(dataset.relative_path(sample)).and_then(|name| by_id.get(name.as_str()).copied());
            match place.map(|place| (place, matches.images[place])) {
                None => matches.without_id.push(sample),
                Some((place, Some(first))) => {
                    matches.twice.get_or_insert((place, [first, sample]));
                }
                Some((place, None)) => {
                    matches.images[place] = Some(sample);
                    matches.found += 1;
                }
            }
        }
        matches
    }
}

/// What each column takes.
fn columns(path: &Path, header: &StringRecord, classes: &[String]) -> Result<Vec<(String, Content)>, TemplateError> {
    let path = || path.to_owned();
    let mut columns: Vec<(String, Content)> = Vec::with_capacity(header.len());
    let mut unknown = Vec::new();
    for (place, name) in header.iter().enumerate() {
        if columns.iter().any(|(other, _)| other == name) {
            return Err(TemplateError::TwiceColumn { path: path(), name: name.to_owned() });
        }
        let class = classes.iter().position(|class| class == name);
        let content = match (place, class, name) {
            (0, _, _) => Content::Id,
            (_, Some(class), _) => Content::Probability(class),
            (_, None, "confidence") => Content::Confidence,
            (_, None, "entropy") => Content::Entropy,
            (_, None, "error") => Content::Error,
            (_, None, _) => {
                unknown.push(name.to_owned());
                Content::Class
            }
        };
        columns.push((name.to_owned(), content));
    }
    let has = |class: usize| columns.iter().any(|(_, content)| *content == Content::Probability(class));
    let missing: Vec<String> =
        (0..classes.len()).filter(|&class| !has(class)).map(|class| classes[class].clone()).collect();
    let has_some = missing.len() < classes.len();
    let is_one_of_two = classes.len() == 2 && missing.len() == 1 && unknown.is_empty();
    if has_some && !missing.is_empty() && !is_one_of_two {
        return Err(TemplateError::OtherClasses { path: path(), missing, unknown });
    }
    if unknown.len() > 1 {
        return Err(TemplateError::OtherColumns { path: path(), unknown });
    }
    if columns.len() < 2 {
        return Err(TemplateError::NothingToFill { path: path(), columns: columns.len() });
    }
    Ok(columns)
}

fn is_probability(content: Content) -> bool {
    matches!(content, Content::Probability(_))
}

/// What the column of labels takes.
fn content(labels: Labels, path: &Path, column: &str, classes: &[String]) -> Result<Content, TemplateError> {
    match labels {
        Labels::Names => Ok(Content::Class),
        Labels::Indices => Ok(Content::ClassIndex),
        Labels::Probability if classes.len() == 2 => {
            let named = class_spelt_otherwise(column, classes);
            let class = classes.iter().position(|class| named == Some(class.as_str()));
            Ok(Content::Probability(class.unwrap_or(1)))
        }
        Labels::Probability => {
            let (path, column) = (path.to_owned(), column.to_owned());
            Err(TemplateError::OneProbability { path, column, classes: classes.len() })
        }
    }
}

fn refuse_ids(path: &Path, ids: &[String], lines: &[u64]) -> Result<(), TemplateError> {
    if ids.is_empty() {
        return Err(TemplateError::NoRows { path: path.to_owned() });
    }
    let mut known: HashMap<&str, u64> = HashMap::with_capacity(ids.len());
    for (id, &line) in ids.iter().zip(lines) {
        if let Some(first_line) = known.insert(id, line) {
            return Err(TemplateError::TwiceId { path: path.to_owned(), line, first_line, id: id.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
