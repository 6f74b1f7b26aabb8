//! From frequencies to pixels.

/// The lowest frequencies of a block, dequantised, row by row, as many as there will be pixels; and behind the place of the last that there can be,
/// one for all that are not of use.
pub(super) type Frequencies = [f32; UNUSED + 1];

/// Where frequencies go that nothing is made of.
const UNUSED: usize = 4 * 4;

/// Where frequencies lie in a block, from the lowest to the highest, by row and column.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// The place of each frequency, from the lowest to the highest, where `SIDE` x `SIDE` pixels are made.
pub(super) const fn places<const SIDE: usize>() -> [u8; 64] {
    let mut places = [UNUSED as u8; 64];
    let mut index = 0;
    while index < 64 {
        let [row, column] = [ZIGZAG[index] as usize / 8, ZIGZAG[index] as usize % 8];
        if row < SIDE && column < SIDE {
            places[index] = (row * SIDE + column) as u8;
        }
        index += 1;
    }
    places
}

/// The `SIDE` x `SIDE` pixels, four a side at most, that the lowest frequencies make: an inverse cosine transform of that length, whose basis is scaled so
/// that means stay what they are.
pub(super) fn inverse_transform<const SIDE: usize>(frequencies: &Frequencies) -> [[u8; SIDE]; SIDE] {
    if SIDE == 1 {
        // The mean: an eighth of the first frequency.
        return [[to_byte(frequencies[0] / 8.0); SIDE]; SIDE];
    }
    let basis = const { basis::<SIDE>() };
    // Whole rows of sums at a time, for vector registers: down the columns, then along the rows.
    let mut columns = [[0.0f32; SIDE]; SIDE];
    for (sums, weights) in columns.iter_mut().zip(&basis) {
        for (row, weight) in frequencies.chunks_exact(SIDE).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    let mut pixels = [[0; SIDE]; SIDE];
    for (pixels, row) in pixels.iter_mut().zip(&columns) {
        let mut sums = [0.0f32; SIDE];
        for (frequency, value) in row.iter().enumerate() {
            sums.iter_mut().zip(&basis).for_each(|(sum, weights)| *sum += value * weights[frequency]);
        }
        *pixels = sums.map(to_byte);
    }
    pixels
}

/// By pixel and frequency: half of cos((2 x + 1) u pi / (2 SIDE)), the first one over the root of 2.
const fn basis<const SIDE: usize>() -> [[f32; SIDE]; SIDE] {
    // cos(pi / 8), cos(pi / 4) and cos(3 pi / 8), halved.
    const LONG: f32 = 0.461_939_77;
    const MIDDLE: f32 = 0.353_553_4;
    const SHORT: f32 = 0.191_341_72;
    const FOUR: [[f32; 4]; 4] = [
        [MIDDLE, LONG, MIDDLE, SHORT],
        [MIDDLE, SHORT, -MIDDLE, -LONG],
        [MIDDLE, -SHORT, -MIDDLE, LONG],
        [MIDDLE, -LONG, MIDDLE, -SHORT],
    ];
    const TWO: [[f32; 2]; 2] = [[MIDDLE, MIDDLE], [MIDDLE, -MIDDLE]];
    let mut basis = [[0.0; SIDE]; SIDE];
    let mut pixel = 0;
    while pixel < SIDE {
        let mut frequency = 0;
        while frequency < SIDE {
            basis[pixel][frequency] = if SIDE == 4 { FOUR[pixel][frequency] } else { TWO[pixel % 2][frequency % 2] };
            frequency += 1;
        }
        pixel += 1;
    }
    basis
}

/// The nearest byte. Frequencies are those of values less 128.
fn to_byte(value: f32) -> u8 {
    /// From here to its double, numbers of f32 are whole: the last bits of one are those of what was added to this.
    const WHOLE: f32 = 8_388_608.0;
    ((value + 128.0).clamp(0.0, 255.0) + WHOLE).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frequencies of a block by the definition, those of which so many pixels a side are made.
    fn frequencies<const SIDE: usize>(pixel: impl Fn(usize, usize) -> f64) -> Frequencies {
        let wave = |place: usize, frequency: usize| {
            let scale = if frequency == 0 { 0.5f64.sqrt() } else { 1.0 };
            scale / 2.0 * ((2 * place + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0).cos()
        };
        let mut frequencies = Frequencies::default();
        for (place, frequency) in frequencies.iter_mut().enumerate().take(SIDE * SIDE) {
            let (down, across) = (place / SIDE, place % SIDE);
            let sum: f64 =
                (0..64).map(|at| (pixel(at % 8, at / 8) - 128.0) * wave(at % 8, across) * wave(at / 8, down)).sum();
            *frequency = sum.round() as f32;
        }
        frequencies
    }

    #[test]
    fn a_plain_block_stays_plain() {
        let plain = |_, _| 200.0;
        assert_eq!(inverse_transform::<4>(&frequencies::<4>(plain)), [[200; 4]; 4]);
        assert_eq!(inverse_transform::<2>(&frequencies::<2>(plain)), [[200; 2]; 2]);
        assert_eq!(inverse_transform::<1>(&frequencies::<1>(plain)), [[200]]);
    }

    /// Between the means of the pixels that a smaller one stands for; a slope has little of the higher frequencies.
    #[test]
    fn a_slope_becomes_a_slope() {
        let slope = |x: usize, y: usize| 20.0 + 16.0 * x as f64 + 8.0 * y as f64;
        for (y, row) in inverse_transform::<4>(&frequencies::<4>(slope)).iter().enumerate() {
            for (x, &value) in row.iter().enumerate() {
                let mean = 20.0 + 16.0 * (2 * x) as f64 + 8.0 + 8.0 * (2 * y) as f64 + 4.0;
                assert!((f64::from(value) - mean).abs() <= 5.0, "({x}, {y}): {value}, {mean}");
            }
        }
        let half = inverse_transform::<2>(&frequencies::<2>(slope));
        assert!(half[0][0] < half[1][0] && half[1][0] < half[0][1] && half[0][1] < half[1][1], "{half:?}");
        assert_eq!(inverse_transform::<1>(&frequencies::<1>(slope)), [[104]]);
    }
}
