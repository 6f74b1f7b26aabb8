//! How far a task is, how fast it goes, and when it will be done. Pure: time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

/// The rate is taken over this long, so that it follows changes and does not jump.
const RATE_WINDOW: Duration = Duration::from_secs(15);

/// Before this much time a rate is a guess.
const SHORTEST_FOR_A_RATE: Duration = Duration::from_millis(200);

/// The state of a counted task.
#[derive(Debug)]
pub(crate) struct Meter {
    /// What is counted, in the plural: `images`.
    unit: &'static str,
    total: u64,
    done: u64,
    /// Time since the start, and the count at that time; oldest first, never empty.
    history: VecDeque<(Duration, u64)>,
}

impl Meter {
    pub(crate) fn new(unit: &'static str, total: u64) -> Self {
        Self { unit, total, done: 0, history: VecDeque::from([(Duration::ZERO, 0)]) }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Takes note of the count at a time since the start.
    pub(crate) fn record(&mut self, done: u64, elapsed: Duration) {
        self.done = done.min(self.total);
        self.history.push_back((elapsed, self.done));
        let window_start = elapsed.saturating_sub(RATE_WINDOW);
        while self.history.get(1).is_some_and(|(time, _)| *time <= window_start) {
            self.history.pop_front();
        }
    }

    /// Units per second over the last seconds; `None` while that is a guess.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (first, last) = (self.history.front()?, self.history.back()?);
        let seconds = last.0.checked_sub(first.0).filter(|span| *span >= SHORTEST_FOR_A_RATE)?;
        let count = last.1.saturating_sub(first.1);
        (count > 0).then(|| count as f64 / seconds.as_secs_f64())
    }

    /// `400 of 1200 images`.
    pub(crate) fn count(&self) -> String {
        format!("{} of {} {}", self.done, self.total, self.unit)
    }

    /// `210 images/s, 4 s left, loss 0.41`, as far as it is known.
    pub(crate) fn details(&self, said: &str) -> String {
        let rate = self.rate();
        let left = rate.map(|rate| (self.total - self.done) as f64 / rate);
        let parts = [
            rate.map(|rate| format!("{} {}/s", short_number(rate), self.unit)),
            left.filter(|_| self.done < self.total).map(|seconds| format!("{} left", short_time(seconds))),
            // Last, because a narrow terminal cuts the line off.
            (!said.is_empty()).then(|| said.to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// `1234`, `21.4`, `0.53`: three digits or so.
pub(crate) fn short_number(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

/// `0.4 s`, `42 s`, `3 min 20 s`, `2 h 05 min`.
pub(crate) fn short_time(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_meter_tells_rate_and_time_left() {
        let mut meter = Meter::new("images", 1200);
        meter.record(400, at(2));
        assert_eq!(meter.count(), "400 of 1200 images");
        assert_eq!(meter.details("loss 0.41"), "200 images/s, 4.0 s left, loss 0.41");
    }

    #[test]
    fn the_rate_forgets_what_is_long_past() {
        let mut meter = Meter::new("images", 10_000);
        meter.record(1, at(60));
        meter.record(101, at(70));
        meter.record(201, at(80));
        assert_eq!(meter.rate(), Some(10.0));
    }

    #[test]
    fn nothing_is_guessed_before_it_is_known() {
        let mut meter = Meter::new("images", 10);
        assert_eq!(meter.details(""), "");
        meter.record(3, Duration::from_millis(5));
        assert_eq!(meter.details("loss 2.1"), "loss 2.1");
    }

    #[test]
    fn more_than_all_is_all() {
        let mut meter = Meter::new("images", 10);
        meter.record(12, at(1));
        assert_eq!(meter.details(""), "10.0 images/s");
    }

    #[test]
    fn times_are_short() {
        let said: Vec<String> = [0.44, 42.0, 200.0, 7500.0, 59.7].map(short_time).into();
        assert_eq!(said, ["0.4 s", "42 s", "3 min 20 s", "2 h 05 min", "1 min 00 s"]);
    }
}
