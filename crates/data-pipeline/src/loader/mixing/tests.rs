use super::*;

/// Image `i` is plain, of shade `10 * i`, and has label `i`.
fn batch(len: usize, index: usize) -> Batch {
    let size = [8, 6, 3];
    Batch {
        index,
        pixels: (0..len).flat_map(|image| vec![(10 * image) as u8; 144]).collect(),
        labels: (0..len as u32).map(Some).collect(),
        samples: (0..len).collect(),
        corrupt: Vec::new(),
        size,
        partners: Vec::new(),
        last_steps: Vec::new(),
    }
}

fn mixed(mixing: &Mixing, len: usize, index: usize) -> Batch {
    let mut batch = batch(len, index);
    mixing.mix(&mut batch, 7, 3);
    batch
}

const MIXUP: Mixing =
    Mixing { mixup_alpha: 0.8, cutmix_alpha: 0.0, probability: 1.0, switch_probability: 0.5, mode: MixMode::Batch };
const CUTMIX: Mixing = Mixing { mixup_alpha: 0.0, cutmix_alpha: 1.0, ..MIXUP };
const BOTH: Mixing = Mixing { cutmix_alpha: 1.0, ..MIXUP };

#[test]
fn mixup_weighs_pixels_as_labels() {
    for mode in [MixMode::Batch, MixMode::Pair, MixMode::Element] {
        for index in 0..20 {
            let batch = mixed(&Mixing { mode, ..MIXUP }, 6, index);
            for (row, image) in batch.pixels.chunks(144).enumerate() {
                let Partner { label, share } = batch.partners[row];
                assert_eq!(label, Some(5 - row as u32));
                let expected = 10.0 * row as f32 * (1.0 - share) + 10.0 * (5 - row) as f32 * share;
                assert!(image.iter().all(|&value| (f32::from(value) - expected).abs() <= 0.51), "{mode:?} {row}");
            }
        }
    }
}

#[test]
fn cutmix_pastes_a_rectangle_whose_area_is_the_label_s_share() {
    for mode in [MixMode::Batch, MixMode::Pair, MixMode::Element] {
        for index in 0..20 {
            let batch = mixed(&Mixing { mode, ..CUTMIX }, 6, index);
            for (row, image) in batch.pixels.chunks(144).enumerate() {
                let Partner { label, share } = batch.partners[row];
                assert_eq!(label, Some(5 - row as u32));
                let pasted = image.iter().filter(|&&value| value == (10 * (5 - row)) as u8).count();
                let kept = image.iter().filter(|&&value| value == (10 * row) as u8).count();
                assert_eq!(pasted + kept, 144);
                assert!((pasted as f32 / 144.0 - share).abs() < 1e-6, "{mode:?} {row}");
            }
        }
    }
}

#[test]
fn a_batch_draws_once_a_pair_for_itself_and_an_element_too() {
    let shares = |mode| -> Vec<f32> {
        mixed(&Mixing { mode, ..MIXUP }, 8, 1).partners.iter().map(|partner| partner.share).collect()
    };
    let of_batch = shares(MixMode::Batch);
    assert_eq!(of_batch, [of_batch[0]; 8]);
    let of_pairs = shares(MixMode::Pair);
    assert_eq!(of_pairs.iter().rev().copied().collect::<Vec<_>>(), of_pairs);
    assert_ne!(of_pairs[0], of_pairs[1]);
    let of_elements = shares(MixMode::Element);
    assert_ne!(of_elements[0], of_elements[7]);
}

#[test]
fn the_middle_of_an_odd_batch_stays_as_it_is() {
    for mixing in [MIXUP, CUTMIX] {
        let batch = mixed(&mixing, 5, 0);
        assert_eq!(batch.pixels[2 * 144..3 * 144], [20; 144]);
        assert_eq!(batch.partners[2].label, batch.labels[2]);
    }
    assert_eq!(mixed(&MIXUP, 1, 0).pixels, [0; 144]);
    assert!(mixed(&MIXUP, 0, 0).partners.is_empty());
}

