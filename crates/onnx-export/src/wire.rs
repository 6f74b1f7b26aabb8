//! Protobuf's wire format, as far as an ONNX file needs it (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! A message says its fields once; they are counted first and then written, so that no nested message is held twice. Written by hand because a
//! derived encoder's macro asks for features of crates that Burn's macros share: all of Burn would be compiled again.

const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;

/// What has fields.
pub(crate) trait Message {
    /// Tells the fields in the order in which they are written.
    fn tell(&self, fields: &mut dyn Fields);
}

/// What takes fields, by number.
pub(crate) trait Fields {
    fn integer(&mut self, field: u32, value: i64);
    fn bytes(&mut self, field: u32, value: &[u8]);
    fn message(&mut self, field: u32, value: &dyn Message);

    fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }
}

/// Bytes that a message takes.
pub(crate) fn length(message: &dyn Message) -> u64 {
    let mut length = Length(0);
    message.tell(&mut length);
    length.0
}

/// The message as bytes.
pub(crate) fn encode(message: &dyn Message) -> Vec<u8> {
    let mut written = Written(Vec::with_capacity(length(message) as usize));
    message.tell(&mut written);
    written.0
}

struct Length(u64);

impl Length {
    fn delimited(&mut self, field: u32, inner: u64) {
        self.0 += varint_length(key(field, LENGTH_DELIMITED)) + varint_length(inner) + inner;
    }
}

impl Fields for Length {
    fn integer(&mut self, field: u32, value: i64) {
        self.0 += varint_length(key(field, VARINT)) + varint_length(value as u64);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.delimited(field, value.len() as u64);
    }

    fn message(&mut self, field: u32, value: &dyn Message) {
        self.delimited(field, length(value));
    }
}

struct Written(Vec<u8>);

impl Written {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl Fields for Written {
    /// Negative numbers take ten bytes, as protobuf has it.
    fn integer(&mut self, field: u32, value: i64) {
        self.varint(key(field, VARINT));
        self.varint(value as u64);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(key(field, LENGTH_DELIMITED));
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u32, value: &dyn Message) {
        self.varint(key(field, LENGTH_DELIMITED));
        self.varint(length(value));
        value.tell(self);
    }
}

fn key(field: u32, wire_type: u32) -> u64 {
    u64::from(field << 3 | wire_type)
}

/// Seven bits a byte.
fn varint_length(value: u64) -> u64 {
    u64::from((u64::BITS - value.leading_zeros()).max(1).div_ceil(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample(i64);

    impl Message for Sample {
        fn tell(&self, fields: &mut dyn Fields) {
            fields.integer(1, self.0);
            fields.text(2, "testing");
            fields.integer(20, 1);
            if self.0 > 0 {
                fields.message(3, &Sample(-1));
            }
        }
    }

    /// `08 96 01` and `12 07 74 65 73 74 69 6e 67` are the examples of protobuf's own documentation.
    #[test]
    fn messages_have_the_documented_bytes() {
        let text = b"\x12\x07testing";
        let one = b"\xa0\x01\x01";
        let minus_one = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let inner = [&minus_one[..], text, one].concat();
        let expected = [b"\x08\x96\x01", &text[..], one, &[0x1a, inner.len() as u8], &inner].concat();
        assert_eq!(encode(&Sample(150)), expected);
    }

    #[test]
    fn a_length_is_counted_as_it_is_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, i64::MAX, -1] {
            assert_eq!(length(&Sample(value)), encode(&Sample(value)).len() as u64, "{value}");
        }
    }
}
