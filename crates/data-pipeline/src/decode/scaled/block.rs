//! From frequencies to pixels.

/// The frequencies of a block, row by row: `[8, 8]`, dequantised.
pub(super) type Block = [i16; 64];

/// The `SIDE` x `SIDE` pixels that the lowest frequencies make: an inverse cosine transform of that length, whose basis is
/// scaled so that means stay what they are.
pub(super) fn inverse_transform<const SIDE: usize>(block: &Block) -> [[u8; SIDE]; SIDE] {
    if SIDE == 1 {
        // The mean: an eighth of the first frequency.
        return [[to_byte(f32::from(block[0]) / 8.0); SIDE]; SIDE];
    }
    let basis = basis::<SIDE>();
    let mut columns = [[0.0f32; SIDE]; SIDE];
    for (row, weights) in columns.iter_mut().zip(&basis) {
        for (frequency, weight) in weights.iter().enumerate() {
            for (value, &stored) in row.iter_mut().zip(&block[frequency * 8..]) {
                *value += weight * f32::from(stored);
            }
        }
    }
    let mut pixels = [[0; SIDE]; SIDE];
    for (line, row) in pixels.iter_mut().zip(&columns) {
        for (pixel, weights) in line.iter_mut().zip(&basis) {
            *pixel = to_byte(row.iter().zip(weights).map(|(value, weight)| value * weight).sum());
        }
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

/// Frequencies are those of values less 128.
fn to_byte(value: f32) -> u8 {
    (value + 128.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frequencies of a block by the definition.
    fn frequencies(pixel: impl Fn(usize, usize) -> f64) -> Block {
        let wave = |place: usize, frequency: usize| {
            let scale = if frequency == 0 { 0.5f64.sqrt() } else { 1.0 };
            scale / 2.0 * ((2 * place + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0).cos()
        };
        std::array::from_fn(|place| {
            let (down, across) = (place / 8, place % 8);
            let sum: f64 =
                (0..64).map(|at| (pixel(at % 8, at / 8) - 128.0) * wave(at % 8, across) * wave(at / 8, down)).sum();
            sum.round() as i16
        })
    }

    #[test]
    fn a_plain_block_stays_plain() {
        let block = frequencies(|_, _| 200.0);
        assert_eq!(inverse_transform::<4>(&block), [[200; 4]; 4]);
        assert_eq!(inverse_transform::<2>(&block), [[200; 2]; 2]);
        assert_eq!(inverse_transform::<1>(&block), [[200]]);
    }

    /// Between the means of the pixels that a smaller one stands for; a slope has little of the higher frequencies.
    #[test]
    fn a_slope_becomes_a_slope() {
        let block = frequencies(|x, y| 20.0 + 16.0 * x as f64 + 8.0 * y as f64);
        for (y, row) in inverse_transform::<4>(&block).iter().enumerate() {
            for (x, &value) in row.iter().enumerate() {
                let mean = 20.0 + 16.0 * (2 * x) as f64 + 8.0 + 8.0 * (2 * y) as f64 + 4.0;
                assert!((f64::from(value) - mean).abs() <= 5.0, "({x}, {y}): {value}, {mean}");
            }
        }
        let half = inverse_transform::<2>(&block);
        assert!(half[0][0] < half[1][0] && half[1][0] < half[0][1] && half[0][1] < half[1][1], "{half:?}");
        assert_eq!(inverse_transform::<1>(&block), [[104]]);
    }
}
