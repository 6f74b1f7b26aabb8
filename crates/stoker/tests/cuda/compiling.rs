//! Every kernel of a run through a real NVRTC.
