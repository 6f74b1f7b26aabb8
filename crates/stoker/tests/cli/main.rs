//! The whole command line, from the outside: each test runs the binary in a folder of its own and
//! holds everything that it prints, and its exit code, to a snapshot.
//!
//! After a wanted change: `INSTA_UPDATE=always cargo test -p stoker`, then read the difference.

mod bench;
mod config_files;
mod export;
mod forward;
mod groups;
mod help;
mod models;
mod overrides;
mod plan;
mod reference;
mod settings;
mod stage;
