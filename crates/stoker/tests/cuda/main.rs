//! CUDA without a card: CubeCL's own CUDA runtime, with its allocator, its kernel sources and its tuning, on a driver that holds memory and computes
//! nothing (`stand_in/`). What a run does on a card is seen here but for the numbers, which mean nothing, and the time.
//!
//! Kernels are compiled by nobody here, but for the one test that `scripts/run_kernels.sh` runs: there a C++ compiler compiles them, and the processor
//! runs them, so that numbers count. `scripts/compile_kernels.sh` has NVIDIA's compiler compile ours.

#![cfg(all(feature = "cuda", target_os = "linux"))]

mod bench;
mod machine;
mod selecting;
mod training;
