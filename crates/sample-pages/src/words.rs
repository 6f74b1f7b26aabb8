//! What the pages say: pseudo-words from syllables, names, amounts and dates, and the few real words of headings.

use crate::dice::Dice;

/// A word of `shortest` to `longest` syllables in small letters.
pub(crate) fn pseudo_word(dice: &mut Dice, shortest: u32, longest: u32) -> String {
    const ONSETS: [&str; 18] =
        ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", ""];
    const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "e", "ai", "ou"];
    const CODAS: [&str; 8] = ["", "", "", "n", "r", "s", "l", "t"];
    let syllables = dice.whole(shortest, longest);
    (0..syllables).flat_map(|_| [dice.pick(&ONSETS), dice.pick(&VOWELS), dice.pick(&CODAS)]).collect()
}

/// A word with a capital first letter.
pub(crate) fn pseudo_name(dice: &mut Dice) -> String {
    capitalized(&pseudo_word(dice, 2, 3))
}

/// `words` words, the first with a capital.
pub(crate) fn pseudo_phrase(dice: &mut Dice, words: u32) -> String {
    let phrase: Vec<String> = (0..words).map(|_| pseudo_word(dice, 1, 3)).collect();
    capitalized(&phrase.join(" "))
}

/// A company as it stands in a letterhead.
pub(crate) fn company(dice: &mut Dice) -> String {
    let suffix = dice.pick(&["Ltd", "and Sons", "Co", "Works", "Trading", "GmbH", "Studio"]);
    format!("{} {suffix}", pseudo_name(dice))
}

/// A street and number, or a postcode and town.
pub(crate) fn address_line(dice: &mut Dice) -> String {
    if dice.chance(0.5) {
        format!("{} {} {}", dice.whole(1, 240), pseudo_name(dice), dice.pick(&["Street", "Lane", "Road"]))
    } else {
        format!("{} {}", dice.whole(1000, 98_999), pseudo_name(dice))
    }
}

/// An amount of money with two decimals, below `limit`.
pub(crate) fn amount(dice: &mut Dice, limit: u32) -> String {
    format!("{}.{:02}", dice.whole(0, limit), dice.whole(0, 99))
}

/// A date in one of the usual orders.
pub(crate) fn date(dice: &mut Dice) -> String {
    let (day, month, year) = (dice.whole(1, 28), dice.whole(1, 12), dice.whole(1996, 2027));
    match dice.whole(0, 2) {
        0 => format!("{day:02}.{month:02}.{year}"),
        1 => format!("{year}-{month:02}-{day:02}"),
        _ => format!("{month:02}/{day:02}/{year}"),
    }
}

/// `count` random digits.
pub(crate) fn digits(dice: &mut Dice, count: u32) -> String {
    (0..count).map(|_| char::from(b'0' + dice.whole(0, 9) as u8)).collect()
}

/// The word with a capital first letter.
pub(crate) fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_two_decimals_and_stay_below_their_limit() {
        let mut dice = Dice::new(9);
        for _ in 0..200 {
            let text = amount(&mut dice, 50);
            let (whole, cents) = text.split_once('.').expect("a decimal point");
            assert_eq!(cents.len(), 2);
            assert!(whole.parse::<u32>().expect("a number") <= 50);
        }
    }

    #[test]
    fn names_begin_with_a_capital() {
        let mut dice = Dice::new(4);
        for _ in 0..50 {
            let name = pseudo_name(&mut dice);
            assert!(name.starts_with(|letter: char| letter.is_uppercase()), "{name}");
        }
    }
}
