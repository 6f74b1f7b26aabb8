//! Memory that runs out in the binary itself: training goes on with fewer images at once and ends with the same numbers, a resumed run remembers
//! it, prediction recovers as well, and one image that does not fit is explained.
//!
//! Moments are injected through `STOKER_INJECT_OUT_OF_MEMORY`, and a plan that estimated too little is stood in for by
//! `STOKER_INJECT_MEMORY_LIMIT`: the planner itself refuses a micro-batch that it knows not to fit.

mod predictions;
mod remembered;
mod stage;
mod training;
