//! From the configuration's paths to data sets.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use data_pipeline::{Dataset, DatasetError};
use sample_pages::{SampleSet, write_sample_set};
use trainer::TrainingData;

use crate::config::SampleData;
use crate::error::CommandError;
use crate::run::overlap::check_apart;
use crate::run::resolved::ResolvedConfig;
use crate::ui::{self, Progress};

/// What a stop before the first step of a new run says.
pub(crate) const NOTHING_SAVED: &str = "interrupted before the first step; nothing was saved";

/// The data sets of a run.
pub(crate) struct RunData {
    /// What the trainer gets.
    pub(crate) training: TrainingData,
    /// Scored at the end, where the configuration names one.
    pub(crate) test: Option<Arc<Dataset>>,
}

/// Draws the sample data if it is asked for and missing, and opens all data sets.
///
/// # Errors
/// Data that cannot be used, and a stop: drawing and opening take their time.
pub(crate) fn open(resolved: &ResolvedConfig, interrupt: &AtomicBool) -> Result<RunData, CommandError> {
    draw_samples(resolved, interrupt)?;
    let data = &resolved.config.data;
    let (train, validation) = train_and_validation(resolved)?;
    let test = match &data.test {
        Some(path) => Some(Arc::new(open_set(Dataset::open_for_classes(path, &train.classes), "test")?)),
        None => None,
    };
    check_apart(&train, &validation, test.as_deref(), data.validation.is_some())?;
    report(&train, &validation, test.as_deref());
    if let Some(told) = class_below_folds(data.folds, &train, &validation) {
        ui::warn(told);
    }
    if interrupt.load(Ordering::Relaxed) {
        return Err(CommandError::interrupted(NOTHING_SAVED));
    }
    let training = TrainingData {
        train: Arc::new(train),
        validation: Arc::new(validation),
        train_transform: Arc::new(resolved.train_transform()),
        eval_transform: Arc::new(resolved.eval_transform()),
        loader: resolved.loader_options(),
        sampling: resolved.sampling(),
        mixing: resolved.mixing(),
    };
    Ok(RunData { training, test })
}

/// What the run trains and validates on.
pub(crate) fn train_and_validation(resolved: &ResolvedConfig) -> Result<(Dataset, Dataset), CommandError> {
    let data = &resolved.config.data;
    let all = open_set(Dataset::open(&data.train), "training")?;
    if let (Some(folds), Some(fold)) = (data.folds, data.fold) {
        let of_samples = all.stratified_folds(folds, resolved.config.seed);
        let of_samples = of_samples.map_err(|error| request_error(&error, "training"))?;
        return Ok(all.split_fold(&of_samples, fold));
    }
    match (&data.validation, data.validation_share) {
        (Some(path), _) => {
            let validation = open_set(Dataset::open_for_classes(path, &all.classes), "validation")?;
            Ok((all, validation))
        }
        (None, share) => {
            let share = share.expect("resolved: a share, where neither folder nor fold is given");
            all.split_stratified(share, resolved.config.seed).map_err(|error| request_error(&error, "validation"))
        }
    }
}

/// What is to be told of the smallest class where it has fewer images than there are folds, as scikit-learn's `StratifiedKFold` does. The parts are those
/// of one fold, and together all images.
fn class_below_folds(folds: Option<usize>, train: &Dataset, validation: &Dataset) -> Option<String> {
    let folds = folds?;
    let counts = train.class_counts().into_iter().zip(validation.class_counts());
    let smallest = counts.map(|(train, validation)| train + validation).zip(&train.classes);
    let (images, class) =
        smallest.filter(|(images, _)| (1..folds).contains(images)).min_by_key(|(images, _)| *images)?;
    Some(format!(
        "class `{class}` has {images} images, fewer than `data.folds: {folds}`: some folds validate none of it"
    ))
}

/// Number of classes, where the data is here to be counted.
pub(crate) fn training_classes(resolved: &ResolvedConfig) -> Option<usize> {
    images_to_plan_for(resolved).map(|(images, _)| images.classes.len())
}

