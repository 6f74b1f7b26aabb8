//! The end of a residual branch: a kernel for the sum; and for the gradients one that reads each map once, and one that adds up what it leaves.

mod kernels;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::cubecl::prelude::*;
use burn::cubecl::{calculate_cube_count_elemwise, tensor_vector_size_parallel};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;

use super::Form;
use super::many::ListOperation;
use super::tensors::{empty, like};
use crate::kernels::residual::plan::{RESIDUAL, RESIDUAL_GRADIENTS, chunks_of, rows_and_channels};

/// Vectors of four, which is the widest of f32 that cards read at once.
const LARGEST_VECTOR: usize = 4;

/// The units of a cube that adds up sums: as many as every WebGPU has.
const UNITS_OF_A_CUBE: u32 = 256;

/// `map + (branch + bias) * scale * factors`, of maps `[B, .., C]`, bias and scale `[C]` and factors `[B]`, of which all but the maps may be missing.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) has_scale: bool,
    pub(crate) has_factors: bool,
}

impl ListOperation for Sum {
    const NAME: &'static str = RESIDUAL;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        vec![inputs[0].clone()]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let mut inputs = inputs.into_iter();
        let [map, branch] = [(); 2].map(|()| in_order(inputs.next()));
        let [bias, scale, factors] = shares(&map, [self.has_scale, self.has_scale, self.has_factors], &mut inputs);
        let output = like(&map);
        let lanes = Lanes::of(&map);
        let Some(grid) = Grid::of(&map, lanes.all) else { return vec![output] };
        let storage = dtype_to_storage_type(map.dtype);
        // SAFETY: units past the last vector leave at once, and all maps are of one shape.
        unsafe {
            kernels::add_branch::launch_unchecked(
                &output.client,
                grid.count,
                grid.cube,
                output.required_address_type(),
                lanes.size,
                map.into_tensor_arg(),
                branch.into_tensor_arg(),
                bias.into_tensor_arg(),
                scale.into_tensor_arg(),
                factors.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                lanes.of_row as u32,
                lanes.of_sample as u32,
                lanes.all as u32,
                self.has_scale,
                self.has_factors,
                storage,
            );
        }
        vec![output]
    }
}

/// The gradient of the branch, of the gradient of the sum; and those of bias and scale, `[C]` in f32, where the branch is given. Inputs are branch, bias and
/// scale, and factors, each where it is there, and the gradient.
#[derive(Debug)]
pub(crate) struct Gradients {
    pub(crate) has_branch: bool,
    pub(crate) has_scale: bool,
    pub(crate) has_factors: bool,
}

impl ListOperation for Gradients {
    const NAME: &'static str = RESIDUAL_GRADIENTS;

    fn outputs(&self, inputs: &[Form]) -> Vec<Form> {
        let gradient = inputs[inputs.len() - 1].clone();
        let of_vectors = self.has_branch.then(|| [(); 2].map(|()| (inputs[1].0.clone(), DType::F32)));
        std::iter::once(gradient).chain(of_vectors.into_iter().flatten()).collect()
    }

    fn run<R: CubeRuntime>(&self, mut inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let gradient = in_order(inputs.pop());
        let mut inputs = inputs.into_iter();
        let branch = if self.has_branch { in_order(inputs.next()) } else { gradient.clone() };
        let shares = shares(&gradient, [self.has_scale, self.has_scale, self.has_factors], &mut inputs);
        let of_branch = like(&gradient);
        let shape = gradient.meta.shape().clone();
        let (chunks, [_, channels]) = (chunks_of(&shape), rows_and_channels(&shape));
        let sums = if self.has_branch { chunks.count } else { 1 };
        let partial = empty(&gradient, Shape::new([sums, 2, channels]), DType::F32);
        let scale = shares[1].clone();
        self.launch([gradient, branch], shares, of_branch.clone(), partial.clone());
        let of_vectors = self.has_branch.then(|| sums_of_chunks(partial, scale));
        std::iter::once(of_branch).chain(of_vectors.into_iter().flatten()).collect()
    }
}

