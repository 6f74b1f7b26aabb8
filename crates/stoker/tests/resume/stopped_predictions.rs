//! Predictions that were stopped, gone on with: the same bytes as without.

use std::fs;
use std::process::Command;

use crate::stage::{Ended, RUN, Stage, draw_set};

/// Images of the set: the last batch is not full, and two images are none.
const IMAGES: usize = 3 * 20 + 2;

/// Batches of four, in three views.
fn request(output: &str) -> String {
    format!("predict --run {RUN} --input data/many --tta legacy --batch-size 4 --output {output}")
}

struct Undisturbed {
    stage: Stage,
    csv: Vec<u8>,
    /// The lines that end the output.
    summary: String,
    /// `rows.csv.part` with every image in it.
    part: Vec<u8>,
}

/// A finished run, and what it predicts when nothing happens. What is kept on the way is taken from a prediction that cannot write its table.
fn undisturbed() -> Undisturbed {
    let stage = Stage::finished();
    draw_set(&stage.path("data/many"), 20);
    stage.write("data/many/dots/20.png", b"no image");
    stage.write("data/many/waves/half.jpg", b"\xff\xd8\xff\xe0 cut short");
    let summary = stage.succeed(&request("rows.csv")).stdout;
    let csv = fs::read(stage.path("rows.csv")).unwrap();
    fs::remove_file(stage.path("rows.csv")).unwrap();
    assert!(!stage.path("rows.csv.part").exists());
    let ended = stage.run_without_table("rows.csv", ":", &request("rows.csv"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let hint = format!("hint: all {IMAGES} images are done: the same command goes on with writing\n");
    assert!(ended.stderr.ends_with(&hint), "{}", ended.stderr);
    let part = fs::read(stage.path("rows.csv.part")).unwrap();
    fs::remove_file(stage.path("rows.csv.part")).unwrap();
    Undisturbed { stage, csv, summary, part }
}

impl Undisturbed {
    fn assert_ends_the_same(&self) -> String {
        let ended = self.stage.succeed(&request("rows.csv"));
        assert!(fs::read(self.stage.path("rows.csv")).unwrap() == self.csv, "the rows differ");
        assert_eq!(ended.stdout, self.summary);
        assert!(!self.stage.path("rows.csv.part").exists());
        fs::remove_file(self.stage.path("rows.csv")).unwrap();
        ended.stderr
    }

    /// Where the first block begins: behind the line that says what is predicted.
    fn start(&self) -> usize {
        self.part.iter().position(|&byte| byte == b'\n').unwrap() + 1
    }
}

#[test]
fn killed_at_any_point_the_same_command_ends_with_the_same_bytes() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    let blocks = undisturbed.part.len() - undisturbed.start();
    for share in [0.0, 0.2, 0.5, 0.9] {
        let bytes = undisturbed.start() as u64 + (blocks as f64 * share) as u64;
        let mut running = stage.start(&request("rows.csv"));
        running.wait_for_bytes("rows.csv.part", bytes);
        running.kill();
        undisturbed.assert_ends_the_same();
    }
    // Over and over, each a little later than the last.
    for bytes in (0..5).map(|step| undisturbed.start() + blocks * step / 5) {
        let mut running = stage.start(&request("rows.csv"));
        running.wait_for_bytes("rows.csv.part", bytes as u64);
        running.kill();
    }
    undisturbed.assert_ends_the_same();
}

/// A kill leaves a beginning of the file; a test that only kills may never meet the worst one.
#[test]
fn whatever_beginning_of_the_file_is_there_the_end_is_the_same() {
    let undisturbed = undisturbed();
    let (start, end) = (undisturbed.start(), undisturbed.part.len());
    for length in [0, 1, start / 2, start - 1, start, start + 7, (start + end) / 2, end - 1, end] {
        undisturbed.stage.write("rows.csv.part", &undisturbed.part[..length]);
        let told = undisturbed.assert_ends_the_same();
        assert_eq!(told.contains("going on after "), length > (start + end) / 3, "{length} bytes: {told}");
    }
}

#[test]
fn other_formats_go_on_as_well() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    for output in ["rows.parquet", "rows.jsonl"] {
        stage.succeed(&request(output));
        let whole = fs::read(stage.path(output)).unwrap();
        fs::remove_file(stage.path(output)).unwrap();
        stage.write(&format!("{output}.part"), &undisturbed.part[..undisturbed.part.len() / 2]);
        assert!(stage.succeed(&request(output)).stderr.contains("going on after "), "{output}");
        assert!(fs::read(stage.path(output)).unwrap() == whole, "{output}");
    }
}

#[test]
fn ctrl_c_keeps_what_is_done_and_says_how_to_go_on() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    // As slow as it gets, so that the signal comes in time.
    let slow = format!("predict --run {RUN} --input data/many --tta comprehensive --batch-size 1 --output slow.csv");
    stage.succeed(&slow);
    let whole = fs::read(stage.path("slow.csv")).unwrap();
    fs::remove_file(stage.path("slow.csv")).unwrap();
    let mut running = stage.start(&slow);
    // Its first line is longer, for it has more views to tell.
    running.wait_for_bytes("slow.csv.part", 3 * undisturbed.start() as u64);
    let ended = running.signal("INT");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let end =
        format!(" of {IMAGES} images are done and kept in `slow.csv.part`\n\nhint: go on with the same command\n");
    assert!(ended.stderr.contains("\nerror: interrupted; ") && ended.stderr.ends_with(&end), "{}", ended.stderr);
    assert!(!stage.path("slow.csv").exists());
    let told = stage.succeed(&slow).stderr;
    assert!(told.contains("going on after "), "{told}");
    assert!(fs::read(stage.path("slow.csv")).unwrap() == whole);
}

