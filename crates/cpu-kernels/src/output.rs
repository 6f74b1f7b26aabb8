//! Outputs that no thread but those that compute them writes to.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A vector of `length` numbers, computed in tasks of `task`: each is given its index and its part, which holds whatever is there, and is to be written before
/// it is read, all of it.
///
/// Zeros would be a pass over memory more: a tenth of what a norm takes.
pub(crate) fn in_tasks(length: usize, task: usize, compute: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    in_groups_of_tasks(length, length, task, |[_, index], part| compute(index, part))
}

/// The same, and what each task finds beside its part, in order.
pub(crate) fn in_tasks_with<T: Send>(
    length: usize,
    task: usize,
    compute: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let mut output = Vec::with_capacity(length);
    let parts = output.spare_capacity_mut()[..length].par_chunks_mut(task.max(1)).enumerate();
    let found = parts.map(|(index, part)| compute(index, unwritten(part))).collect();
    // SAFETY: every part holds numbers, and parts cover all of the length.
    unsafe { output.set_len(length) };
    (output, found)
}

/// The same as [`in_tasks`], cut into groups first: no task is in two groups, and each is given the index of its group and its own within it.
pub(crate) fn in_groups_of_tasks(
    length: usize,
    group: usize,
    task: usize,
    compute: impl Fn([usize; 2], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut output = Vec::with_capacity(length);
    let groups = output.spare_capacity_mut()[..length].par_chunks_mut(group.max(1)).enumerate();
    groups.for_each(|(group, part)| {
        let tasks = part.par_chunks_mut(task.max(1)).enumerate();
        tasks.for_each(|(index, part)| compute([group, index], unwritten(part)));
    });
    // SAFETY: every part holds numbers, and parts cover all of the length.
    unsafe { output.set_len(length) };
    output
}

/// A vector of `length` numbers that tasks write in whatever parts are theirs, and what `compute` returns.
///
/// # Safety
/// `compute` writes every number, unless it panics.
pub(crate) unsafe fn in_parts_of_tasks<T>(length: usize, compute: impl FnOnce(Shared<'_>) -> T) -> (Vec<f32>, T) {
    let mut output = Vec::with_capacity(length);
    let found = compute(Shared::new(&mut output.spare_capacity_mut()[..length]));
    // SAFETY: every number was written, as the caller says.
    unsafe { output.set_len(length) };
    (output, found)
}

/// A part of memory as the numbers that happen to be in it; where debug assertions are on, as numbers that no result survives.
fn unwritten(part: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    if cfg!(debug_assertions) {
        part.fill(MaybeUninit::new(f32::NAN));
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: it does nothing. It might write all of the part, for all that the compiler knows, and what is in memory is what it might have written: every
    // pattern of bits is a number.
    unsafe {
        std::arch::asm!("/* {start} */", start = in(reg) part.as_mut_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    part.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it holds numbers, as above.
    unsafe { &mut *(std::ptr::from_mut(part) as *mut [f32]) }
}

/// An output whose parts belong to different tasks, though they do not lie together.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    start: *mut MaybeUninit<f32>,
    length: usize,
    output: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: tasks have parts of their own; see `part`.
unsafe impl Send for Shared<'_> {}
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(output: &'a mut [MaybeUninit<f32>]) -> Self {
        Self { start: output.as_mut_ptr(), length: output.len(), output: PhantomData }
    }

    /// # Safety
    /// No other part that is in use overlaps this one.
    ///
    /// # Panics
    /// When the part is not inside.
    #[inline(always)]
    pub(crate) unsafe fn part(self, start: usize, length: usize) -> &'a mut [MaybeUninit<f32>] {
        assert!(start + length <= self.length, "{start} and {length} more of {}", self.length);
        // SAFETY: inside by the check, and used by the caller alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    fn what_a_task_does_not_write_is_no_number() {
        let found = in_tasks(4, 2, |_, part| part[0] = 1.0);
        assert!(found[0] == 1.0 && found[1].is_nan() && found[2] == 1.0 && found[3].is_nan());
    }

    #[test]
    fn parts_know_where_they_are() {
        let found = in_groups_of_tasks(10, 5, 2, |[group, index], part| part.fill((10 * group + index) as f32));
        assert_eq!(found, [0.0, 0.0, 1.0, 1.0, 2.0, 10.0, 10.0, 11.0, 11.0, 12.0]);
        assert!(in_tasks(0, 0, |_, _| ()).is_empty());
        assert_eq!(in_tasks(3, 2, |index, part| part.fill(index as f32)), [0.0, 0.0, 1.0]);
    }
}
