//! Thrift's compact protocol, as far as Parquet's metadata needs it.
//!
//! Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// A value; a field of a struct has its number beside it, and numbers ascend.
pub(super) enum Value {
    I32(i32),
    I64(i64),
    Text(String),
    List(Vec<Value>),
    Struct(Vec<(u8, Value)>),
}

impl Value {
    /// The type's number, in fields and in lists alike.
    fn type_number(&self) -> u8 {
        match self {
            Self::I32(_) => 5,
            Self::I64(_) => 6,
            Self::Text(_) => 8,
            Self::List(_) => 9,
            Self::Struct(_) => 12,
        }
    }

    /// Appends the value's bytes.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::I32(value) => write_varint(zigzag(i64::from(*value)), bytes),
            Self::I64(value) => write_varint(zigzag(*value), bytes),
            Self::Text(text) => {
                write_varint(text.len() as u64, bytes);
                bytes.extend(text.as_bytes());
            }
            Self::List(values) => {
                // Parquet has no empty lists where this is used; any type would do for one.
                let element = values.first().map_or(12, Self::type_number);
                match values.len() {
                    length @ 0..15 => bytes.push((length as u8) << 4 | element),
                    length => {
                        bytes.push(0xf0 | element);
                        write_varint(length as u64, bytes);
                    }
                }
                values.iter().for_each(|value| value.write(bytes));
            }
            Self::Struct(fields) => {
                let mut last = 0;
                for (number, value) in fields {
                    // A step of 1 to 15 fits beside the type; no struct of Parquet's has a longer one.
                    bytes.push((number - last) << 4 | value.type_number());
                    value.write(bytes);
                    last = *number;
                }
                bytes.push(0);
            }
        }
    }
}

/// Small numbers of either sign become small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Seven bits a byte, the lowest first.
pub(super) fn write_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        bytes
    }

    /// The examples of the specification.
    #[test]
    fn numbers_are_zigzag_varints() {
        for (value, expected) in
            [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-2, vec![3]), (50399, vec![0xbe, 0x93, 6])]
        {
            assert_eq!(bytes(&Value::I32(value)), expected, "{value}");
        }
        assert_eq!(bytes(&Value::I64(i64::MIN)), [[0xff; 9].as_slice(), &[1]].concat());
    }

    #[test]
    fn structs_and_lists_say_what_they_hold() {
        let inner = Value::Struct(vec![(1, Value::I32(1)), (5, Value::Text("ab".to_owned()))]);
        assert_eq!(bytes(&inner), [0x15, 2, 0x48, 2, b'a', b'b', 0]);
        assert_eq!(bytes(&Value::List(vec![inner])), [0x1c, 0x15, 2, 0x48, 2, b'a', b'b', 0]);
        let long = Value::List((0..15).map(|_| Value::I64(0)).collect());
        assert_eq!(bytes(&long)[..3], [0xf6, 15, 0]);
    }
}
