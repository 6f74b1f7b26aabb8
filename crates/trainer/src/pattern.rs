/// Whether a pattern names the parameter: by its whole name, with `*` for any letters and `?` for one, or by the module that it is in.
///
/// The first is timm's rule for its lists of parameters (Python's `fnmatch`), the second that of timm's `freeze`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let prefixes = name.match_indices('.').map(|(end, _)| &name[..end]);
    prefixes.chain([name]).any(|part| glob(pattern.as_bytes(), part.as_bytes()))
}

/// Goes back to the last `*` only: an earlier one could take nothing that the last cannot.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pattern_at) = (0, 0);
    let mut star = None;
    while at < text.len() {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                star = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(&letter) if letter == b'?' || letter == text[at] => {
                at += 1;
                pattern_at += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = taken + 1;
                pattern_at = star_at + 1;
            }
        }
    }
    pattern[pattern_at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_dots_as_in_python() {
        for pattern in ["stages.0.*", "*.weight", "stages.*.fc1.weight", "stages.?.*", "*", "*fc1*", "**.weight"] {
            assert!(matches(pattern, "stages.0.blocks.1.mlp.fc1.weight"), "{pattern}");
        }
        for pattern in ["stages.1.*", "*.bias", "stage.*", "stages.??.*", "*fc2*", ""] {
            assert!(!matches(pattern, "stages.0.blocks.1.mlp.fc1.weight"), "{pattern}");
        }
    }

    #[test]
    fn a_module_stands_for_all_that_is_in_it_and_for_no_other() {
        assert!(matches("stages.1", "stages.1.blocks.0.gamma") && matches("stages", "stages.1.blocks.0.gamma"));
        assert!(matches("stages.*.blocks", "stages.1.blocks.0.gamma"));
        assert!(!matches("stages.1", "stages.10.blocks.0.gamma") && !matches("stage", "stages.1.gamma"));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "*a".repeat(40);
        assert!(!matches(&pattern, &"a".repeat(39)) && matches(&pattern, &"ba".repeat(40)));
    }
}
