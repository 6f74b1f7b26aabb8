//! Which of the user's settings would have to change for a step to fit.

use crate::Budget;
use crate::budget::{share_of, usable_limit};

/// A margin that the user asked for is not advised to go below this: no tier has a smaller one.
const LEAST_MARGIN_SHARE: f64 = 0.10;

/// Shares are advised in steps of a thousandth.
const SHARE_STEPS: f64 = 1000.0;

/// Settings of the user's that must change for a step to fit. Shares are in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetChange {
    /// `memory.limit`, at least so many bytes.
    pub limit_bytes: Option<u64>,
    /// `memory.fraction`, at least this.
    pub fraction_thousandths: Option<u16>,
    /// `memory.safety_margin`, at most this.
    pub margin_thousandths: Option<u16>,
}

impl BudgetChange {
    /// As it is to be written: ``set `memory.limit: 200MiB` and raise `memory.fraction` to 0.25``.
    pub fn hint(&self) -> String {
        let share = |thousandths: u16| f64::from(thousandths) / SHARE_STEPS;
        let limit = self.limit_bytes.map(|bytes| format!("set `memory.limit: {}MiB`", bytes.div_ceil(1 << 20)));
        let fraction = self.fraction_thousandths.map(|least| format!("raise `memory.fraction` to {}", share(least)));
        let margin = self.margin_thousandths.map(|most| format!("lower `memory.safety_margin` to {}", share(most)));
        [limit, fraction, margin].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

impl Budget {
    /// The user's settings that are in the way of `bytes`, each with a value that is not. None where nothing is in the way, or something is that no
    /// setting of the user's put there.
    pub fn change_for(&self, bytes: u64) -> Option<BudgetChange> {
        let mut change = BudgetChange::default();
        let mut margin = self.user_margin_share;
        if share_of(self.free_bytes, 1.0 - self.margin_share) < bytes {
            margin = Some(margin.and_then(|asked| lower_margin(asked, self.free_bytes, bytes))?);
            change.margin_thousandths = margin.map(thousandths);
        }
        if self.user_limit_bytes.is_some() && usable_limit(self.user_limit_bytes, margin).unwrap_or(u64::MAX) < bytes {
            change.limit_bytes = Some(whole_of(bytes, 1.0 - margin.unwrap_or(0.0)));
        }
        if let Some(asked) = self.user_fraction.filter(|asked| share_of(self.total_bytes, *asked) < bytes) {
            change.fraction_thousandths = Some(higher_fraction(asked, self.total_bytes, bytes)?);
        }
        (change != BudgetChange::default()).then_some(change)
    }
}

/// The fewest bytes of which `share` is `bytes`.
fn whole_of(bytes: u64, share: f64) -> u64 {
    let whole = (bytes as f64 / share).ceil() as u64;
    if share_of(whole, share) < bytes { whole + 1 } else { whole }
}

/// The largest margin below `asked` that leaves `bytes` of what is free; none where that would be smaller than any tier's.
fn lower_margin(asked: f64, free_bytes: u64, bytes: u64) -> Option<f64> {
    let most = ((1.0 - bytes as f64 / free_bytes.max(1) as f64) * SHARE_STEPS).floor();
    let leaves_enough = |margin: &f64| share_of(free_bytes, 1.0 - *margin) >= bytes;
    let lower = [most, most - 1.0].map(|steps| steps / SHARE_STEPS).into_iter().find(leaves_enough)?;
    (lower < asked && lower >= LEAST_MARGIN_SHARE).then_some(lower)
}

/// The smallest fraction above `asked` that holds `bytes`, in thousandths.
fn higher_fraction(asked: f64, total_bytes: u64, bytes: u64) -> Option<u16> {
    let least = thousandths((bytes as f64 / total_bytes.max(1) as f64 * SHARE_STEPS).ceil() / SHARE_STEPS);
    let holds = |steps: &u16| share_of(total_bytes, f64::from(*steps) / SHARE_STEPS) >= bytes;
    let higher = [least, least.saturating_add(1)].into_iter().find(holds)?;
    let share = f64::from(higher) / SHARE_STEPS;
    (share > asked && share <= 1.0).then_some(higher)
}

fn thousandths(share: f64) -> u16 {
    (share * SHARE_STEPS).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BudgetRequest;
    use crate::budget::tests::{GIB, host};

    /// Whatever combination of settings is in the way, the budget under the values that are advised holds what was asked about, byte for byte.
    #[test]
    fn a_budget_changed_as_advised_holds_what_it_was_changed_for() {
        let mut advised = [0; 3];
        for bytes in (GIB / 7..18 * GIB).step_by(777_777_777) {
            for limit in [None, Some(GIB), Some(30 * GIB)] {
                for fraction in [None, Some(0.05), Some(0.7)] {
                    for margin in [None, Some(0.1), Some(0.6)] {
                        let asked =
                            BudgetRequest { limit_bytes: limit, safety_margin: margin, memory_fraction: fraction };
                        let budget = host(asked);
                        let Some(change) = budget.change_for(bytes) else { continue };
                        assert!(budget.budget_bytes < bytes, "{asked:?}: {bytes} fit already");
                        let share = |of: Option<u16>| of.map(|of| f64::from(of) / SHARE_STEPS);
                        let changed = host(BudgetRequest {
                            limit_bytes: change.limit_bytes.or(limit),
                            safety_margin: share(change.margin_thousandths).or(margin),
                            memory_fraction: share(change.fraction_thousandths).or(fraction),
                        });
                        assert!(changed.budget_bytes >= bytes, "{asked:?}: {change:?} for {bytes}");
                        advised[0] += usize::from(change.limit_bytes.is_some());
                        advised[1] += usize::from(change.fraction_thousandths.is_some());
                        advised[2] += usize::from(change.margin_thousandths.is_some());
                    }
                }
            }
        }
        assert!(advised.iter().all(|times| *times > 20), "{advised:?}");
    }

    #[test]
    fn only_settings_of_the_users_are_advised_to_change() {
        assert_eq!(host(BudgetRequest::default()).change_for(17 * GIB), None, "the margin is the default's");
        let fraction = host(BudgetRequest { memory_fraction: Some(0.1), ..Default::default() });
        assert_eq!(fraction.change_for(2 * GIB), None, "it fits");
        assert_eq!(fraction.change_for(6 * GIB).unwrap().hint(), "raise `memory.fraction` to 0.25");
        assert_eq!(fraction.change_for(17 * GIB), None, "the default margin is in the way, too");
        let both = BudgetRequest { limit_bytes: Some(GIB), memory_fraction: Some(0.1), ..Default::default() };
        let hint = "set `memory.limit: 6144MiB` and raise `memory.fraction` to 0.25";
        assert_eq!(host(both).change_for(6 * GIB).unwrap().hint(), hint);
        let margin = host(BudgetRequest { safety_margin: Some(0.9), ..Default::default() });
        assert_eq!(margin.change_for(5 * GIB).unwrap().hint(), "lower `memory.safety_margin` to 0.75");
    }
}
