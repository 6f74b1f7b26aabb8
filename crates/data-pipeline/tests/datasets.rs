//! What is a data set, and what is refused with which words.

mod common;

use std::path::Path;

use common::{classes, folder, names, path_in, write, write_picture};
use data_pipeline::{Dataset, DatasetError};

/// The message with the temporary folder's name cut out.
fn message(error: &DatasetError, root: &Path) -> String {
    error.to_string().replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "ROOT")
}

fn hint(error: &DatasetError, root: &Path) -> String {
    error.hint().unwrap().replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "ROOT")
}

#[test]
fn a_folder_per_class_opens_in_natural_order_whatever_the_case_of_the_endings() {
    let root = folder();
    for file in ["10/b.JPG", "10/a.jpeg", "2/page10.png", "2/page9.WebP", "2/deeper/x.bmp", "2/notes.txt", "README.md"]
    {
        write(&root.path().join(file), "");
    }
    write(&root.path().join(".cache/1.png"), "");
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.classes, ["2", "10"]);
    assert_eq!(names(&dataset), ["2/deeper/x.bmp", "2/page9.WebP", "2/page10.png", "10/a.jpeg", "10/b.JPG"]);
    assert_eq!(dataset.class_counts(), [3, 2]);
    assert_eq!(dataset.ignored_files, 3);
}

#[test]
fn a_missing_folder_is_named_with_what_is_there_instead() {
    let root = folder();
    write(&path_in(&root, "data/train/cat/1.png"), "");
    write(&path_in(&root, "data/test/cat/1.png"), "");
    let error = Dataset::open(&path_in(&root, "data/trian")).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `data/trian` does not exist");
    assert_eq!(hint(&error, root.path()), "`data` exists and holds `test`, `train`");
    let error = Dataset::open(&path_in(&root, "data/train/cat/1.png/deeper")).unwrap_err();
    assert!(matches!(error, DatasetError::Missing { .. }), "{error:?}");
}

#[test]
fn a_file_that_is_no_csv_is_refused() {
    let root = folder();
    write(&path_in(&root, "train.zip"), "");
    let error = Dataset::open(&path_in(&root, "train.zip")).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `train.zip` is neither a folder nor a CSV file");
    assert!(error.hint().unwrap().contains("`file,label`"));
}

#[test]
fn an_empty_class_is_named() {
    let root = folder();
    write(&path_in(&root, "set/cat/1.png"), "");
    write(&path_in(&root, "set/dog/1.tiff"), "");
    let error = Dataset::open(&path_in(&root, "set")).unwrap_err();
    assert_eq!(message(&error, root.path()), "class `dog` has no images: `set/dog` holds 1 other file");
    assert!(error.hint().unwrap().contains("move the folder out"));
}

#[test]
fn one_class_only_is_refused() {
    let root = folder();
    write(&path_in(&root, "set/cat/1.png"), "");
    let error = Dataset::open(&path_in(&root, "set")).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `set` has one class only, `cat`");
    write(&path_in(&root, "one.csv"), "file,label\nset/cat/1.png,cat\n");
    let error = Dataset::open(&path_in(&root, "one.csv")).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `one.csv` has one class only, `cat`");
}

#[test]
fn a_folder_without_images_is_refused() {
    let root = folder();
    let error = Dataset::open(root.path()).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `ROOT` holds no images (0 other files)");
    write(&path_in(&root, "cat/1.txt"), "");
    write(&path_in(&root, "dog/1.txt"), "");
    let error = Dataset::open(root.path()).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `ROOT` holds no images (2 other files)");
    assert!(error.hint().unwrap().contains(".webp"));
    for error in [
        Dataset::open_for_prediction(root.path(), &[]).unwrap_err(),
        Dataset::open_for_classes(root.path(), &classes(&["cat"])).unwrap_err(),
    ] {
        assert_eq!(message(&error, root.path()), "data set `ROOT` holds no images (2 other files)");
    }
}

#[test]
fn images_without_class_folders_are_refused_with_the_layout_that_is_wanted() {
    let root = folder();
    write(&path_in(&root, "set/1.png"), "");
    write(&path_in(&root, "set/2.png"), "");
    let error = Dataset::open(&path_in(&root, "set")).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `set` holds 2 images, but no class folders");
    assert!(hint(&error, root.path()).ends_with("`set/<class>/`"));
}

