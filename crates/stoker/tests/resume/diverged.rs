//! A run whose weights leave the finite numbers.

use crate::stage::Stage;

/// No step is left out often enough in a row to end the run at once.
#[test]
fn a_run_without_an_epoch_that_gives_numbers_fails_and_says_so_at_each() {
    let stage = Stage::new();
    let settings = ["learning_rate=1e38", "warmup_epochs=0", "clip_norm=null", "ema_decay=null"];
    let settings: String = settings.iter().map(|setting| format!(" --set train.{setting}")).collect();
    let ended = stage.run(&format!("train --config tiny.yaml{settings}"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for epoch in 1..=3 {
        let warned = format!("warning: epoch {epoch}: the validation loss is NaN: these weights predict nothing\n");
        assert!(ended.stderr.contains(&warned), "{}", ended.stderr);
    }
    let said = "error: training came to no usable weights: the validation loss of the best epoch, 1, is NaN\n";
    assert!(ended.stderr.contains(said) && ended.stderr.contains("hint: lower the learning rate"), "{}", ended.stderr);
    assert!(ended.stdout.contains("steps left out because their numbers were not finite: "), "{}", ended.stdout);
    assert!(!ended.stdout.contains("next, predict"), "there is nothing to predict with: {}", ended.stdout);
}
