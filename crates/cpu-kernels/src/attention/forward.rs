use multiversion::multiversion;
use rayon::prelude::*;

use super::WindowAttention;
use super::head::{Head, bias_lines};
use super::places::Places;
use super::rows::Rows;
use crate::block::Line;
use crate::output::{Shared, in_parts_of_tasks};

/// One task a window.
pub(super) fn forward(of: &WindowAttention, projected: &[f32], bias: &[f32]) -> Vec<f32> {
    let bias = bias_lines(of, bias);
    let work = || (Head::new(of), Rows::new(of.tokens(), of.head_width), Places::default());
    // SAFETY: windows tile the map, and each head has numbers of its own.
    let (output, ()) = unsafe {
        in_parts_of_tasks(projected.len() / 3, |output| {
            (0..of.windows()).into_par_iter().for_each_init(work, |(head, seen, places), window| {
                places.find(of, window);
                window_task(of, projected, &bias, places, (head, seen), output);
            });
        })
    };
    output
}

#[multiversion(targets = "simd")]
fn window_task(
    of: &WindowAttention,
    projected: &[f32],
    bias: &[Line],
    places: &Places,
    (head_of_window, seen): (&mut Head, &mut Rows),
    output: Shared<'_>,
) {
    for head in 0..of.heads {
        head_of_window.look(of, projected, bias, places, head);
        seen.multiply(head_of_window.weights.matrix(), &head_of_window.values);
        for (token, place) in places.places.iter().enumerate() {
            let start = place * of.channels() + head * of.head_width;
            // SAFETY: each place is in one window, and each head has numbers of its own there.
            seen.write(token, 1.0, unsafe { output.part(start, of.head_width) });
        }
    }
}
