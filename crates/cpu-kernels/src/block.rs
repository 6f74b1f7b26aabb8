//! A few channels in vector registers.

/// Channels that are worked on together: one AVX-512 register of f32, two of AVX2.
pub(crate) const LANES: usize = 16;

pub(crate) type Block = [f32; LANES];

/// A block from the start of `values`; zeros beyond the first `lanes`.
#[inline(always)]
pub(crate) fn load(values: &[f32], lanes: usize) -> Block {
    match values.first_chunk::<LANES>() {
        Some(block) if lanes == LANES => *block,
        _ => std::array::from_fn(|lane| if lane < lanes { values[lane] } else { 0.0 }),
    }
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
