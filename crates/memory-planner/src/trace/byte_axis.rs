//! An axis of bytes with round ticks in binary units.

/// Ticks from zero up to the highest value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ByteAxis {
    /// The value at the top, in bytes.
    pub(super) high: f64,
    /// Where the ticks are, in bytes: from zero on, none above `high`.
    pub(super) ticks: Vec<f64>,
    unit: &'static str,
    unit_bytes: f64,
    decimals: usize,
}

const UNITS: [(&str, u32); 6] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50)];

impl ByteAxis {
    /// An axis from zero on that shows `highest` bytes, with up to five ticks above zero.
    pub(super) fn up_to(highest: u64) -> Self {
        let highest = (highest as f64).max(4.0);
        let unit_of = |&(unit, power): &(&'static str, u32)| (unit, f64::from(power).exp2());
        let fits = |&(_, unit_bytes): &(&str, f64)| unit_bytes <= highest;
        let (unit, unit_bytes) = UNITS.iter().map(unit_of).rev().find(fits).unwrap_or((UNITS[0].0, 1.0));
        let (step, decimals) = round_step(highest / unit_bytes / 5.0);
        let count = (highest / unit_bytes / step + 1e-9).floor() as usize; // the small term: 5 steps of 0.2 are 1
        let ticks: Vec<f64> = (0..=count).map(|index| index as f64 * step * unit_bytes).collect();
        Self { high: highest, ticks, unit, unit_bytes, decimals }
    }

    /// `1.5 GiB`; a bare `0`.
    pub(super) fn label(&self, tick: f64) -> String {
        if tick == 0.0 {
            return "0".to_owned();
        }
        format!("{:.*} {}", self.decimals, tick / self.unit_bytes, self.unit)
    }

    /// Where a value lies between the ends, 0 to 1.
    pub(super) fn position(&self, bytes: u64) -> f64 {
        bytes as f64 / self.high
    }
}

/// The next of 1, 2, 2.5, 5, 10 times a power of ten, and the decimals that write its multiples.
fn round_step(step: f64) -> (f64, usize) {
    let power = step.log10().floor();
    let magnitude = 10f64.powf(power);
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * magnitude >= step * 0.999).unwrap_or(10.0);
    let decimals = if factor == 2.5 { 1.0 - power } else { -power };
    (factor * magnitude, decimals.max(0.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(highest: u64) -> Vec<String> {
        let axis = ByteAxis::up_to(highest);
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_in_binary_units() {
        assert_eq!(labels(900 << 20), ["0", "200 MiB", "400 MiB", "600 MiB", "800 MiB"]);
        assert_eq!(labels(1 << 30), ["0", "0.2 GiB", "0.4 GiB", "0.6 GiB", "0.8 GiB", "1.0 GiB"]);
        assert_eq!(labels(11 << 30), ["0", "2.5 GiB", "5.0 GiB", "7.5 GiB", "10.0 GiB"]);
    }

    #[test]
    fn any_number_of_bytes_makes_an_axis_that_shows_it() {
        for highest in [0, 1, 5, 1023, 1024, 999_999, 1 << 40, u64::MAX / 2, u64::MAX] {
            let axis = ByteAxis::up_to(highest);
            assert!(axis.high.is_finite() && axis.position(highest) <= 1.0 + 1e-9, "{axis:?}");
            assert!((3..=6).contains(&axis.ticks.len()), "{highest} {axis:?}");
        }
    }
}
