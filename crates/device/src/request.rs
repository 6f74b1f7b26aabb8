//! The device that the user asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The device that the user asks for. As text, and in files: `auto`, `cpu`, `cuda`, `cuda:1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceRequest {
    /// The first CUDA card if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA card with this number, in the order of the driver. `cuda` alone is number 0.
    Cuda(usize),
}

impl FromStr for DeviceRequest {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        match lower.as_str() {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            _ => {}
        }
        lower
            .strip_prefix("cuda:")
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|number| number.parse().ok())
            .map(Self::Cuda)
            .ok_or_else(|| ParseDeviceError { text: text.to_owned() })
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl TryFrom<String> for DeviceRequest {
    type Error = ParseDeviceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceRequest> for String {
    fn from(request: DeviceRequest) -> Self {
        request.to_string()
    }
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown device `{text}`, expected `auto`, `cpu`, `cuda` or `cuda:N`")]
pub struct ParseDeviceError {
    /// What was given.
    pub text: String,
}

impl ParseDeviceError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("set `device: auto`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written_by_name() {
        let cases = [
            ("auto", DeviceRequest::Auto),
            (" CPU ", DeviceRequest::Cpu),
            ("cuda", DeviceRequest::Cuda(0)),
            ("cuda:12", DeviceRequest::Cuda(12)),
        ];
        for (text, request) in cases {
            assert_eq!(text.parse(), Ok(request));
            assert_eq!(request.to_string().parse(), Ok(request));
            let json = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<DeviceRequest>(&json).unwrap(), request);
        }
    }

    #[test]
    fn names_of_no_device_are_refused_with_their_text() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:99999999999999999999999", "cpu:0"] {
            let error = text.parse::<DeviceRequest>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
        assert!(serde_json::from_str::<DeviceRequest>("\"tpu\"").is_err());
    }
}
