//! CUDA without a card: CubeCL's own CUDA runtime, with its allocator, its kernel sources and its tuning, on a driver that holds memory and computes
//! nothing (`stand_in/`). What a run does on a card is seen here but for the numbers, which mean nothing, and the time.
//!
//! Without `STAND_IN_COMPILER` kernels are compiled by nobody. `.ci/run` sets it to a real NVRTC for the tests of `compiling.rs`.

#![cfg(all(feature = "cuda", target_os = "linux"))]

mod compiling;
mod machine;
mod selecting;
mod training;
