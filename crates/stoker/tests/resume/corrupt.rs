//! Images that could not be read, over all processes of a run.

use std::fs;
use std::time::Duration;

use crate::stage::{RUN, Stage};

#[test]
fn a_run_that_goes_on_keeps_the_list_of_images_that_were_skipped_before() {
    let stage = Stage::new();
    let good = fs::read(stage.path("data/train/dots/0.png")).expect("it was drawn");
    for name in ["repaired", "still_broken"] {
        stage.write(&format!("data/train/dots/{name}.png"), b"text");
    }
    let mut running = stage.start("train --config tiny.yaml");
    running.wait_for_epoch_after(1, Duration::ZERO);
    assert_eq!(running.signal("INT").code, Some(130));
    let list = || fs::read_to_string(stage.run_path("corrupt_images.txt")).expect("images were skipped");
    let before = list();
    assert_eq!(before.lines().count(), 2, "{before}");
    // From now on this one can be read, so that nothing but the list tells of it.
    stage.write("data/train/dots/repaired.png", &good);
    let ended = stage.succeed(&format!("train --resume {RUN}"));
    assert_eq!(list(), before);
    let told = format!("corrupt images skipped: 2, listed in {}/corrupt_images.txt\n", stage.run_folder());
    assert!(ended.stdout.contains(&told), "{}", ended.stdout);
    assert!(!ended.stderr.contains("warning: skipped"), "each is named once: {}", ended.stderr);
}

#[test]
fn a_run_that_ended_at_a_corrupt_image_goes_on_without_it_as_its_hint_says() {
    let stage = Stage::new();
    stage.succeed("train --config tiny.yaml --set data.on_corrupt=fail --set train.epochs=1");
    stage.write("data/train/dots/0.png", b"text");
    let ended = stage.run(&format!("train --resume {RUN} --set train.epochs=2"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let hint = "hint: replace the file, or go on without it: `--set data.on_corrupt=skip`, with `--resume` too\n";
    assert!(ended.stderr.ends_with(hint), "{}", ended.stderr);
    let ended = stage.succeed(&format!("train --resume {RUN} --set data.on_corrupt=skip"));
    assert!(ended.stderr.contains("\ngoing on after epoch 1 "), "{}", ended.stderr);
    assert!(ended.stdout.contains("corrupt images skipped: 1, listed in "), "{}", ended.stdout);
}
