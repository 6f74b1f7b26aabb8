//! Where predictions go, and in which form: what is asked for, made whole before anything is computed.

use std::path::{Path, PathBuf};

use data_pipeline::Dataset;
use inference::{
    Column, ColumnError, Labels, PartHeader, TableFormat, TableLayout, Template, TemplateError, is_table_of,
};

use super::inputs::{Inputs, is_in_run_root};
use crate::cli::OutputArguments;
use crate::error::CommandError;
use crate::run::checks::check_output_file;
use crate::ui;

/// The file that is to be written.
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) format: TableFormat,
    pub(super) layout: TableLayout,
    template: Option<Template>,
}

impl Output {
    /// `folder` takes a file that is not told where to go; `columns_of_config` are those of the run's configuration, for when the flags name none.
    pub(super) fn resolve(
        arguments: &OutputArguments,
        columns_of_config: &[String],
        folder: Option<&Path>,
        classes: &[String],
    ) -> Result<Self, CommandError> {
        let format = format(arguments)?;
        let in_folder = || Some(folder?.join(format!("predictions.{format}")));
        let path = arguments.output.clone().or_else(in_folder).ok_or_else(|| {
            CommandError::wrong_request("the predictions of several runs belong to none of their folders")
                .with_hint(format!("say where they go: `--output predictions.{format}`"))
        })?;
        check_output_file(&path, "--output", &format!("predictions.{format}"))?;
        let Some(template) = &arguments.template else {
            let layout = columns(arguments, columns_of_config).and_then(|columns| TableLayout::new(&columns, classes));
            let layout = layout.map_err(|error| CommandError::from_request(&error).with_hint(error.hint()))?;
            return Ok(Self { path, format, layout, template: None });
        };
        let labels = arguments.labels.map(Labels::from);
        let template = Template::read(template, classes, labels).map_err(|error| refused(&error))?;
        if let Some(Labels::Indices) = template.labels() {
            ui::note(format_args!("note: labels are written as indices: {}", numbered(classes)));
        }
        if let Some([column, class, other]) = template.single_probability() {
            ui::note(format_args!(
                "note: the column `{column}` takes the probability of `{class}`; what it lacks to 1 is that of `{other}`"
            ));
        }
        Ok(Self { path, format, layout: template.layout().clone(), template: Some(template) })
    }

    /// Refuses to write over what is read, over a file of a run folder that is no table like this one, and over predictions that are kept to be
    /// gone on with.
    pub(super) fn check(&self, inputs: &Inputs<'_>) -> Result<(), CommandError> {
        inputs.check(&self.path, |place| self.may_be_earlier(place))?;
        // A pipe would block its reader.
        if self.path.is_file() && PartHeader::read(&self.path).is_some() {
            let message = format!("cannot write `{}`: it keeps predictions that were begun", self.path.display());
            let hint = "choose another place with `--output`".to_owned();
            return Err(CommandError::wrong_request(message).with_hint(hint));
        }
        inputs.check_parts(&self.place_of_parts())
    }

    /// Whether the file at the true path `place`, in a run folder, may be an earlier table of this request: under the name that it has there, or with
    /// the same columns. What folds were scored by has these as well.
    fn may_be_earlier(&self, place: &Path) -> bool {
        let is_named = |name: &str| place.file_name().is_some_and(|own| own == name);
        let formats = [TableFormat::Csv, TableFormat::JsonLines, TableFormat::Parquet];
        let is_usual = is_in_run_root(place) && formats.iter().any(|format| is_named(&format!("predictions.{format}")));
        is_usual || (!is_named("out_of_fold.csv") && is_table_of(place, self.format, &self.layout))
    }

    /// The images in the order of the rows.
    pub(super) fn arrange(&self, dataset: Dataset) -> Result<Dataset, CommandError> {
        match &self.template {
            Some(template) => template.arrange(dataset).map_err(|error| refused(&error)),
            None => Ok(dataset),
        }
    }

    /// Whether a row says why an image has no prediction.
    pub(super) fn has_errors(&self) -> bool {
        self.layout.has_errors()
    }

    /// Where predictions are kept until all are there: beside the file, under its name.
    pub(super) fn place_of_parts(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        self.path.with_file_name(name)
    }
}

fn columns(arguments: &OutputArguments, of_config: &[String]) -> Result<Vec<Column>, ColumnError> {
    match (&arguments.columns[..], of_config) {
        ([], []) => Ok(Column::DEFAULT.into()),
        ([], names) | (names, _) => names.iter().map(|name| name.parse()).collect(),
    }
}

fn format(arguments: &OutputArguments) -> Result<TableFormat, CommandError> {
    let of_name = arguments.output.as_deref().map(|path| TableFormat::of_name(path).ok_or(path)).transpose();
    match (arguments.format, of_name) {
        (Some(format), _) => Ok(format.into()),
        (None, Ok(format)) => Ok(format.unwrap_or_default()),
        // A folder is told to be one.
        (None, Err(path)) if path.is_dir() => Ok(TableFormat::default()),
        (None, Err(path)) => {
            let message = format!("the name of `{}` does not say in which format to write", path.display());
            let hint = "let it end in .csv, .jsonl or .parquet, or say it with `--format csv`".to_owned();
            Err(CommandError::wrong_request(message).with_hint(hint))
        }
    }
}

fn refused(error: &TemplateError) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint())
}

/// `0 cat, 1 dog`, and so on for a few.
fn numbered(classes: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<String> =
        classes.iter().take(SHOWN).enumerate().map(|(index, class)| format!("{index} {class}")).collect();
    let more = if classes.len() > SHOWN { ", .." } else { "" };
    format!("{}{more}", shown.join(", "))
}
