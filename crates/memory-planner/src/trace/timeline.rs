//! The bytes alive over a step, and fewer points of them that still tell the same.

use serde::{Deserialize, Serialize};

use super::{Born, Phase, ROLES, Role, Trace};

/// The bytes alive while one operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelinePoint {
    /// The index of the operation.
    pub operation: usize,
    /// The part of the step that it belongs to.
    pub phase: Phase,
    /// Bytes in the order of [`Role::ALL`]; the workspace of the operation is among them.
    pub bytes_by_role: [u64; ROLES],
}

impl TimelinePoint {
    /// All roles together, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.bytes_by_role.iter().sum()
    }

    /// Nothing alive yet, at an operation.
    fn at(operation: usize, phase: Phase) -> Self {
        Self { operation, phase, bytes_by_role: [0; ROLES] }
    }
}

/// One point an operation. The trace must have been checked.
pub(super) fn of_checked(trace: &Trace) -> Vec<TimelinePoint> {
    let operations = trace.operations.len();
    let mut born = vec![[0u64; ROLES]; operations];
    let mut freed = vec![[0u64; ROLES]; operations + 1]; // at the operation from which on it is gone
    for tensor in &trace.tensors {
        let birth = match tensor.born {
            Born::BeforeStep => 0,
            Born::At(operation) => operation,
        };
        born[birth][tensor.role.index()] += tensor.bytes;
        if let Some(death) = tensor.dies {
            freed[death + 1][tensor.role.index()] += tensor.bytes;
        }
    }
    let mut live = [0u64; ROLES];
    let mut timeline = Vec::with_capacity(operations);
    for (index, operation) in trace.operations.iter().enumerate() {
        for role in 0..ROLES {
            live[role] = live[role] - freed[index][role] + born[index][role];
        }
        let mut point = TimelinePoint { bytes_by_role: live, ..TimelinePoint::at(index, operation.phase) };
        point.bytes_by_role[Role::Workspace.index()] += operation.workspace_bytes;
        timeline.push(point);
    }
    timeline
}

/// The place of the first of the highest points. There must be one.
pub(super) fn first_highest(points: &[TimelinePoint]) -> usize {
    (1..points.len())
        .fold(0, |best, index| if points[index].total_bytes() > points[best].total_bytes() { index } else { best })
}

/// At most `most` points, one at least; see [`super::Liveness::downsampled`].
pub(super) fn downsample(points: &[TimelinePoint], most: usize) -> Vec<TimelinePoint> {
    if points.len() <= most {
        return points.to_vec();
    }
    let mut kept = local_maxima(points);
    if kept.len() > most {
        return highest_of_stretches(points, most).into_iter().copied().collect();
    }
    let spare = most - kept.len();
    kept.extend((0..spare).map(|index| index * (points.len() - 1) / spare.saturating_sub(1).max(1)));
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().map(|index| points[index]).collect()
}

/// The highest point of each of `count` stretches of about equal length; the first of equals.
pub(super) fn highest_of_stretches(points: &[TimelinePoint], count: usize) -> Vec<&TimelinePoint> {
    let count = count.min(points.len());
    (0..count)
        .map(|index| {
            let stretch = &points[index * points.len() / count..(index + 1) * points.len() / count];
            &stretch[first_highest(stretch)]
        })
        .collect()
}

/// The first points of the plateaus from which both sides fall, the ends of the step counting as falls.
fn local_maxima(points: &[TimelinePoint]) -> Vec<usize> {
    let mut maxima = Vec::new();
    let mut rising_from = Some(0); // the start of the plateau that the curve climbed to, until it falls from it
    for index in 1..points.len() {
        match points[index].total_bytes().cmp(&points[index - 1].total_bytes()) {
            std::cmp::Ordering::Greater => rising_from = Some(index),
            std::cmp::Ordering::Less => maxima.extend(rising_from.take()),
            std::cmp::Ordering::Equal => {}
        }
    }
    maxima.extend(rising_from);
    maxima
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(totals: &[u64]) -> Vec<TimelinePoint> {
        let point = |(index, &total): (usize, &u64)| {
            let mut point = TimelinePoint::at(index, Phase::Forward);
            point.bytes_by_role[index % ROLES] = total;
            point
        };
        totals.iter().enumerate().map(point).collect()
    }

    fn operations(points: &[TimelinePoint]) -> Vec<usize> {
        points.iter().map(|point| point.operation).collect()
    }

    #[test]
    fn maxima_are_where_both_sides_fall_and_a_plateau_counts_once() {
        assert_eq!(local_maxima(&points(&[1, 3, 2, 2, 5, 5, 4, 4, 6])), [1, 4, 8]);
        assert_eq!(local_maxima(&points(&[7, 7, 7])), [0]);
        assert_eq!(local_maxima(&points(&[9, 1, 1])), [0]);
        assert_eq!(local_maxima(&points(&[5])), [0]);
    }

    #[test]
    fn few_points_are_kept_as_they_are() {
        let few = points(&[1, 2, 1]);
        assert_eq!(downsample(&few, 3), few);
    }

    #[test]
    fn maxima_stay_and_even_spacing_fills_up() {
        let long = points(&[1, 2, 3, 4, 9, 4, 3, 2, 1, 8, 1]);
        assert_eq!(operations(&downsample(&long, 5)), [0, 4, 5, 9, 10]);
        assert_eq!(operations(&downsample(&long, 2)), [4, 9]);
        assert_eq!(operations(&downsample(&long, 1)), [4]);
    }
}
