//! Where the sheet lies in the frame: a projective map from frame to sheet, a slight curl, and the desk around it.

use super::{Exposure, Staging};
use crate::canvas::Canvas;
use crate::dice::Dice;

/// Samples the sheet through the camera's eye onto a desk.
pub(super) fn place_on_desk(canvas: &Canvas, staging: Staging, dice: &mut Dice) -> Exposure {
    let (paper_width, paper_height) = canvas.pixel_size();
    let paper_aspect = paper_width as f32 / paper_height as f32;
    let aspect = staging.frame_aspect.unwrap_or_else(|| paper_aspect * dice.range(0.95, 1.05));
    let longer = dice.range(176.0, 256.0);
    let (frame_width, frame_height) = if aspect < 1.0 { (longer * aspect, longer) } else { (longer, longer / aspect) };
    let (width, height) = (frame_width as usize, frame_height as usize);
    let corners = sheet_corners(paper_aspect, (frame_width, frame_height), staging, dice);
    let to_sheet = invert(square_to_quad(corners));
    let curl = Curl::roll(dice);
    let desk = Desk::roll(dice);
    // Two samples a side on each pixel: the sheet is drawn at up to twice the frame's resolution.
    let offsets = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)];
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let mut sum = [0.0; 3];
            for (right, down) in offsets {
                let (x, y) = (x as f32 + right, y as f32 + down);
                let (u, v) = curl.bend(project(&to_sheet, x, y));
                let level = sample_sheet(canvas, u, v).unwrap_or_else(|| desk.level(x, y, (u, v)));
                for (total, part) in sum.iter_mut().zip(level) {
                    *total += part / 4.0;
                }
            }
            pixels.push(sum);
        }
    }
    Exposure { width, height, pixels }
}

/// Corners of the sheet in the frame, in pixels: top left, top right, bottom right, bottom left.
fn sheet_corners(
    paper_aspect: f32,
    (frame_width, frame_height): (f32, f32),
    staging: Staging,
    dice: &mut Dice,
) -> [(f32, f32); 4] {
    let height = staging.fill * frame_height.min(frame_width / paper_aspect);
    let width = height * paper_aspect;
    let slack = |frame: f32, sheet: f32| (frame - sheet).abs() * 0.4;
    let centre_x = frame_width / 2.0 + slack(frame_width, width) * dice.range(-1.0, 1.0);
    let centre_y = frame_height / 2.0 + slack(frame_height, height) * dice.range(-1.0, 1.0);
    let (sin, cos) = staging.tilt_degrees.to_radians().sin_cos();
    let jitter = staging.corner_jitter * frame_width.min(frame_height);
    [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)].map(|(u, v)| {
        let (x, y) = (u * width, v * height);
        (
            centre_x + x * cos - y * sin + dice.range(-jitter, jitter),
            centre_y + x * sin + y * cos + dice.range(-jitter, jitter),
        )
    })
}

type Matrix = [[f32; 3]; 3];

/// The projective map of the unit square onto four corners (Heckbert 1989, section 2.2.3).
fn square_to_quad([(x0, y0), (x1, y1), (x2, y2), (x3, y3)]: [(f32, f32); 4]) -> Matrix {
    let (dx1, dx2, sx) = (x1 - x2, x3 - x2, x0 - x1 + x2 - x3);
    let (dy1, dy2, sy) = (y1 - y2, y3 - y2, y0 - y1 + y2 - y3);
    let denominator = dx1 * dy2 - dx2 * dy1;
    let g = (sx * dy2 - dx2 * sy) / denominator;
    let h = (dx1 * sy - sx * dy1) / denominator;
    [[x1 - x0 + g * x1, x3 - x0 + h * x3, x0], [y1 - y0 + g * y1, y3 - y0 + h * y3, y0], [g, h, 1.0]]
}

/// The inverse up to a factor, which a projective map does not mind: the adjugate.
fn invert(m: Matrix) -> Matrix {
    let minor = |r0: usize, c0: usize, r1: usize, c1: usize| m[r0][c0] * m[r1][c1] - m[r0][c1] * m[r1][c0];
    [
        [minor(1, 1, 2, 2), -minor(0, 1, 2, 2), minor(0, 1, 1, 2)],
        [-minor(1, 0, 2, 2), minor(0, 0, 2, 2), -minor(0, 0, 1, 2)],
        [minor(1, 0, 2, 1), -minor(0, 0, 2, 1), minor(0, 0, 1, 1)],
    ]
}

