//! The shipped catalogue of cards.

use std::collections::BTreeSet;

use device::{Card, CardCatalogue};
use memory_planner::{Budget, BudgetRequest, Tier};

fn find(name: &str) -> &'static Card {
    CardCatalogue::embedded().find(name).unwrap_or_else(|error| panic!("{error}"))
}

/// By the names that people say.
const CARDS_OF_TEAMS: [&str; 68] = [
    "GTX 1060 3GB",
    "GTX 1060 6GB",
    "GTX 1070",
    "GTX 1070 Ti",
    "GTX 1080",
    "GTX 1080 Ti",
    "GTX 1650",
    "GTX 1650 Super",
    "GTX 1660",
    "GTX 1660 Super",
    "GTX 1660 Ti",
    "RTX 2060",
    "RTX 2060 12GB",
    "RTX 2070",
    "RTX 2070 Super",
    "RTX 2080",
    "RTX 2080 Super",
    "RTX 2080 Ti",
    "RTX 3050",
    "RTX 3060",
    "RTX 3060 8GB",
    "RTX 3060 Ti",
    "RTX 3070",
    "RTX 3070 Ti",
    "RTX 3080",
    "RTX 3080 12GB",
    "RTX 3080 Ti",
    "RTX 3090",
    "RTX 3090 Ti",
    "RTX 4060",
    "RTX 4060 Ti 8GB",
    "RTX 4060 Ti 16GB",
    "RTX 4070",
    "RTX 4070 Super",
    "RTX 4070 Ti",
    "RTX 4070 Ti Super",
    "RTX 4080",
    "RTX 4080 Super",
    "RTX 4090",
    "RTX 5060",
    "RTX 5060 Ti 8GB",
    "RTX 5060 Ti 16GB",
    "RTX 5070",
    "RTX 5070 Ti",
    "RTX 5080",
    "RTX 5090",
    "T4",
    "L4",
    "L40",
    "L40S",
    "A10",
    "A10G",
    "A16",
    "A30",
    "A40",
    "RTX A4000",
    "RTX A5000",
    "RTX A6000",
    "RTX 6000 Ada",
    "V100",
    "V100 32GB",
    "A100",
    "A100 80GB",
    "H100",
    "H100 PCIe",
    "H100 SXM",
    "H200",
    "B200",
];

#[test]
fn the_cards_that_teams_have_are_all_there() {
    let found: BTreeSet<&str> = CARDS_OF_TEAMS.iter().map(|name| find(name).name.as_str()).collect();
    assert!(found.len() >= CARDS_OF_TEAMS.len() - 1, "only `H100` and `H100 SXM` are the same card: {found:?}");
    assert_eq!(found.len(), CardCatalogue::embedded().cards.len(), "and no other is untested");
}

#[test]
fn a_bare_name_is_the_size_that_the_head_of_the_file_says() {
    let gibibytes = |name| find(name).memory_bytes >> 30;
    let sizes =
        ["gtx1060", "rtx2060", "rtx3060", "rtx3080", "rtx4060ti", "rtx5060ti", "v100", "a100", "h100"].map(gibibytes);
    assert_eq!(sizes, [6, 6, 12, 10, 8, 16, 16, 40, 80]);
    assert_eq!(find("h100").name, "h100-sxm");
    assert_eq!(find("nvidia_GeForce rtx-3060").name, "rtx3060-12gb");
}

#[test]
fn entries_are_sorted_and_no_two_answer_to_the_same_name() {
    let cards = &CardCatalogue::embedded().cards;
    assert!(cards.is_sorted_by(|a, b| a.name < b.name));
    let plain = |key: &str| key.replace(['-', '_', ' '], "").to_lowercase();
    let keys: Vec<String> =
        cards.iter().flat_map(|card| card.aliases.iter().chain([&card.name])).map(|key| plain(key)).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    for card in cards {
        assert_eq!(find(&card.title), card, "a title finds its own card");
        for alias in &card.aliases {
            assert_eq!(find(alias), card);
        }
    }
}

#[test]
fn usable_memory_follows_the_rule_of_the_file() {
    for card in &CardCatalogue::embedded().cards {
        let corrected = if card.inline_ecc { card.memory_bytes / 16 * 15 } else { card.memory_bytes };
        let expected = ((corrected >> 20) as f64 * 0.995) as u64 - 512;
        assert_eq!(card.usable_bytes >> 20, expected, "{}", card.name);
        assert!(card.usable_bytes < card.memory_bytes && card.bandwidth >= 100);
        assert!((6..=12).contains(&card.compute_capability.0), "{}", card.name);
    }
}

