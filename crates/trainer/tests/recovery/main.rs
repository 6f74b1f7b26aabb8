//! Whole runs in which memory runs out, or gradients overflow: they end where an undisturbed run does, remember what they learnt, and grow again only when asked to.

mod growth;
mod overflow;
mod remembered;
mod same_result;
mod stage;