fn project(m: &Matrix, x: f32, y: f32) -> (f32, f32) {
    let row = |r: usize| m[r][0] * x + m[r][1] * y + m[r][2];
    let depth = row(2);
    (row(0) / depth, row(1) / depth)
}

/// A sheet that does not lie quite flat.
struct Curl {
    height: f32,
    waves: f32,
    phase: f32,
}

impl Curl {
    fn roll(dice: &mut Dice) -> Self {
        Self {
            height: if dice.chance(0.35) { dice.range(0.003, 0.014) } else { 0.0 },
            waves: dice.range(2.0, 7.0),
            phase: dice.range(0.0, 6.3),
        }
    }

    fn bend(&self, (u, v): (f32, f32)) -> (f32, f32) {
        if self.height == 0.0 {
            return (u, v);
        }
        (u, v + self.height * (u * self.waves + self.phase).sin())
    }
}

/// What the sheet lies on.
struct Desk {
    colour: [f32; 3],
    grain: f32,
    grain_length: f32,
    shadow: f32,
}

impl Desk {
    fn roll(dice: &mut Dice) -> Self {
        // The last three are wood and have a grain.
        let colours = [
            [250.0, 250.0, 248.0],
            [225.0, 225.0, 225.0],
            [60.0, 58.0, 56.0],
            [25.0, 25.0, 28.0],
            [120.0, 128.0, 138.0],
            [150.0, 108.0, 70.0],
            [96.0, 62.0, 40.0],
            [196.0, 172.0, 140.0],
        ];
        let material = dice.whole(0, 7) as usize;
        Self {
            colour: colours[material],
            grain: if material >= 5 { dice.range(0.02, 0.1) } else { 0.0 },
            grain_length: dice.range(0.6, 1.8),
            shadow: dice.range(0.05, 0.45),
        }
    }

    /// The desk's colour at a pixel, darker close to the sheet, whose position is given in sheet shares.
    fn level(&self, x: f32, y: f32, (u, v): (f32, f32)) -> [f32; 3] {
        let outside = |share: f32| (-share).max(share - 1.0).max(0.0);
        let distance = outside(u).max(outside(v));
        let shadow = 1.0 - self.shadow * (1.0 - distance / 0.05).max(0.0);
        let grain = if self.grain > 0.0 {
            self.grain * (y * self.grain_length + 2.0 * (x * 0.05 + y * 0.02).sin()).sin()
        } else {
            0.0
        };
        self.colour.map(|level| level * shadow * (1.0 + grain))
    }
}

/// The sheet's colour at shares of its width and height, blended from four pixels; nothing outside.
fn sample_sheet(canvas: &Canvas, u: f32, v: f32) -> Option<[f32; 3]> {
    if !(0.0..1.0).contains(&u) || !(0.0..1.0).contains(&v) {
        return None;
    }
    let (width, height) = canvas.pixel_size();
    let x = (u * width as f32 - 0.5).max(0.0);
    let y = (v * height as f32 - 0.5).max(0.0);
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
    let (across, down) = (x - left as f32, y - top as f32);
    let pixels = canvas.pixels();
    let blend_row = |row: usize| {
        let at = |column: usize| &pixels[(row * width + column) * 4..][..3];
        let (first, second) = (at(left), at(right));
        [0, 1, 2].map(|channel| {
            let (first, second) = (f32::from(first[channel]), f32::from(second[channel]));
            first + (second - first) * across
        })
    };
    let (upper, lower) = (blend_row(top), blend_row(bottom));
    Some([0, 1, 2].map(|channel| upper[channel] + (lower[channel] - upper[channel]) * down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projecting_back_undoes_the_placement() {
        let corners = [(12.0, 9.0), (180.0, 20.0), (171.0, 240.0), (5.0, 228.0)];
        let to_sheet = invert(square_to_quad(corners));
        let expected = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        for ((x, y), (u, v)) in corners.into_iter().zip(expected) {
            let found = project(&to_sheet, x, y);
            assert!((found.0 - u).abs() < 1e-3 && (found.1 - v).abs() < 1e-3, "{found:?}");
        }
    }
}
