//! `bench plans`: how long a plan for a card that is not here takes, for every architecture.

use std::time::Instant;

use crate::cli::BenchPlansArguments;
use crate::error::CommandError;
use crate::registry::{Architecture, architectures};
use crate::run::absent::{PlannedCard, Recorded, catalogue_card};
use crate::run::subject::{ASSUMED_CLASSES, Subject, bare_config};
use crate::ui;

const HEAD: &str = "\
| model | image | micro-batch | time |
|---|---|---|---|";

/// Plans every architecture at its own image size for one card, and prints a Markdown table.
pub(crate) fn plans(arguments: &BenchPlansArguments) -> Result<(), CommandError> {
    let card = PlannedCard::of(catalogue_card(&arguments.gpu)?, None);
    let chosen = |architecture: &Architecture| arguments.filter.as_ref().is_none_or(|text| architecture.matches(text));
    ui::out(HEAD)?;
    let mut seconds = Vec::new();
    for architecture in architectures().iter().filter(|architecture| chosen(architecture)) {
        let begun = Instant::now();
        let micro_batch = micro_batch_on(&card, architecture)?;
        let taken = begun.elapsed().as_secs_f64();
        let fits = micro_batch.map_or("does not fit".to_owned(), |batch| batch.to_string());
        ui::out(format_args!("| {} | {} | {fits} | {taken:.2} s |", architecture.name, architecture.image_size))?;
        seconds.push(taken);
    }
    let slow = seconds.iter().filter(|taken| **taken >= 2.0).count();
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    ui::out(format_args!("\n{} plans for {}: {longest:.2} s at most, 2 s or more in {slow}", seconds.len(), card.title))
}

/// The micro-batch that is planned without an effective batch; none where not one image fits.
fn micro_batch_on(card: &PlannedCard, architecture: &Architecture) -> Result<Option<usize>, CommandError> {
    let resolved = bare_config(architecture.name, architecture.image_size)?;
    let subject = Subject::without_data(&resolved, architecture, ASSUMED_CLASSES);
    let mut request = subject.plan_request();
    request.effective_batch = None;
    let budget = card.budget(&resolved.budget_request())?;
    let precisions = subject.precisions(card.arithmetic, &card.title)?;
    match Recorded::of(&subject).plan(card, &precisions, budget, &request) {
        Ok(planned) => Ok(Some(planned.analysis.plan.micro_batch)),
        Err(memory_planner::LadderError::NothingFits(_)) => Ok(None),
        Err(error) => Err(crate::run::memory::refused_plan(error, &subject, card.arithmetic.half())),
    }
}
