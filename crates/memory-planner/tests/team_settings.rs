//! Team settings: the table, the file, and what makes them stale.

use memory_planner::*;

const GIB: u64 = 1 << 30;

fn identity() -> TeamIdentity {
    TeamIdentity {
        model: "convnext_tiny".to_owned(),
        image_size: 224,
        effective_batch_size: 100,
        config_digest: "5f1c".to_owned(),
    }
}

/// 1 GiB fixed and a quarter of a GiB a sample in 16 bits.
fn footprint(rung: Rung) -> Footprint {
    let known = FixedMemory { weights: GIB, ..FixedMemory::default() };
    let sample = GIB / 8 * rung.precision.bytes_per_number();
    let observations = [1, 2].map(|batch| Observation { batch, peak_bytes: GIB + batch as u64 * sample });
    Footprint::from_exact(ExactSource::Captured, known, 4, &observations).unwrap()
}

fn row(card: &str, gibibytes: u64, tier: Tier) -> TeamRow {
    let reading = MemoryReading { total_bytes: gibibytes * GIB, free_bytes: gibibytes * GIB - GIB / 2, own_bytes: 0 };
    let budget = Budget::for_card(reading, tier, &BudgetRequest::default()).unwrap();
    let rungs = Rung::ladder(Rung::default(), Some(Precision::Bf16), &[]);
    let request = PlanRequest { effective_batch: Some(100), ..PlanRequest::default() };
    let mut footprint_of = |rung| Ok::<_, PlanError>(footprint(rung));
    match plan_with_ladder(&rungs, &mut footprint_of, &budget, &request) {
        Ok((rung, _, plan)) => TeamRow::fits(card, &budget, rung, &plan),
        Err(error) => TeamRow::does_not_fit(card, &budget, error),
    }
}

fn settings() -> TeamSettings {
    let cards =
        vec![row("gtx1650", 1, Tier::LowEnd), row("rtx3060-12gb", 12, Tier::Budget), row("h200", 141, Tier::HighEnd)];
    TeamSettings { made_for: identity(), cards }
}

#[test]
fn the_table_has_a_line_a_card() {
    let expected = "\
convnext_tiny at 224x224, 100 samples a step
  card             budget  precision  checkpointing  batch  passes      peak  memory
  gtx1650       460.8 MiB  does not fit: batch size 1 does not fit in 460.8 MiB (512.0 MiB free, less a 10 % margin): fp32 needs 1.5 GiB, bf16 needs 1.2 GiB
  rtx3060-12gb    9.8 GiB  fp32       none              16       7   9.0 GiB  75.0 %
  h200          112.4 GiB  fp32       none             100       1  51.0 GiB  36.2 %
";
    assert_eq!(settings().render(), expected);
}

#[test]
fn a_file_reads_back_as_it_was_and_is_plain() {
    let text = serde_yaml::to_string(&settings()).unwrap();
    assert_eq!(serde_yaml::from_str::<TeamSettings>(&text).unwrap(), settings());
    for line in ["  model: convnext_tiny", "- card: rtx3060-12gb", "  precision: fp32", "  share_of_memory: 0.75"] {
        assert!(text.lines().any(|found| found == line), "`{line}` in\n{text}");
    }
}

#[test]
fn a_run_takes_the_row_of_its_card_and_keeps_the_effective_batch() {
    let settings = settings();
    let plan = settings.entry_for("rtx3060-12gb", &identity()).unwrap();
    let micro_batches = split_effective_batch(plan.effective_batch, plan.micro_batch);
    assert_eq!(micro_batches.iter().sum::<usize>(), 100);
    assert_eq!(micro_batches.len(), plan.accumulation_steps);
    let error = settings.entry_for("rtx4090", &identity()).unwrap_err();
    assert_eq!(error.to_string(), "team settings have no row for the card `rtx4090`");
    let error = settings.entry_for("gtx1650", &identity()).unwrap_err();
    assert!(error.to_string().starts_with("team settings say that the model does not fit `gtx1650`"), "{error}");
    assert!(error.hint().unwrap().contains("model.image_size"));
}

#[test]
fn settings_for_another_configuration_are_stale_and_say_what_differs() {
    let stale = |other: TeamIdentity| settings().entry_for("h200", &other).unwrap_err().to_string();
    let expected = "team settings are stale: model.image_size was `224` when they were made, and is `384`";
    assert_eq!(stale(TeamIdentity { image_size: 384, ..identity() }), expected);
    assert!(stale(TeamIdentity { model: "convnext_base".to_owned(), ..identity() }).contains("model.name"));
    assert!(stale(TeamIdentity { effective_batch_size: 64, ..identity() }).contains("train.effective_batch_size"));
    assert!(stale(TeamIdentity { config_digest: "77aa".to_owned(), ..identity() }).contains("rest of the config"));
}

#[test]
fn a_file_that_was_edited_wrongly_is_refused() {
    type Edit = fn(&mut TeamPlan);
    let edits: [(Edit, &str); 6] = [
        (|plan| plan.micro_batch = 0, "do not make up the effective batch of 100"),
        (|plan| plan.micro_batch = 17, "7 passes of 17, which do not make up"),
        (|plan| plan.accumulation_steps = 8, "8 passes of 16"),
        (|plan| plan.effective_batch = 64, "do not make up the effective batch of 100"),
        (|plan| plan.share_of_memory = 1.2, "a share of memory of 1.2"),
        (|plan| plan.share_of_memory = f64::NAN, "a share of memory of NaN"),
    ];
    for (edit, expected) in edits {
        let mut settings = settings();
        let TeamOutcome::Fits(plan) = &mut settings.cards[1].outcome else { panic!("it fits") };
        edit(plan);
        let error = settings.check().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().unwrap().contains("--write-team-settings"));
    }
    let mut twice = settings();
    twice.cards.push(twice.cards[0].clone());
    assert_eq!(twice.check(), Err(TeamSettingsError::CardTwice { card: "gtx1650".to_owned() }));
    let mut nothing = settings();
    nothing.made_for.effective_batch_size = 0;
    assert_eq!(nothing.check(), Err(TeamSettingsError::NoSize));
    let negative = serde_yaml::to_string(&settings()).unwrap().replace("micro_batch: 16", "micro_batch: -16");
    assert!(serde_yaml::from_str::<TeamSettings>(&negative).is_err());
}

/// Without an effective batch, every card takes its own.
#[test]
fn a_table_without_one_effective_batch_names_none_and_serves_no_run() {
    let mut free = settings();
    free.made_for.effective_batch_size = 0;
    let head = "convnext_tiny at 224x224, as many samples a step as are recommended for each card\n";
    assert!(free.render().starts_with(head), "{}", free.render());
    let text = serde_yaml::to_string(&free).unwrap();
    assert!(!text.contains("effective_batch_size"), "{text}");
    let read: TeamSettings = serde_yaml::from_str(&text).unwrap();
    assert_eq!(read.entry_for("h200", &identity()), Err(TeamSettingsError::NoSize));
}
