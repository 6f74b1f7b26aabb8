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
