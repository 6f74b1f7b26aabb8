//! What half precision changes, and what it must not.

mod families;
mod stage;
mod training;