#[test]
fn a_full_disk_costs_nothing_that_is_done() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    // In the units of `ulimit -f`, 512 bytes or 1024: the line that begins the file fits, the blocks do not.
    let units = undisturbed.part.len() / 2 / 1024;
    assert!(units * 1024 < undisturbed.part.len() && units * 512 > undisturbed.start() + 200, "{units}");
    // Without the trap the system ends the process, which a disk does not.
    let script = format!("trap '' XFSZ; ulimit -f {units}; exec \"$@\"");
    let stoker = stage.command(&request("rows.csv"));
    let mut limited = Command::new("sh");
    limited.args(["-c", &script, "sh"]).arg(stoker.get_program()).args(stoker.get_args());
    limited.current_dir(stage.path("")).env("NO_COLOR", "1").env_remove("CARGO_MANIFEST_DIR");
    let ended = Ended::of(limited.output().expect("`sh` is there"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let error = "error: cannot write `rows.csv.part`\n  caused by: File too large (os error 27)\n\n\
                 hint: lift the limit on the size of a file (`ulimit -f unlimited`), then go on with the same command: ";
    assert!(ended.stderr.contains(error), "{}", ended.stderr);
    assert!(ended.stderr.ends_with(" images are done and kept in `rows.csv.part`\n"), "{}", ended.stderr);
    assert!(undisturbed.assert_ends_the_same().contains("going on after "));
}

#[test]
fn predictions_that_were_begun_otherwise_are_kept_and_refused() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    let half = &undisturbed.part[..undisturbed.part.len() / 2];
    stage.write("rows.csv.part", half);
    let refused = |arguments: &str, what: &str| {
        let ended = stage.run(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let error = format!(" predictions that were begun otherwise: {what} `");
        assert!(ended.stderr.contains(&error), "{}", ended.stderr);
        assert!(ended.stderr.contains("or give them up: `rm rows.csv.part`"), "{}", ended.stderr);
        assert!(fs::read(stage.path("rows.csv.part")).unwrap() == half);
    };
    let with = |from: &str, to: &str| request("rows.csv").replace(from, to);
    refused(&with("legacy", "essential"), "views");
    // Rules have the names that are typed.
    refused(&with("--tta", "--merge max --tta"), "merge `mean`, and now");
    refused(&with("--tta", "--checkpoint last --tta"), "weights");
    refused(&with("data/many", "data/test"), "images");
    // The size of batches is no difference: the batches stay as they were begun.
    stage.succeed(&with("--batch-size 4", "--batch-size 7"));
    assert!(fs::read(stage.path("rows.csv")).unwrap() == undisturbed.csv);

    fs::remove_file(stage.path("rows.csv")).unwrap();
    stage.write("rows.csv.part", half);
    stage.write("data/many/dots/3.png", b"another file in its place");
    refused(&request("rows.csv"), "input");
}

#[test]
fn the_size_that_a_prediction_goes_on_with_is_told_where_another_would_be_taken() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    let told = |batch_size: &str| {
        stage.write("rows.csv.part", &undisturbed.part[..undisturbed.part.len() / 2]);
        let told = stage.succeed(&request("rows.csv").replace(" --batch-size 4", batch_size)).stderr;
        fs::remove_file(stage.path("rows.csv")).unwrap();
        told
    };
    for other in ["", " --batch-size 7"] {
        let told = told(other);
        assert!(told.contains("\n4 images at once: as it was begun\n"), "{told}");
        assert_eq!(told.matches(" at once").count(), 1, "{told}");
    }
    let same = told(" --batch-size 4");
    assert!(!same.contains(" at once"), "{same}");
}

/// A batch that is computed in other pieces may round otherwise: what goes on keeps to the pieces that memory allowed.
#[test]
fn images_that_ran_out_of_memory_stay_in_small_pieces() {
    let undisturbed = undisturbed();
    let stage = &undisturbed.stage;
    let injected = || {
        let mut command = stage.command(&request("small.csv"));
        Ended::of(command.env("STOKER_INJECT_OUT_OF_MEMORY", "eval:0").output().expect("the binary was built"))
    };
    // What is kept on the way, whole, of a prediction that cannot write its table.
    let inject = "export STOKER_INJECT_OUT_OF_MEMORY=eval:0";
    assert_eq!(stage.run_without_table("small.csv", inject, &request("small.csv")).code, Some(1));
    let part = fs::read(stage.path("small.csv.part")).unwrap();
    fs::remove_file(stage.path("small.csv.part")).unwrap();
    let ended = injected();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("4 images at once: injected by a test; the same images again, 2 at once"));
    let small = fs::read(stage.path("small.csv")).unwrap();
    fs::remove_file(stage.path("small.csv")).unwrap();
    stage.write("small.csv.part", &part[..part.len() / 2]);
    let told = stage.succeed(&request("small.csv")).stderr;
    assert!(told.contains("\n2 images at once: as memory allowed before\n"), "{told}");
    assert!(fs::read(stage.path("small.csv")).unwrap() == small);
}