#[test]
fn tiers_are_those_of_the_design_and_set_the_margin() {
    let expected = [
        (
            Tier::HighEnd,
            0.20,
            &["rtx4090", "rtx4080", "rtx3090", "a100", "a100-80gb", "v100", "h100", "h200", "b200"][..],
        ),
        (Tier::MidRange, 0.20, &["rtx3080", "rtx3070", "rtx4070"]),
        (Tier::Budget, 0.15, &["rtx3060", "rtx2080", "rtx2070"]),
        (Tier::LowEnd, 0.10, &["gtx1660", "gtx1080", "gtx1060"]),
    ];
    for (tier, margin, names) in expected {
        for name in names {
            let card = find(name);
            assert_eq!(card.tier, tier, "{name}");
            let budget = Budget::for_card(card.idle_memory(), card.tier, &BudgetRequest::default()).unwrap();
            assert_eq!(budget.margin_share, margin, "{name}");
            assert!(budget.budget_bytes <= (card.usable_bytes as f64 * (1.0 - margin)) as u64 + 1);
        }
    }
    let tops = |tier| {
        CardCatalogue::embedded()
            .cards
            .iter()
            .filter(|card| card.tier == tier)
            .map(|card| card.compute_capability.0)
            .max()
    };
    assert_eq!(tops(Tier::LowEnd), Some(7), "no newer card is on the smallest margin");
}

#[test]
fn a_card_that_runs_here_is_found_by_what_its_driver_says() {
    let matched = |name: &str, mib: u64| {
        CardCatalogue::embedded().match_driver_name(name, mib << 20).map(|card| card.name.as_str())
    };
    let expected = [
        ("NVIDIA GeForce RTX 3060", 12_288, "rtx3060-12gb"),
        ("NVIDIA GeForce RTX 3060", 8_192, "rtx3060-8gb"),
        ("NVIDIA GeForce RTX 3060 Ti", 8_192, "rtx3060ti"),
        ("GeForce GTX 1060 6GB", 6_078, "gtx1060-6gb"),
        ("NVIDIA GeForce RTX 2070 SUPER", 8_192, "rtx2070super"),
        ("Tesla T4", 15_360, "t4"),
        ("NVIDIA A10G", 23_028, "a10g"),
        ("Tesla V100-SXM2-16GB", 16_160, "v100-16gb"),
        ("NVIDIA A100-SXM4-40GB", 40_536, "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", 81_920, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 81_559, "h100-sxm"),
        ("NVIDIA H100 PCIe", 81_559, "h100-pcie"),
        ("NVIDIA H200", 143_771, "h200"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "rtx6000ada"),
        ("NVIDIA RTX A6000", 49_140, "rtxa6000"),
    ];
    for (name, mib, key) in expected {
        assert_eq!(matched(name, mib), Some(key), "{name}");
    }
    for (name, mib) in
        [("NVIDIA GeForce RTX 4070 Laptop GPU", 8_188), ("NVIDIA H200", 18_000), ("", 8_192), ("Card 0", 12_288)]
    {
        assert_eq!(matched(name, mib), None, "{name}");
    }
}

#[test]
fn an_unknown_card_is_answered_with_the_nearest_names() {
    let catalogue = CardCatalogue::embedded();
    let error = catalogue.find("RTX 3061").unwrap_err();
    assert_eq!(error.to_string(), "unknown card `RTX 3061`");
    assert!(error.nearest.iter().any(|name| name == "rtx3060-12gb"), "{:?}", error.nearest);
    let hint = error.hint().unwrap();
    assert!(hint.starts_with("pass `--gpu ") && !hint.contains("--gpu-memory"), "not every command has that: {hint}");
    assert!(catalogue.find("4090 rtx").unwrap_err().nearest.len() == 3);
    for nothing in ["", "   ", "nvidia", "ロ"] {
        assert!(catalogue.find(nothing).is_err(), "`{nothing}`");
    }
}

#[test]
fn texts_that_are_no_catalogue_are_refused_with_the_reason() {
    let entry = |memory: &str, capability: &str| {
        format!(
            "cards:\n  - {{ name: x, title: X, memory: {memory}, usable: 1GiB, compute_capability: \"{capability}\", \
             tier: budget, bandwidth: 100 }}\n"
        )
    };
    let read = |text: &str| CardCatalogue::from_yaml(text);
    let good = read(&entry("2GiB", "8.6")).unwrap();
    assert_eq!((good.cards[0].memory_bytes, good.cards[0].compute_capability), (2 << 30, (8, 6)));
    for (text, reason) in [
        (entry("0GiB", "8.6"), "a card has memory"),
        (entry("-2GiB", "8.6"), "is negative"),
        (entry("2GiB", "eight"), "no compute capability"),
        (entry("2GiB", "8.6").replace("bandwidth", "speed"), "unknown field"),
        (String::new(), "not a catalogue"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
