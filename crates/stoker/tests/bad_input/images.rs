//! Images that cannot be read, and images of unusual size.

use insta::assert_snapshot;

use crate::pictures;
use crate::stage::Stage;

#[test]
fn corrupt_images_are_skipped_counted_and_listed() {
    let stage = Stage::with_validation()
        .file("photos/cat/page.jpg", "this is text")
        .file("photos/dog/half.jpg", pictures::truncated_jpeg())
        .file("photos/dog/empty.png", "")
        .file("photos/dog/notes.txt", "not an image, and not named like one")
        .file("held/cat/half.jpeg", pictures::truncated_jpeg());
    assert_snapshot!(stage.run("train --config x.yaml"));
    assert_snapshot!("corrupt_images_txt", stage.read(&format!("{}/corrupt_images.txt", stage.run_path("pets"))));
}

/// Times differ from run to run.
#[test]
fn loading_is_timed_without_images_that_cannot_be_read_and_says_so() {
    let stage = Stage::new()
        .file("photos/cat/page.jpg", "this is text")
        .file("photos/dog/half.jpg", pictures::truncated_jpeg())
        .file("junk/cat/page.jpg", "this is text")
        .file("junk/dog/page.jpg", "this is text");
    let printed = stage.run("bench data --config x.yaml --epochs 2");
    for said in [
        "skipped `photos/cat/page.jpg`: ",
        "skipped `photos/dog/half.jpg`: the jpeg is cut off",
        "s; 2 files could not be read\n",
    ] {
        assert_eq!(printed.matches(said).count(), 1, "{said}\n{printed}");
    }
    let nothing = stage.run("bench data --train junk");
    assert!(nothing.contains("exit code 2") && nothing.contains("none of the 2 images could be read"), "{nothing}");
}

#[test]
fn a_text_file_named_jpg_ends_the_run_where_that_is_asked_for() {
    let stage = Stage::with_validation().file("photos/cat/page.jpg", "this is text");
    assert_snapshot!(stage.run("train --config x.yaml --set data.on_corrupt=fail"));
}

#[test]
fn a_truncated_jpeg_ends_the_run_where_that_is_asked_for() {
    let stage = Stage::with_validation().file("photos/dog/half.jpg", pictures::truncated_jpeg());
    assert_snapshot!(stage.run("train --config x.yaml --set data.on_corrupt=fail"));
}

#[test]
fn corrupt_test_images_are_counted_and_listed() {
    let stage = Stage::new().photos("tests/cat", 200).file("tests/cat/half.jpg", pictures::truncated_jpeg());
    assert_snapshot!(stage.run("train --config x.yaml --set data.test=tests"));
    let listed = stage.read(&format!("{}/corrupt_images.txt", stage.run_path("pets")));
    assert_eq!(listed, "tests/cat/half.jpg: the jpeg is cut off: it has no end marker\n");
}

#[test]
fn a_data_set_without_one_readable_image_says_where_the_reasons_are() {
    let stage = (0..3).fold(Stage::new(), |stage, number| {
        stage.file(&format!("junk/cat/{number}.jpg"), "text").file(&format!("junk/dog/{number}.jpg"), "text")
    });
    assert_snapshot!(stage.run("train --config x.yaml --set data.train=junk"));
}

#[test]
fn images_of_one_pixel_and_of_108_megapixels_are_trained_on() {
    let stage = Stage::with_validation()
        .file("photos/cat/tiny.png", pictures::tiny())
        .file("photos/dog/huge.png", pictures::huge());
    assert_snapshot!(stage.run("train --config x.yaml --set data.on_corrupt=fail"));
}

#[test]
fn an_image_too_large_to_be_decoded_takes_no_memory_in_the_plan() {
    let stage = Stage::with_validation().file("photos/dog/bomb.png", pictures::bomb());
    // At six bytes a pixel it would need twenty times as much.
    let printed = stage.run("train --config x.yaml --set memory.limit=1GiB");
    assert!(printed.contains("--- exit code 0"), "{printed}");
    assert!(
        printed.contains("skipped `photos/dog/bomb.png`: 60000 x 60000 pixels are more than the limit"),
        "{printed}"
    );
}

#[test]
fn a_large_validation_image_counts_in_the_plan() {
    let stage = Stage::with_validation().file("held/dog/huge.png", pictures::huge());
    // One image needs 108 MB, whatever else there is.
    let printed = stage.refuse("train --config x.yaml --set memory.limit=120MiB");
    assert!(printed.contains("120.0 MiB"), "{printed}");
}

#[test]
fn a_class_of_which_no_training_image_can_be_read_ends_the_run() {
    let stage = (0..4).fold(Stage::with_validation(), |stage, number| {
        stage.file(&format!("photos/bird/{number}.jpg"), "this is text")
    });
    let printed = stage.run("train --config x.yaml");
    assert!(printed.contains("--- exit code 1"), "{printed}");
    let message = "error: none of the 4 images of class `bird` could be read, among them `photos/bird/0.jpg`\n";
    assert!(printed.contains(message), "{printed}");
    assert!(printed.contains("corrupt_images.txt`"), "{printed}");
}

#[test]
fn a_class_of_which_no_validation_image_can_be_read_is_told_once() {
    let stage = Stage::with_validation()
        .photos("checked/cat", 210)
        .file("checked/dog/0.jpg", "this is text")
        .file("checked/dog/1.jpg", "this is text");
    let printed = stage.run("train --config x.yaml --set data.validation=checked --set train.epochs=2");
    assert!(printed.contains("--- exit code 0"), "{printed}");
    let told = "`dog`: none of 2 images read in validation; no score counts it";
    assert_eq!(printed.matches(told).count(), 1, "{printed}");
}
