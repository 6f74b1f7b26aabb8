//! Templates that are followed, and those that cannot be.

use insta::assert_snapshot;

use crate::pictures;
use crate::stage::Stage;

const PREDICT: &str = "predict --run runs/latest --device cpu --input test --template sample.csv --output rows.csv";

/// Three images in two folders, one of them none, and a template.
fn stage(template: &str) -> Stage {
    Stage::trained()
        .file("test/a/1.png", pictures::photo(200, 1))
        .file("test/a/2.png", "no image")
        .file("test/b/3.png", pictures::photo(20, 1))
        .file("sample.csv", template)
}

#[test]
fn a_template_of_labels_is_followed() {
    let stage = stage("image,animal\n3,cat\n1,cat\n2,cat\n");
    assert_snapshot!("printed_for_a_template_of_labels", stage.run(PREDICT));
    let rows = stage.read("rows.csv");
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!((rows[0], rows[3], rows.len()), ("image,animal", "2,", 4), "the second image cannot be read");
    for (row, id) in [(rows[1], "3"), (rows[2], "1")] {
        let label = row.strip_prefix(id).expect("the template's order");
        assert!(label == ",cat" || label == ",dog", "{row}");
    }
}

#[test]
fn a_template_of_indices_is_followed_and_told() {
    let stage = stage("id,label\n1.png,0\n2.png,0\n3.png,1\n");
    assert_snapshot!(stage.run(PREDICT));
    let plain =
        stage.run("predict --run runs/latest --device cpu --input test --output plain.csv --columns file,index");
    assert!(plain.contains("exit code 0"), "{plain}");
    let without_folders = stage.read("plain.csv").replace("a/", "").replace("b/", "");
    assert_eq!(stage.read("rows.csv").replace("id,label", "file,index"), without_folders);
}

#[test]
fn a_template_of_probabilities_has_them_in_its_own_order() {
    let stage = stage("path,dog,cat,error\nb/3.png,0.5,0.5,\na/1.png,0.5,0.5,\na/2.png,0.5,0.5,\n");
    assert!(stage.run(PREDICT).contains("exit code 0"));
    let columns = "--columns file,probabilities,error --output plain.csv";
    assert!(
        stage.run(&format!("predict --run runs/latest --device cpu --input test {columns}")).contains("exit code 0")
    );
    let (filled, plain) = (stage.read("rows.csv"), stage.read("plain.csv"));
    let cells = |table: &str, line: usize| -> Vec<String> {
        table.lines().nth(line).expect("a row").splitn(4, ',').map(str::to_owned).collect()
    };
    assert_eq!(cells(&filled, 0), ["path", "dog", "cat", "error"]);
    for (line, of_plain) in [(1, 3), (2, 1), (3, 2)] {
        let [file, cat, dog, error] = <[String; 4]>::try_from(cells(&plain, of_plain)).expect("four columns");
        assert_eq!(cells(&filled, line), [file, dog, cat, error]);
    }
}

#[test]
fn a_template_of_one_probability_for_two_classes_is_followed_and_told() {
    let stage = stage("id,label\n1,0.5\n2,0.5\n3,0.5\n");
    let printed = stage.run(PREDICT);
    let note = "note: the column `label` takes the probability of `dog`; what it lacks to 1 is that of `cat`\n";
    assert!(printed.contains("exit code 0") && printed.contains(note), "{printed}");
    let plain = "predict --run runs/latest --device cpu --input test --columns probabilities --output plain.csv";
    assert!(stage.run(plain).contains("exit code 0"));
    let last_cells = |table: &str| -> Vec<String> {
        let lines = stage.read(table).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        lines.iter().map(|line| line.rsplit(',').next().unwrap_or_default().to_owned()).collect()
    };
    let filled = last_cells("rows.csv");
    assert_eq!(filled, last_cells("plain.csv"), "the last class is `dog`");
    assert!(!filled[0].is_empty() && filled[1].is_empty(), "the second image cannot be read: {filled:?}");
}

#[test]
fn columns_that_are_no_classes_are_named_alone() {
    assert_snapshot!(stage("id,label,usage\n1,cat,public\n2,cat,public\n3,cat,private\n").refuse(PREDICT));
}

#[test]
fn a_checkpoint_of_other_classes_than_the_template_is_refused() {
    assert_snapshot!("columns_of_other_classes", stage("id,cat,owl\n1,0,0\n2,0,0\n3,0,0\n").refuse(PREDICT));
    assert_snapshot!("labels_of_other_classes", stage("id,label\n1,cat\n2,owl\n3,cat\n").refuse(PREDICT));
}

#[test]
fn labels_that_show_no_form_are_refused_unless_it_is_told() {
    let stage = stage("id,label\n1,\n2,\n3,\n");
    assert_snapshot!(stage.refuse(PREDICT));
    assert!(stage.run(&format!("{PREDICT} --labels names")).contains("exit code 0"));
}

#[test]
fn one_name_in_two_folders_is_refused_with_both() {
    let stage = stage("id,label\n1,cat\n2,cat\n3,cat\n").file("test/b/1.png", pictures::photo(20, 2));
    assert_snapshot!(stage.refuse(PREDICT));
}

#[test]
fn ids_and_images_that_do_not_pair_up_are_refused() {
    assert_snapshot!("an_id_without_an_image", stage("id,label\n1,cat\n2,cat\n3,cat\n4,cat\n").refuse(PREDICT));
    assert_snapshot!("an_image_without_an_id", stage("id,label\n1,cat\n2,cat\n").refuse(PREDICT));
    assert_snapshot!("an_id_twice", stage("id,label\n1,cat\n2,cat\n3,cat\n1,cat\n").refuse(PREDICT));
}

#[test]
fn what_is_no_template_is_refused() {
    assert_snapshot!("a_template_without_rows", stage("id,label\n").refuse(PREDICT));
    assert_snapshot!("a_template_with_semicolons", stage("id;label\n1;cat\n").refuse(PREDICT));
    assert_snapshot!("a_missing_template", stage("").refuse(&PREDICT.replace("sample.csv", "samples.csv")));
}
