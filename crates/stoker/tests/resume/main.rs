//! What a run promises whatever happens to it, on the binary itself: equal seeds give equal bytes, and a run that was killed, stopped or out of
//! disk space ends, once resumed, with the bytes of one that nothing happened to.
//!
//! Each test trains a network of full size on a handful of tiny images, with everything on that has a state or draws random numbers.

#![cfg(unix)]

mod changes;
mod corrupt;
mod damaged;
mod diverged;
mod elsewhere;
mod ensembles;
mod folds;
mod full_disk;
mod held;
mod kept;
mod killed;
mod learns;
mod mid_epoch;
mod optimizers;
mod predictions;
mod requests;
mod running;
mod same_data;
mod same_seed;
mod stage;
mod stopped;
mod stopped_predictions;
mod test_scores;
mod together;
mod views;
