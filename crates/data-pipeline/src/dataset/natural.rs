//! The order in which a person counts: `2` before `10`.

use std::cmp::Ordering;

/// Compares names with runs of digits as numbers: `page2` before `page10`, `2` before `10`. A total order: names that
/// differ only in leading zeros are told apart by their bytes.
#[must_use]
pub fn natural_order(left: &str, right: &str) -> Ordering {
    let mut left_runs = Runs(left.as_bytes());
    let mut right_runs = Runs(right.as_bytes());
    loop {
        match (left_runs.next(), right_runs.next()) {
            (None, None) => return left.cmp(right),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => match compare_runs(one, other) {
                Ordering::Equal => {}
                decided => return decided,
            },
        }
    }
}

fn compare_runs(left: &[u8], right: &[u8]) -> Ordering {
    match (number(left), number(right)) {
        // Without leading zeros the longer number is the larger one, however many digits it has.
        (Some(left), Some(right)) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        _ => left.cmp(right),
    }
}

fn number(run: &[u8]) -> Option<&[u8]> {
    run.first().filter(|byte| byte.is_ascii_digit())?;
    let zeros = run.iter().take_while(|&&byte| byte == b'0').count();
    Some(&run[zeros..])
}

/// Splits a name into runs that are all digits or hold none.
struct Runs<'a>(&'a [u8]);

impl<'a> Iterator for Runs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let digits = self.0.first()?.is_ascii_digit();
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit() == digits).count();
        let (run, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        names.sort_by(|left, right| natural_order(left, right));
        names
    }

    #[test]
    fn two_comes_before_ten() {
        assert_eq!(sorted(&["10", "2", "1", "0"]), ["0", "1", "2", "10"]);
        assert_eq!(sorted(&["page10.png", "page9.png", "page"]), ["page", "page9.png", "page10.png"]);
    }

    #[test]
    fn names_without_digits_keep_byte_order() {
        assert_eq!(sorted(&["table", "form", "id_card"]), ["form", "id_card", "table"]);
    }

    #[test]
    fn leading_zeros_still_give_a_total_order() {
        assert_eq!(sorted(&["1", "01", "001"]), ["001", "01", "1"]);
        assert_ne!(natural_order("a01", "a1"), Ordering::Equal);
    }

    #[test]
    fn numbers_beyond_any_integer_type_compare() {
        let large = "9".repeat(60);
        let larger = format!("1{}", "0".repeat(60));
        assert_eq!(natural_order(&large, &larger), Ordering::Less);
    }
}
