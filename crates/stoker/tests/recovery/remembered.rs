//! One image that does not fit, and the run that is resumed after it.

use insta::assert_snapshot;

use crate::stage::{RUN, Stage, assert_same_losses, told, without_sizes};

#[test]
fn one_image_that_does_not_fit_is_explained_and_the_resumed_run_remembers() {
    let undisturbed = Stage::new();
    undisturbed.succeed("train --config tiny.yaml", &[]);
    let stage = Stage::new();
    // Halved in the first epoch, and in the second until nothing is left to halve.
    let ended = stage.run("train --config tiny.yaml", &[("STOKER_INJECT_OUT_OF_MEMORY", "0,4,4,4")]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let error = ended.stderr.find("error: ").expect("it failed");
    assert_snapshot!(without_sizes(&stage.scrub(&ended.stderr[error..])));
    assert_eq!(stage.sizes(), [[0, 8, 4], [4, 4, 2], [4, 2, 1]]);

    let stderr = stage.succeed(&format!("train --resume {RUN}"), &[]);
    let note = "micro-batch 1 in place of 8: memory ran out earlier in this run (`memory_events.jsonl`)";
    assert_eq!(told(&stderr), [note]);
    assert_eq!(stage.events().len(), 3);
    assert_same_losses(&stage.losses(), &undisturbed.losses());
}

/// A heap that holds the weights but no step: the hint names a limit that does.
#[test]
fn a_limit_below_one_image_names_one_that_suffices() {
    let stage = Stage::new();
    let train = "train --config tiny.yaml --set train.effective_batch_size=2 --set train.micro_batch_size=2";
    let ended = stage.run(train, &[("STOKER_INJECT_MEMORY_LIMIT", "30MiB")]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let hint = ended.stderr.split_once("hint: set `memory.limit: ").expect("it has a hint").1;
    let enough = hint.split_once("MiB` or more in ").expect("it names an amount").0;
    let enough: u64 = enough.parse().expect("whole MiB");
    assert!((31..200).contains(&enough), "{enough} MiB");
    let injected = [("STOKER_INJECT_MEMORY_LIMIT", format!("{enough}MiB"))];
    let injected = injected.each_ref().map(|(name, value)| (*name, value.as_str()));
    // Under a raised limit, what was learnt below it does not count: two images are tried again.
    let stderr = stage.succeed(&format!("train --resume {RUN}"), &injected);
    assert!(!stderr.contains(" in place of "), "{stderr}");
}
