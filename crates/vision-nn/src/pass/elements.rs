use super::{Pass, mix, unit_interval};

impl Pass {
    /// Draws which numbers of `[batch, elements]` are kept, row by row, when each is dropped with probability `drop_probability`.
    ///
    /// Returns `None` when nothing is dropped: in evaluation, or at probability zero. Each call is a layer of its own, and a sample's row depends on
    /// its position in the effective batch alone, as in [`draw_kept`](Self::draw_kept).
    pub fn draw_kept_elements(&mut self, batch: usize, elements: usize, drop_probability: f32) -> Option<Vec<bool>> {
        let stream = self.training.as_mut()?;
        stream.layer += 1;
        if drop_probability <= 0.0 {
            return None;
        }
        let layer_seed = mix(stream.step_seed ^ mix(stream.layer));
        let first_sample = stream.first_sample;
        let row = |position: u64| {
            let sample_seed = mix(layer_seed ^ mix(first_sample + position));
            (0..elements as u64).map(move |at| unit_interval(mix(sample_seed ^ mix(at))) >= drop_probability)
        };
        Some((0..batch as u64).flat_map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_a_batch_does_not_change_which_elements_are_dropped() {
        let draw = |first, batch| Pass::training(7, first).draw_kept_elements(batch, 5, 0.5).unwrap();
        assert_eq!(draw(0, 8), [draw(0, 3), draw(3, 5)].concat());
    }

    #[test]
    fn the_dropped_share_of_elements_follows_the_probability() {
        let kept = Pass::training(1, 0).draw_kept_elements(20, 1000, 0.3).unwrap();
        let dropped_share = kept.iter().filter(|kept| !**kept).count() as f64 / 20_000.0;
        // Four standard deviations of a binomial share at n = 20,000.
        assert!((dropped_share - 0.3).abs() < 4.0 * (0.21f64 / 20_000.0).sqrt(), "{dropped_share}");
    }

    #[test]
    fn samples_and_layers_draw_differently() {
        let mut pass = Pass::training(1, 0);
        let mut draw = || pass.draw_kept_elements(2, 64, 0.5).unwrap();
        let (first, second) = (draw(), draw());
        assert_ne!(first[..64], first[64..]);
        assert_ne!(first, second);
    }

    #[test]
    fn nothing_is_dropped_in_evaluation_or_at_probability_zero() {
        assert_eq!(Pass::evaluation().draw_kept_elements(4, 4, 0.9), None);
        assert_eq!(Pass::training(1, 0).draw_kept_elements(4, 4, 0.0), None);
    }
}
