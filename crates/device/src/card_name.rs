//! Names of cards, as people and drivers write them.

/// What a driver puts around the model: maker, product line, form and kind of memory.
const DECORATIONS: [&str; 8] = ["nvidia", "geforce", "tesla", "quadro", "pcie", "graphics", "generation", "nvl"];

/// A name without what does not tell two cards apart: `NVIDIA GeForce RTX 3060 12GB` becomes `rtx306012gb`.
pub(crate) fn normalize(name: &str) -> String {
    let mut plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    plain.make_ascii_lowercase();
    for prefix in ["nvidia", "geforce", "tesla"] {
        if let Some(rest) = plain.strip_prefix(prefix) {
            plain = rest.to_owned();
        }
    }
    match plain.strip_suffix("gib") {
        Some(stem) if stem.ends_with(|last: char| last.is_ascii_digit()) => format!("{stem}gb"),
        _ => plain,
    }
}

/// The model alone, without form and memory: `NVIDIA A100-SXM4-40GB` becomes `a100`.
pub(crate) fn model(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !is_decoration(word)).collect()
}

/// Whether the name tells that the card sits in a PCIe slot.
pub(crate) fn is_pcie(name: &str) -> bool {
    name.to_ascii_lowercase().contains("pcie")
}

fn is_decoration(word: &str) -> bool {
    let is_size = word.strip_suffix("gb").is_some_and(|size| size.bytes().all(|byte| byte.is_ascii_digit()));
    is_size || DECORATIONS.contains(&word) || word.starts_with("sxm") || word.starts_with("hbm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_matter() {
        for name in
            ["RTX 3060 12GB", "rtx3060-12gb", "rtx_3060_12_GiB", "NVIDIA GeForce RTX 3060 12GB", "geforce rtx3060 12gb"]
        {
            assert_eq!(normalize(name), "rtx306012gb", "{name}");
        }
        assert_eq!(normalize("Tesla T4"), "t4");
        assert_eq!(normalize("gib"), "gib");
    }

    #[test]
    fn drivers_add_form_and_memory_to_the_model() {
        let names = [
            ("NVIDIA A100-SXM4-40GB", "a100"),
            ("A100-PCIE-40GB", "a100"),
            ("Tesla V100-SXM2-16GB", "v100"),
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"),
            ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx4070tisuper"),
            ("NVIDIA GeForce RTX 4070 Laptop GPU", "rtx4070laptopgpu"),
            ("", ""),
        ];
        for (name, expected) in names {
            assert_eq!(model(name), expected, "{name}");
        }
    }
}
