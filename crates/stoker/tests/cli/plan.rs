//! `plan`: for cards that are not here, whose plans depend on nothing of this machine.

use std::fs;

use insta::assert_snapshot;

use crate::stage::Stage;

const CONFIG: &str = "\
# mine
data: {train: photos}   # not here

model:
  name: convnext_tiny   # the usual
  image_size: 224
train:
  effective_batch_size: 128
  learning_rate: 1.0e-3 # for 128
";

#[test]
fn a_plan_for_a_card_of_the_catalogue() {
    assert_snapshot!(Stage::with_config(CONFIG).run("plan --config x.yaml --gpu rtx3060 --test-only"));
}

#[test]
fn a_report_says_what_is_live_at_the_peak() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run("plan --config x.yaml --gpu rtx3060 --test-only --report --max-batch-size 16"));
}

#[test]
fn a_plan_for_prediction() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run("plan --config x.yaml --gpu gtx1060-6gb --inference --tta essential"));
}

/// The largest tensors are named with what is kept, of which gradients are no part.
#[test]
fn a_prediction_of_one_image_that_does_not_fit_is_explained() {
    let plan = "plan --model convnext_tiny --gpu gtx1060-6gb --inference --precision fp32 --set memory.limit=100MiB";
    let refused = Stage::new().run(plan);
    assert!(refused.contains("x 4 B, weights\n") && !refused.contains("gradients"), "{refused}");
    assert_snapshot!(refused);
}

/// Bounds and rounding count in images, and the source may be named; what has no meaning for a forward pass is refused.
#[test]
fn a_plan_for_prediction_keeps_its_bounds_and_refuses_what_it_cannot_do() {
    let stage = Stage::with_config(CONFIG.replace("convnext_tiny", "convnext_atto"));
    let plan = "plan --config x.yaml --gpu gtx1060-6gb --inference --tta legacy";
    let images_of = |flags: &str| {
        let output = stage.output(&format!("{plan} {flags} --json").split_whitespace().collect::<Vec<_>>());
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        plan["images"].as_u64()
    };
    let most = images_of("").expect("some fit");
    assert!(most % 4 == 0 && !most.is_power_of_two(), "{most}");
    let power = images_of("--rounding power_of_two --source captured").expect("some fit");
    assert!(power.is_power_of_two() && power < most, "{power} of {most}");
    let fewest = power + 1;
    assert_eq!(images_of(&format!("--rounding power_of_two --min-batch-size {fewest}")), Some(fewest));
    let too_many = stage.run(&format!("{plan} --min-batch-size {}", most + 100));
    assert!(too_many.contains("exit code 2") && too_many.contains("fewer than `--min-batch-size"), "{too_many}");
    for flag in ["--save-config y.yaml", "--save-profile p.json", "--save-picture p.svg", "--report"] {
        let refused = stage.run(&format!("{plan} {flag}"));
        assert!(refused.contains("exit code 2") && refused.contains("`--inference` and `--"), "{refused}");
    }
    assert_eq!(fs::read_dir(stage.path()).unwrap().count(), 1, "nothing is written");
}

#[test]
fn a_plan_is_written_in_place_with_comments_and_a_backup() {
    let stage = Stage::with_config(CONFIG);
    let printed =
        stage.run("plan --config x.yaml --gpu rtx3060 --effective-batch-size 256 --learning-rate-scaling sqrt");
    assert_snapshot!(printed);
    assert_eq!(fs::read_to_string(stage.path().join("x.yaml.bak")).unwrap(), CONFIG);
    assert_snapshot!(fs::read_to_string(stage.path().join("x.yaml")).unwrap());
}

