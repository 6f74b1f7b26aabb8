//! Matrix products by Burn's kernels, onto rows without gaps: those that Burn makes for itself lie up to 512 bytes apart on CUDA, take that much more memory,
//! and are copied by most of what reads them.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;

use super::tensors::empty;
use super::{CubeOperation, Form};
use crate::kernels::linear::{PRODUCT, Turned, product_form};

/// The product of two matrices of one type, in that type.
#[derive(Debug)]
pub(crate) struct Product(pub(crate) Turned);

impl CubeOperation<2, 1> for Product {
    const NAME: &'static str = PRODUCT;

    fn outputs(&self, [(left, dtype), (right, _)]: [Form; 2]) -> [Form; 1] {
        [(product_form(&left, &right, self.0), dtype)]
    }

    fn run<R: CubeRuntime>(&self, [left, right]: [CubeTensor<R>; 2]) -> [CubeTensor<R>; 1] {
        let form: Shape = product_form(left.meta.shape(), right.meta.shape(), self.0);
        let output = empty(&left, form, left.dtype);
        let turned = |matrix, is_turned| if is_turned { permute(matrix, &[1, 0]) } else { matrix };
        let (left, right) = (turned(left, self.0.left), turned(right, self.0.right));
        let dtype = left.dtype;
        let output = matmul(left, right, Some(output), MatmulStrategy::default(), dtype);
        [output.expect("Burn's tuning has a kernel for any two matrices whose sides match")]
    }
}