#[test]
fn a_csv_opens_with_columns_in_any_order_and_files_beside_it() {
    let root = folder();
    for file in ["images/a.png", "images/b, c.png", "d.jpg"] {
        write(&root.path().join(file), "");
    }
    let text = "\u{feff}label, File ,note\r\n10,images/a.png,x\r\n2,\"images/b, c.png\",\"y\nz\"\r\n10,./d.jpg,\r\n";
    write(&path_in(&root, "labels.CSV"), text);
    let dataset = Dataset::open(&path_in(&root, "labels.CSV")).unwrap();
    assert_eq!(dataset.classes, ["2", "10"]);
    assert_eq!(names(&dataset), ["images/a.png", "images/b, c.png", "d.jpg"]);
    let labels: Vec<_> = dataset.samples.iter().map(|sample| sample.label).collect();
    assert_eq!(labels, [Some(1), Some(0), Some(1)]);
}

#[test]
fn a_csv_may_say_what_belongs_together() {
    let root = folder();
    for file in ["a.png", "b.png", "c.png"] {
        write(&root.path().join(file), "");
    }
    write(&path_in(&root, "labels.csv"), "file,Group,label\na.png,page 1,x\nb.png,,y\nc.png,page 1,y\n");
    let dataset = Dataset::open(&path_in(&root, "labels.csv")).unwrap();
    let groups: Vec<_> = dataset.samples.iter().map(|sample| sample.group.as_deref()).collect();
    assert_eq!(groups, [Some("page 1"), None, Some("page 1")]);
}

#[test]
fn a_csv_that_names_missing_files_lists_the_first_five() {
    let root = folder();
    write(&path_in(&root, "here.png"), "");
    let lines: Vec<String> = (1..=7).map(|index| format!("gone{index}.png,cat")).collect();
    write(&path_in(&root, "labels.csv"), format!("file,label\nhere.png,dog\n{}\n", lines.join("\n")));
    let error = Dataset::open(&path_in(&root, "labels.csv")).unwrap_err();
    assert_eq!(
        message(&error, root.path()),
        "`labels.csv` names 7 missing files of 8: `gone1.png` (line 3), `gone2.png` (line 4), `gone3.png` (line 5), \
         `gone4.png` (line 6), `gone5.png` (line 7) and 2 more"
    );
    assert_eq!(hint(&error, root.path()), "relative files are looked for below the CSV's folder, `ROOT`");
}

