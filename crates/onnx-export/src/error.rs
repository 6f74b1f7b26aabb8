/// Why a model could not be written as ONNX.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExportError {
    /// The model does something that has no translation here.
    #[error("operation `{operation}` has no translation to ONNX")]
    Unsupported {
        /// The operation, in Burn's words.
        operation: String,
    },
    /// Something in the graph depends on the number of images in a way that a graph for any number cannot say.
    #[error("operation `{operation}` depends on the number of images: {reason}")]
    BatchBound {
        /// The operation, in Burn's words.
        operation: String,
        /// What about it.
        reason: String,
    },
    /// The recorded pass reads a tensor that nothing wrote.
    #[error("operation `{operation}` reads a tensor that holds nothing")]
    Unwritten {
        /// The operation, in Burn's words.
        operation: String,
    },
    /// No values were given for a parameter.
    #[error("no values for parameter `{name}`")]
    MissingWeight {
        /// The parameter.
        name: String,
    },
    /// A parameter's values have another shape than the model's.
    #[error("parameter `{name}` has shape {found:?}, expected {expected:?}")]
    WeightShape {
        /// The parameter.
        name: String,
        /// The model's shape.
        expected: Vec<usize>,
        /// That of the values.
        found: Vec<usize>,
    },
    /// The file would be larger than a protobuf message can be.
    #[error("the model takes {bytes} bytes as one ONNX file, which can have {limit}")]
    TooLarge {
        /// What it would take.
        bytes: u64,
        /// What a message can take.
        limit: u64,
    },
}

impl ExportError {
    /// A way out that can be typed, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { .. } => Some("export the weights alone: `--format safetensors`".to_owned()),
            Self::MissingWeight { .. } | Self::WeightShape { .. } => {
                Some("name the architecture that the weights were made with".to_owned())
            }
            Self::Unsupported { .. } | Self::BatchBound { .. } | Self::Unwritten { .. } => None,
        }
    }
}
