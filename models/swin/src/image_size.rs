use crate::model::PATCH;

/// Why a model cannot take images of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageSizeError {
    /// A side is not a whole number of patches, or is zero.
    #[error("image size {height}x{width} is not a whole number of {patch}x{patch} patches")]
    NotWholePatches {
        /// Rows asked for.
        height: usize,
        /// Columns asked for.
        width: usize,
        /// Side of a patch.
        patch: usize,
        /// The nearest size that works: height, width.
        nearest: [usize; 2],
    },
}

impl ImageSizeError {
    /// The nearest size that works.
    pub fn hint(&self) -> Option<String> {
        let Self::NotWholePatches { nearest: [height, width], .. } = self;
        Some(format!("the nearest size that works is {height}x{width}"))
    }
}

/// Whether Swin can take images of this size: both sides whole numbers of patches, and at least one.
///
/// # Errors
/// [`ImageSizeError::NotWholePatches`] otherwise, with the nearest size that works.
pub fn check_image_size(height: usize, width: usize) -> Result<(), ImageSizeError> {
    let nearest = [height, width].map(nearest_whole);
    if nearest == [height, width] {
        Ok(())
    } else {
        Err(ImageSizeError::NotWholePatches { height, width, patch: PATCH, nearest })
    }
}

/// The multiple of the patch that is nearest, the smaller of two that are equally near.
fn nearest_whole(side: usize) -> usize {
    let below = side / PATCH * PATCH;
    let nearest = if side - below > PATCH / 2 { below.saturating_add(PATCH) } else { below };
    nearest.max(PATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_whole_patches_are_taken() {
        for (height, width) in [(4, 4), (224, 224), (384, 384), (228, 100)] {
            assert_eq!(check_image_size(height, width), Ok(()));
        }
    }

    #[test]
    fn other_sizes_are_refused_with_the_nearest_that_works() {
        for (height, width, nearest) in [(225, 224, [224, 224]), (224, 227, [224, 228]), (0, 3, [4, 4]), (6, 7, [4, 8])]
        {
            let error = check_image_size(height, width).unwrap_err();
            assert_eq!(error, ImageSizeError::NotWholePatches { height, width, patch: 4, nearest });
        }
    }

    #[test]
    fn the_error_names_the_size_and_the_hint_the_way_out() {
        let error = check_image_size(225, 300).unwrap_err();
        assert_eq!(error.to_string(), "image size 225x300 is not a whole number of 4x4 patches");
        assert_eq!(error.hint().unwrap(), "the nearest size that works is 224x300");
    }
}
