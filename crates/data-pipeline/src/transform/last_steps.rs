//! The last steps of augmentation, where they are left to whoever makes numbers of the pixels: that reads each pixel anyway, and may as well read another one.

use super::geometry::Square;

/// What is still to be done to the pixels of an image, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastSteps {
    /// How it is turned and mirrored.
    pub symmetry: Symmetry,
    /// What is hidden of the turned image.
    pub erased: Option<Erased>,
    /// What is mixed with it, which has had its own steps by then, but for its mixing.
    pub mixed: Option<Mixed>,
}

/// One of the eight symmetries of the square: rows and columns change places, then it is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symmetry {
    /// Rows become columns.
    pub transposed: bool,
    /// Left becomes right.
    pub mirrored: bool,
    /// Top becomes bottom.
    pub upended: bool,
}

/// A hidden rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Where.
    pub place: Rectangle,
    /// Behind what; the first value alone for grey.
    pub color: [u8; 3],
}

/// A share of another image of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixed {
    /// The other image's place in the batch.
    pub partner: usize,
    /// The other image's share, of 2^15. Sums are rounded to bytes: `(own * (2^15 - weight) + other * weight + 2^14) >> 15`.
    pub weight: u32,
    /// Where: all of the image for mixup, a part of it for CutMix.
    pub place: Rectangle,
}

/// Rows and columns of an image, each from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rectangle {
    /// From the top on.
    pub rows: [usize; 2],
    /// From the left on.
    pub columns: [usize; 2],
}

impl Symmetry {
    /// Mirrored across, then down, each or not, then turned clockwise by so many times 90 degrees.
    pub(super) fn of(across: bool, down: bool, quarter_turns: u64) -> Self {
        // A flip before a transposition is the other flip after it, and each quarter is a transposition and a flip.
        let (transposed, mirrored, upended) = match quarter_turns % 4 {
            0 => (false, across, down),
            1 => (true, !down, across),
            2 => (false, !across, !down),
            _ => (true, down, !across),
        };
        Self { transposed, mirrored, upended }
    }
}

impl LastSteps {
    /// Does what concerns no other image. One that is to be transposed is a square.
    ///
    /// # Shapes
    /// - `pixels`: `[H, W, C]` with `size = [H, W, C]`
    pub(crate) fn finish_alone(&self, pixels: &mut [u8], [height, _, count]: [usize; 3]) {
        let mut square = Square { size: height, count, pixels };
        if self.symmetry.transposed {
            square.transpose();
        }
        if self.symmetry.mirrored {
            square.flip_horizontally();
        }
        if self.symmetry.upended {
            square.flip_vertically();
        }
        if let Some(Erased { place, color }) = self.erased {
            square.erase(place, || color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::changed;
    use super::*;

    #[test]
    fn flips_and_turns_are_one_symmetry() {
        let pixels: Vec<u8> = (0..75).collect();
        let mut found = std::collections::BTreeSet::new();
        for (across, down) in [(false, false), (true, false), (false, true), (true, true)] {
            for quarters in 0..4 {
                let expected = changed(5, &pixels, |square| {
                    if across {
                        square.flip_horizontally();
                    }
                    if down {
                        square.flip_vertically();
                    }
                    square.turn(quarters);
                });
                let steps = LastSteps { symmetry: Symmetry::of(across, down, quarters), ..LastSteps::default() };
                let mut turned = pixels.clone();
                steps.finish_alone(&mut turned, [5, 5, 3]);
                assert_eq!(turned, expected, "{across} {down} {quarters}");
                found.insert(turned);
            }
        }
        assert_eq!(found.len(), 8);
    }
}
