//! A few channels in vector registers.

/// Channels that are worked on together: one AVX-512 register of f32, two of AVX2.
pub(crate) const LANES: usize = 16;

pub(crate) type Block = [f32; LANES];

/// A block that lies as registers of 512 bits read it fastest.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) Block);

impl Line {
    pub(crate) const ZEROS: Self = Self([0.0; LANES]);

    /// The numbers of lines, one behind the other.
    pub(crate) fn numbers(lines: &[Self]) -> &[f32] {
        // SAFETY: a line is so many numbers and nothing else.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
    }

    pub(crate) fn numbers_mut(lines: &mut [Self]) -> &mut [f32] {
        // SAFETY: a line is so many numbers and nothing else.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LANES) }
    }
}

/// A block from the start of `values`; zeros beyond the first `lanes`.
#[inline(always)]
pub(crate) fn load(values: &[f32], lanes: usize) -> Block {
    let mut block = [0.0; LANES];
    if lanes < LANES {
        // Number by number: a copy of so many lanes as it may be is a call, for whole blocks too.
        block.iter_mut().zip(&values[..lanes]).for_each(|(number, value)| *number = *value);
    } else {
        block.copy_from_slice(&values[..LANES]);
    }
    block
}

/// Has a line of memory brought into the second cache, where the processor is known to take such hints. The place may be anywhere.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32], place: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().wrapping_add(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}

/// `sum += left * right`, fused.
#[inline(always)]
pub(crate) fn multiply_add(sum: &mut Block, left: &Block, right: &Block) {
    for lane in 0..LANES {
        sum[lane] = left[lane].mul_add(right[lane], sum[lane]);
    }
}

/// `sum += other`
#[inline(always)]
pub(crate) fn add(sum: &mut Block, other: &Block) {
    for lane in 0..LANES {
        sum[lane] += other[lane];
    }
}

/// `sums += others`, number by number: line by line the compiler gathers single numbers.
#[inline(always)]
pub(crate) fn add_lines(sums: &mut [Line], others: &[Line]) {
    Line::numbers_mut(sums).iter_mut().zip(Line::numbers(others)).for_each(|(sum, other)| *sum += other);
}

/// All numbers of a block made one, halves by halves: one after the other each would wait for the one before.
#[inline(always)]
pub(crate) fn folded(mut block: Block, of_two: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            block[lane] = of_two(block[lane], block[lane + half]);
        }
        half /= 2;
    }
    block[0]
}

/// The sum of a block's numbers.
#[inline(always)]
pub(crate) fn total(block: Block) -> f32 {
    folded(block, |sum, number| sum + number)
}
