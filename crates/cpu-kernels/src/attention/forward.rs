use multiversion::multiversion;
use rayon::prelude::*;

use super::WindowAttention;
use super::head::Head;
use super::rows::Rows;
use crate::output::Shared;

/// One task a window.
pub(super) fn forward(of: &WindowAttention, projected: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; projected.len() / 3];
    let shared = Shared::new(&mut output);
    (0..of.windows()).into_par_iter().for_each(|window| window_task(of, projected, bias, window, shared));
    output
}

#[multiversion(targets = "simd")]
fn window_task(of: &WindowAttention, projected: &[f32], bias: &[f32], window: usize, output: Shared<'_>) {
    let places = of.places(window);
    let mut head_of_window = Head::new(of);
    let mut seen = Rows::new(of.tokens(), of.head_blocks());
    for head in 0..of.heads {
        head_of_window.look(of, projected, bias, &places, head);
        seen.multiply(&head_of_window.weights, &head_of_window.values, of.tokens());
        for (token, (place, _)) in places.iter().enumerate() {
            let start = place * of.channels() + head * of.head_width;
            // SAFETY: each place is in one window, and each head has numbers of its own there.
            let output = unsafe { output.part(start, of.head_width) };
            output.copy_from_slice(&seen.row(token).as_flattened()[..of.head_width]);
        }
    }
}
