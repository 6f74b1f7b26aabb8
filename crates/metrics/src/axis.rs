//! Axes with round ticks, whatever the numbers are.

/// Numbers beyond this are drawn as if they were not finite: their differences would overflow.
const LARGEST: f64 = 1e30;

/// Up to this many epochs each gets a tick.
const MOST_SINGLE_TICKS: f64 = 14.0;

/// What a value axis must show besides its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// Zero as well.
    FromZero,
    /// Zero as well when the numbers come near it.
    NearZero,
    /// Only the numbers, and nothing outside 0 to 1.
    Share,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<f64>,
    /// Ticks are labelled in units of 10 to this power.
    pub(crate) exponent: i32,
    decimals: usize,
}

pub(crate) fn is_drawable(value: f64) -> bool {
    value.abs() <= LARGEST // false for NaN
}

impl Axis {
    /// An axis for numbers; those that cannot be drawn are left out.
    pub(crate) fn of_values(values: impl Iterator<Item = f64>, range: Range) -> Self {
        let (lowest, highest) = values
            .filter(|&value| is_drawable(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if lowest > highest { (0.0, 1.0) } else { widen(lowest, highest, range) };
        let step = round_step((high - low) / 5.0);
        let first = (low / step).floor();
        let count = ((high / step).ceil() - first).max(1.0) as usize;
        let ticks: Vec<f64> = (0..=count).map(|index| (first + index as f64) * step).collect();
        let exponent = exponent_of(ticks[0].abs().max(ticks[count].abs()));
        Self {
            low: ticks[0],
            high: ticks[count],
            ticks,
            exponent,
            decimals: (exponent - power_of_ten(step)).max(0) as usize,
        }
    }

    /// An axis for epochs: whole ticks, the first and the last one shown where there is room.
    pub(crate) fn of_epochs(first: u32, last: u32) -> Self {
        let (low, high) = (f64::from(first), f64::from(last));
        if first >= last {
            return Self { low: low - 0.5, high: low + 0.5, ticks: vec![low], exponent: 0, decimals: 0 };
        }
        let step = if high - low <= MOST_SINGLE_TICKS { 1.0 } else { round_step((high - low) / 8.0) };
        let (start, end) = ((low / step).ceil() as u64, (high / step).floor() as u64);
        let between = (start..=end).map(|index| index as f64 * step);
        let room = 0.6 * step;
        let mut ticks = vec![low];
        ticks.extend(between.filter(|&tick| tick - low > room && high - tick > room));
        ticks.push(high);
        Self { low, high, ticks, exponent: 0, decimals: 0 }
    }

    /// Where a value lies between the ends, 0 to 1.
    pub(crate) fn position(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    pub(crate) fn label(&self, tick: f64) -> String {
        let scaled = tick / 10f64.powi(self.exponent);
        with_thousands(&format!("{scaled:.decimals$}", decimals = self.decimals))
    }

    /// The unit's factor, `×10⁻³`, where tick labels need one.
    pub(crate) fn factor(&self) -> Option<String> {
        (self.exponent != 0).then(|| {
            let digits: String = self.exponent.to_string().chars().map(superscript).collect();
            format!("×10{digits}")
        })
    }
}

fn widen(lowest: f64, highest: f64, range: Range) -> (f64, f64) {
    // Differences smaller than this are noise, and must not look like a trend.
    let smallest_span = match range {
        Range::Share => 0.1,
        _ if highest == 0.0 && lowest == 0.0 => 0.1,
        _ => 0.2 * highest.abs().max(lowest.abs()),
    };
    let padding = (smallest_span - (highest - lowest)).max(0.0) / 2.0;
    let (low, high) = (lowest - padding, highest + padding);
    match range {
        Range::FromZero => (low.min(0.0), high.max(0.0)),
        Range::NearZero if lowest >= 0.0 && lowest <= 0.4 * highest => (0.0, high),
        Range::NearZero => (low, high),
        Range::Share => (low.max(0.0), high.min(1.0)),
    }
}

/// The next of 1, 2, 5, 10 times a power of ten.
fn round_step(step: f64) -> f64 {
    let magnitude = 10f64.powi(power_of_ten(step));
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * magnitude >= step * 0.999).unwrap_or(10.0);
    factor * magnitude
}

fn power_of_ten(value: f64) -> i32 {
    (value.log10() + 1e-9).floor() as i32 // the small term: 0.001 is 10^-3, whatever its rounding
}

fn exponent_of(largest: f64) -> i32 {
    match largest {
        0.0 => 0,
        _ if largest >= 1e6 => power_of_ten(largest).div_euclid(3) * 3,
        _ if largest < 0.01 => power_of_ten(largest),
        _ => 0,
    }
}

/// `12500` to `12,500`; also for the whole part of a decimal.
pub(crate) fn with_thousands(number: &str) -> String {
    let whole_end = number.find('.').unwrap_or(number.len());
    let digits_start = usize::from(number.starts_with('-'));
    let mut text = String::from(&number[..digits_start]);
    for (index, digit) in number[digits_start..whole_end].chars().enumerate() {
        if index > 0 && (whole_end - digits_start - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + &number[whole_end..]
}

fn superscript(character: char) -> char {
    match character {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0'..='9' => char::from_u32('⁰' as u32 + character as u32 - '0' as u32).unwrap_or(character),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_every_value() {
        let axis = Axis::of_values([0.21, 2.07].into_iter(), Range::NearZero);
        assert_eq!(labels(&axis), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        let axis = Axis::of_values([0.43, 0.968].into_iter(), Range::Share);
        assert_eq!(labels(&axis), ["0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::of_values([11_950.0, 12_480.0].into_iter(), Range::FromZero);
        assert_eq!(labels(&axis), ["0", "5,000", "10,000", "15,000"]);
    }

    #[test]
    fn tiny_and_huge_numbers_get_a_factor() {
        let axis = Axis::of_values([1e-6, 1e-3].into_iter(), Range::FromZero);
        assert_eq!(axis.factor().unwrap(), "×10⁻³");
        assert_eq!(labels(&axis), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::of_values([2.0, 3.4e12].into_iter(), Range::NearZero);
        assert_eq!((axis.factor().unwrap().as_str(), labels(&axis)[1].as_str()), ("×10¹²", "1"));
    }

    #[test]
    fn equal_numbers_and_no_numbers_still_make_an_axis() {
        for values in
            [vec![], vec![f64::NAN], vec![0.0], vec![1.0, 1.0], vec![7.25], vec![-3.0], vec![1e300], vec![1e-300]]
        {
            for range in [Range::FromZero, Range::NearZero, Range::Share] {
                let axis = Axis::of_values(values.iter().copied(), range);
                assert!(axis.low < axis.high && axis.ticks.len() < 15, "{values:?} {range:?} {axis:?}");
            }
        }
        let axis = Axis::of_values([1.0].into_iter(), Range::Share);
        assert_eq!(axis.high, 1.0);
    }

    #[test]
    fn epoch_ticks_are_whole_and_show_both_ends() {
        assert_eq!(labels(&Axis::of_epochs(1, 1)), ["1"]);
        assert_eq!(labels(&Axis::of_epochs(1, 4)), ["1", "2", "3", "4"]);
        assert_eq!(labels(&Axis::of_epochs(1, 47)), ["1", "10", "20", "30", "40", "47"]);
    }
}