impl Gradients {
    fn launch<R: CubeRuntime>(
        &self,
        [gradient, branch]: [CubeTensor<R>; 2],
        [bias, scale, factors]: [CubeTensor<R>; 3],
        of_branch: CubeTensor<R>,
        partial: CubeTensor<R>,
    ) {
        let (lanes, chunks) = (Lanes::of(&gradient), chunks_of(gradient.meta.shape()));
        let units = if lanes.all == 0 { 0 } else { chunks.count * lanes.of_row };
        let Some(grid) = Grid::of(&gradient, units) else { return };
        let storage = dtype_to_storage_type(gradient.dtype);
        // SAFETY: units past the last vector of the last chunk leave at once, and the rows of a chunk end with those of the maps.
        unsafe {
            kernels::branch_gradient::launch_unchecked(
                &of_branch.client,
                grid.count,
                grid.cube,
                gradient.required_address_type(),
                lanes.size,
                gradient.into_tensor_arg(),
                branch.into_tensor_arg(),
                bias.into_tensor_arg(),
                scale.into_tensor_arg(),
                factors.into_tensor_arg(),
                of_branch.clone().into_tensor_arg(),
                partial.into_tensor_arg(),
                lanes.of_row as u32,
                (lanes.of_sample / lanes.of_row) as u32,
                units as u32,
                lanes.of_row as u32,
                chunks.rows_each as u32,
                chunks.longer as u32,
                self.has_branch,
                self.has_scale,
                self.has_factors,
                storage,
            );
        }
    }
}

/// `[chunks, 2, C]` to the gradients of bias and scale, `[C]` each.
fn sums_of_chunks<R: CubeRuntime>(partial: CubeTensor<R>, scale: CubeTensor<R>) -> [CubeTensor<R>; 2] {
    let [chunks, _, channels] = partial.meta.shape().dims();
    let [of_bias, of_scale] = [(); 2].map(|()| empty(&partial, Shape::new([channels]), DType::F32));
    // A unit sums some eight chunks, but a cube still reads 32 neighbouring bytes at once, the least that a card reads.
    let strips = (chunks / 8).next_power_of_two().clamp(1, 32) as u32;
    let cube = CubeDim::new_2d(UNITS_OF_A_CUBE / strips, strips);
    let cubes = channels.div_ceil(cube.x as usize);
    // SAFETY: units past the last channel neither read nor write.
    unsafe {
        kernels::sum_chunks::launch_unchecked(
            &of_bias.client,
            CubeCount::new_1d(cubes as u32),
            cube,
            partial.required_address_type(),
            partial.into_tensor_arg(),
            scale.into_tensor_arg(),
            of_bias.clone().into_tensor_arg(),
            of_scale.clone().into_tensor_arg(),
            chunks as u32,
            channels as u32,
            strips,
        );
    }
    [of_bias, of_scale]
}

/// How a map is read.
struct Lanes {
    /// Numbers of a vector.
    size: usize,
    /// Vectors of a row of channels.
    of_row: usize,
    of_sample: usize,
    all: usize,
}

impl Lanes {
    fn of<R: CubeRuntime>(map: &CubeTensor<R>) -> Self {
        let (shape, strides) = (map.meta.shape(), map.meta.strides());
        let sizes = map.client.io_optimized_vector_sizes(map.dtype.size()).filter(|size| *size <= LARGEST_VECTOR);
        let size = tensor_vector_size_parallel(sizes, shape, strides, shape.num_dims() - 1);
        let [rows, channels] = rows_and_channels(shape);
        let of_row = channels / size;
        Self { size, of_row, of_sample: rows / shape[0].max(1) * of_row, all: rows * of_row }
    }
}

/// Cubes enough for a number of units.
struct Grid {
    cube: CubeDim,
    count: CubeCount,
}

impl Grid {
    /// None where there is nothing to do.
    fn of<R: CubeRuntime>(tensor: &CubeTensor<R>, units: usize) -> Option<Self> {
        let cube = CubeDim::new(&tensor.client, units.max(1));
        let count = calculate_cube_count_elemwise(&tensor.client, units, cube);
        (units > 0).then_some(Self { cube, count })
    }
}

fn in_order<R: CubeRuntime>(tensor: Option<CubeTensor<R>>) -> CubeTensor<R> {
    into_contiguous(tensor.expect("the operation was made with its inputs"))
}

/// Bias, scale and factors in f32; in place of one that is missing something to bind, which is not read.
fn shares<R: CubeRuntime>(
    map: &CubeTensor<R>,
    are_there: [bool; 3],
    inputs: &mut impl Iterator<Item = CubeTensor<R>>,
) -> [CubeTensor<R>; 3] {
    are_there.map(|is_there| match is_there {
        true => cast(in_order(inputs.next()), DType::F32),
        false => map.clone(),
    })
}