/// The rate was chosen for the file's 128, whichever flag changes the batch.
#[test]
fn a_batch_that_set_changes_scales_the_learning_rate_too() {
    let stage = Stage::with_config(CONFIG);
    let plan =
        "plan --config x.yaml --gpu rtx3060 --max-batch-size 16 --learning-rate-scaling sqrt --save-config y.yaml";
    let by_set = stage.run(&format!("{plan} --set train.effective_batch_size=256"));
    let reason = "scaled with the square root of the batch: 0.001 for 128, and a step has 256";
    assert!(by_set.contains("0.001414") && by_set.contains(reason), "{by_set}");
    let written = fs::read_to_string(stage.path().join("y.yaml")).unwrap();
    assert!(written.contains("effective_batch_size: 256") && written.contains("learning_rate: 1.414"), "{written}");
    let by_flag = stage.run(&format!("{plan} --effective-batch-size 256"));
    assert!(by_flag.contains(reason), "{by_flag}");
    assert_eq!(fs::read_to_string(stage.path().join("y.yaml")).unwrap(), written);
}

#[test]
fn a_rate_that_stays_is_told_where_the_batch_changes_and_a_free_batch_scales_it() {
    let stage = Stage::with_config(CONFIG);
    let kept =
        stage.run("plan --config x.yaml --gpu rtx3060 --max-batch-size 16 --effective-batch-size 64 --test-only");
    assert!(kept.contains("not scaled: 0.001 for 128, and a step has 64"), "{kept}");
    let same = stage.run("plan --config x.yaml --gpu rtx3060 --max-batch-size 16 --test-only");
    assert!(!same.contains("learning rate"), "{same}");
    let free = stage.run("plan --model convnext_atto --gpu t4 --max-batch-size 64 --learning-rate-scaling linear");
    assert!(free.contains("scaled with the batch: 0.001 for 32, and a step has 64"), "{free}");
    assert!(!free.contains("has no effect"), "{free}");
}

