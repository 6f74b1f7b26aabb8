//! The on-disk contract: what a run folder holds, and how weights and training state are written so that a crash, a full disk or a
//! kill never costs the last good file.
//!
//! One checkpoint is one safetensors file, replaced by an atomic rename. Weights stand under the reference's names (timm's), so
//! that other tools can read them; training state stands beside them under prefixes of its own.
//!
//! Weights also come from elsewhere: safetensors files of other programs, and what `torch.save` wrote, which is read and never executed.
//! Single arrays are NumPy's `.npy` files.
//!
//! A process that trains holds its run folder by a lock, and the tensors of a checkpoint have a checksum beside them.
//!
//! It never decides when to save, never trains and never prints.

#![warn(missing_docs)]

mod atomic_file;
mod card;
mod checkpoint_file;
mod error;
mod fit;
mod npy_file;
mod pytorch;
mod run_folder;
mod run_lock;
mod shell_word;
mod temporary;
mod tensor_file;
mod weights_file;

pub use atomic_file::AtomicFile;
pub use card::{BestEpoch, CARD_VERSION, LossScale, ModelCard, PatienceState, PlateauState, Progress, RunningSums};
pub use checkpoint_file::{Checkpoint, LiveState, OptimizerState, load_weights};
pub use error::{CheckpointError, make_room};
pub use fit::{Mismatch, NetworkEnds, WeightsNote};
pub use npy_file::{read_npy, write_npy};
pub use run_folder::RunFolder;
pub use run_lock::RunLock;
pub use shell_word::shell_word;
pub use tensor_file::{LiveTensor, TensorFile, read_tensors, write_atomically, write_tensors};
pub use weights_file::{WeightsFile, read_card, read_weights};