#[test]
fn probabilities_are_kept() {
    let sometimes = Mixing { probability: 0.3, ..MIXUP };
    let count = (0..1000).filter(|&index| mixed(&sometimes, 2, index).partners[0].share > 0.0).count();
    assert!((250..350).contains(&count), "{count}");
    let drawn = |index| BOTH.draw_one([64, 64, 3], &mut Random::new(index));
    let cut = (0..1000).filter(|&index| matches!(drawn(index), Mix::Paste(_))).count();
    assert!((440..560).contains(&cut), "{cut}");
}

#[test]
fn another_batch_seed_or_epoch_draws_another_share_and_the_same_one_does_not() {
    let share = |seed, epoch, index| {
        let mut batch = batch(2, index);
        MIXUP.mix(&mut batch, seed, epoch);
        batch.partners[0].share
    };
    let shares = [share(1, 1, 1), share(2, 1, 1), share(1, 2, 1), share(1, 1, 2)];
    assert_eq!(shares[0], share(1, 1, 1));
    assert!((1..4).all(|other| shares[0] != shares[other]));
}

#[test]
fn switched_off_it_leaves_everything_alone() {
    assert!(!Mixing::default().is_on());
    assert_eq!(mixed(&Mixing::default(), 4, 0), batch(4, 0));
    assert_eq!(mixed(&Mixing { probability: 0.0, ..BOTH }, 4, 0), batch(4, 0));
}

#[test]
fn the_area_of_rectangles_is_what_was_asked_for_inside_the_image() {
    // 1 / 4 of the area is half of each side, as long as the rectangle does not reach beyond the edge.
    let inside: Vec<Rectangle> = (0..2000)
        .map(|seed| Rectangle::draw(0.25, [100, 60, 3], &mut Random::new(seed)))
        .filter(|rectangle| rectangle.rows[0] > 0 && rectangle.rows[1] < 100)
        .filter(|rectangle| rectangle.columns[0] > 0 && rectangle.columns[1] < 60)
        .collect();
    assert!(inside.len() > 300);
    assert!(inside.iter().all(|rectangle| rectangle.area() == 50 * 30));
}

/// Sides of the tiles of mix.png.
const SIDE: usize = 24;

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// Images that timm made: `python scripts/augment_fixtures.py`. A half may be rounded either way: the share of mixup is one of 32,768 here.
#[test]
fn mixed_images_and_their_shares_are_those_of_timm() {
    let image = crate::decode(&fixture("mix.png"), &crate::DecodeOptions::default()).unwrap();
    let tiles: Vec<&[u8]> = image.pixels().chunks(SIDE * SIDE * 3).collect();
    let lines = std::fs::read_to_string(fixture("mix.txt")).unwrap();
    assert_eq!(tiles.len(), 2 + 2 * lines.lines().count());
    for (line, expected) in lines.lines().zip(tiles[2..].chunks(2)) {
        let numbers: Vec<f32> = line.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
        let (mix, share) = match numbers[..] {
            [share] => (Mix::Blend(share), share),
            [top, bottom, left, right, share] => {
                let [rows, columns] = [[top, bottom], [left, right]].map(|span| span.map(|place| place as usize));
                (Mix::Paste(Rectangle { rows, columns }), share)
            }
            _ => panic!("{line}"),
        };
        assert!((mix.share(SIDE * SIDE) - share).abs() < 1e-6, "{line}");
        let [mut upper, mut lower] = [tiles[0].to_vec(), tiles[1].to_vec()];
        mix_pair(&mut upper, &mut lower, [mix, mix], [SIDE, SIDE, 3]);
        let allowed = u8::from(numbers.len() == 1);
        for (found, expected) in [upper, lower].iter().zip(expected) {
            let off = found.iter().zip(*expected).map(|(found, expected)| found.abs_diff(*expected)).max();
            assert!(off <= Some(allowed), "`{line}`: off by {off:?}");
        }
    }
}