/// The images, held-out ones among them, and how many are trained on, where the data is here to be counted; nothing is drawn or reported.
pub(crate) fn images_to_plan_for(resolved: &ResolvedConfig) -> Option<(Arc<Dataset>, usize)> {
    let all = Dataset::open(&resolved.config.data.train).ok()?;
    let data = &resolved.config.data;
    let held_out = match (&data.validation, data.folds) {
        (Some(_), _) => 0.0,
        (None, Some(folds)) => 1.0 / folds as f64,
        (None, None) => data.validation_share.unwrap_or(0.0),
    };
    let samples = (all.samples.len() as f64 * (1.0 - held_out)).round() as usize;
    Some((Arc::new(all), samples))
}

/// The sample set lies in the folder that holds `data.train`. A stop leaves none of it.
fn draw_samples(resolved: &ResolvedConfig, interrupt: &AtomicBool) -> Result<(), CommandError> {
    let train = &resolved.config.data.train;
    let Some(SampleData::DocumentPages) = resolved.config.sample_data else {
        return Ok(());
    };
    let root = train.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if root.join("train") != *train {
        let message = format!("`data.train` is `{}`, but sample data is drawn into a folder `train`", train.display());
        return Err(
            CommandError::wrong_request(message).with_hint("set `data.train: data/quickstart/train`".to_owned())
        );
    }
    let mut progress: Option<Progress> = None;
    let task = format!("drawing sample pages into {}", root.display());
    let drawn = write_sample_set(root, &SampleSet::default(), &mut |done, total| {
        progress.get_or_insert_with(|| Progress::start(&task, "pages", total as u64)).set(done as u64);
        match interrupt.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    match drawn {
        Err(error) => Err(CommandError::from_run(&error).with_hint(error.hint())),
        Ok(sample_pages::Written::Drawn { pages }) => {
            if let Some(progress) = progress {
                progress.finish(format_args!("{pages} pages"));
            }
            Ok(())
        }
        Ok(sample_pages::Written::AlreadyComplete) => Ok(()),
        Ok(sample_pages::Written::Stopped) => {
            let message = "interrupted while sample pages were drawn; nothing was saved";
            let hint = "the same command draws all of them, from the first on";
            Err(CommandError::interrupted(message).with_hint(hint.to_owned()))
        }
    }
}

fn open_set(opened: Result<Dataset, DatasetError>, which: &str) -> Result<Dataset, CommandError> {
    let dataset = opened.map_err(|error| request_error(&error, which))?;
    if dataset.ignored_files > 0 {
        let (files, verb) = if dataset.ignored_files == 1 { ("file", "is") } else { ("files", "are") };
        ui::note(format_args!("{} {files} beside the {which} images {verb} passed over", dataset.ignored_files));
    }
    Ok(dataset)
}

fn request_error(error: &DatasetError, which: &str) -> CommandError {
    CommandError::from_request(error).with_hint(error.hint()).in_context(format!("cannot use the {which} images"))
}

fn report(train: &Dataset, validation: &Dataset, test: Option<&Dataset>) {
    let test = test.map_or(String::new(), |test| format!(", {} to test", test.len()));
    ui::note(format_args!(
        "{} images to train on, {} to validate{test}; {} classes",
        train.len(),
        validation.len(),
        train.classes.len()
    ));
}

#[cfg(test)]
mod tests {
    use data_pipeline::Sample;

    use super::*;

    fn dataset(counts: &[usize]) -> Dataset {
        let labels = (0u32..).zip(counts).flat_map(|(label, &count)| std::iter::repeat_n(label, count));
        let samples = labels.map(|label| Sample { path: "a.png".into(), label: Some(label), group: None });
        let classes = ["ant", "bee"].map(str::to_owned).to_vec();
        Dataset { root: "".into(), classes, samples: samples.collect(), ignored_files: 0 }
    }

    #[test]
    fn a_class_with_fewer_images_than_folds_is_told_and_one_with_as_many_is_not() {
        let told = |folds| class_below_folds(folds, &dataset(&[6, 1]), &dataset(&[3, 1]));
        let expected = "class `bee` has 2 images, fewer than `data.folds: 3`: some folds validate none of it";
        assert_eq!(told(Some(3)).as_deref(), Some(expected));
        assert_eq!([told(Some(2)), told(None)], [None, None]);
    }
}
