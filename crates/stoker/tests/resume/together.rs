//! Several models in memory at once: the same bytes as one after the other, whatever stopped them.

use std::fs;

use crate::ensembles::{of_folds, stop_before_the_table};
use crate::stage::{RUN, Stage, draw_set};

/// What is said of models that see each image at once, after their number.
const AT_ONCE: &str = " models are in memory at once, and each image is decoded once for all: predicted peak ";

/// Less than the weights of a model, in MiB.
const LESS_THAN_A_MODEL: u64 = 10;

/// Batches are as large as they are of use: of 32 images.
fn request(runs: &str) -> String {
    format!("predict {runs} --input data/many --device cpu --tta legacy --output rows.csv")
}

/// What is said, and the table, which is taken away.
fn predict(stage: &Stage, request: &str) -> (String, Vec<u8>) {
    let told = stage.succeed(request).stderr;
    let rows = fs::read(stage.path("rows.csv")).expect("it was written");
    fs::remove_file(stage.path("rows.csv")).expect("it is there");
    (told, rows)
}

/// In how many passes over the images models were planned, each for itself or several together.
fn plans(told: &str) -> usize {
    told.matches(" images at once: ").count()
}

/// Has a run predict in what its model takes alone, as was told, and a little more.
fn leave_no_room_for_others(stage: &Stage, run: &str, told: &str) {
    let peak = told.split("predicted peak ").nth(1).and_then(|rest| rest.split(" MiB").next()).expect("a plan");
    let peak: f64 = peak.trim_start_matches("at most ").parse().expect("a number");
    let limit = peak.ceil() as u64 + LESS_THAN_A_MODEL;
    change(stage, run, "  limit: null\n", "");
    change(stage, run, "\nmemory:\n", &format!("\nmemory:\n  limit: {limit}MiB\n"));
}

/// Changes what a run's configuration says, where it says so.
fn change(stage: &Stage, run: &str, from: &str, to: &str) {
    let file = format!("{run}/config.resolved.yaml");
    let text = fs::read_to_string(stage.path(&file)).expect("the run wrote it");
    stage.write(&file, text.replacen(from, to, 1).as_bytes());
}

#[test]
fn folds_say_together_what_they_say_one_after_the_other() {
    let stage = of_folds();
    draw_set(&stage.path("data/many"), 20);
    stage.write("data/many/dots/20.png", b"no image");
    let request = request(&format!("--fold-results {RUN}"));
    let (told, together) = predict(&stage, &request);
    assert!(told.contains(&format!("\n3{AT_ONCE}")) && plans(&told) == 1, "{told}");
    assert_eq!(told.matches("% waiting for data").count(), 1, "{told}");
    for fold in 0..3 {
        leave_no_room_for_others(&stage, &format!("{RUN}/fold_{fold}"), &told);
    }
    let (told, one_by_one) = predict(&stage, &request);
    assert!(!told.contains(AT_ONCE) && plans(&told) == 3, "{told}");
    assert!(together == one_by_one, "the rows differ");
}

#[test]
fn models_of_other_families_go_together_where_they_see_the_same_pixels() {
    let stage = Stage::finished();
    draw_set(&stage.path("data/many"), 20);
    let first = stage.run_folder();
    stage.succeed("train --config tiny.yaml --set name=second --set model.name=efficientnet_b0 --set train.epochs=1");
    let request = request(&format!("--run {first} --run {RUN}"));
    let (told, together) = predict(&stage, &request);
    assert!(told.contains(&format!("\n2{AT_ONCE}")) && plans(&told) == 1, "{told}");
    let not_measured = stage.succeed(&format!("{request} --batch-size 32")).stderr;
    assert!(!not_measured.contains(AT_ONCE), "nobody knows what such a batch takes: {not_measured}");
    // No jpeg is among the images, so that the pixels stay the same.
    change(&stage, RUN, "decode: exact", "decode: scaled");
    let (told, apart) = predict(&stage, &request);
    assert!(!told.contains(AT_ONCE) && plans(&told) == 2, "{told}");
    assert!(together == apart, "the rows differ");
    change(&stage, RUN, "decode: scaled", "decode: exact");
    leave_no_room_for_others(&stage, &first, &told);
    let (told, one_by_one) = predict(&stage, &request);
    assert!(!told.contains(AT_ONCE) && plans(&told) == 2, "{told}");
    assert!(together == one_by_one, "the rows differ");
}

#[test]
fn models_that_stand_at_the_same_image_go_on_together_and_others_by_themselves() {
    let stage = of_folds();
    draw_set(&stage.path("data/many"), 20);
    let request = request(&format!("--fold-results {RUN}"));
    let (_, whole) = predict(&stage, &request);
    stop_before_the_table(&stage, &request);
    let file = |model: usize| format!("rows.csv.part/{model}");
    let parts = [0, 1, 2].map(|model| fs::read(stage.path(&file(model))).expect("all images are done"));
    let leave = |model: usize, bytes: usize| stage.write(&file(model), &parts[model][..bytes]);
    // Of two batches each has the first; the last byte of the second is missing.
    let first_batch = |model: usize| leave(model, parts[model].len() - 1);
    (0..3).for_each(first_batch);
    let (told, rows) = predict(&stage, &request);
    assert_eq!(told.matches("going on after 32 of 60 images: `rows.csv.part/").count(), 3, "{told}");
    assert!(told.contains(&format!("\n3{AT_ONCE}")) && rows == whole, "{told}");
    // One has a batch more than the others.
    let nothing = |model: usize| leave(model, 1 + parts[model].iter().position(|&byte| byte == b'\n').expect("a line"));
    first_batch(0);
    (1..3).for_each(nothing);
    let (told, rows) = predict(&stage, &request);
    assert!(told.contains(&format!("\n2{AT_ONCE}")) && plans(&told) == 2 && rows == whole, "{told}");
    // One is done.
    leave(0, parts[0].len());
    (1..3).for_each(first_batch);
    let (told, rows) = predict(&stage, &request);
    assert!(told.contains(&format!("\n2{AT_ONCE}")) && plans(&told) == 1 && rows == whole, "{told}");
}

#[test]
fn models_that_are_stopped_together_keep_what_is_done_and_end_with_the_same_bytes() {
    let stage = of_folds();
    draw_set(&stage.path("data/many"), 100);
    let request = request(&format!("--fold-results {RUN}"));
    let (_, whole) = predict(&stage, &request);
    for signal in ["KILL", "INT"] {
        let mut running = stage.start(&request);
        // The line that begins the file is shorter, and a batch takes it there.
        running.wait_for_bytes("rows.csv.part/2", 1000);
        let ended = running.signal(signal);
        if signal == "INT" {
            let end = " of 300 images are done and kept in `rows.csv.part`\n\nhint: go on with the same command\n";
            assert!(ended.code == Some(130) && ended.stderr.ends_with(end), "{}", ended.stderr);
        }
        let (told, rows) = predict(&stage, &request);
        assert_eq!(told.matches("going on after ").count(), 3, "{told}");
        // A kill may come between the files of two models.
        assert!(signal == "KILL" || told.contains(&format!("\n3{AT_ONCE}")), "{told}");
        assert!(rows == whole, "the rows differ after {signal}");
    }
}
