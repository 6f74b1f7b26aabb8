use std::collections::BTreeSet;

use super::*;

mod saving;

const LEAST: &str = "data:\n  train: images\n";

fn edited(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    edit_text(Path::new("x.yaml"), text, edits)
}

/// The text after one edit, which must work.
fn set(text: &str, key: &str, value: impl Into<Scalar>) -> String {
    edited(text, &[Edit::new(key, value)]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn obstacle(text: &str, key: &str, value: impl Into<Scalar>) -> Obstacle {
    match edited(text, &[Edit::new(key, value)]) {
        Err(error @ EditError::Unsupported { obstacle, .. }) => {
            assert!(error.hint().is_some());
            obstacle
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_is_replaced_and_the_comment_after_it_kept() {
    let text = "data: {train: images}\ntrain:\n  epochs:   3\t # few\n  top_k: 2 #not a comment of its own\n  clip_norm: 1.0\n";
    assert_eq!(set(text, "train.epochs", 48_u64), text.replace("  3\t", "  48\t"));
    assert_eq!(set(text, "train.top_k", 5_u64), text.replace(": 2 #", ": 5 #"));
    assert_eq!(set(text, "train.clip_norm", Scalar::Null), text.replace("1.0", "null"));
}

#[test]
fn values_in_quotes_are_replaced_whole() {
    let text = "name: 'its' # comment\noutput: 'it''s # here' # so\ndata:\n  \"train\": \"a\\\"b # c\" # d\n";
    assert_eq!(set(text, "name", "run_2"), text.replace("'its'", "run_2"));
    assert_eq!(set(text, "output", "runs"), text.replace("'it''s # here'", "runs"));
    assert_eq!(set(text, "data.train", "a: b"), text.replace("\"a\\\"b # c\"", "\"a: b\""));
}

#[test]
fn a_missing_key_goes_to_the_end_of_its_section() {
    let text = "train:\n    epochs: 3 # few\n    # top_k: 3\n\n# the images\ndata:\n    train: images\n";
    let expected = text.replace("    # top_k: 3\n", "    # top_k: 3\n    micro_batch_size: 24\n");
    assert_eq!(set(text, "train.micro_batch_size", 24_u64), expected);
    assert_eq!(set(text, "data.workers", "auto"), format!("{text}    workers: auto\n"));
}

#[test]
fn a_missing_section_goes_to_the_end_of_the_file() {
    assert_eq!(set(LEAST, "memory.rounding", "power_of_two"), format!("{LEAST}memory:\n  rounding: power_of_two\n"));
    let spaced = "seed: 1\n\ndata:\n   train: images\n\n# the end\n\n";
    let expected = "seed: 1\n\ndata:\n   train: images\n\n# the end\n\nmemory:\n   rounding: power_of_two\n\n";
    assert_eq!(set(spaced, "memory.rounding", "power_of_two"), expected);
}

#[test]
fn a_missing_key_of_the_top_level_goes_to_the_end_of_the_file() {
    assert_eq!(set(LEAST, "seed", 7_u64), format!("{LEAST}seed: 7\n"));
    assert_eq!(set("seed: 1\n\ndata: {train: x}\n", "device", "cpu"), "seed: 1\n\ndata: {train: x}\n\ndevice: cpu\n");
}

#[test]
fn sections_between_braces_stay_between_braces() {
    for (before, after) in [
        ("train: {epochs: 3}", "train: {epochs: 3, micro_batch_size: 4}"),
        ("train: { epochs: 3 } # few", "train: { epochs: 3, micro_batch_size: 4 } # few"),
        ("train: {}", "train: {micro_batch_size: 4}"),
        ("train: {\"epochs\":3,}", "train: {\"epochs\":3, micro_batch_size: 4}"),
        ("train: {micro_batch_size: auto, epochs: 3}", "train: {micro_batch_size: 4, epochs: 3}"),
        ("train: {epochs: 3, micro_batch_size: 2}", "train: {epochs: 3, micro_batch_size: 4}"),
        (
            "train: {\n  epochs: 3, # few }\n  betas: [0.9, 0.95] # ]\n}",
            "train: {\n  epochs: 3, # few }\n  betas: [0.9, 0.95], micro_batch_size: 4 # ]\n}",
        ),
    ] {
        let (before, after) = (format!("data: {{train: x}}\n{before}\n"), format!("data: {{train: x}}\n{after}\n"));
        assert_eq!(set(&before, "train.micro_batch_size", 4_u64), after);
    }
}

#[test]
fn a_configuration_between_braces_stays_json() {
    let text = "{\"data\":{\"train\":\"x\"},\"train\":{\"epochs\":3},\"memory\":null}";
    assert_eq!(set(text, "train.epochs", 4_u64), text.replace('3', "4"));
    assert_eq!(set(text, "memory.rounding", "power_of_two"), text.replace("null", "{rounding: power_of_two}"));
    assert_eq!(set(text, "seed", 7_u64), text.replace("null}", "null, seed: 7}"));
    assert_eq!(set(text, "augment.erase", 0.5), text.replace("null}", "null, augment: {erase: 0.5}}"));
}

#[test]
fn sections_and_keys_without_a_value_are_filled() {
    let text = "data:\n    train: x\ntrain: # later\n    # epochs: 3\n# then\npredict:\n";
    let expected = text.replace("epochs: 3\n", "epochs: 3\n    epochs: 5\n");
    assert_eq!(set(text, "train.epochs", 5_u64), expected);
    assert_eq!(set(text, "predict.tta", "legacy"), format!("{text}    tta: legacy\n"));
    for empty in ["null", "~"] {
        let text = format!("train: {empty} # later\ndata: {{train: x}}\n");
        assert_eq!(set(&text, "train.epochs", 5_u64), text.replace(empty, "{epochs: 5}"));
    }
    let text = "data: {train: x, test: }\ntrain:\n  clip_norm: # none\n  ema_decay:\n";
    assert_eq!(set(text, "train.clip_norm", 1.0), text.replace("norm:", "norm: 1.0"));
    assert_eq!(set(text, "train.ema_decay", 0.5), text.replace("decay:", "decay: 0.5"));
    assert_eq!(set(text, "data.test", "new"), text.replace("test: ", "test: new"));
}

#[test]
fn windows_line_ends_a_mark_and_a_missing_last_line_end_stay() {
    let text = "\u{feff}data:\r\n  train: x # images\r\ntrain:\r\n  epochs: 3\r\n";
    assert_eq!(set(text, "train.epochs", 4_u64), text.replace('3', "4"));
    assert_eq!(set(text, "train.top_k", 5_u64), format!("{text}  top_k: 5\r\n"));
    let expected = text.replace("images\r\n", "images\r\n  workers: 2\r\n");
    assert_eq!(set(text, "data.workers", 2_u64), expected);
    assert_eq!(set("data:\n  train: x", "data.workers", 2_u64), "data:\n  train: x\n  workers: 2");
    assert_eq!(set("data:\n  train: x\n# \u{e9}", "data.workers", 2_u64), "data:\n  train: x\n  workers: 2\n# \u{e9}");
    assert_eq!(set("data:\n  train: x", "train.epochs", 2_u64), "data:\n  train: x\ntrain:\n  epochs: 2");
}

#[test]
fn document_marks_stay_where_they_are() {
    let text = "# mine\n---\ndata:\n  train: x\n...\n# after\n";
    let expected = text.replace("train: x\n", "train: x\n  workers: 2\n");
    assert_eq!(set(text, "data.workers", 2_u64), expected);
    let expected = text.replace("train: x\n", "train: x\ntrain:\n  epochs: 2\n");
    assert_eq!(set(text, "train.epochs", 2_u64), expected);
}

#[test]
fn values_over_several_lines_are_left_whole_beside_an_edit() {
    let text = "output: |-\n  a\n\n  b # no comment\ndata:\n  train: \"images\n\n    here # there\"\naugment:\n  scale:\n  - 0.5\n  - 1.0\n\n";
    assert_eq!(set(text, "data.workers", 2_u64), text.replace("there\"\n", "there\"\n  workers: 2\n"));
    assert_eq!(set(text, "augment.erase", 0.5), text.replace("- 1.0\n", "- 1.0\n  erase: 0.5\n"));
    // Quotes show where their value ends, whatever the number of lines.
    assert_eq!(set(text, "data.train", "x"), text.replace("\"images\n\n    here # there\"", "x"));
}

#[test]
fn values_over_several_lines_are_not_replaced() {
    for text in ["output: >-\n  plain\n  text\ndata: {train: x}\n", "output: plain\n  text\ndata: {train: x}\n"] {
        assert_eq!(obstacle(text, "output", "other"), Obstacle::SeveralLines);
    }
}

#[test]
fn anchors_aliases_and_tags_are_refused() {
    for (text, key) in [
        ("data: {train: x}\ntrain:\n  warmup_epochs: &n 3\n  epochs: *n\n", "train.epochs"),
        ("data: {train: x}\ntrain:\n  warmup_epochs: &n 3\n  epochs: *n\n", "train.warmup_epochs"),
        ("data: {train: x}\ntrain: &all\n  epochs: 3\n", "train.epochs"),
        ("data: {train: x}\ntrain: &all {epochs: 3}\n", "train.top_k"),
    ] {
        assert_eq!(obstacle(text, key, 7_u64), Obstacle::Anchor, "{text}");
    }
    assert_eq!(obstacle("data: {train: x}\nseed: !!int 3\n", "seed", 7_u64), Obstacle::Tag);
    let beside = "data: {train: x}\ntrain:\n  warmup_epochs: &n 3\n  epochs: *n\n  top_k: 2\n";
    assert_eq!(set(beside, "train.top_k", 7_u64), beside.replace('2', "7"));
}

#[test]
fn wrong_values_keys_and_texts_are_refused_by_the_reader() {
    for (text, edit) in [
        (LEAST, Edit::new("train.epochs", 0_u64)),
        (LEAST, Edit::new("train.learning_rate", f64::NAN)),
        (LEAST, Edit::new("train.epoch", 3_u64)),
        (LEAST, Edit::new("train", 3_u64)),
        (LEAST, Edit::new("train.micro_batch_size", 64_u64)),
        ("data:\n\ttrain: x\n", Edit::new("seed", 1_u64)),
        ("seed: 1\n", Edit::new("seed", 2_u64)),
    ] {
        let error = edited(text, &[edit]).expect_err("wrong");
        assert!(matches!(error, EditError::Config(_)), "{error:?}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn settings_from_flags_can_be_written_down() {
    let text = "data: {train: x}\naugment:\n  scale: [0.6, 1.0] # crops\n";
    let settings = ["augment.scale=[0.5, 0.9]", "name=7", "train.learning_rate=3e-4", "train.clip_norm=", "seed=3"];
    let overrides: Vec<Override> = settings.iter().map(|text| Override::parse(text).expect("right")).collect();
    let edits: Vec<Edit> = overrides.iter().map(|given| Edit::from_override(given).expect("known")).collect();
    let after = edited(text, &edits).expect("valid");
    let added = "name: \"7\"\ntrain:\n  learning_rate: 3.0e-4\n  clip_norm: null\nseed: 3\n";
    assert_eq!(after, format!("{}{added}", text.replace("0.6, 1.0", "0.5, 0.9")));
    let path = Path::new("x.yaml");
    let expected = UserConfig::from_text(path, text, &overrides).expect("valid");
    assert_eq!(UserConfig::from_text(path, &after, &[]).expect("valid"), expected);
    let wrong = |text| Edit::from_override(&Override::parse(text).expect("right"));
    assert!(wrong("train.epoch=3").is_err(), "no such key");
    let mapping = wrong("name={a: 1}").expect("the key is known");
    assert!(matches!(edited(text, &[mapping]), Err(EditError::Config(_))));
}

#[test]
fn a_form_that_is_misunderstood_costs_an_error_and_not_the_file() {
    // A key between braces may go without its colon, which the splicing does not know.
    let error =
        edited("data: {train: x}\ntrain: {clip_norm}\n", &[Edit::new("train.clip_norm", 1.0)]).expect_err("odd");
    assert!(matches!(error, EditError::WouldChange { .. }));
    assert_eq!(error.to_string(), "cannot set `train.clip_norm` in `x.yaml` without changing more than that");
    assert_eq!(error.hint().as_deref(), Some("set `train.clip_norm` in the file by hand"));
}

#[test]
fn several_edits_are_one_change() {
    let edits = [
        Edit::new("train.effective_batch_size", 64_u64),
        Edit::new("train.micro_batch_size", 48_u64),
        Edit::new("memory.rounding", "power_of_two"),
        Edit::new("memory.safety_margin", 0.15),
    ];
    let text = edited(LEAST, &edits).expect("valid");
    let added = "train:\n  effective_batch_size: 64\n  micro_batch_size: 48\nmemory:\n  rounding: power_of_two\n  safety_margin: 0.15\n";
    assert_eq!(text, format!("{LEAST}{added}"));
}

/// A sequence that looks random and is the same in every run: Marsaglia's xorshift with 64 bits.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// Edits that any configuration takes: their keys share no rule.
fn harmless(draws: &mut Draws) -> Edit {
    let count = 1 + draws.below(32) as u64;
    let share = 0.01 + draws.below(90) as f64 / 100.0;
    match draws.below(12) {
        0 => Edit::new("train.epochs", count),
        1 => Edit::new("train.weight_decay", share / 1000.0),
        2 => Edit::new("train.clip_norm", share),
        3 => Edit::new("train.clip_norm", Scalar::Null),
        4 => Edit::new("memory.safety_margin", share),
        5 => Edit::new("memory.rounding", ["power_of_two", "multiple_of_4"][draws.below(2)]),
        6 => Edit::new("model.image_size", 32 * count),
        7 => Edit::new("data.workers", count),
        8 => Edit::new("seed", count),
        9 => Edit::new("augment.quarter_turns", count > 16),
        10 => Edit::new("device", ["cpu", "cuda:1", "auto"][draws.below(3)]),
        _ => Edit::new("predict.tta", ["none", "legacy"][draws.below(2)]),
    }
}

const STYLES: [&str; 5] = [
    LEAST,
    "data: {train: 'a, b', test: }\ntrain: {epochs: 3, betas: [0.9,\n  0.95]}\nseed: 3",
    "{\"data\":{\"train\":\"x\"},\"train\":{\"epochs\":3},\"memory\":null}\n",
    "---\r\n# c\r\nmemory: # later\r\n\r\n  # rounding\r\ndata:\r\n      train: \"x # y\" # z\r\n\r\n# end\r\n...\r\n",
    "train:\n  # first\n  epochs: 3 # few\n\n  # gap\n\n  clip_norm: 1.0e-2\nseed: 1\ndata:\n  train: |-\n    images\n\n# end",
];

fn shipped() -> Vec<String> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs"));
    let files = crate::config::source::yaml_files(folder);
    assert!(files.len() >= 2, "{files:?}");
    files.iter().map(|file| std::fs::read_to_string(file).expect("readable")).collect()
}

/// Whether the lines of `before` are among those of `after` in their order, but for as many as `changed`.
fn lines_kept(before: &str, after: &str, changed: usize) -> bool {
    let mut later = after.lines();
    let lost =
        before.lines().filter(|line| !later.clone().any(|other| other == *line) || later.all(|other| other != *line));
    lost.count() <= changed
}

#[test]
fn random_edits_change_no_line_but_their_own() {
    let mut draws = Draws(0x5EED);
    let texts: Vec<String> = STYLES.iter().map(|text| (*text).to_owned()).chain(shipped()).collect();
    let mut edited_keys = BTreeSet::new();
    for round in 0..200 {
        let mut text = texts[round % texts.len()].clone();
        for _ in 0..3 {
            let edit = harmless(&mut draws);
            let after = set(&text, edit.key(), edit.value.clone());
            assert!(lines_kept(&text, &after, 1), "{edit:?}\n{text}\n=>\n{after}");
            let comments = |text: &str| text.matches('#').count();
            assert_eq!(comments(&after), comments(&text), "{edit:?}\n{after}");
            assert_eq!(set(&after, edit.key(), edit.value.clone()), after, "the same edit again changes nothing");
            edited_keys.insert(edit.key().to_owned());
            text = after;
        }
    }
    assert_eq!(edited_keys.len(), 11);
}

#[test]
fn damaged_texts_are_edited_rightly_or_refused() {
    let pieces = [
        "{", "}", "[", "]", "'", "\"", "#", ":", ",", "&a ", "*a", "!!str ", "|", "\n", "\r\n", "  ", "\t", "- ",
        "\u{e9}", "...",
    ];
    let mut draws = Draws(0xBAD);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..1000 {
        let mut text = STYLES[round % STYLES.len()].to_owned();
        for _ in 0..=draws.below(2) {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            let place = places[draws.below(places.len())];
            let length = text[place..].chars().next().map_or(0, char::len_utf8) * draws.below(2);
            text.replace_range(place..place + length, pieces[draws.below(pieces.len())]);
        }
        let edit = Edit::new("train.epochs", 77_u64);
        match edited(&text, &[edit]) {
            Ok(after) => {
                let config = UserConfig::from_text(Path::new("x.yaml"), &after, &[]).expect("checked");
                assert_eq!(config.train.epochs, 77, "{text}\n=>\n{after}");
                assert!(lines_kept(&text, &after, 1), "{text}\n=>\n{after}");
                taken += 1;
            }
            Err(error) => {
                assert!(error.hint().is_some(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

#[test]
fn the_shipped_configurations_take_what_a_plan_sets() {
    for text in shipped() {
        let edits = [
            Edit::new("train.micro_batch_size", 4_u64),
            Edit::new("train.learning_rate", 1.25e-3),
            Edit::new("memory.safety_margin", 0.2),
        ];
        let after = edited(&text, &edits).expect("valid");
        assert!(lines_kept(&text, &after, 1), "{after}");
        assert_eq!(after.lines().count(), text.lines().count() + 4, "{after}");
        assert!(after.contains("\n  learning_rate: 1.25e-3\n"), "{after}");
        assert!(after.ends_with("\n\nmemory:\n  safety_margin: 0.2\n"), "{after}");
    }
}
