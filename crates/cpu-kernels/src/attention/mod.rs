//! Attention within the windows of a map, with a bias for each pair of tokens: Liu et al., "Swin Transformer", 2021.
//!
//! Windows are found in the map where they lie, rolled or not, so that nothing is cut, rolled or put together. Scores live in the cache of the thread
//! that makes them, and are made again for the gradient.

mod backward;
mod forward;
mod head;
mod places;
mod rows;

/// Added to the score of a pair that must not see each other. Finite, so that no row can become all infinite; e^-100 is zero in f32. timm's value.
const BLOCKED: f32 = -100.0;

/// A map and how it is cut. Windows tile it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAttention {
    /// B.
    pub batch: usize,
    /// H and W.
    pub grid: [usize; 2],
    /// Rows and columns of a window, which divide the grid.
    pub window: [usize; 2],
    /// Rows and columns that the map is rolled by, up and to the left, before it is cut. Tokens that only the roll brings together do not see each other.
    pub shift: [usize; 2],
    /// nH.
    pub heads: usize,
    /// D: numbers of a head.
    pub head_width: usize,
}

/// What [`WindowAttention::gradient`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowAttentionGradient {
    /// `[B, H, W, 3 C]`
    pub projected: Vec<f32>,
    /// `[nH, N, N]`
    pub bias: Vec<f32>,
}

impl WindowAttention {
    /// What each token sees.
    ///
    /// # Shapes
    /// - `projected`: `[B, H, W, 3 C]`, queries, keys and values, each of nH heads of D; C = nH D
    /// - `bias`: `[nH, N, N]`, added to the scores, which are divided by the root of D before
    /// - result: `[B, H, W, C]`
    ///
    /// # Panics
    /// When a slice is not of its shape, or the window does not divide the grid.
    pub fn forward(&self, projected: &[f32], bias: &[f32]) -> Vec<f32> {
        self.check(projected, bias);
        forward::forward(self, projected, bias)
    }

    /// The gradients of [`forward`](Self::forward).
    ///
    /// # Shapes
    /// - `projected`, `bias`: as there
    /// - `gradient`: `[B, H, W, C]`
    ///
    /// # Panics
    /// When a slice is not of its shape, or the window does not divide the grid.
    pub fn gradient(&self, projected: &[f32], bias: &[f32], gradient: &[f32]) -> WindowAttentionGradient {
        self.check(projected, bias);
        assert_eq!(3 * gradient.len(), projected.len(), "a gradient for each number of the output");
        backward::gradient(self, projected, bias, gradient)
    }

    fn check(&self, projected: &[f32], bias: &[f32]) {
        let [height, width] = self.grid;
        assert!((0..2).all(|axis| self.grid[axis].is_multiple_of(self.window[axis])), "windows tile the map");
        assert_eq!(projected.len(), self.batch * height * width * 3 * self.channels(), "three projections of the map");
        assert_eq!(bias.len(), self.heads * self.tokens() * self.tokens(), "a number for each pair and head");
    }

    fn channels(&self) -> usize {
        self.heads * self.head_width
    }

    /// N.
    fn tokens(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Windows of all images.
    fn windows(&self) -> usize {
        self.batch * self.grid[0] / self.window[0] * (self.grid[1] / self.window[1])
    }

    fn scale(&self) -> f32 {
        (self.head_width as f32).powf(-0.5)
    }
}

#[cfg(test)]
mod tests;
