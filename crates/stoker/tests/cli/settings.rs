//! Configuration files with wrong settings.

use insta::assert_snapshot;

use crate::stage::Stage;

fn train_with(settings: &str) -> String {
    Stage::with_config(format!("data:\n  train: photos\n{settings}")).run("train --config x.yaml")
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    assert_snapshot!(train_with("train:\n  learning_rate: 0.1\n  epoch: 3\n"));
}

#[test]
fn an_unknown_key_like_no_other_lists_the_keys_of_its_section() {
    assert_snapshot!(train_with("memory:\n  xyzzy: 3\n"));
}

#[test]
fn an_unknown_section_is_refused_with_the_nearest_one() {
    assert_snapshot!(train_with("trian:\n  epochs: 3\n"));
}

#[test]
fn a_name_from_pytorch_leads_to_ours() {
    assert_snapshot!(train_with("train:\n  lr: 0.1\n"));
}

#[test]
fn a_dotted_key_is_told_to_nest() {
    assert_snapshot!(train_with("train.epochs: 3\n"));
}

#[test]
fn the_training_images_must_be_given() {
    assert_snapshot!(Stage::with_config("name: x\n").run("train --config x.yaml"));
}

#[test]
fn a_list_for_the_training_images_is_refused() {
    assert_snapshot!(Stage::with_config("data: {train: [a, b]}\n").run("train --config x.yaml"));
}

#[test]
fn a_section_that_is_a_list_is_told_once() {
    assert_snapshot!(Stage::with_config("data: [photos]\n").run("train --config x.yaml"));
}

#[test]
fn a_key_without_a_name_is_unknown() {
    assert_snapshot!(train_with("\"\": 3\n"));
}

#[test]
fn text_for_a_number_is_refused() {
    assert_snapshot!(train_with("train:\n  epochs: three\n"));
}

#[test]
fn a_number_out_of_its_range_is_refused() {
    assert_snapshot!(train_with("train:\n  epochs: 0\n"));
}

#[test]
fn a_number_for_text_asks_for_quotes() {
    assert_snapshot!(train_with("name: 7\n"));
}

#[test]
fn an_empty_value_is_refused_at_its_key() {
    assert_snapshot!(train_with("train:\n  epochs:\n  top_k: 1\n"));
}

#[test]
fn an_unknown_choice_is_refused_with_the_nearest_one() {
    assert_snapshot!(train_with("augment:\n  resize: leterbox\n"));
}

#[test]
fn a_value_for_a_section_is_refused() {
    assert_snapshot!(train_with("train: 10\n"));
}

#[test]
fn a_list_of_three_is_no_pair() {
    assert_snapshot!(train_with("augment:\n  scale: [0.1, 0.2, 0.3]\n"));
}

#[test]
fn low_and_high_must_be_in_order() {
    assert_snapshot!(train_with("augment:\n  scale: [0.9, 0.5]\n"));
}

#[test]
fn a_micro_batch_above_the_effective_one_is_refused() {
    assert_snapshot!(train_with("train:\n  micro_batch_size: 64\n"));
}

#[test]
fn an_unknown_unit_of_memory_is_refused() {
    assert_snapshot!(train_with("memory:\n  limit: 2 apples\n"));
}

#[test]
fn a_run_name_with_a_slash_is_refused() {
    assert_snapshot!(train_with("name: ../elsewhere\n"));
}

#[test]
fn all_wrong_settings_are_told_at_once() {
    assert_snapshot!(train_with("sede: 3\ntrain:\n  epochs: -1\nmodel:\n  in_channels: 4\n"));
}

#[test]
fn an_unknown_key_in_a_section_of_a_section_is_refused_with_the_nearest_one() {
    assert_snapshot!(train_with("augment:\n  rand_augment:\n    magnitud: 9\n"));
}

#[test]
fn ranges_are_held_at_their_ends() {
    for (setting, accepted) in [
        ("train.epochs=1", true),
        ("data.validation_share=0", false),
        ("data.validation_share=1.0", false),
        ("data.validation_share=0.5", true),
        ("model.image_size=32", true),
        ("model.image_size=31", false),
        ("model.image_size=4096", true),
        ("model.image_size=4097", false),
        ("model.image_size=auto", true),
        ("model.image_size=Auto", false),
        ("model.drop_path=0.0", true),
        ("model.drop_path=1.0", false),
        ("model.dropout=0.0", true),
        ("model.dropout=1.0", false),
        ("augment.horizontal_flip=1.0", true),
        ("augment.horizontal_flip=1.01", false),
        ("augment.scale=[0, 1]", false),
        ("augment.ratio=[0.5, 3.0]", true),
        ("train.betas=[0.9, 1.0]", false),
        ("train.epsilon=0", false),
        ("train.learning_rate=.nan", false),
        ("train.learning_rate=.inf", false),
        ("train.clip_norm=0", false),
        ("train.ema_decay=1", false),
        ("train.epochs=99999999999999999999999", false),
        ("train.checkpoint_minutes=0", false),
        ("train.checkpoint_minutes=", true),
        ("data.sampling=balanced", true),
        ("data.sampling=random", false),
        ("data.decode=scaled", true),
        ("data.decode=fast", false),
        ("data.repeats=0", false),
        ("data.repeats=3", true),
        ("augment.hue=0.51", false),
        ("augment.erase_area=[0.5, 0.1]", false),
        ("augment.erase_ratio=[0, 1]", false),
        ("augment.erase_fill=pixel", true),
        ("augment.erase_fill=white", false),
        ("augment.rand_augment.num_ops=16", false),
        ("augment.rand_augment.num_ops=2", true),
        ("augment.rand_augment.magnitude=10.5", false),
        ("augment.rand_augment.increasing=1", false),
        ("augment.rand_augment=9", false),
        ("augment.noise.blur=1.5", false),
        ("augment.noise.blur_sigma=[2.0, 1.0]", false),
        ("augment.noise.blur_sigma=[0.5, 21]", false),
        ("augment.noise.jpeg_quality=[0, 50]", false),
        ("augment.noise.jpeg_quality=[40, 60]", true),
        ("augment.noise.speckle=-0.1", false),
        ("augment.mix.mixup=-1", false),
        ("augment.mix.mixup=0.8", true),
        ("augment.mix.probability=2", false),
        ("augment.mix.mode=batch", true),
        ("augment.mix.mode=all", false),
        ("memory.safety_margin=0.2", true),
        ("memory.limit=1073741824", true),
        ("device=cuda:1", true),
        ("device=gpu", false),
    ] {
        let stage = Stage::with_config("data: {train: photos}\n");
        let output = stage.output(&["config-check", "--config", "x.yaml", "--set", setting]);
        assert_eq!(output.status.success(), accepted, "{setting}");
    }
}

#[test]
fn an_unknown_view_is_refused_with_the_nearest_one() {
    assert_snapshot!(train_with("predict:\n  views: [identity, rotate90]\n"));
}

#[test]
fn a_view_like_no_other_is_told_the_forms_there_are() {
    assert_snapshot!(train_with("predict:\n  views: [sepia]\n"));
}

#[test]
fn views_and_a_preset_exclude_each_other() {
    assert_snapshot!(train_with("predict:\n  tta: legacy\n  views: [identity]\n"));
}
