use data_pipeline::Sample;

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn read(text: &str, classes: &[&str], labels: Option<Labels>) -> Result<Template, TemplateError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.csv");
    std::fs::write(&path, text).unwrap();
    Template::read(&path, &names(classes), labels)
}

fn refused(text: &str, classes: &[&str]) -> String {
    let error = read(text, classes, None).unwrap_err();
    assert!(error.hint().is_some());
    let text = error.to_string();
    let folder = text.find('`').and_then(|start| text.find("/sample.csv").map(|end| text[start + 1..=end].to_owned()));
    folder.map_or(text.clone(), |folder| text.replace(&folder, ""))
}

fn dataset(files: &[&str]) -> Dataset {
    let sample = |file: &&str| Sample { path: Path::new("test").join(file), label: None, group: None };
    Dataset { root: "test".into(), classes: Vec::new(), samples: files.iter().map(sample).collect(), ignored_files: 0 }
}

fn arranged(ids: &str, files: &[&str]) -> Result<Vec<String>, TemplateError> {
    let text = format!("id,label\n{}", ids.split(' ').map(|id| format!("{id},cat\n")).collect::<String>());
    let arranged = read(&text, &["cat", "dog"], None).unwrap().arrange(dataset(files))?;
    Ok((0..arranged.len()).map(|sample| arranged.relative_path(sample).display().to_string()).collect())
}

#[test]
fn names_and_order_are_the_templates_whatever_its_columns_are() {
    let template = read("\u{feff}image,dog,error,cat\r\n2,0,,1\r\n1,0,,1\r\n", &["cat", "dog"], None).unwrap();
    let columns = [
        ("image", Content::Id),
        ("dog", Content::Probability(1)),
        ("error", Content::Error),
        ("cat", Content::Probability(0)),
    ];
    assert_eq!(template.layout().columns, columns.map(|(name, content)| (name.to_owned(), content)));
    assert_eq!((template.layout().ids.as_slice(), template.labels()), (names(&["2", "1"]).as_slice(), None));
}

#[test]
fn labels_are_written_as_the_examples_show() {
    let labels = |values: &[&str], classes: &[&str]| {
        let rows = (0..).zip(values).map(|(id, value)| format!("{id},{value}\n"));
        read(&format!("id,label\n{}", rows.collect::<String>()), classes, None)
            .map(|template| template.labels().unwrap())
    };
    assert_eq!(labels(&["cat", "", "cat"], &["cat", "dog"]).unwrap(), Labels::Names);
    assert_eq!(labels(&["0", "1"], &["cat", "dog"]).unwrap(), Labels::Indices);
    assert_eq!(labels(&["0", "1"], &["0", "1"]).unwrap(), Labels::Names, "which is the same");
    assert_eq!(labels(&["1", "3"], &["1", "2", "3"]).unwrap(), Labels::Names, "3 is no index");
    let ambiguous = |values: &[&str], classes: &[&str]| {
        matches!(labels(values, classes), Err(TemplateError::AmbiguousLabels { .. }))
    };
    assert!(ambiguous(&["1"], &["1", "2", "3"]), "the first or the second class");
    assert!(ambiguous(&["0", "1"], &["1", "2", "3"]), "numbers, but from 0");
    assert!(ambiguous(&["1"], &["01", "02"]));
    assert!(matches!(labels(&["", ""], &["cat", "dog"]), Err(TemplateError::NoExample { .. })));
    for other in ["bird", "2", "-1", "0.5", "00"] {
        let error = labels(&["cat", other], &["cat", "dog"]).unwrap_err();
        assert!(matches!(&error, TemplateError::OtherLabel { line: 3, value, .. } if value == other), "{error}");
    }
}

#[test]
fn labels_can_be_told() {
    let template = read("id,label\n1,\n", &["1", "2"], Some(Labels::Indices)).unwrap();
    assert_eq!((template.labels(), template.layout().columns[1].1), (Some(Labels::Indices), Content::ClassIndex));
    let template = read("id,label\n1,0\n", &["1", "2"], Some(Labels::Names)).unwrap();
    assert_eq!((template.labels(), template.layout().columns[1].1), (Some(Labels::Names), Content::Class));
}

/// What the second column takes, and which class it is where that is the only probability.
fn second_column(text: &str, labels: Option<Labels>) -> (Content, Option<String>) {
    let template = read(text, &["cat", "dog"], labels).unwrap();
    let class = template.single_probability().map(|[_, class, _]| class.to_owned());
    (template.layout().columns[1].1, class)
}

#[test]
fn one_column_of_two_classes_takes_a_probability_where_it_shows_one() {
    let of_cat = (Content::Probability(0), Some("cat".to_owned()));
    let of_dog = (Content::Probability(1), Some("dog".to_owned()));
    for of_the_second in ["id,label\n1,0.5\n2,\n", "id,target\n1,0\n2,1.0\n", "id,p,error\n1,1e-3,\n", "id,dog\n1,\n"] {
        assert_eq!(second_column(of_the_second, None), of_dog, "{of_the_second}");
    }
    for of_the_first in ["id,cat\n1,0\n", "id,Cat\n1,0.5\n"] {
        assert_eq!(second_column(of_the_first, None), of_cat, "{of_the_first}");
    }
    let template = read("id,p\n1,.5\n", &["cat", "dog"], None).unwrap();
    assert_eq!(template.single_probability(), Some(["p", "dog", "cat"]));
    assert_eq!(template.labels(), Some(Labels::Probability));
    assert_eq!(second_column("id,cat,dog\n1,0,0\n", None), (Content::Probability(0), None), "each has its own");
}

