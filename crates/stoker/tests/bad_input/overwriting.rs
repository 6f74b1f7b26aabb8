//! Outputs that are something that is read, or a run's own: refused before anything is computed. What a command wrote itself it may replace.

use std::fs;

use crate::stage::Stage;

const PREDICT: &str = "predict --run runs/latest --device cpu --input";

/// Has each request refused in the words beside it.
fn refuse_all(stage: &Stage, command: &str, requests: &[(&str, &str)]) {
    for (request, said) in requests {
        let printed = stage.refuse(&format!("{command} {request}"));
        assert!(printed.contains(said), "`{request}`: no `{said}` in\n{printed}");
    }
}

fn succeed(stage: &Stage, arguments: &str) {
    let printed = stage.run(arguments);
    assert!(printed.contains("exit code 0"), "{printed}");
}

#[test]
fn a_prediction_never_replaces_what_it_reads() {
    let stage = Stage::trained()
        .file("list.csv", "file\nphotos/cat/0.png\n")
        .file("sample.csv", "id,cat,dog\ncat/0,0,1\n")
        .file("rows.csv.part", "{\"stoker_part\":1,\"facts\":[],\"images\":3,\"classes\":2,\"batch_size\":1}\n")
        .photos("kept.csv.part/cat", 200);
    succeed(&stage, "calibrate --run runs/latest --device cpu --output mine.json");
    let list = fs::read(stage.path("list.csv")).expect("it is there");
    let requests = [
        ("list.csv --output list.csv", "cannot write `list.csv`: it is the input `list.csv`"),
        ("list.csv --output photos/../list.csv", "cannot write `photos/../list.csv`: it is the input `list.csv`"),
        ("list.csv --output photos/cat/0.png --format csv", "it is the image `"),
        ("photos --output photos/cat/0.png --format csv", "it is the image `photos/cat/0.png`"),
        ("photos/cat/0.png --output photos/cat/0.png --format csv", "it is the input `photos/cat/0.png`"),
        ("photos --template sample.csv --output sample.csv", "it is the template `sample.csv`"),
        ("photos --calibration mine.json --output mine.json --format csv", "it is the calibration `mine.json`"),
        ("photos --output rows.csv.part --format csv", "it keeps predictions that were begun"),
        ("kept.csv.part --output kept.csv", "cannot write `kept.csv.part`: it holds the input `kept.csv.part`"),
    ];
    refuse_all(&stage, PREDICT, &requests);
    assert_eq!(fs::read(stage.path("list.csv")).expect("it is there"), list);
}

#[cfg(unix)]
#[test]
fn links_to_what_is_read_are_followed() {
    let stage = Stage::trained().file("list.csv", "file\nphotos/cat/0.png\n").file("elsewhere.csv", "no picture");
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, stage.path(name)).expect("writable");
    link("list.csv", "link.csv");
    link("../../elsewhere.csv", "photos/cat/link.png");
    let requests = [
        ("link.csv --output list.csv", "it is the input `link.csv`"),
        ("list.csv --output link.csv", "it is the input `list.csv`"),
        ("photos --output elsewhere.csv", "it is the image `photos/cat/link.png`"),
    ];
    refuse_all(&stage, PREDICT, &requests);
}

#[test]
fn a_prediction_replaces_earlier_tables_in_a_run_folder_and_nothing_else() {
    let stage = Stage::trained();
    let outputs = ["", " --output runs/latest/predictions.jsonl", " --output runs/latest/mine.csv"];
    for output in outputs.into_iter().chain(outputs) {
        succeed(&stage, &format!("{PREDICT} photos{output}"));
    }
    let run = stage.run_path("pets");
    let stage = stage.file(&format!("{run}/notes.csv"), "file,remark\ncat/0.png,blurred\n");
    // What folds are scored by has the columns of any prediction.
    fs::copy(stage.path(&format!("{run}/mine.csv")), stage.path(&format!("{run}/out_of_fold.csv"))).expect("writable");
    let said = "it is a file of the run `runs/DATE/pets`";
    let requests = [
        ("photos --format csv --output runs/latest/config.resolved.yaml", said),
        ("photos --format csv --output runs/latest/checkpoints/best.safetensors", said),
        ("photos --output runs/latest/metrics.jsonl", said),
        ("photos --output runs/latest/notes.csv", said),
        ("photos --output runs/latest/out_of_fold.csv", said),
    ];
    refuse_all(&stage, PREDICT, &requests);
}

