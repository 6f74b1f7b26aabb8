//! Recipes beside what the file and the flags say.

use insta::assert_snapshot;

use crate::stage::Stage;

/// Without a word on what is validated.
const OPEN: &str = "\
name: pets
device: cpu
output: runs
data: {train: photos, workers: 1}
model: {name: convnext_atto, image_size: 32}
train: {epochs: 1, effective_batch_size: 4, warmup_epochs: 0, top_k: 1}
";

fn stage() -> Stage {
    Stage::new().file("x.yaml", OPEN)
}

#[test]
fn a_recipe_fills_what_is_open_and_says_so() {
    assert_snapshot!(stage().run("train --config x.yaml --mode basic --set data.validation_share=0.34"));
}

#[test]
fn a_share_from_a_flag_keeps_a_recipe_from_folds() {
    let settings = "--set data.validation_share=0.34 --set train.ema_decay=null --set predict.tta=none";
    assert_snapshot!(stage().run(&format!("train --config x.yaml --mode highperf {settings}")));
}

#[test]
fn a_flag_for_an_unknown_key_is_refused_beside_a_recipe() {
    assert_snapshot!(stage().refuse("train --config x.yaml --mode highperf --set train.epoch=3"));
}

#[test]
fn one_fold_of_a_recipe_is_trained() {
    let printed = stage().run("train --config x.yaml --mode highperf --fold 4 --set data.folds=6");
    assert!(printed.contains("exit code 0") && printed.contains("\nfold 4, of 0 to 5\n"), "{printed}");
    assert!(printed.contains("mode highperf sets model.drop_path NUMBER, "), "the folds are a flag's: {printed}");
}

/// The last lines tell what comes next, and it works: each fold was calibrated on the images that its model was not trained on.
#[test]
fn folds_of_the_recipe_end_calibrated() {
    let stage = stage();
    let settings = "--set data.folds=3 --set predict.tta=none --set train.ema_decay=null";
    let printed = stage.run(&format!("train --config x.yaml --mode highperf {settings}"));
    assert!(printed.contains("exit code 0"), "{printed}");
    assert_eq!(printed.matches("\ncalibration on the validation images:\n").count(), 3, "{printed}");
    assert_eq!(printed.matches(", fitted on 4 validation images in one view each\n").count(), 3, "{printed}");
    let run = stage.run_path("pets");
    (0..3).for_each(|fold| assert!(stage.path(&format!("{run}/fold_{fold}/calibration.json")).exists()));
    let command = format!(
        "predict --fold-results {run}/fold_results.yaml --input photos --output predictions.csv --use-calibration"
    );
    let told = command.replace("--input photos", "--input FOLDER");
    let date = run.split('/').nth(1).expect("runs/DATE/pets");
    assert!(printed.contains(&format!("\n  stoker {}\n", told.replace(date, "DATE"))), "{printed}");
    let predicted = stage.run(&command);
    assert!(predicted.contains("exit code 0"), "{predicted}");
}

#[test]
fn a_run_that_is_calibrated_tells_how_to_predict_with_it() {
    let settings = "--set data.validation_share=0.34 --set train.calibrate=true --set predict.tta=legacy";
    assert_snapshot!(stage().run(&format!("train --config x.yaml {settings}")));
}
