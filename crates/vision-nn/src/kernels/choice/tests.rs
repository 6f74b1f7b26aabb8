//! The table, what asks it, and what a measurement makes of times that are known.

use burn::backend::ir::OperationIr;

use super::*;
use crate::kernels::has_window_attention;
use crate::tape::off_tape;

fn site(text: &str) -> Site {
    text.parse().expect("the text is an operation at a shape")
}

/// Sites that [`operation_at`] runs, with the names of what cards run there. Layer norms have each rank that models have.
const SITES: [(&str, &[&str]); 5] = [
    (
        "depthwise f32 6x5x8x3x1x1x1x6x5",
        &["depthwise convolution", "depthwise map gradient", "depthwise parameter gradients"],
    ),
    ("layer_norm f32 8", &["layer_norm", "layer_norm gradients"]),
    ("layer_norm f32 6x8", &["layer_norm", "layer_norm gradients"]),
    ("layer_norm bf16 3x5x8", &["layer_norm", "layer_norm gradients"]),
    ("batch_norm f32 8", &["batch norm moments", "batch norm", "batch norm gradients"]),
];

#[test]
fn a_site_is_told_by_its_text_and_nothing_else_is_one() {
    for (text, _) in SITES {
        assert_eq!(site(text).to_string(), text);
    }
    let norm = Site { operation: Operation::LayerNorm, storage: DType::BF16, shape: vec![56, 56, 96] };
    assert_eq!(site("layer_norm bf16 56x56x96"), norm);
    let none = [
        "",
        "layer_norm",
        "layer_norm bf16",
        "layer_norm bf16 ",
        "layer_norm i32 8",
        "norm f32 8",
        "layer_norm f32 8x",
    ];
    for text in none {
        assert!(text.parse::<Site>().is_err(), "{text}");
    }
}

#[test]
fn a_choice_is_for_one_operation_type_and_shape() {
    let norm = |storage, shape: &[usize]| is_ours(Operation::LayerNorm, storage, shape, 3);
    let chosen = site("layer_norm f32 7x11");
    assert!(norm(DType::F32, &[7, 11]), "what is not in the table is ours");
    with_choice(&chosen, Way::Burns, || {
        assert!(!norm(DType::F32, &[7, 11]));
        assert!(norm(DType::BF16, &[7, 11]) && norm(DType::F32, &[11, 7]) && norm(DType::F32, &[7, 11, 1]));
        assert!(is_ours(Operation::BatchNorm, DType::F32, &[7, 11], 3));
        assert_eq!((choice_of(&chosen), sites_of_burn()), (Some(Way::Burns), vec![chosen.clone()]));
        with_choice(&chosen, Way::Ours, || assert!(norm(DType::F32, &[7, 11]) && sites_of_burn().is_empty()));
        assert!(!norm(DType::F32, &[7, 11]), "the table is what it was");
    });
    assert_eq!(choice_of(&chosen), None);
    assert_eq!(set_choice(&chosen, Some(Way::Burns)), None);
    assert_eq!(set_choice(&chosen, None), Some(Way::Burns));
}

#[test]
fn what_is_asked_for_is_noted_once_with_its_longest_axis() {
    let asked = asked_by(|| {
        for first in [4, 9, 2] {
            is_ours(Operation::BatchNorm, DType::F32, &[8], first);
        }
        is_ours(Operation::LayerNorm, DType::F32, &[8], 1);
    });
    let noted = |text: &str, first| Asked { site: site(text), first };
    assert_eq!(asked, [noted("batch_norm f32 8", 9), noted("layer_norm f32 8", 1)]);
    assert!(asked_by(|| ()).is_empty());
    let numbers = [("window_attention bf16 14x14x7x7x3x32", 2 * 14 * 14 * 3 * 96), ("layer_norm f32 6x8", 2 * 48)];
    for (text, count) in numbers {
        assert_eq!(noted(text, 2).numbers(), count, "{text}");
    }
    assert_eq!(noted(SITES[0].0, 2).numbers(), 2 * 6 * 5 * 8);
}

/// The operations of ours that a pass, forward and backward, is recorded as, and the sites that it asks for.
fn recorded(text: &str) -> (Vec<String>, Vec<Asked>) {
    let device = Device::capture();
    let asked = Asked { site: site(text), first: 2 };
    let mut sites = Vec::new();
    let recording = device.capture_scope(|scope| {
        let forward = operation_at(&asked, 1, &device.clone().autodiff()).expect("it is one of those that are run");
        sites = asked_by(|| {
            let output = forward();
            let upstream = Tensor::ones_like(&off_tape(output.clone()));
            drop(Tape::backward_from(output, upstream));
        });
        scope.complete([], [])
    });
    let recording = recording.expect("the device is a capture device of its own");
    let names = recording.graph.operations.iter().filter_map(|operation| match operation {
        OperationIr::Custom(own) => Some(own.id.clone()),
        _ => None,
    });
    (names.collect(), sites)
}

