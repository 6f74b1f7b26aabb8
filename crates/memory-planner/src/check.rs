//! A prediction held against what happened.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::format_bytes;

/// The predicted peak against the measured one. Displays as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCheck {
    /// What the plan said.
    pub predicted_peak_bytes: u64,
    /// What the run held at most.
    pub measured_peak_bytes: u64,
    /// What it was allowed to hold.
    pub budget_bytes: u64,
}

impl PlanCheck {
    /// How far the prediction is off, as a share of the measured peak: positive when it said too much, negative when it
    /// said too little. Zero when nothing was measured.
    pub fn error_share(&self) -> f64 {
        if self.measured_peak_bytes == 0 {
            return 0.0;
        }
        (self.predicted_peak_bytes as f64 - self.measured_peak_bytes as f64) / self.measured_peak_bytes as f64
    }

    /// Whether the run held more than the plan said.
    pub fn is_under_estimate(&self) -> bool {
        self.measured_peak_bytes > self.predicted_peak_bytes
    }

    /// Whether the run kept to its budget.
    pub fn is_within_budget(&self) -> bool {
        self.measured_peak_bytes <= self.budget_bytes
    }

    /// One line: `peak memory: predicted 1.1 GiB, measured 1.0 GiB (prediction 4.2 % above), within the budget of 2.0
    /// GiB`.
    pub fn render(&self) -> String {
        let percent = 100.0 * self.error_share().abs();
        let direction = if self.is_under_estimate() { "below" } else { "above" };
        let budget = if self.is_within_budget() { "within" } else { "over" };
        format!(
            "peak memory: predicted {}, measured {} (prediction {percent:.1} % {direction}), {budget} the budget of {}",
            format_bytes(self.predicted_peak_bytes),
            format_bytes(self.measured_peak_bytes),
            format_bytes(self.budget_bytes)
        )
    }
}

impl fmt::Display for PlanCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(predicted_mib: u64, measured_mib: u64) -> PlanCheck {
        PlanCheck {
            predicted_peak_bytes: predicted_mib << 20,
            measured_peak_bytes: measured_mib << 20,
            budget_bytes: 2 << 30,
        }
    }

    #[test]
    fn a_check_tells_the_error_and_its_direction() {
        let above = check(1030, 1000);
        assert!((above.error_share() - 0.03).abs() < 1e-12);
        assert_eq!(
            above.to_string(),
            "peak memory: predicted 1.0 GiB, measured 1000.0 MiB (prediction 3.0 % above), within the budget of 2.0 GiB"
        );
        let below = check(2000, 2500);
        assert!(below.is_under_estimate() && !below.is_within_budget());
        assert!(below.render().contains("(prediction 20.0 % below), over the budget"), "{below}");
    }

    #[test]
    fn a_run_without_a_measurement_has_no_error() {
        assert_eq!(check(100, 0).error_share(), 0.0);
    }
}