#[test]
fn an_evaluation_replaces_earlier_ones_and_nothing_that_is_read_or_a_runs_own() {
    let stage = Stage::trained().file("found/per_class.csv", "file,label\n../photos/cat/0.png,cat\n");
    let evaluate = "evaluate --run runs/latest --device cpu --input";
    succeed(&stage, &format!("{evaluate} photos"));
    succeed(&stage, &format!("{evaluate} photos"));
    let own = "cannot write `runs/latest/confusion_matrix.svg`: it is a file of the run `runs/DATE/pets`";
    let input = "cannot write `found/per_class.csv`: it is the input `found/per_class.csv`";
    let requests = [("photos --output runs/latest", own), ("found/per_class.csv --output found", input)];
    refuse_all(&stage, evaluate, &requests);
}

#[test]
fn a_calibration_replaces_earlier_ones_and_nothing_that_is_read_or_a_runs_own() {
    let stage = Stage::trained();
    let calibrate = "calibrate --run runs/latest --device cpu --output";
    succeed(&stage, &format!("{calibrate} runs/latest/own.json"));
    succeed(&stage, &format!("{calibrate} runs/latest/own.json"));
    let picture = "cannot write `runs/latest/confusion_matrix.svg`: it is a file of the run `runs/DATE/pets`";
    let requests = [
        ("runs/latest/config.resolved.yaml", "it is a file of the run `runs/DATE/pets`"),
        ("runs/latest/confusion_matrix.json", picture),
        ("same.svg", "`same.svg` is the name of the temperature's picture"),
    ];
    refuse_all(&stage, calibrate, &requests);
    let stage = stage.file("notes.json", "{\"temperature\": \"as ever\"}").file("plots.svg", "<svg></svg>");
    let requests = [
        ("notes.json", "cannot write `notes.json`: what is there is no calibration"),
        ("plots.json", "cannot write `plots.svg`: what is there is no picture of a calibration, which goes beside it"),
    ];
    refuse_all(&stage, calibrate, &requests);
    // Both are there after the first time.
    succeed(&stage, &format!("{calibrate} mine.json"));
    succeed(&stage, &format!("{calibrate} mine.json"));
}

#[test]
fn an_ensembles_temperature_has_another_name_than_its_picture() {
    let stage = Stage::trained();
    let calibrate = "calibrate --run runs/latest --run runs/latest --device cpu --output";
    refuse_all(&stage, calibrate, &[("same.SVG", "`same.SVG` is the name of the temperature's picture")]);
}

#[test]
fn an_export_replaces_earlier_ones_and_nothing_that_is_read_or_a_runs_own() {
    let stage = Stage::trained();
    succeed(&stage, "export --run runs/latest --format safetensors --output w.safetensors");
    succeed(&stage, "export --run runs/latest --format onnx --output runs/latest/m.onnx");
    succeed(&stage, "export --run runs/latest --format onnx --output runs/latest/m.onnx --overwrite");
    let said = "it is a file of the run `runs/DATE/pets`";
    let requests = [
        ("--run runs/latest --output runs/latest/checkpoints/last.safetensors", said),
        ("--run runs/latest --output runs/latest/config.resolved.yaml", said),
        ("--weights w.safetensors --output w.safetensors", "it is the file of weights `w.safetensors`"),
    ];
    refuse_all(&stage, "export --format safetensors --overwrite", &requests);
}