/// What the plan rests on is written with it: `train` would hold the batch to 90 % of the card otherwise.
#[test]
fn a_memory_fraction_is_written_and_read_again() {
    let stage = Stage::with_config(CONFIG.replace("convnext_tiny", "convnext_atto"));
    let budget_of = |printed: &str| {
        let line =
            printed.lines().find(|line| line.trim_start().starts_with("budget ")).expect("it has one").to_owned();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let usual = budget_of(&stage.run("plan --config x.yaml --gpu rtx3060 --test-only"));
    let asked = stage.run("plan --config x.yaml --gpu rtx3060 --memory-fraction 0.25 --save-config y.yaml");
    assert!(budget_of(&asked).starts_with("3.0 GiB 25 % of 12.0 GiB"), "{asked}");
    assert_ne!(budget_of(&asked), usual);
    assert!(fs::read_to_string(stage.path().join("y.yaml")).unwrap().contains("fraction: 0.25"));
    let again = stage.run("plan --config y.yaml --gpu rtx3060 --test-only");
    assert_eq!(budget_of(&again), budget_of(&asked));
    let twice = stage.run("plan --config y.yaml --gpu t4 --memory-fraction 0.5 --set memory.fraction=0.4 --test-only");
    assert!(twice.contains("both set `memory.fraction`"), "{twice}");
    let absurd = stage.run("plan --config x.yaml --gpu t4 --set memory.fraction=1.5 --test-only");
    assert!(absurd.contains("exit code 2") && absurd.contains("memory.fraction"), "{absurd}");
}

#[test]
fn test_only_writes_nothing() {
    let stage = Stage::with_config(CONFIG);
    stage.run("plan --config x.yaml --gpu a100 --test-only");
    assert_eq!(fs::read_to_string(stage.path().join("x.yaml")).unwrap(), CONFIG);
    assert_eq!(fs::read_dir(stage.path()).unwrap().count(), 1);
}

#[test]
fn a_copy_leaves_the_configuration_alone() {
    let stage = Stage::with_config(CONFIG);
    stage.run("plan --config x.yaml --gpu a100 --save-config y.yaml");
    assert_eq!(fs::read_to_string(stage.path().join("x.yaml")).unwrap(), CONFIG);
    assert!(fs::read_to_string(stage.path().join("y.yaml")).unwrap().contains("  micro_batch_size: "));
}

#[test]
fn a_profile_and_a_picture_are_written() {
    let stage = Stage::new();
    stage.run("plan --model convnext_atto --gpu t4 --max-batch-size 8 --save-profile p.json --save-picture p.svg");
    let profile = fs::read_to_string(stage.path().join("p.json")).unwrap();
    assert!(profile.contains("\"timeline\"") && profile.contains("\"largest_tensors\""));
    assert!(fs::read_to_string(stage.path().join("p.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn json_is_one_document() {
    let output = Stage::new().output(&["plan", "--model", "convnext_atto", "--gpu-memory", "4GiB", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(plan["plan"]["micro_batch"].as_u64().unwrap() > 1);
    assert_eq!(plan["precision"], "fp32");
}

#[test]
fn an_unknown_card_is_refused_with_its_neighbours() {
    assert_snapshot!(Stage::new().run("plan --model convnext_atto --gpu rtx3061"));
}

#[test]
fn a_card_that_is_too_small_is_explained() {
    assert_snapshot!(Stage::new().run("plan --model convnext_xlarge --gpu gtx1060-3gb"));
}

/// What the configuration has stands, unless a flag opens it again.
#[test]
fn a_model_is_planned_at_its_own_image_size_where_none_is_given() {
    let stage = Stage::with_config(CONFIG.replace("image_size: 224", "image_size: 64"));
    let size_in = |plan: &str| {
        let printed = stage.run(&format!("plan {plan} --gpu t4 --max-batch-size 4 --test-only"));
        let start = printed.split_once("convnext_nano_384 at ").unwrap_or_else(|| panic!("{printed}")).1;
        start.split_whitespace().next().map(str::to_owned)
    };
    assert_eq!(size_in("--model convnext_nano_384").as_deref(), Some("384x384"));
    assert_eq!(size_in("--model convnext_nano_384 --img-size 96").as_deref(), Some("96x96"));
    assert_eq!(size_in("--config x.yaml --model convnext_nano_384").as_deref(), Some("64x64"));
    let opened = "--config x.yaml --model convnext_nano_384 --set model.image_size=auto";
    assert_eq!(size_in(opened).as_deref(), Some("384x384"));
}

#[test]
fn an_image_size_that_a_model_cannot_take_is_refused() {
    assert_snapshot!(Stage::new().run("plan --model swin_tiny --img-size 65 --gpu a10"));
}

#[test]
fn contradictions_name_both_flags() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(of_each(
        &stage,
        "plan --config x.yaml --gpu t4",
        &[
            "--test-only --save-config y.yaml",
            "--gpu-ids 0",
            "--all-gpus",
            "--device cpu",
            "--gpu-memory 99GiB",
            "--min-batch-size 8 --max-batch-size 4",
        ]
    ));
    assert_untouched(&stage);
}

#[test]
fn a_margin_that_is_no_share_is_refused() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(of_each(
        &stage,
        "plan --config x.yaml --gpu t4",
        &[
            "--safety-margin 15",
            "--safety-margin 1",
            "--safety-margin -0.1",
            "--safety-margin nan",
            "--memory-fraction 0",
            "--memory-fraction 1.1",
        ]
    ));
    assert_untouched(&stage);
}

#[test]
fn an_effective_batch_of_nothing_is_refused() {
    let stage = Stage::with_config(CONFIG);
    let flags = ["--effective-batch-size 0", "--effective-batch-size -3", "--effective-batch-size 2.5"];
    assert_snapshot!(of_each(&stage, "plan --config x.yaml --gpu t4", &flags));
    assert_untouched(&stage);
}

#[test]
fn sizes_of_nothing_below_it_and_beyond_all_reason_are_refused() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(of_each(
        &stage,
        "plan --config x.yaml",
        &[
            "--gpu-memory 0",
            "--gpu-memory 6",
            "--gpu-memory -5GiB",
            "--gpu-memory 99999999999GiB",
            "--gpu t4 --img-size 0",
            "--gpu t4 --img-size -32",
            "--gpu t4 --img-size 100000000",
            "--gpu t4 --min-batch-size 0",
            "--gpu t4 --max-batch-size -1",
            "--gpu t4 --effective-batch-size 99999999999999999999999",
        ]
    ));
    assert_untouched(&stage);
}

#[test]
fn a_configuration_that_cannot_be_written_stays_whole() {
    let stage = Stage::with_config(CONFIG);
    let file = stage.path().join("x.yaml");
    let plan = "plan --config x.yaml --gpu t4 --max-batch-size 8";
    let refused = |flags: &str| {
        let printed = stage.run(&format!("{plan} {flags}"));
        printed[printed.find("--- stderr").expect("a section of its own")..].to_owned()
    };
    assert_snapshot!([refused("--save-config no/such/folder/y.yaml"), refused("--save-config .")].concat());
    let writable = fs::metadata(&file).unwrap().permissions();
    let mut protected = writable.clone();
    protected.set_readonly(true);
    fs::set_permissions(&file, protected).unwrap();
    assert_snapshot!(refused(""));
    assert_untouched(&stage);
    fs::set_permissions(&file, writable).unwrap(); // or some systems could not remove it
}

/// What several cards share is tested beside `commands/plan/cards.rs`, over cards of the catalogue; numbers of cards that no machine has are refused.
#[test]
fn cards_that_are_not_here_are_refused_by_their_number() {
    let stage = Stage::with_config(CONFIG);
    let refused = stage.run("plan --config x.yaml --gpu-ids 97,98");
    assert!(refused.contains("exit code 2") && refused.contains("`--gpu-ids 97,98` names card 97, but "), "{refused}");
    let report = stage.run("plan --config x.yaml --gpu-ids 97,98 --report");
    assert!(report.contains("`--gpu-ids 97,98` and `--report` exclude each other"), "{report}");
    assert_untouched(&stage);
}

/// The configuration is written last, and refuses: the other files are not left behind alone.
#[test]
fn nothing_is_half_written_where_one_file_cannot_be() {
    let stage = Stage::with_config(CONFIG.replace("convnext_tiny", "convnext_atto"));
    let file = stage.path().join("x.yaml");
    let names = || {
        let mut names: Vec<_> = fs::read_dir(stage.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let writable = fs::metadata(&file).unwrap().permissions();
    let mut protected = writable.clone();
    protected.set_readonly(true);
    fs::set_permissions(&file, protected).unwrap();
    let plan = "plan --config x.yaml --gpu t4 --max-batch-size 8";
    let refused = stage.run(&format!("{plan} --save-profile p.json --save-picture p.svg"));
    assert!(refused.contains("exit code 2") && refused.contains("write-protected"), "{refused}");
    assert_eq!(names(), ["x.yaml"]);
    fs::set_permissions(&file, writable).unwrap();
    // And the other way round: a picture that has no place leaves the configuration as it was.
    for flags in ["--save-picture no/such/p.svg", "--save-profile ."] {
        let refused = stage.run(&format!("{plan} {flags}"));
        assert!(
            refused.contains("exit code 2") && refused.contains("--- stdout\n--- stderr"),
            "before the work: {refused}"
        );
        assert_eq!(names(), ["x.yaml"]);
    }
    let written = stage.run(&format!("{plan} --save-profile p.json --save-picture p.svg"));
    assert!(written.contains("exit code 0"), "{written}");
    assert_eq!(names(), ["p.json", "p.svg", "x.yaml", "x.yaml.bak"]);
}

/// What a command prints with each of some flags.
fn of_each(stage: &Stage, command: &str, flags: &[&str]) -> String {
    flags.iter().map(|flags| stage.run(&format!("{command} {flags}"))).collect::<Vec<_>>().join("\n")
}

/// Nothing is written, not even in part.
fn assert_untouched(stage: &Stage) {
    assert_eq!(fs::read_to_string(stage.path().join("x.yaml")).unwrap(), CONFIG);
    assert_eq!(fs::read_dir(stage.path()).unwrap().count(), 1);
}

#[test]
fn a_captured_plan_for_the_cpu_is_refused() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run("plan --config x.yaml --device cpu --source captured --test-only"));
}

#[test]
fn a_precision_that_the_card_lacks_is_refused() {
    assert_snapshot!(Stage::new().run("plan --model convnext_atto --gpu rtx2080 --precision bf16"));
}

#[test]
fn a_precision_that_is_asked_for_is_written_with_the_plan() {
    let stage = Stage::with_config(CONFIG);
    stage.run("plan --config x.yaml --gpu rtx3060 --precision fp32 --save-config y.yaml");
    assert!(fs::read_to_string(stage.path().join("y.yaml")).unwrap().contains("  precision: fp32"));
}

/// The card has no tensor cores: fp32 is what suits it, until nothing fits in that.
#[test]
fn lower_precision_comes_before_checkpointing_and_is_written() {
    let stage = Stage::with_config(CONFIG.replace("convnext_tiny", "convnext_base").replace("224", "384"));
    let plan = "plan --config x.yaml --gpu gtx1060-6gb --min-batch-size 8 --save-config y.yaml";
    assert_snapshot!(stage.run(plan));
    assert!(fs::read_to_string(stage.path().join("y.yaml")).unwrap().contains("  precision: fp16"));
    let kept = stage.run(&format!("{plan} --precision fp32"));
    assert!(!kept.contains("fp16") && kept.contains("fp32 with checkpointing"), "{kept}");
}

#[test]
fn a_team_gets_a_table_of_all_cards() {
    let stage = Stage::with_config(CONFIG.replace("convnext_tiny", "convnext_atto").replace("224", "64"));
    let printed = stage.run("plan --config x.yaml --all-gpus --write-team-settings team_settings.yaml");
    let precision_of = |card: &str| {
        let line = printed.lines().find(|line| line.split_whitespace().next() == Some(card));
        ["fp32", "fp16", "bf16"].into_iter().find(|name| line.is_some_and(|line| line.contains(name)))
    };
    let found = ["gtx1060-6gb", "t4", "rtx3060-12gb", "h200"].map(precision_of);
    assert_eq!(found, ["fp32", "fp16", "bf16", "bf16"].map(Some), "{printed}");
    let settings = fs::read_to_string(stage.path().join("team_settings.yaml")).unwrap();
    assert!(settings.starts_with("# What each card runs") && settings.contains("effective_batch: 128"), "{settings}");
}

#[test]
fn a_plan_with_segments_of_one_image_and_no_data() {
    assert_snapshot!(
        Stage::new().run(
            "plan --model convnext_atto --gpu rtx3060 --effective-batch-size 1 --set memory.checkpointing=segments"
        )
    );
}

/// Whatever they are called: links and folders are followed, and nothing is written at all.
#[test]
fn no_output_takes_the_place_of_the_configuration_of_its_copy_or_of_another() {
    let stage = Stage::with_config(CONFIG);
    let here = stage.path().display();
    let flags = [
        format!("--gpu rtx3060 --test-only --save-profile {here}/x.yaml"),
        format!("--all-gpus --write-team-settings {here}/x.yaml"),
        format!("--gpu rtx3060 --save-config y.yaml --save-profile {here}/y.yaml"),
        format!("--gpu rtx3060 --save-config {here}/x.yaml"),
        "--gpu rtx3060 --save-profile x.yaml.bak".to_owned(),
        "--gpu rtx3060 --save-config y.yaml --save-profile y.yaml.bak.1".to_owned(),
        "--all-gpus --write-team-settings x.yaml.bak".to_owned(),
    ];
    for flags in flags {
        let refused = stage.run(&format!("plan --config x.yaml {flags}"));
        assert!(refused.contains("exit code 2") && refused.contains("--- stdout\n--- stderr"), "{refused}");
        assert!(refused.contains("hint: "), "{refused}");
        assert_untouched(&stage);
    }
}

/// 24 images at most make up a step, whatever the configuration asks for.
#[test]
fn settings_of_a_team_with_few_images_make_up_what_they_are_made_for() {
    let mut stage = Stage::with_config(CONFIG.replace("convnext_tiny", "convnext_atto").replace("224", "64"));
    for image in 0..12 {
        stage = stage.file(&format!("photos/cat/{image}.png"), "").file(&format!("photos/dog/{image}.png"), "");
    }
    let printed = stage.run("plan --config x.yaml --all-gpus --write-team-settings team_settings.yaml");
    assert!(printed.contains("exit code 0"), "{printed}");
    let text = fs::read_to_string(stage.path().join("team_settings.yaml")).unwrap();
    let settings: memory_planner::TeamSettings = serde_yaml::from_str(&text).unwrap();
    assert_eq!(settings.check(), Ok(()));
    assert!((1..=24).contains(&settings.made_for.effective_batch_size), "{text}");
}

/// `train` compares them with the file alone.
#[test]
fn settings_that_a_flag_makes_stale_are_refused_with_the_key() {
    let stage = Stage::with_config(CONFIG);
    let flags = [
        ("--rounding power_of_two", "memory.rounding"),
        ("--effective-batch-size 8", "train.effective_batch_size"),
        ("--precision fp32", "train.precision"),
        ("--set train.optimizer=sgd", "train.optimizer"),
    ];
    for (flag, key) in flags {
        let refused = stage.run(&format!("plan --config x.yaml --all-gpus --write-team-settings t.yaml {flag}"));
        assert!(refused.contains("exit code 2") && refused.contains("would find them stale"), "{refused}");
        assert!(refused.contains(&format!("`{key}` as in `{flag}`")), "{refused}");
        assert_untouched(&stage);
    }
}

#[test]
fn a_table_of_a_model_alone_names_no_effective_batch() {
    let printed = Stage::new().run("plan --model convnext_atto --img-size 32 --all-gpus");
    assert!(printed.contains("at 32x32, as many samples a step as are recommended for each card\n"), "{printed}");
}

/// And no plan is for more images than `predict.batch_size` takes.
#[test]
fn json_of_predictions_names_what_it_is_for() {
    let document = |device: &str| -> serde_json::Value {
        let plan = format!("plan --model convnext_atto --img-size 32 --inference --json {device}");
        let output = Stage::new().output(&plan.split_whitespace().collect::<Vec<_>>());
        serde_json::from_slice(&output.stdout).expect("one document")
    };
    let of_all = document("--all-gpus");
    let cards = of_all.as_array().expect("a list");
    assert_eq!(cards.len(), device::CardCatalogue::embedded().cards.len());
    for card in cards {
        assert!(card["card"].is_string() && card["precision"].is_string(), "{card}");
        assert_ne!(card.get("plan").is_some(), card.get("does_not_fit").is_some(), "{card}");
    }
    let images = cards.iter().filter_map(|card| card["plan"]["images"].as_u64());
    assert_eq!(images.max(), Some(65_536));
    let of_one = document("--gpu rtx3060 --max-batch-size 8");
    assert_eq!((of_one["model"].as_str(), of_one["images"].as_u64()), (Some("convnext_atto at 32x32"), Some(8)));
    assert!(of_one["device"].as_str().is_some_and(|name| name.contains("3060")), "{of_one}");
    assert!(of_one["precision"].is_string(), "{of_one}");
}