#[test]
fn a_single_probability_is_no_label_and_none_of_three_classes() {
    assert_eq!(second_column("id,label\n1,0\n2,1\n", None), (Content::ClassIndex, None), "whole numbers are labels");
    assert_eq!(second_column("id,label\n1,0\n", Some(Labels::Probability)).0, Content::Probability(1), "unless told");
    for no_probabilities in ["1,0.5\n2,1.5\n", "1,0.5\n2,-0.5\n", "1,0.5\n2,00\n", "1,0.5\n2,cat\n"] {
        let refused = read(&format!("id,label\n{no_probabilities}"), &["cat", "dog"], None);
        assert!(matches!(refused, Err(TemplateError::OtherLabel { .. })), "{no_probabilities}");
    }
    let three = &["cat", "dog", "owl"];
    assert!(matches!(read("id,label\n1,0.5\n", three, None), Err(TemplateError::OtherLabel { .. })));
    let told = read("id,label\n1,0.5\n", three, Some(Labels::Probability)).unwrap_err();
    assert!(matches!(told, TemplateError::OneProbability { classes: 3, .. }) && told.hint().is_some(), "{told}");
}

#[test]
fn tables_that_are_no_templates_are_refused() {
    let classes = &["cat", "dog"];
    assert_eq!(refused("id,label\n", classes), "template `sample.csv` has no rows");
    assert_eq!(
        refused("id;label\n1;cat\n", classes),
        "template `sample.csv` has 1 column, and needs one for ids and another to fill in"
    );
    assert_eq!(refused("id,cat,cat\n", classes), "template `sample.csv` has two columns named `cat`");
    assert_eq!(
        refused("id,label\n1,cat\n2,cat,1\n", classes),
        "template `sample.csv`, line 3: expected 2 fields as in the first line, found 3"
    );
    assert_eq!(
        refused("id,label\n1,cat\n2,cat\n1,dog\n", classes),
        "template `sample.csv`, line 4: id `1` comes a second time, first on line 2"
    );
    let other = "the columns of template `sample.csv` are not the classes of the checkpoint: ";
    assert_eq!(refused("id,cat,bird\n1,0,0\n", classes), format!("{other}no column for `dog`, no class for `bird`"));
    assert_eq!(refused("id,cat\n1,0\n", &["cat", "dog", "owl"]), format!("{other}no column for `dog`, `owl`"));
    assert_eq!(
        refused("id,label,usage\n1,cat,private\n", classes),
        "template `sample.csv` has 2 columns that are no classes of the checkpoint: `label`, `usage`"
    );
    let beside_all = "template `sample.csv` has 2 columns that are no classes of the checkpoint: `a`, `b`";
    assert_eq!(refused("id,dog,a,cat,b\n1,0,0,0,0\n", classes), beside_all);
    let missing = Template::read(Path::new("no/sample.csv"), &[], None).unwrap_err();
    assert!(matches!(missing, TemplateError::File { source: CheckpointError::Missing { .. } }));
}

#[test]
fn ids_are_paths_or_names_with_or_without_endings() {
    for ids in ["b/2.png a/1.jpg", "b/2 a/1", "2.png 1.jpg", "2 1"] {
        assert_eq!(arranged(ids, &["a/1.jpg", "b/2.png"]).unwrap(), ["b/2.png", "a/1.jpg"], "{ids}");
    }
    assert_eq!(arranged("v1.2 v1.3", &["v1.3.png", "v1.2.png"]).unwrap(), ["v1.2.png", "v1.3.png"]);
}

#[test]
fn ids_and_images_that_do_not_pair_up_are_refused() {
    let error = arranged("1 2", &["a/1.jpg", "b/1.jpg", "b/2.jpg"]).unwrap_err();
    assert!(error.to_string().ends_with("line 2: id `1` is `a/1.jpg` and `b/1.jpg`"), "{error}");
    let error = arranged("1", &["1.jpg", "1.png"]).unwrap_err();
    assert!(error.to_string().ends_with("line 2: id `1` is `1.jpg` and `1.png`"), "{error}");
    let error = arranged("1 2 3", &["1.jpg", "3.jpg"]).unwrap_err();
    assert!(error.to_string().ends_with("line 3: no image is named `2` (1 of 3 ids have none)"), "{error}");
    let error = arranged("1.jpg 2", &["1.jpg", "2.jpg"]).unwrap_err();
    assert!(matches!(error, TemplateError::NoImage { count: 1, .. }), "one rule for all ids: {error}");
    let error = arranged("1", &["1.jpg", "2.jpg", "3.jpg"]).unwrap_err();
    assert!(error.to_string().ends_with("has no id for `2.jpg`, nor for 1 other image"), "{error}");
}
