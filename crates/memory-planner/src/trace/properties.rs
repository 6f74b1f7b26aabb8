//! What holds for every trace, over seeded random ones.

use super::synthetic::Generator;
use super::*;
use crate::AllocationEvent;

fn for_every_trace(mut claim: impl FnMut(&Trace, &Liveness<'_>)) {
    for seed in 0..300 {
        let trace = Generator::new(seed).trace();
        claim(&trace, &Liveness::of(&trace).unwrap());
    }
}

/// By definition: every tensor is asked at every operation.
fn brute_force(trace: &Trace) -> Vec<[u64; ROLES]> {
    let bytes_at = |operation: usize| {
        let mut bytes = [0; ROLES];
        for tensor in &trace.tensors {
            let birth = if let Born::At(birth) = tensor.born { birth } else { 0 };
            if (birth..=tensor.dies.unwrap_or(usize::MAX)).contains(&operation) {
                bytes[tensor.role.index()] += tensor.bytes;
            }
        }
        bytes[Role::Workspace.index()] += trace.operations[operation].workspace_bytes;
        bytes
    };
    (0..trace.operations.len()).map(bytes_at).collect()
}

#[test]
fn linear_liveness_equals_brute_force() {
    for_every_trace(|trace, liveness| {
        let linear: Vec<[u64; ROLES]> = liveness.timeline().iter().map(|point| point.bytes_by_role).collect();
        assert_eq!(linear, brute_force(trace));
    });
}

#[test]
fn the_peak_is_the_highest_point_and_the_first_of_equals() {
    for_every_trace(|trace, liveness| {
        let totals: Vec<u64> = brute_force(trace).iter().map(|bytes| bytes.iter().sum()).collect();
        assert_eq!(liveness.peak_bytes, *totals.iter().max().unwrap());
        assert_eq!(Some(liveness.peak_operation), totals.iter().position(|total| *total == liveness.peak_bytes));
    });
}

#[test]
fn roles_and_layers_sum_to_the_peak() {
    for_every_trace(|trace, liveness| {
        assert_eq!(liveness.peak_by_role().iter().map(|row| row.bytes).sum::<u64>(), liveness.peak_bytes);
        for count in [0, 1, 3, trace.layers.len()] {
            let rows = liveness.peak_by_layer(count);
            assert_eq!(rows.iter().map(|row| row.bytes).sum::<u64>(), liveness.peak_bytes);
            assert!(rows.len() <= count + 1);
            assert!(rows.iter().take(count).is_sorted_by_key(|row| std::cmp::Reverse(row.bytes)));
        }
    });
}

#[test]
fn the_largest_tensors_and_the_workspace_make_the_peak() {
    for_every_trace(|trace, liveness| {
        let all = liveness.largest_tensors(usize::MAX);
        let workspace = trace.operations[liveness.peak_operation].workspace_bytes;
        assert_eq!(all.iter().map(|tensor| tensor.bytes).sum::<u64>() + workspace, liveness.peak_bytes);
        assert!(all.is_sorted_by_key(|tensor| std::cmp::Reverse(tensor.bytes)));
        assert_eq!(liveness.largest_tensors(2)[..], all[..all.len().min(2)]);
    });
}

#[test]
fn downsampling_keeps_the_peak_and_every_maximum_that_has_room() {
    for_every_trace(|_, liveness| {
        let points = liveness.timeline();
        let total = |index: usize| points[index].total_bytes();
        let strict_maximum = |index: &usize| {
            (*index == 0 || total(index - 1) < total(*index))
                && (index + 1 == points.len() || total(index + 1) < total(*index))
        };
        let maxima: Vec<usize> = (0..points.len()).filter(strict_maximum).collect();
        for most in [0, 1, 2, 7, 40, 1_000] {
            let fewer = liveness.downsampled(most);
            assert!(fewer.len() <= most.max(1) && fewer.is_sorted_by_key(|point| point.operation));
            assert!(fewer.iter().all(|point| points[point.operation] == *point));
            assert!(fewer.iter().any(|point| point.operation == liveness.peak_operation), "{most}");
            let plateaus = points.windows(2).filter(|pair| pair[0].total_bytes() == pair[1].total_bytes()).count();
            if maxima.len() + plateaus <= most {
                assert!(maxima.iter().all(|&index| fewer.contains(&points[index])), "{most} of {maxima:?}");
            }
        }
    });
}

/// The most bytes alive at once, by doing what the events say.
fn simulated_peak(events: &[AllocationEvent]) -> (u64, u64) {
    let mut live = std::collections::HashMap::new();
    let (mut now, mut peak) = (0u64, 0u64);
    for event in events {
        match *event {
            AllocationEvent::Allocate { id, bytes } => {
                assert_eq!(live.insert(id, bytes), None, "{id} is allocated twice");
                now += bytes;
            }
            AllocationEvent::Free { id } => now -= live.remove(&id).unwrap_or_else(|| panic!("{id} is not alive")),
        }
        peak = peak.max(now);
    }
    (peak, now)
}

#[test]
fn an_exact_allocator_peaks_where_liveness_does() {
    for_every_trace(|trace, liveness| {
        let with_workspace = simulated_peak(&trace.allocations_with_workspace().unwrap());
        assert_eq!(with_workspace, (liveness.peak_bytes, liveness.after_bytes));

        let mut without = trace.clone();
        without.operations.iter_mut().for_each(|operation| operation.workspace_bytes = 0);
        let liveness = Liveness::of(&without).unwrap();
        assert_eq!(simulated_peak(&trace.allocations().unwrap()), (liveness.peak_bytes, liveness.after_bytes));
    });
}

#[test]
fn a_trace_survives_json() {
    for_every_trace(|trace, _| {
        let text = serde_json::to_string(trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), *trace);
    });
}