#[test]
fn a_malformed_csv_is_refused_with_its_line() {
    let root = folder();
    write(&path_in(&root, "a.png"), "");
    let cases: [(&[u8], &str); 9] = [
        (b"", "`labels.csv`, line 1: expected a column `file`, found nothing"),
        (b"path,label\na.png,x\n", "`labels.csv`, line 1: expected a column `file`, found `path`, `label`"),
        (b"file,class\na.png,x\n", "`labels.csv`, line 1: expected a column `label`, found `file`, `class`"),
        (
            b"file;label\na.png;x\n",
            "`labels.csv`, line 1: expected a column `file`, found `file;label`; fields are separated by commas",
        ),
        (b"file,label\na.png,x\na.png\n", "`labels.csv`, line 3: expected 2 fields as in the first line, found 1"),
        (b"file,label\na.png,\n", "`labels.csv`, line 2: `a.png` has no label"),
        (b"file,label\n,x\n", "`labels.csv`, line 2: the column `file` is empty"),
        (b"file,label\na.txt,x\n", "`labels.csv`, line 2: `a.txt` does not end in .jpg, .jpeg, .png, .bmp or .webp"),
        (b"file,label\na.png,\xff\xfe\n", "`labels.csv`, line 2: the text is not valid UTF-8"),
    ];
    for (content, expected) in cases {
        write(&path_in(&root, "labels.csv"), content);
        let error = Dataset::open(&path_in(&root, "labels.csv")).unwrap_err();
        assert_eq!(message(&error, root.path()), expected);
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_csv_without_rows_holds_no_images() {
    let root = folder();
    write(&path_in(&root, "labels.csv"), "file,label\n");
    let error = Dataset::open(&path_in(&root, "labels.csv")).unwrap_err();
    assert_eq!(message(&error, root.path()), "data set `labels.csv` holds no images (0 other files)");
}

#[test]
fn a_csv_that_names_a_file_twice_is_refused() {
    let root = folder();
    write(&path_in(&root, "a.png"), "");
    write(&path_in(&root, "labels.csv"), "file,label\na.png,cat\n./a.png,dog\n");
    let error = Dataset::open(&path_in(&root, "labels.csv")).unwrap_err();
    let expected = "`labels.csv`, line 3: `a.png` is named a second time, first on line 2";
    assert_eq!(message(&error, root.path()), expected);
    let conflict = "line 2 has the label `cat`, and line 3 has the label `dog`: remove the wrong one";
    assert_eq!(error.hint().unwrap(), conflict);
    write(&path_in(&root, "labels.csv"), "file,label\na.png,cat\n./a.png,cat\n");
    let error = Dataset::open(&path_in(&root, "labels.csv")).unwrap_err();
    assert_eq!(message(&error, root.path()), expected);
    assert_eq!(error.hint().unwrap(), "remove line 3");
}

#[test]
fn a_test_set_is_labelled_by_the_classes_of_training() {
    let root = folder();
    write(&path_in(&root, "test/dog/1.png"), "");
    let known = classes(&["ant", "cat", "dog"]);
    let dataset = Dataset::open_for_classes(&path_in(&root, "test"), &known).unwrap();
    assert_eq!(dataset.classes, known);
    assert_eq!(dataset.samples[0].label, Some(2));
    assert_eq!(dataset.class_counts(), [0, 0, 1]);
}

#[test]
fn a_class_that_training_never_saw_is_refused_with_an_example() {
    let root = folder();
    write(&path_in(&root, "test/cat/1.png"), "");
    write(&path_in(&root, "test/wolf/7.png"), "");
    write(&path_in(&root, "labels.csv"), "file,label\ntest/cat/1.png,cat\ntest/wolf/7.png,wolf\n");
    for name in ["test", "labels.csv"] {
        let error = Dataset::open_for_classes(&path_in(&root, name), &classes(&["cat", "dog"])).unwrap_err();
        let expected = "class `wolf` is not among the 2 classes of training (`test/wolf/7.png`)";
        assert_eq!(message(&error, root.path()), expected);
        assert_eq!(error.hint().unwrap(), "training knows `cat`, `dog`; rename or move the others");
    }
}

#[test]
fn what_is_to_be_predicted_is_labelled_where_a_folder_is_a_known_class() {
    let root = folder();
    for file in ["dog/2.png", "dog/10.png", "loose.png", "wolf/1.png", "wolf/dog/1.png", "notes.txt"] {
        write(&root.path().join(file), "");
    }
    let dataset = Dataset::open_for_prediction(root.path(), &classes(&["cat", "dog"])).unwrap();
    assert_eq!(names(&dataset), ["dog/2.png", "dog/10.png", "loose.png", "wolf/1.png", "wolf/dog/1.png"]);
    let labels: Vec<_> = dataset.samples.iter().map(|sample| sample.label).collect();
    assert_eq!(labels, [Some(1), Some(1), None, None, None]);
    assert_eq!(dataset.ignored_files, 1);
}

/// The label of each image that is no class.
fn unknown(path: &Path, known: &[&str]) -> Vec<Option<String>> {
    let (dataset, unknown) = Dataset::open_with_unknown_labels(path, &classes(known)).unwrap();
    let labels = dataset.samples.iter().map(|sample| unknown.of(&sample.path).map(str::to_owned));
    let labels: Vec<_> = labels.collect();
    assert_eq!(labels.iter().flatten().count(), unknown.len());
    labels
}

#[test]
fn a_label_that_is_no_class_is_kept_apart_from_no_label() {
    let root = folder();
    for file in ["Cat/1.png", "dog/2.png", "loose.png", "wolf/dog/3.png"] {
        write(&root.path().join(file), "");
    }
    let some = |label: &str| Some(label.to_owned());
    assert_eq!(unknown(root.path(), &["cat", "dog"]), [some("Cat"), None, None, some("wolf")]);
    assert_eq!(unknown(root.path(), &["cat"]), [some("Cat"), some("dog"), None, some("wolf")]);
    let of_another_kind = unknown(root.path(), &["ant", "bee"]);
    assert_eq!(of_another_kind, [None::<String>, None, None, None], "these folders are no classes at all");

    write(&path_in(&root, "list.csv"), "file,label\nCat/1.png, Cat \ndog/2.png,\nloose.png,ant\n");
    assert_eq!(unknown(&path_in(&root, "list.csv"), &["ant", "bee"]), [some("Cat"), None, None]);
    assert_eq!(unknown(&path_in(&root, "list.csv"), &["cow"]), [some("Cat"), None, some("ant")]);
}

#[test]
fn a_class_of_another_spelling_is_named_where_training_refuses_it() {
    let root = folder();
    write(&path_in(&root, "test/Cat/1.png"), "");
    let error = Dataset::open_for_classes(&path_in(&root, "test"), &classes(&["cat", "dog"])).unwrap_err();
    assert_eq!(error.hint().unwrap(), "it and the class `cat` differ in case or spaces alone: rename one of them");
}

#[test]
fn one_image_or_a_csv_without_labels_can_be_predicted_too() {
    let root = folder();
    write_picture(&path_in(&root, "a.png"), 4, 4, 0);
    write(&path_in(&root, "list.csv"), "file\na.png\n");
    for name in ["a.png", "list.csv"] {
        let dataset = Dataset::open_for_prediction(&path_in(&root, name), &classes(&["cat"])).unwrap();
        assert_eq!(names(&dataset), ["a.png"]);
        assert_eq!(dataset.samples[0].label, None);
    }
}

#[cfg(unix)]
#[test]
fn links_back_to_a_folder_above_end_and_an_image_that_leads_nowhere_is_kept_to_be_told() {
    let root = folder();
    write(&path_in(&root, "cat/1.png"), "");
    write(&path_in(&root, "dog/1.png"), "");
    std::os::unix::fs::symlink(root.path(), root.path().join("dog/loop")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all.png", root.path().join("cat/broken.png")).unwrap();
    let dataset = Dataset::open_for_prediction(root.path(), &[]).unwrap();
    assert_eq!(names(&dataset), ["cat/1.png", "cat/broken.png", "dog/1.png"]);
    assert_eq!(dataset.ignored_files, 0);
}

#[cfg(unix)]
#[test]
fn a_link_by_which_images_would_count_as_of_another_class_is_refused() {
    // Where the link is, what it leads to, and the class it is in.
    let cases =
        [("ant/up", "", "ant"), ("ant/other", "bee", "ant"), ("ant/deep", "bee/deeper", "ant"), ("cow", "bee", "cow")];
    for (link, target, class) in cases {
        let root = folder();
        for file in ["ant/1.png", "bee/1.png", "bee/deeper/2.png"] {
            write(&root.path().join(file), "");
        }
        std::os::unix::fs::symlink(root.path().join(target), root.path().join(link)).unwrap();
        for error in [
            Dataset::open(root.path()).unwrap_err(),
            Dataset::open_for_classes(root.path(), &classes(&["ant", "bee", "cow"])).unwrap_err(),
        ] {
            let DatasetError::LinkToOtherClass { class: of, link: told, .. } = &error else { panic!("{error:?}") };
            assert_eq!((of.as_str(), told), (class, &root.path().join(link)));
            assert!(hint(&error, root.path()).contains(&format!("`rm '{link}'`")));
        }
    }
}

#[cfg(unix)]
#[test]
fn links_to_elsewhere_and_within_a_class_are_followed() {
    use std::os::unix::fs::symlink;

    let (root, elsewhere) = (folder(), folder());
    for file in ["set/ant/1.png", "set/ant/deeper/2.png", "set/bee/1.png"] {
        write(&root.path().join(file), "");
    }
    write(&elsewhere.path().join("cow/1.png"), "");
    write(&elsewhere.path().join("more/2.png"), "");
    symlink(elsewhere.path().join("cow"), root.path().join("set/cow")).unwrap();
    symlink(elsewhere.path().join("more"), root.path().join("set/bee/more")).unwrap();
    symlink(root.path().join("set/ant"), root.path().join("set/ant/deeper/back")).unwrap();
    let dataset = Dataset::open(&path_in(&root, "set")).unwrap();
    let expected = ["ant/1.png", "ant/deeper/2.png", "bee/1.png", "bee/more/2.png", "cow/1.png"];
    assert_eq!(names(&dataset), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn a_class_whose_name_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let root = folder();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    write(&root.path().join(name).join("1.png"), "");
    assert!(matches!(Dataset::open(root.path()), Err(DatasetError::NameNotUtf8 { .. })));
}
