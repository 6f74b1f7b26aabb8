//! `config-groups`, and what `model.freeze` and `train.class_weights` are refused for.

use insta::assert_snapshot;

use crate::stage::Stage;

const CONFIG: &str = "\
data: {train: photos}
model: {name: convnext_atto}
";

#[test]
fn groups_of_a_plain_configuration() {
    assert_snapshot!(Stage::with_config(CONFIG).run("config-groups --config x.yaml"));
}

#[test]
fn frozen_parts_layers_and_a_fast_head() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run_arguments(&[
        "config-groups",
        "--config",
        "x.yaml",
        "--set",
        "model.freeze=[stem, 'stages.0.*']",
        "--set",
        "train.layer_decay=0.75",
        "--set",
        "train.head_learning_rate_scale=10",
        "--set",
        "train.optimizer=lion",
        "--set",
        "train.weight_decay=0.3",
    ]));
}

#[test]
fn a_pattern_that_names_nothing_is_refused_with_the_nearest_name() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run("config-groups --config x.yaml --set model.freeze=[stage.0]"));
}

#[test]
fn a_plan_refuses_it_too() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run("plan --config x.yaml --gpu rtx3060 --test-only --set model.freeze=[xyzzy]"));
}

#[test]
fn nothing_left_to_train_is_refused() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run_arguments(&["config-groups", "--config", "x.yaml", "--set", "model.freeze=['*']"]));
}

#[test]
fn text_for_a_list_is_refused() {
    assert_snapshot!(Stage::with_config(CONFIG).run("config-groups --config x.yaml --set model.freeze=stem"));
}

#[test]
fn a_constant_that_the_optimizer_lacks_warns() {
    let stage = Stage::with_config(CONFIG);
    assert_snapshot!(stage.run("config-groups --config x.yaml --set train.optimizer=sgd --set train.epsilon=1e-6"));
}

#[test]
fn its_help_teaches() {
    assert_snapshot!(Stage::new().run("config-groups --help"));
}

#[test]
fn class_weights_need_a_number_for_each_class() {
    let picture = |shade: u8| {
        let mut png = std::io::Cursor::new(Vec::new());
        let image = image::RgbImage::from_pixel(32, 32, image::Rgb([shade; 3]));
        image.write_to(&mut png, image::ImageFormat::Png).expect("it is in memory");
        png.into_inner()
    };
    let mut stage = Stage::with_config("data: {train: photos}\nmodel: {image_size: 32}\ndevice: cpu\n");
    for (class, shade) in [("cat", 10), ("dog", 200)] {
        for number in 0..4 {
            stage = stage.file(&format!("photos/{class}/{number}.png"), picture(shade + number));
        }
    }
    assert_snapshot!(stage.run("train --config x.yaml --set train.class_weights=[1,2,3]"));
}
