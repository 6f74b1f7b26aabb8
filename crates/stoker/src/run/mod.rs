//! One run, phase by phase: where it computes, what it trains on, what memory it takes, how it is shown.

pub(crate) mod absent;
pub(crate) mod checks;
pub(crate) mod compute;
pub(crate) mod data;
pub(crate) mod dry_process;
pub(crate) mod fold_results;
pub(crate) mod groups;
pub mod kernel_cache;
pub(crate) mod kernel_choice;
pub(crate) mod listing;
pub(crate) mod loading_bytes;
pub(crate) mod memory;
pub(crate) mod mistakes;
pub(crate) mod observer;
pub(crate) mod overlap;
pub(crate) mod post_mortem;
pub(crate) mod precision;
pub(crate) mod preprocessing;
pub(crate) mod recipe;
pub(crate) mod recovery;
pub(crate) mod report_page;
pub(crate) mod resolved;
pub(crate) mod shared;
pub(crate) mod subject;
pub(crate) mod team;
pub(crate) mod throughput;
pub(crate) mod weights;

#[cfg(test)]
mod mutations;
