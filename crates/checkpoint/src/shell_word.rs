//! Words of commands that are printed to be pasted into a shell.

use std::path::Path;

use shlex::Quoter;

/// A path or a setting as it is typed: in quotes where a shell would take it apart or read more into it, otherwise as it is. What is no UTF-8
/// in it is replaced, as where a path is shown.
pub fn shell_word(word: impl AsRef<Path>) -> String {
    let word = word.as_ref().to_string_lossy();
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    let quoted = Quoter::new().allow_nul(true).quote(&word).expect("it refuses NUL alone, and that is allowed");
    quoted.into_owned()
}

/// Whether shells take the character as it is, wherever it stands.
fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || "._-/@%+=:,".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_as_they_are_and_others_are_in_quotes() {
        for plain in ["runs/2026-11-29/pets", "größe/ñ.png", "data.train=a,b", "../x_1%+@2:3"] {
            assert_eq!(shell_word(plain), plain);
        }
        let quoted = [
            ("my runs/pets", "'my runs/pets'"),
            ("it's", "\"it's\""),
            ("$HOME", "'$HOME'"),
            ("~/runs", "'~/runs'"),
            ("", "''"),
        ];
        for (word, expected) in quoted {
            assert_eq!(shell_word(Path::new(word)), expected);
        }
    }

    #[test]
    fn a_shell_reads_back_the_word() {
        for word in ["my runs/it's; `x` $y \\ \"z\"", "a\nb*?[c]!^", "{a,b} & (c) < d > e | f # g"] {
            assert_eq!(shlex::split(&shell_word(word)), Some(vec![word.to_owned()]), "{word}");
        }
    }
}
