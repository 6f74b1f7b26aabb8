//! What devices there are, and what they have time for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::config::{DeviceRequest, MergeRule};

/// What `gpu` is asked.
#[derive(Debug, Args)]
pub struct GpuArguments {
    /// Tell more of each device: tier, bandwidth, margin, what a run may take
    #[arg(long, conflicts_with = "recommend_tta")]
    pub detailed: bool,
    /// Measure each preset of test-time augmentation, and say which fits
    #[arg(long)]
    pub recommend_tta: bool,
    /// Configuration that names the images: `data.test` for how many, `output` and `name` for the newest run
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "recommend_tta")]
    pub config: Option<PathBuf>,
    /// Run folder to take the weights from [default: the newest run of the configuration]
    #[arg(long, value_name = "RUN", value_hint = ValueHint::DirPath, requires = "recommend_tta")]
    pub run: Option<PathBuf>,
    /// Number of images, where it is not that of `data.test`
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), requires = "recommend_tta")]
    pub images: Option<u64>,
    /// The time that all images may take, such as `20m`, `90s` or `1h`
    #[arg(long, value_name = "TIME", requires = "recommend_tta")]
    pub target_time: Option<TimeSpan>,
    /// The macro-F1 that the validation images must reach
    #[arg(long, value_name = "SCORE", value_parser = score, requires = "recommend_tta")]
    pub min_f1: Option<f64>,
    /// How the views' answers become one [default: what the run's configuration says]
    #[arg(long, requires = "recommend_tta")]
    pub merge: Option<MergeRule>,
    /// Estimate the time on a card of the catalogue, such as `rtx3060`; the score is measured here
    #[arg(long, value_name = "NAME", requires = "recommend_tta")]
    pub gpu: Option<String>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto", requires = "recommend_tta")]
    pub device: DeviceRequest,
}

/// What `gpu` does.
pub const GPU_ABOUT: &str = "\
List the devices at hand, or find the test-time augmentation that fits a time and a score.

Alone it lists the cards that the driver knows, and the CPU, with what stoker computes in on each.

With `--recommend-tta` it predicts a sample of a run's validation images with each preset, for a minute
at most, and prints images a second, the time for all test images, macro-F1, and whether both fit. With
`--gpu NAME` the speed is an estimate from what the card's memory can move. It recommends the preset with
the highest score among those that fit, and of equal ones that with fewer views. It knows no more than the
validation images show: where test images are turned and those are not, choose the views yourself.
`--merge max` merges them by another rule than the run does.";

/// How `gpu` is used.
pub const GPU_EXAMPLES: &str = "\
Examples:
  stoker gpu
  stoker gpu --detailed
  stoker gpu --recommend-tta --config configs/quickstart.yaml --target-time 20m --min-f1 0.9
  stoker gpu --recommend-tta --run experiments/train/latest --images 100000 --target-time 1h --gpu rtx3060
  stoker gpu --recommend-tta --run experiments/train/latest --images 100000 --merge max

Exit codes: 0 done, 1 no preset fits, 2 the request was wrong, 130 interrupted.";

/// A time as it is typed: `20m`, `90s`, `1.5h`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeSpan(pub Duration);

/// A year: more than any prediction takes, and far from what overflows.
const LONGEST_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || "expected a time such as `20m`, `90s` or `1.5h`".to_owned();
        let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).ok_or_else(refused)?;
        let (number, unit) = text.split_at(unit_at);
        let seconds = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(refused()),
        };
        let seconds = seconds * number.trim().parse::<f64>().map_err(|_| refused())?;
        let is_time = seconds > 0.0 && seconds <= LONGEST_SECONDS;
        is_time.then(|| Self(Duration::from_secs_f64(seconds))).ok_or_else(refused)
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&crate::ui::short_time(self.0.as_secs_f64()))
    }
}

/// A share from 0 to 1.
pub(super) fn score(text: &str) -> Result<f64, String> {
    let score: Option<f64> = text.parse().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_above_zero_and_a_unit() {
        for (text, seconds) in [("20m", 1200.0), ("90s", 90.0), ("1.5h", 5400.0), ("250ms", 0.25), ("3 min", 180.0)] {
            assert_eq!(text.parse::<TimeSpan>().unwrap().0.as_secs_f64(), seconds, "{text}");
        }
        for wrong in ["", "20", "m", "0s", "-3m", "nan s", "infs", "1e300h", "3 days", "9000h"] {
            assert!(wrong.parse::<TimeSpan>().is_err(), "{wrong}");
        }
        assert_eq!("20m".parse::<TimeSpan>().unwrap().to_string(), "20 min 00 s");
    }

    #[test]
    fn scores_are_shares() {
        assert_eq!(score(".945"), Ok(0.945));
        for wrong in ["1.1", "-0.1", "nan", "94%"] {
            assert!(score(wrong).is_err(), "{wrong}");
        }
    }
}
