//! Puts words where the output differs from machine to machine and from day to day.

/// Words behind a number that make it a measurement.
const UNITS: [(&str, &str); 5] =
    [("GiB", "SIZE"), ("MiB", "SIZE"), ("KiB", "SIZE"), (" images/s", "NUMBER images/s"), (" %", "NUMBER %")];

/// The output without its measurements.
pub(crate) fn scrub(text: &str) -> String {
    let mut lines = Vec::new();
    let mut in_analysis = false;
    for line in text.lines() {
        // The analysis has tests of its own; its numbers are those of this machine.
        if line.starts_with("memory of ") {
            in_analysis = true;
            lines.push("[memory analysis and plan]".to_owned());
        }
        in_analysis &= !(line.starts_with("peak memory: ") || line.starts_with("---"));
        if in_analysis || is_progress(line) {
            continue;
        }
        lines.push(match line {
            _ if line.starts_with("peak memory: ") => "[peak memory, predicted and measured]".to_owned(),
            _ if line.starts_with("TTA changed the class of ") => "[what TTA changed]".to_owned(),
            _ if line.starts_with('$') => line.to_owned(),
            // What an error says is exact: it names the value that was wrong.
            _ if is_error(line) => scrub_date(line),
            _ => scrub_numbers(line),
        });
    }
    lines.join("\n")
}

/// On a slow machine a line comes every few seconds, elsewhere none: `epoch 1 of 1: 4 of 8 images, ..`.
fn is_progress(line: &str) -> bool {
    let task = [
        "measuring training steps: ",
        "measuring forward passes: ",
        "epoch ",
        "predicting: ",
        "testing the best weights: ",
    ];
    task.iter().any(|task| line.starts_with(task)) && !line.contains(" in ")
}

fn is_error(line: &str) -> bool {
    ["error: ", "  caused by: ", "hint: ", "warning: "].iter().any(|start| line.starts_with(start))
}

fn scrub_date(line: &str) -> String {
    let is_date = |name: &&str| name.len() == 10 && name.starts_with("20") && name.matches('-').count() == 2;
    match line.split('/').find(is_date) {
        Some(date) => line.replace(date, "DATE"),
        None => line.to_owned(),
    }
}

/// A line without its measurements, also where it is of an error.
pub(crate) fn scrub_numbers(line: &str) -> String {
    let mut scrubbed = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|character: char| character.is_ascii_digit()) {
        scrubbed.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|character: char| !matches!(character, '0'..='9' | '.' | '-')).unwrap_or(rest.len());
        // A full stop or hyphen at the end belongs to the sentence.
        let number = rest[..end].trim_end_matches(['.', '-']);
        rest = &rest[number.len()..];
        let (word, taken) = word_for(number, rest);
        scrubbed.push_str(word);
        rest = &rest[taken..];
    }
    scrubbed + rest
}

/// What stands for a number, and how much of what follows it stands for as well.
fn word_for<'a>(number: &'a str, following: &str) -> (&'a str, usize) {
    let is_date = number.len() == 10 && number.matches('-').count() == 2;
    if is_date {
        return ("DATE", 0);
    }
    let spaces = following.len() - following.trim_start().len();
    for (unit, word) in UNITS {
        let starts_at = if unit.starts_with(' ') { 0 } else { spaces };
        if following[starts_at..].starts_with(unit) {
            return (word, starts_at + unit.len());
        }
    }
    let is_time = following == " s" || (following.starts_with(" min ") && following.ends_with(" s"));
    match number {
        _ if is_time => ("TIME", following.len()),
        _ if number.contains('.') && !number.contains('-') && !following.starts_with(char::is_alphabetic) => {
            ("NUMBER", 0)
        }
        _ => (number, 0),
    }
}

#[test]
fn measurements_become_words_and_the_rest_stays() {
    let line = "epoch 1 of 2: loss 0.328, accuracy 100.0 %; 109 images/s, 0 % waiting, peak 55.7 MiB in 1 min 02 s";
    assert_eq!(
        scrub(line),
        "epoch 1 of 2: loss NUMBER, accuracy NUMBER %; NUMBER images/s, NUMBER % waiting, peak SIZE in TIME"
    );
    assert_eq!(scrub("run folder: runs/2026-01-31/pets"), "run folder: runs/DATE/pets");
    let error = "error: batch size 1 needs 81.4 MiB, see `runs/2026-01-31/pets`";
    assert_eq!(scrub(error), "error: batch size 1 needs 81.4 MiB, see `runs/DATE/pets`");
    assert_eq!(scrub_numbers("`cat/0.png` has 81.4 MiB, not 104MiB"), "`cat/0.png` has SIZE, not SIZE");
}
