//! The few protobuf fields of a TensorBoard event, and the TFRecord frame around it.
//!
//! Field numbers are those of TensorBoard's `event.proto` and `summary.proto`
//! (<https://github.com/tensorflow/tensorboard/tree/2.21.0/tensorboard/compat/proto>), the frame is that of its
//! `record_writer.py`. Written by hand because the crates that write event files bring a protobuf runtime each.

const WALL_TIME: u32 = 1;
const STEP: u32 = 2;
const FILE_VERSION: u32 = 3;
const SUMMARY: u32 = 5;
const SESSION_LOG: u32 = 7;
const SUMMARY_VALUE: u32 = 1;
const VALUE_TAG: u32 = 1;
const VALUE_SIMPLE_VALUE: u32 = 2;
const SESSION_LOG_STATUS: u32 = 1;
const SESSION_START: u64 = 1;

const WIRE_VARINT: u32 = 0;
const WIRE_64_BIT: u32 = 1;
const WIRE_LENGTH_DELIMITED: u32 = 2;
const WIRE_32_BIT: u32 = 5;

/// What an event says.
pub(crate) enum Event<'a> {
    /// First record of every file.
    FileVersion,
    /// The run starts (again) here: what earlier files say of this step and later ones is void.
    Start,
    /// Named numbers.
    Scalars(&'a [(&'a str, f64)]),
}

/// One event as a whole TFRecord: length, its checksum, the event, its checksum.
pub(crate) fn event_record(wall_time_seconds: f64, step: u64, event: &Event<'_>) -> Vec<u8> {
    let message = event_message(wall_time_seconds, step, event);
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    record.extend_from_slice(&message);
    record.extend_from_slice(&masked_crc32c(&message).to_le_bytes());
    record
}

fn event_message(wall_time_seconds: f64, step: u64, event: &Event<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    push_key(&mut message, WALL_TIME, WIRE_64_BIT);
    message.extend_from_slice(&wall_time_seconds.to_le_bytes());
    if step != 0 {
        push_varint_field(&mut message, STEP, step); // protobuf 3 leaves a default value out
    }
    match event {
        Event::FileVersion => push_bytes(&mut message, FILE_VERSION, b"brain.Event:2"),
        Event::Start => push_bytes(&mut message, SESSION_LOG, &session_start()),
        Event::Scalars(scalars) => push_bytes(&mut message, SUMMARY, &summary(scalars)),
    }
    message
}

fn session_start() -> Vec<u8> {
    let mut message = Vec::new();
    push_varint_field(&mut message, SESSION_LOG_STATUS, SESSION_START);
    message
}

fn summary(scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut message = Vec::new();
    for &(tag, number) in scalars {
        let mut value = Vec::new();
        push_bytes(&mut value, VALUE_TAG, tag.as_bytes());
        push_key(&mut value, VALUE_SIMPLE_VALUE, WIRE_32_BIT);
        value.extend_from_slice(&(number as f32).to_le_bytes());
        push_bytes(&mut message, SUMMARY_VALUE, &value);
    }
    message
}

fn push_key(message: &mut Vec<u8>, field: u32, wire_type: u32) {
    push_varint(message, u64::from(field << 3 | wire_type));
}

fn push_varint_field(message: &mut Vec<u8>, field: u32, value: u64) {
    push_key(message, field, WIRE_VARINT);
    push_varint(message, value);
}

fn push_bytes(message: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_key(message, field, WIRE_LENGTH_DELIMITED);
    push_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// TFRecord's checksum: CRC-32C, rotated and shifted so that a checksum of checksums stays strong.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by TensorBoard's own protobuf classes and record writer: `python scripts/metrics_fixtures.py`.
    const GOLDEN: &[u8] = include_bytes!("../tests/fixtures/golden.tfevents");

    #[test]
    fn events_equal_tensorboards_own_byte_for_byte() {
        let scalars: &[(&str, f64)] = &[("loss/train", 1.25), ("learning_rate", 1e-3), ("accuracy/validation", 0.0)];
        let written = [
            event_record(1.7e9, 0, &Event::FileVersion),
            event_record(1.7e9, 0, &Event::Scalars(&scalars[..1])),
            event_record(1_700_000_000.5, 25, &Event::Scalars(scalars)),
            event_record(1_700_000_001.0, 26, &Event::Start),
            event_record(1_700_000_002.0, 70_000, &Event::Scalars(&[("größe/μ", f64::NAN)])),
        ];
        assert_eq!(written.concat(), GOLDEN);
    }
}
