//! The command line: reads what the user wants, has the libraries do it, and shows what came of it.
//!
//! It computes nothing itself: no tensor, no image, no plan is made here. It is the only crate that
//! prints, and nothing depends on it.

pub mod cli;
pub mod commands;
pub mod config;
pub mod crash;
pub mod error;
pub mod registry;
pub mod run;
pub mod ui;
