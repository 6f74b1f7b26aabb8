//! Whole runs in which something goes wrong, or stops going better. Those in which memory runs out end where an undisturbed run does, remember
//! what they learnt, and grow again only when asked to; steps without finite numbers, as where fp16 overflows, are left out; all that a run waits for is
//! in its checkpoint.

mod early_stopping;
mod growth;
mod last_steps;
mod nonfinite;
mod overflow;
mod plateau;
mod remembered;
mod same_result;
mod several_devices;
mod stage;
mod taken_up;
