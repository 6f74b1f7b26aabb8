//! Which preset fits a time and a score.

use std::time::Duration;

use inference::Preset;

use crate::ui::short_time;

/// What a preset of test-time augmentation takes and gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) preset: Preset,
    pub(super) images_per_second: f64,
    /// Of the sample of validation images.
    pub(super) macro_f1: f64,
}

/// What must be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Goal {
    /// That are to be predicted.
    pub(super) images: u64,
    /// For all of them.
    pub(super) time: Option<Duration>,
    pub(super) macro_f1: Option<f64>,
}

impl Goal {
    pub(super) fn seconds(&self, measured: &Measured) -> f64 {
        self.images as f64 / measured.images_per_second
    }

    fn is_in_time(&self, measured: &Measured) -> bool {
        self.time.is_none_or(|time| self.seconds(measured) <= time.as_secs_f64())
    }

    fn is_good_enough(&self, measured: &Measured) -> bool {
        self.macro_f1.is_none_or(|least| measured.macro_f1 >= least)
    }

    /// Whether a preset fits, or what keeps it from that.
    pub(super) fn judge(&self, measured: &Measured) -> &'static str {
        match (self.is_in_time(measured), self.is_good_enough(measured)) {
            (true, true) => "fits",
            (false, true) => "too slow",
            (true, false) => "score too low",
            (false, false) => "too slow, score too low",
        }
    }

    /// The highest score among those that fit; of equal ones that with fewer views, which comes first.
    pub(super) fn best<'m>(&self, all: &'m [Measured]) -> Option<&'m Measured> {
        best_score(all.iter().filter(|measured| self.is_in_time(measured) && self.is_good_enough(measured)))
    }

    /// Where nothing fits: the best score in time, else the fastest that is good enough, else the fastest.
    pub(super) fn closest<'m>(&self, all: &'m [Measured]) -> Option<&'m Measured> {
        let speed = |measured: &&Measured| measured.images_per_second;
        let fastest = |measured: Vec<&'m Measured>| measured.into_iter().max_by(|a, b| speed(a).total_cmp(&speed(b)));
        best_score(all.iter().filter(|measured| self.is_in_time(measured)))
            .or_else(|| fastest(all.iter().filter(|measured| self.is_good_enough(measured)).collect()))
            .or_else(|| fastest(all.iter().collect()))
    }

    /// What helps where nothing fits. No device makes a score higher, and no preset does where none reaches it.
    pub(super) fn way_out(&self, all: &[Measured]) -> &'static str {
        let has_score = all.iter().any(|measured| self.is_good_enough(measured));
        let has_time = all.iter().any(|measured| self.is_in_time(measured));
        match (has_score, has_time) {
            (true, _) => "allow more with `--target-time`, or take a faster device",
            (false, true) => "lower `--min-f1`: no preset reaches it, on any device",
            (false, false) => "lower `--min-f1`, which no preset reaches, and allow more with `--target-time`",
        }
    }

    /// `within 20 min 00 s and with macro-F1 0.945`; nothing where nothing is asked.
    pub(super) fn describe(&self) -> String {
        let time = self.time.map(|time| format!("within {}", short_span(time.as_secs_f64())));
        let score = self.macro_f1.map(|score| format!("with macro-F1 of {score} or more"));
        [time, score].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

/// Below this, tenths of a second say too little, in seconds.
const SHORTEST_IN_SECONDS: f64 = 0.1;

/// A time that may be as short as a millisecond: `1.5 ms`, `0.4 s`, `20 min 00 s`.
pub(super) fn short_span(seconds: f64) -> String {
    if seconds >= SHORTEST_IN_SECONDS { short_time(seconds) } else { format!("{} ms", (seconds * 1e4).round() / 10.0) }
}

fn best_score<'m>(measured: impl Iterator<Item = &'m Measured>) -> Option<&'m Measured> {
    measured.reduce(|best, next| if next.macro_f1 > best.macro_f1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores 0.90, 0.93, 0.95, 0.95 at 100, 30, 20 and 6 images a second.
    fn all() -> Vec<Measured> {
        let of = |(preset, (macro_f1, images_per_second))| Measured { preset, images_per_second, macro_f1 };
        Preset::ALL.into_iter().zip([(0.9, 100.0), (0.93, 30.0), (0.95, 20.0), (0.95, 6.0)]).map(of).collect()
    }

    fn goal(seconds: Option<u64>, macro_f1: Option<f64>) -> Goal {
        Goal { images: 600, time: seconds.map(Duration::from_secs), macro_f1 }
    }

    #[test]
    fn the_best_score_in_time_wins_and_of_equal_ones_fewer_views() {
        let best = |seconds, score| goal(seconds, score).best(&all()).map(|measured| measured.preset);
        assert_eq!(best(None, None), Some(Preset::Essential));
        assert_eq!(best(Some(20), None), Some(Preset::Legacy), "600 images at 30 a second");
        assert_eq!(best(Some(30), Some(0.945)), Some(Preset::Essential));
        assert_eq!(best(Some(29), Some(0.945)), None);
        assert_eq!(best(Some(5), None), None);
    }

    #[test]
    fn what_comes_closest_keeps_the_time_before_the_score() {
        let closest = |seconds, score| goal(seconds, score).closest(&all()).map(|measured| measured.preset);
        assert_eq!(closest(Some(29), Some(0.945)), Some(Preset::Legacy));
        assert_eq!(closest(Some(5), Some(0.92)), Some(Preset::Legacy), "the fastest that is good enough");
        assert_eq!(closest(Some(5), Some(0.99)), Some(Preset::None));
        assert_eq!(goal(None, None).closest(&[]), None);
    }

    #[test]
    fn a_faster_device_is_named_only_where_time_is_what_lacks() {
        let way_out = |seconds, score| goal(seconds, score).way_out(&all());
        assert!(way_out(Some(29), Some(0.945)).ends_with("or take a faster device"));
        assert!(way_out(Some(5), None).ends_with("or take a faster device"));
        for (seconds, score) in [(None, Some(0.99)), (Some(29), Some(0.99)), (Some(5), Some(0.99))] {
            let told = way_out(seconds, score);
            assert!(told.starts_with("lower `--min-f1`") && !told.contains("faster"), "{told}");
        }
    }

    #[test]
    fn a_time_of_milliseconds_is_told_as_one() {
        let told = [0.001, 0.0003, 0.0996, 0.1, 42.0].map(short_span);
        assert_eq!(told, ["1 ms", "0.3 ms", "99.6 ms", "0.1 s", "42 s"]);
        let goal = Goal { images: 600, time: Some(Duration::from_millis(1)), macro_f1: None };
        assert_eq!(goal.describe(), "within 1 ms");
    }

    #[test]
    fn a_goal_says_what_it_asks() {
        assert_eq!(goal(Some(1200), Some(0.945)).describe(), "within 20 min 00 s and with macro-F1 of 0.945 or more");
        let judged: Vec<&str> = all().iter().map(|measured| goal(Some(20), Some(0.92)).judge(measured)).collect();
        assert_eq!(judged, ["score too low", "fits", "too slow", "too slow"]);
        assert_eq!(goal(None, None).describe(), "");
    }
}
