//! Data, runs and checkpoints that are not as they should be: each test runs the binary in a folder of its own and
//! holds everything that it prints, and its exit code, to a snapshot. What differs from machine to machine
//! (sizes, scores, speeds, dates) is replaced by a word.
//!
//! After a wanted change: `INSTA_UPDATE=always cargo test --test bad_input`, then read the difference.

mod checkpoints;
mod data_sets;
mod evaluations;
mod exports;
mod images;
mod memory_and_device;
mod modes;
mod outputs;
mod overwriting;
mod pictures;
mod predictions;
mod run_folders;
mod scrub;
mod stage;
mod starting_weights;
mod stops;
mod tables;
mod templates;
