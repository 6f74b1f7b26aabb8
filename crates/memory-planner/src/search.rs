//! Finding the largest batch that fits, with few questions asked.

/// The largest batch up to `limit` whose peak is within `budget_bytes`, or 0 when not even one sample fits.
///
/// Doubles, then bisects: about `2 log2(answer)` calls of `peak_bytes`, which may be a formula or a run on the device.
/// It must not fall as the batch grows; otherwise the answer still fits, but need not be the largest.
///
/// # Errors
/// The first error of `peak_bytes`.
pub fn largest_fitting_batch<E>(
    limit: usize,
    budget_bytes: u64,
    mut peak_bytes: impl FnMut(usize) -> Result<u64, E>,
) -> Result<usize, E> {
    let mut fits = 0;
    let mut next = 1.min(limit);
    while fits < limit && peak_bytes(next)? <= budget_bytes {
        fits = next;
        next = next.saturating_mul(2).min(limit);
    }
    if fits == limit {
        return Ok(fits);
    }
    bisect(fits, next, budget_bytes, peak_bytes)
}

/// The same where `known` is known to fit: it looks close above first, in some `2 log2(answer - known)` calls.
///
/// # Errors
/// The first error of `peak_bytes`.
pub fn largest_fitting_batch_from<E>(
    known: usize,
    limit: usize,
    budget_bytes: u64,
    mut peak_bytes: impl FnMut(usize) -> Result<u64, E>,
) -> Result<usize, E> {
    let (mut fits, mut further) = (known, 1);
    while fits < limit {
        let next = fits.saturating_add(further).min(limit);
        if peak_bytes(next)? > budget_bytes {
            return bisect(fits, next, budget_bytes, peak_bytes);
        }
        (fits, further) = (next, further.saturating_mul(2));
    }
    Ok(fits)
}

/// The largest batch from `fits` on, and below `too_large`, that fits.
fn bisect<E>(
    mut fits: usize,
    mut too_large: usize,
    budget_bytes: u64,
    mut peak_bytes: impl FnMut(usize) -> Result<u64, E>,
) -> Result<usize, E> {
    while too_large - fits > 1 {
        let middle = fits + (too_large - fits) / 2;
        if peak_bytes(middle)? <= budget_bytes {
            fits = middle;
        } else {
            too_large = middle;
        }
    }
    Ok(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(limit: usize, budget: u64, cost: u64) -> (usize, usize) {
        let mut calls = 0;
        let found = largest_fitting_batch(limit, budget, |batch| {
            calls += 1;
            Ok::<_, ()>(batch as u64 * cost)
        });
        (found.unwrap(), calls)
    }

    #[test]
    fn the_search_agrees_with_division() {
        for limit in [0, 1, 2, 3, 7, 64, 100] {
            for budget in 0..400 {
                assert_eq!(search(limit, budget, 3).0, (budget as usize / 3).min(limit), "{limit} {budget}");
            }
        }
    }

    #[test]
    fn a_search_from_what_fits_agrees_and_asks_less() {
        for known in 0..40 {
            for limit in [known, known + 1, 50, 1000] {
                let mut calls = 0;
                let found = largest_fitting_batch_from(known, limit, 120, |batch| {
                    calls += 1;
                    Ok::<_, ()>(batch as u64 * 3)
                });
                assert_eq!(found, Ok(limit.min(40)), "from {known} to {limit}");
                assert!(limit != 1000 || known != 36 || calls <= 6, "{calls}");
            }
        }
    }

    #[test]
    fn the_search_asks_few_questions() {
        let (found, calls) = search(1 << 24, 1_000_000, 10);
        assert_eq!(found, 100_000);
        assert!(calls <= 34, "{calls}");
        assert_eq!(search(usize::MAX, u64::MAX, 0).0, usize::MAX);
    }

    #[test]
    fn an_error_of_the_source_ends_the_search() {
        assert_eq!(largest_fitting_batch(9, 100, |_| Err::<u64, _>("no device")), Err("no device"));
    }
}
