//! Byte counts as people write and read them.

use thiserror::Error;

/// Writes a byte count with one decimal in binary units: `14.2 GiB`, `512 B`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would print as `1024.0`: it belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Reads `2GiB`, `512 MiB`, `1.5 GB` or a bare count of bytes.
///
/// `KiB` to `TiB`, and the single letters `K` to `T`, are powers of 1024; `KB` to `TB` are powers of 1000. Case does
/// not matter. Fractions of a byte are dropped.
///
/// # Errors
/// A [`ParseBytesError`] that holds the text, when it is not a number with a known unit or exceeds `u64`.
pub fn parse_bytes(text: &str) -> Result<u64, ParseBytesError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(ParseBytesError::Empty);
    }
    if trimmed.starts_with('-') {
        return Err(ParseBytesError::Negative { text: trimmed.to_owned() });
    }
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    if number.is_empty() {
        return Err(ParseBytesError::NotANumber { text: trimmed.to_owned() });
    }
    let Some(unit_bytes) = unit_bytes(unit.trim()) else {
        return Err(ParseBytesError::UnknownUnit { text: trimmed.to_owned(), unit: unit.trim().to_owned() });
    };
    multiply(number, unit_bytes, trimmed)
}

/// Why a text is not a byte count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseBytesError {
    /// Nothing but white space.
    #[error("memory size is empty")]
    Empty,
    /// It does not start with a number.
    #[error("memory size `{text}` is not a number")]
    NotANumber {
        /// What was given.
        text: String,
    },
    /// A number below zero.
    #[error("memory size `{text}` is negative")]
    Negative {
        /// What was given.
        text: String,
    },
    /// A number with a unit that is none.
    #[error("memory size `{text}` has the unknown unit `{unit}`")]
    UnknownUnit {
        /// What was given.
        text: String,
        /// The part after the number.
        unit: String,
    },
    /// More than 16 EiB.
    #[error("memory size `{text}` is more than any machine has")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

impl ParseBytesError {
    /// A way out that can be pasted.
    pub fn hint(&self) -> Option<String> {
        Some("write it as `2GiB`, `512MiB`, `1.5GB` or a count of bytes".to_owned())
    }
}

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    })
}

/// Whole numbers stay exact; only fractions pass through floating point.
fn multiply(number: &str, unit_bytes: u64, text: &str) -> Result<u64, ParseBytesError> {
    let too_large = || ParseBytesError::TooLarge { text: text.to_owned() };
    if !number.contains('.') {
        let count: u64 = number.parse().map_err(|_| too_large())?;
        return count.checked_mul(unit_bytes).ok_or_else(too_large);
    }
    let count: f64 = number.parse().map_err(|_| ParseBytesError::NotANumber { text: text.to_owned() })?;
    let bytes = count * unit_bytes as f64;
    if bytes >= u64::MAX as f64 {
        return Err(too_large());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_the_largest_unit_below_them() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (15_247_133_900, "14.2 GiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        let cases = [
            ("2GiB", 2 << 30),
            (" 512 mib ", 512 << 20),
            ("1.5 GB", 1_500_000_000),
            ("1073741824", 1 << 30),
            ("3g", 3 << 30),
            ("0.5KiB", 512),
            ("7 B", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none_are_refused_with_their_text() {
        assert_eq!(parse_bytes("  "), Err(ParseBytesError::Empty));
        assert_eq!(parse_bytes("lots").unwrap_err().to_string(), "memory size `lots` is not a number");
        assert_eq!(parse_bytes("1.2.3GB").unwrap_err().to_string(), "memory size `1.2.3GB` is not a number");
        assert_eq!(parse_bytes("-1GiB").unwrap_err().to_string(), "memory size `-1GiB` is negative");
        assert_eq!(
            parse_bytes("3 parsecs").unwrap_err().to_string(),
            "memory size `3 parsecs` has the unknown unit `parsecs`"
        );
        for huge in ["99999999999TiB", "99999999999999999999999", "99999999999.5TiB"] {
            assert!(matches!(parse_bytes(huge), Err(ParseBytesError::TooLarge { .. })), "{huge}");
        }
        assert!(ParseBytesError::Empty.hint().is_some());
    }

    #[test]
    fn a_written_size_reads_back_within_its_one_decimal() {
        for bytes in [1u64, 1023, 1 << 10, 999_999, 1 << 33, 123_456_789_012] {
            let back = parse_bytes(&format_bytes(bytes)).unwrap();
            assert!(back.abs_diff(bytes) as f64 <= 0.05 * bytes as f64 + 1.0, "{bytes} became {back}");
        }
    }
}