#[test]
fn a_recording_has_the_way_that_is_chosen_and_asks_for_nothing_else() {
    for (text, names) in SITES {
        let (mut ours, asked) = recorded(text);
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        ours.sort();
        names.sort();
        assert_eq!(ours, names, "{text}");
        assert_eq!(asked, [Asked { site: site(text), first: 2 }], "{text}");
        let (burns, _) = with_choice(&site(text), Way::Burns, || recorded(text));
        assert_eq!(burns, [] as [String; 0], "{text}");
    }
}

#[test]
fn on_the_cpu_both_ways_make_the_same_output() {
    let device = Device::flex().autodiff();
    for (text, _) in SITES {
        let asked = Asked { site: site(text), first: 2 };
        let forward = operation_at(&asked, 3, &device).expect("it is one of those that are run");
        let output = || -> Vec<f32> { off_tape(forward()).into_data().iter::<f32>().collect() };
        let (ours, burns) = (output(), with_choice(&asked.site, Way::Burns, output));
        assert_eq!((ours.len(), burns.len()), (asked.numbers() * 3, asked.numbers() * 3), "{text}");
        // Sums of some ten numbers of order one in f32; beyond that, bf16 rounds what is given back to 8 bits.
        let allowed = if asked.site.storage == DType::BF16 { 1e-2 } else { 1e-5 };
        for (ours, burns) in ours.into_iter().zip(burns) {
            assert!((ours - burns).abs() <= allowed * (1.0 + ours.abs()), "{text}: {ours} {burns}");
        }
    }
}

#[test]
fn window_attention_gives_way_to_what_its_caller_composes() {
    let map = Tensor::<4>::zeros([2, 4, 6, 8], &Device::flex());
    let mut has = false;
    let asked = asked_by(|| has = has_window_attention(&map, [2, 3], 2));
    let chosen = site("window_attention f32 4x6x2x3x2x4");
    assert!(has);
    assert_eq!(asked, [Asked { site: chosen.clone(), first: 2 }]);
    assert!(!with_choice(&chosen, Way::Burns, || has_window_attention(&map, [2, 3], 2)));
    // Windows that do not tile the map are composed anyway: nobody asks.
    assert!(asked_by(|| assert!(!has_window_attention(&map, [3, 3], 2))).is_empty());
    assert!(operation_at(&asked[0], 1, &Device::flex().autodiff()).is_none());
}

/// What is measured where ours takes 100 ms in each round, and Burn's own so many.
fn measured(burns: &[u64]) -> Measured {
    let chosen = site("batch_norm f32 5");
    let mut times = burns.iter().copied().cycle();
    let measured = measure(&chosen, |way| {
        assert_eq!(choice_of(&chosen), Some(way), "the table has the way that is timed");
        let milliseconds = if way == Way::Ours { 100 } else { times.next().expect("they come again") };
        Some(Duration::from_millis(milliseconds))
    });
    assert_eq!(choice_of(&chosen), None);
    measured.expect("no time is missing")
}

#[test]
fn burns_own_must_be_faster_by_more_than_noise() {
    for (burns, way) in [(94, Way::Burns), (96, Way::Ours)] {
        let found = measured(&[burns]);
        assert_eq!(found.way, way);
        assert!((found.ratio - burns as f64 / 100.0).abs() < 1e-9, "{found:?}");
    }
    assert_eq!(measured(&[300]).way, Way::Ours);
    // The first rounds compile, and others are disturbed now and then.
    assert_eq!(measured(&[9_000, 700, 80, 81, 900, 80, 80, 900, 82]).way, Way::Burns);
    assert_eq!(measured(&[1, 1, 110, 111, 5, 112, 110, 5, 110]).way, Way::Ours);
}

#[test]
fn each_way_is_timed_as_often_and_first_in_turn() {
    let mut order = Vec::new();
    measure(&site("batch_norm f32 5"), |way| {
        order.push(way);
        Some(Duration::from_millis(1))
    });
    let timed = &order[2 * WARM_ROUNDS..];
    assert_eq!(timed.len(), 2 * ROUNDS);
    for (round, ways) in timed.chunks(2).enumerate() {
        let first = if round % 2 == 0 { Way::Ours } else { Way::Burns };
        assert!(ways[0] == first && ways[1] != first, "{round}");
    }
}

#[test]
fn a_device_that_fails_leaves_nothing_chosen() {
    let chosen = site("batch_norm f32 5");
    let fails = |way: Way| (way == Way::Ours).then_some(Duration::from_millis(1));
    assert_eq!(measure(&chosen, fails), None);
    assert_eq!(choice_of(&chosen), None);
}

/// The way of the clock alone is planted: both ways run, forward and backward, on the device.
#[test]
fn an_operation_is_measured_on_a_device() {
    let device = Device::flex();
    let asked = Asked { site: site(SITES[0].0), first: 1 };
    let forward = operation_at(&asked, 2, &device.clone().autodiff()).expect("it is one of those that are run");
    let upstream = Tensor::ones_like(&off_tape(forward()));
    let measured = measure(&asked.site, |way| {
        let time = time_passes(&*forward, &upstream, &device)?;
        assert!(time > Duration::ZERO);
        Some(Duration::from_millis(if way == Way::Ours { 3 } else { 2 }))
    });
    assert_eq!(measured.expect("the CPU does not fail").way, Way::Burns);
}
