//! Whole runs in which memory runs out: they end where an undisturbed run does, remember what they learnt, and grow again only when asked to.

mod growth;
mod remembered;
mod same_result;
mod stage;
