//! Images named by a CSV file.

use insta::assert_snapshot;

use crate::pictures;
use crate::stage::Stage;

/// Twelve photos of cats and dogs in one folder, two of each group, named by a table that lies beside them.
fn stage() -> Stage {
    let photo = |stage: Stage, number: u32| {
        let red = if number % 4 < 2 { 200 } else { 20 };
        stage.file(&format!("scans/{number}.png"), pictures::photo(red, number as u8))
    };
    let row = |number: u32| {
        let class = if number % 4 < 2 { "cat" } else { "dog" };
        format!("{number}.png,{class},page {}\n", number / 2)
    };
    let rows: String = (0..12).map(row).collect();
    (0..12).fold(Stage::new(), photo).file("scans/labels.csv", format!("file,label,group\n{rows}"))
}

/// Files of a set, by the list in the run folder.
fn files_of(stage: &Stage, set: &str) -> Vec<u32> {
    let list = stage.read(&format!("{}/images.jsonl", stage.run_path("pets")));
    let rows = list.lines().map(|line| serde_json::from_str::<[String; 3]>(line).expect("JSON"));
    let of_set = rows.filter(|[of, _, _]| of == set);
    of_set.map(|[_, _, file]| file.trim_end_matches(".png").parse().expect("a number")).collect()
}

#[test]
fn a_table_trains_and_its_groups_stay_on_one_side_of_the_split() {
    let stage = stage();
    assert_snapshot!(stage.run("train --config x.yaml --set data.train=scans/labels.csv"));
    let [train, validation] = ["train", "validation"].map(|set| files_of(&stage, set));
    assert_eq!((train.len(), validation.len()), (8, 4));
    let groups = |files: &[u32]| files.iter().map(|file| file / 2).collect::<std::collections::BTreeSet<u32>>();
    assert!(groups(&train).is_disjoint(&groups(&validation)), "{train:?} and {validation:?}");
}

#[test]
fn folds_of_a_table_keep_its_groups_together() {
    let stage = stage();
    let settings = "--set data.train=scans/labels.csv --set data.validation_share=null --set data.folds=3";
    let printed = stage.run(&format!("train --config x.yaml {settings}"));
    assert!(printed.contains("exit code 0"), "{printed}");
    let csv = stage.read(&format!("{}/out_of_fold.csv", stage.run_path("pets")));
    let mut folds = std::collections::BTreeMap::new();
    for row in csv.lines().skip(1) {
        let mut fields = row.split(',');
        let fold: u32 = fields.next().and_then(|fold| fold.parse().ok()).expect("a fold");
        let file = fields.next().and_then(|file| file.trim_end_matches(".png").parse::<u32>().ok()).expect("a file");
        folds.entry(file / 2).or_insert_with(Vec::new).push(fold);
    }
    assert_eq!(folds.len(), 6, "{csv}");
    assert!(folds.values().all(|folds| folds.len() == 2 && folds[0] == folds[1]), "{folds:?}");
}

#[test]
fn a_class_of_one_group_cannot_be_split() {
    let stage = Stage::new().file(
        "photos/labels.csv",
        "file,label,group\ncat/0.png,cat,a\ncat/1.png,cat,a\ndog/0.png,dog,b\ndog/1.png,dog,c\n",
    );
    assert_snapshot!(stage.refuse("train --config x.yaml --set data.train=photos/labels.csv"));
}
