use clap::{CommandFactory as _, Parser};

use super::*;

/// `plan` as a program of its own.
#[derive(Debug, Parser)]
#[command(name = "plan", long_about = PLAN_ABOUT, after_help = PLAN_EXAMPLES)]
struct Plan {
    #[command(flatten)]
    arguments: PlanArguments,
}

/// A machine with this many cards is what most cases are about.
const CARDS: usize = 2;

fn parse(words: &str) -> PlanArguments {
    let words = std::iter::once("plan").chain(words.split_whitespace());
    Plan::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments
}

fn check(words: &str) -> Result<PlanTask, PlanArgumentsError> {
    parse(words).check(CARDS)
}

fn task(words: &str) -> PlanTask {
    check(words).unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// The message and the hint of a refusal; the house has rules for both.
fn refusal(words: &str) -> (String, String) {
    refusal_with(words, CARDS)
}

fn refusal_with(words: &str, cards: usize) -> (String, String) {
    let error = parse(words).check(cards).expect_err(words);
    let (message, hint) = (error.to_string(), error.hint().expect("a way out"));
    assert!(!message.ends_with('.') && !hint.is_empty(), "{message}\n{hint}");
    (message, hint)
}

/// Both flags are in the message, as written, and the hint names a way out.
fn assert_excluded(words: &str, one: &str, other: &str, way_out: &str) {
    let (message, hint) = refusal(words);
    assert!(message.contains(&format!("`{one}`")), "{message}");
    assert!(message.contains(&format!("`{other}`")), "{message}");
    assert!(hint.contains(way_out), "{hint}");
}

#[test]
fn the_flags_are_consistent_and_the_help_teaches() {
    Plan::command().debug_assert();
    let help = Plan::command().render_long_help().to_string();
    for taught in ["Examples:", "Exit codes: 0 done", "FILE.bak", "--gpu <CARD>", "dry-run:", "power_of_two:"] {
        assert!(help.contains(taught), "`{taught}` is not in\n{help}");
    }
}

#[test]
fn a_report_is_of_one_card_and_prediction_has_none() {
    assert_excluded("--config a.yaml --gpu-ids 0,1 --report", "--gpu-ids 0,1", "--report", "--device cuda:N");
    let predicts = "--config a.yaml --inference";
    assert_excluded(&format!("{predicts} --report"), "--inference", "--report", "leave `--report` out");
    assert_excluded(&format!("{predicts} --save-config b.yaml"), "--inference", "--save-config b.yaml", "batch_size");
    assert_excluded(&format!("{predicts} --save-profile p.json"), "--inference", "--save-profile p.json", "profile");
    assert_excluded(&format!("{predicts} --save-picture p.svg"), "--inference", "--save-picture p.svg", "picture");
}

#[test]
fn a_rule_for_the_learning_rate_has_an_effect_where_the_batch_may_change() {
    let warned = |words: &str| !task(words).warnings.is_empty();
    assert!(warned("--config a.yaml --learning-rate-scaling sqrt"));
    for words in ["--config a.yaml --gpu-ids 0,1", "--model convnext_atto", "--config a.yaml --effective-batch-size 8"]
    {
        assert!(!warned(&format!("{words} --learning-rate-scaling sqrt")), "{words}");
    }
}

#[test]
fn the_examples_of_the_help_are_right() {
    let examples = PLAN_EXAMPLES.lines().filter_map(|line| line.strip_prefix("  stoker plan "));
    let commands: Vec<&str> = examples.map(|line| line.split("   ").next().unwrap_or(line)).collect();
    assert_eq!(commands.len(), 7);
    for command in commands {
        task(command);
    }
}

#[test]
fn a_configuration_or_a_model_must_be_named() {
    let error = Plan::try_parse_from(["plan", "--test-only"]).expect_err("neither");
    assert!(error.to_string().contains("--config <FILE>"), "{error}");
    assert_eq!(task("--model convnext_atto").destination, Destination::Nowhere);
}

#[test]
fn the_plan_goes_where_the_flags_say() {
    for (words, destination) in [
        ("--config a.yaml", Destination::InPlace),
        ("--config a.yaml --model convnext_tiny", Destination::InPlace),
        ("--config a.yaml --test-only", Destination::Nowhere),
        ("--config a.yaml --test-only --save-profile p.json --save-picture p.svg", Destination::Nowhere),
        ("--config a.yaml --save-config b.yaml", Destination::Copy("b.yaml".into())),
        ("--config a.yaml --all-gpus", Destination::Nowhere),
        ("--config a.yaml --all-gpus --write-team-settings t.yaml", Destination::TeamSettings("t.yaml".into())),
    ] {
        assert_eq!(task(words).destination, destination, "{words}");
    }
}

#[test]
fn cards_are_here_or_absent_or_all() {
    let absent =
        |name: Option<&str>, memory_bytes| Target::Absent(AbsentCard { name: name.map(str::to_owned), memory_bytes });
    for (words, target) in [
        ("", Target::Device(None)),
        ("--device cpu", Target::Device(Some(DeviceRequest::Cpu))),
        ("--device cuda:1", Target::Device(Some(DeviceRequest::Cuda(1)))),
        ("--gpu-ids 1,0", Target::Cards(vec![1, 0])),
        ("--gpu rtx3060", absent(Some("rtx3060"), None)),
        ("--gpu rtx3060 --device auto", absent(Some("rtx3060"), None)),
        ("--gpu-memory 6GiB", absent(None, Some(6 << 30))),
        ("--gpu rtx3060 --gpu-memory 6GiB", absent(Some("rtx3060"), Some(6 << 30))),
        ("--all-gpus", Target::Catalogue),
    ] {
        assert_eq!(task(&format!("--config a.yaml --test-only {words}")).target, target, "{words}");
    }
}

#[test]
fn every_flag_reaches_the_task() {
    let task = task(
        "--config a.yaml --model m --img-size 384 --set seed=3 --safety-margin .15 --memory-fraction 1 --min-batch-size 2 \
         --max-batch-size 64 --effective-batch-size 128 --learning-rate-scaling sqrt --rounding power_of_two --save-profile p.json \
         --save-picture p.SVG --report --json --source captured",
    );
    let overrides: Vec<&str> = task.overrides.iter().map(crate::config::Override::path).collect();
    assert_eq!(overrides, ["seed", "model.name", "model.image_size"]);
    assert_eq!((task.safety_margin, task.memory_fraction), (Some(0.15), Some(1.0)));
    assert_eq!((task.min_batch_size, task.max_batch_size, task.effective_batch_size), (Some(2), Some(64), Some(128)));
    assert_eq!(task.learning_rate_scaling, LearningRateScaling::Sqrt);
    assert_eq!(task.rounding, Some(Rounding::PowerOfTwo));
    assert_eq!(task.source, PlanSource::Captured);
    assert!(task.profile.is_some() && task.picture.is_some() && task.report && task.json);
    assert_eq!(task.inference, None);
    assert!(task.warnings.is_empty());
}

#[test]
fn prediction_takes_its_views() {
    let planned = task("--config a.yaml --inference --tta essential --max-batch-size 8");
    assert_eq!(planned.inference, Some(InferenceRequest { tta: Some(Tta::Essential) }));
    assert_eq!(task("--config a.yaml --inference").inference, Some(InferenceRequest { tta: None }));
    let (message, hint) = refusal("--config a.yaml --tta essential");
    assert!(message.contains("`--tta essential` needs `--inference`"), "{message}");
    assert_eq!(hint, "add `--inference`");
}

#[test]
fn flags_that_contradict_each_other_are_both_named() {
    let config = "--config a.yaml";
    for (words, one, other, way_out) in [
        ("--test-only --save-config b.yaml", "--test-only", "--save-config b.yaml", "leave `--test-only` out"),
        (
            "--test-only --all-gpus --write-team-settings t.yaml",
            "--test-only",
            "--write-team-settings t.yaml",
            "leave one",
        ),
        ("--all-gpus --gpu t4", "--all-gpus", "--gpu t4", "for one card"),
        ("--all-gpus --gpu-memory 6GiB", "--all-gpus", "--gpu-memory 6GiB", "for one card"),
        ("--all-gpus --gpu-ids 0", "--all-gpus", "--gpu-ids 0", "leave `--all-gpus` out"),
        ("--all-gpus --device cpu", "--all-gpus", "--device cpu", "leave `--all-gpus` out"),
        ("--all-gpus --save-config b.yaml", "--all-gpus", "--save-config b.yaml", "--write-team-settings FILE"),
        ("--all-gpus --save-profile p.json", "--all-gpus", "--save-profile p.json", "--gpu"),
        ("--all-gpus --save-picture p.svg", "--all-gpus", "--save-picture p.svg", "--gpu"),
        ("--all-gpus --report", "--all-gpus", "--report", "--gpu"),
        ("--gpu t4 --device cuda:0", "--gpu t4", "--device cuda:0", "leave `--device` out"),
        ("--gpu t4 --gpu-ids 0", "--gpu t4", "--gpu-ids 0", "leave `--gpu-ids` out"),
        ("--gpu-memory 6GiB --device cuda", "--gpu-memory 6GiB", "--device cuda:0", "memory.limit=SIZE"),
        ("--gpu-memory 6GiB --gpu-ids 0", "--gpu-memory 6GiB", "--gpu-ids 0", "memory.limit=SIZE"),
        ("--gpu-ids 0,1 --device cuda:0", "--gpu-ids 0,1", "--device cuda:0", "leave `--device` out"),
        ("--inference --effective-batch-size 64", "--inference", "--effective-batch-size 64", "--max-batch-size"),
        ("--inference --learning-rate-scaling sqrt", "--inference", "--learning-rate-scaling sqrt", "leave"),
        (
            "--inference --all-gpus --write-team-settings t.yaml",
            "--inference",
            "--write-team-settings t.yaml",
            "leave one of the two out",
        ),
        ("--source dry-run --gpu t4", "--source dry-run", "--gpu t4", "--source captured"),
        ("--source measured --gpu-memory 6GiB", "--source measured", "--gpu-memory 6GiB", "--source captured"),
        ("--source measured --all-gpus", "--source measured", "--all-gpus", "--source captured"),
        ("--source dry-run --device cpu", "--source dry-run", "--device cpu", "--source measured"),
        ("--min-batch-size 8 --max-batch-size 4", "--min-batch-size 8", "--max-batch-size 4", "--min-batch-size 4"),
        (
            "--min-batch-size 8 --effective-batch-size 4",
            "--min-batch-size 8",
            "--effective-batch-size 4",
            "--min-batch-size 4",
        ),
        ("--set model.name=x --model m", "--model m", "--set model.name=x", "leave one"),
        ("--set device=cpu --device cuda:0", "--device cuda:0", "--set device=cpu", "leave one"),
    ] {
        assert_excluded(&format!("{config} {words}"), one, other, way_out);
    }
}

#[test]
fn equal_bounds_and_harmless_pairs_are_taken() {
    for words in [
        "--min-batch-size 4 --max-batch-size 4 --effective-batch-size 4",
        "--gpu t4 --source captured",
        "--gpu t4 --source auto",
        "--source measured --device cpu",
        "--test-only --save-profile p.json",
        "--json --report",
        "--all-gpus --json",
        "--all-gpus --test-only",
    ] {
        task(&format!("--config a.yaml {words}"));
    }
}

#[test]
fn files_need_their_configuration_and_a_name_of_their_own() {
    for (words, said) in [
        ("--model m --save-config b.yaml", "`--save-config b.yaml` needs `--config`"),
        ("--model m --all-gpus --write-team-settings t.yaml", "`--write-team-settings t.yaml` needs `--config`"),
        ("--config a.yaml --write-team-settings t.yaml", "`--write-team-settings t.yaml` needs `--all-gpus`"),
        ("--config a.yaml --save-config ./a.yaml", "`--config` and `--save-config` name the same file `a.yaml`"),
        ("--config a.yaml --save-profile a.yaml", "`--config` and `--save-profile` name the same file"),
        (
            "--config a.yaml --save-profile p.svg --save-picture p.svg",
            "`--save-profile` and `--save-picture` name the same file",
        ),
        ("--config a.yaml --save-picture p.png", "`--save-picture p.png` is not an SVG file"),
    ] {
        assert!(refusal(words).0.contains(said), "{}", refusal(words).0);
    }
    assert_eq!(refusal("--config a.yaml --save-picture p.png").1, "did you mean `--save-picture p.svg`?");
}

#[test]
fn sizes_that_cannot_be_are_refused_with_their_range() {
    for (flag, written, range) in [
        ("--min-batch-size", "0", "from 1 to 65536"),
        ("--min-batch-size", "-3", "from 1 to 65536"),
        ("--max-batch-size", "0", "from 1 to 65536"),
        ("--max-batch-size", "99999999999999999999999", "from 1 to 65536"),
        ("--max-batch-size", "4.5", "from 1 to 65536"),
        ("--max-batch-size", "many", "from 1 to 65536"),
        ("--effective-batch-size", "0", "from 1 to 1048576"),
        ("--effective-batch-size", "-1", "from 1 to 1048576"),
        ("--effective-batch-size", ".5", "from 1 to 1048576"),
        ("--img-size", "0", "from 32 to 4096"),
        ("--img-size", "-224", "from 32 to 4096"),
        ("--img-size", "100000", "from 32 to 4096"),
    ] {
        let (message, hint) = refusal(&format!("--config a.yaml {flag} {written}"));
        assert!(message.starts_with(&format!("`{flag} {written}` is not ")) && message.ends_with(range), "{message}");
        assert!(hint.starts_with(&format!("for example `{flag} ")), "{hint}");
    }
}

#[test]
fn the_sizes_that_are_suggested_are_taken() {
    for flag in ["--min-batch-size", "--max-batch-size", "--effective-batch-size", "--img-size"] {
        let (_, hint) = refusal(&format!("--config a.yaml {flag} 0"));
        let suggested = hint.trim_start_matches("for example `").trim_end_matches('`');
        task(&format!("--config a.yaml {suggested}"));
    }
}

#[test]
fn shares_outside_of_their_range_are_refused_with_what_was_meant() {
    for (flag, written, hint) in [
        ("--safety-margin", "15", "did you mean `--safety-margin 0.15`?"),
        ("--safety-margin", "15%", "did you mean `--safety-margin 0.15`?"),
        ("--safety-margin", "0,15", "did you mean `--safety-margin 0.15`?"),
        ("--safety-margin", "1%", "did you mean `--safety-margin 0.01`?"),
        ("--safety-margin", "1", "for example `--safety-margin 0.15`"),
        ("--safety-margin", "1.5", "for example `--safety-margin 0.15`"),
        ("--safety-margin", "-0.1", "for example `--safety-margin 0.15`"),
        ("--safety-margin", "nan", "for example `--safety-margin 0.15`"),
        ("--safety-margin", "some", "for example `--safety-margin 0.15`"),
        ("--memory-fraction", "90", "did you mean `--memory-fraction 0.9`?"),
        ("--memory-fraction", "90%", "did you mean `--memory-fraction 0.9`?"),
        ("--memory-fraction", "0", "for example `--memory-fraction 0.9`"),
        ("--memory-fraction", "inf", "for example `--memory-fraction 0.9`"),
        ("--memory-fraction", "200", "for example `--memory-fraction 0.9`"),
    ] {
        let (message, found) = refusal(&format!("--config a.yaml {flag} {written}"));
        assert!(message.starts_with(&format!("`{flag} {written}` is not a share")), "{message}");
        assert_eq!(found, hint, "{written}");
    }
    for share in ["0", ".15", "0.999", "1e-3"] {
        task(&format!("--config a.yaml --safety-margin {share}"));
    }
}

#[test]
fn amounts_of_memory_that_no_card_has_are_refused() {
    for (written, said, hint) in [
        (
            "6",
            "is 6 B, and cards have 1.0 MiB to 4.0 TiB",
            "a bare number counts bytes: did you mean `--gpu-memory 6GiB`?",
        ),
        ("6KiB", "is 6.0 KiB", "for example `--gpu-memory 6GiB`"),
        ("0GiB", "is 0 B", "for example `--gpu-memory 6GiB`"),
        ("5000GiB", "is 4.9 TiB", "for example `--gpu-memory 6GiB`"),
        ("-6GiB", "is not an amount of memory", "write it as `2GiB`"),
        ("six", "is not an amount of memory", "write it as `2GiB`"),
        ("6apples", "is not an amount of memory", "write it as `2GiB`"),
    ] {
        let (message, found) = refusal(&format!("--config a.yaml --gpu-memory {written}"));
        assert!(message.contains(&format!("`--gpu-memory {written}` {said}")), "{message}");
        assert!(found.starts_with(hint), "{found}");
    }
}

#[test]
fn a_named_card_may_have_less_memory_and_not_more() {
    let card = |bytes| AbsentCard { name: Some("rtx3060".to_owned()), memory_bytes: bytes };
    assert_eq!(card(None).memory_within(12 << 30).expect("its own"), 12 << 30);
    assert_eq!(card(Some(8 << 30)).memory_within(12 << 30).expect("a smaller variant"), 8 << 30);
    let error = card(Some(24 << 30)).memory_within(12 << 30).expect_err("more than it has");
    assert_eq!(error.to_string(), "`--gpu-memory 24.0GiB` is more than `--gpu rtx3060` has: 12.0 GiB");
    assert!(error.hint().is_some_and(|hint| hint.contains("`--gpu-memory 24.0GiB`")));
}

#[test]
fn lists_of_cards_name_each_once_and_only_those_that_are_here() {
    for (written, cards, said, hint) in [
        ("0,0", 2, "names card 0 twice", "did you mean `--gpu-ids 0`?"),
        ("1,0,1", 2, "names card 1 twice", "did you mean `--gpu-ids 1,0`?"),
        ("0,2", 2, "names card 2, but 2 CUDA cards are here", "the last one here is 1"),
        ("1", 1, "names card 1, but 1 CUDA card is here", "the last one here is 0"),
        ("0", 0, "names card 0, but no CUDA card is here", "`--gpu NAME`"),
        ("0,", 2, "is not a list of card numbers", "`--gpu-ids 0,1`"),
        ("-1", 2, "is not a list of card numbers", "`--gpu-ids 0,1`"),
        ("a", 2, "is not a list of card numbers", "`--gpu-ids 0,1`"),
    ] {
        let (message, found) = refusal_with(&format!("--config a.yaml --gpu-ids {written}"), cards);
        assert_eq!(message, format!("`--gpu-ids {written}` {said}"));
        assert!(found.contains(hint), "{found}");
    }
}

#[test]
fn sources_that_compute_need_a_device_that_is_here() {
    let (message, hint) = refusal_with("--config a.yaml --source dry-run", 0);
    assert_eq!(message, "`--source dry-run` needs a CUDA card, and none is here");
    assert!(hint.contains("--source captured"), "{hint}");
    let (message, _) = refusal_with("--config a.yaml --source measured --device cuda:0", 0);
    assert_eq!(message, "`--device cuda:0` names card 0, but no CUDA card is here");
    assert!(parse("--config a.yaml --source measured").check(0).is_ok(), "the CPU can be measured");
    assert!(parse("--config a.yaml --source dry-run").check(1).is_ok());
}

#[test]
fn empty_names_and_shapeless_settings_are_refused() {
    for (words, said) in [
        (["--model", ""], "`--model` is empty"),
        (["--gpu", " "], "`--gpu` is empty"),
        (["--set", "train.epochs"], "`--set train.epochs` is not of the form `--set KEY=VALUE`"),
    ] {
        let words = ["plan", "--config", "a.yaml"].into_iter().chain(words);
        let error = Plan::try_parse_from(words).expect("words").arguments.check(CARDS).expect_err("wrong");
        assert_eq!(error.to_string(), said);
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_scaling_rule_without_a_changed_batch_warns() {
    assert_eq!(task("--config a.yaml --learning-rate-scaling sqrt").warnings.len(), 1);
    for words in [
        "--learning-rate-scaling none",
        "--learning-rate-scaling sqrt --effective-batch-size 64",
        "--learning-rate-scaling linear --set train.effective_batch_size=64",
    ] {
        assert!(task(&format!("--config a.yaml {words}")).warnings.is_empty(), "{words}");
    }
}

/// A plan is written into a configuration, or its numbers are copied there.
#[test]
fn a_configuration_takes_the_largest_batches_that_are_planned_and_no_larger_ones() {
    use memory_planner::{LARGEST_BATCH, LARGEST_EFFECTIVE_BATCH};

    use crate::config::{Override, UserConfig};

    let takes = |settings: &[(&str, usize)]| {
        let settings: Vec<Override> = settings
            .iter()
            .map(|(key, value)| Override::parse(&format!("{key}={value}")).expect("a key and a value"))
            .collect();
        UserConfig::from_text(std::path::Path::new("a.yaml"), "data: {train: images}\n", &settings).is_ok()
    };
    let effective = ("train.effective_batch_size", LARGEST_EFFECTIVE_BATCH);
    assert!(takes(&[effective, ("train.micro_batch_size", LARGEST_BATCH)]));
    assert!(!takes(&[effective, ("train.micro_batch_size", LARGEST_BATCH + 1)]));
    assert!(!takes(&[("train.effective_batch_size", LARGEST_EFFECTIVE_BATCH + 1)]));
    assert!(takes(&[("predict.batch_size", LARGEST_BATCH)]));
    assert!(!takes(&[("predict.batch_size", LARGEST_BATCH + 1)]));
}
