//! Uneven light: a gradient over the frame, the shadow of whoever holds the camera, folds and dark corners.

use super::Exposure;
use crate::dice::Dice;

/// Multiplies each pixel by the light that falls on it.
pub(super) fn shade(exposure: &mut Exposure, dice: &mut Dice) {
    let gradient = Gradient::roll(dice);
    let shadow = dice.chance(0.35).then(|| Shadow::roll(dice));
    let fold = dice.chance(0.18).then(|| Fold::roll(dice));
    let corners = if dice.chance(0.4) { dice.range(0.0, 0.25) } else { 0.0 };
    let (width, height) = (exposure.width, exposure.height);
    for (index, pixel) in exposure.pixels.iter_mut().enumerate() {
        let u = (index % width) as f32 / width as f32 - 0.5;
        let v = (index / width) as f32 / height as f32 - 0.5;
        let mut light = gradient.light(u, v) * (1.0 - corners * (u * u + v * v) * 2.0);
        if let Some(shadow) = &shadow {
            light *= shadow.light(u, v);
        }
        if let Some(fold) = &fold {
            light *= fold.light(u, v);
        }
        for level in pixel {
            *level *= light;
        }
    }
}

/// Brighter on one side.
struct Gradient {
    across: f32,
    down: f32,
}

impl Gradient {
    fn roll(dice: &mut Dice) -> Self {
        let strength = if dice.chance(0.6) { dice.range(0.0, 0.4) } else { 0.03 };
        let (down, across) = dice.range(0.0, 6.3).sin_cos();
        Self { across: across * strength, down: down * strength }
    }

    fn light(&self, u: f32, v: f32) -> f32 {
        1.0 - 0.5 * self.across.hypot(self.down) + self.across * u + self.down * v
    }
}

/// A soft-edged half plane.
struct Shadow {
    across: f32,
    down: f32,
    offset: f32,
    softness: f32,
    depth: f32,
}

impl Shadow {
    fn roll(dice: &mut Dice) -> Self {
        let (down, across) = dice.range(0.0, 6.3).sin_cos();
        Self {
            across,
            down,
            offset: dice.range(-0.1, 0.4),
            softness: dice.range(0.03, 0.3),
            depth: dice.range(0.12, 0.45),
        }
    }

    fn light(&self, u: f32, v: f32) -> f32 {
        let inside = (u * self.across + v * self.down - self.offset) / self.softness;
        let share = (inside * 0.5 + 0.5).clamp(0.0, 1.0);
        1.0 - self.depth * share * share * (3.0 - 2.0 * share)
    }
}

/// A fold across the sheet: dark on one side of the crease, bright on the other.
struct Fold {
    upright: bool,
    place: f32,
    lean: f32,
    depth: f32,
}

impl Fold {
    fn roll(dice: &mut Dice) -> Self {
        Self {
            upright: dice.chance(0.4),
            place: dice.range(-0.25, 0.25),
            lean: dice.range(-0.03, 0.03),
            depth: dice.range(0.06, 0.22),
        }
    }

    fn light(&self, u: f32, v: f32) -> f32 {
        let (along, across) = if self.upright { (v, u) } else { (u, v) };
        let distance = (across - self.place - self.lean * along) / 0.02;
        let nearness = (1.0 - distance.abs()).max(0.0);
        1.0 - self.depth * nearness * if distance > 0.0 { 1.0 } else { -0.4 }
    }
}
