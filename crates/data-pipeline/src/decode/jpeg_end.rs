//! Tells a whole jpeg from one that was cut off. The decoder fills what is missing with grey and reports success, and
//! a model would learn from the grey.

/// Whether the file reaches its end marker, walking the segments: the thumbnail in the metadata has markers of its own.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    reaches_end(bytes).unwrap_or(false)
}

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// `None` where the bytes run out.
fn reaches_end(bytes: &[u8]) -> Option<bool> {
    // After the start marker, ff d8.
    let mut rest = bytes.get(2..)?;
    loop {
        let marker;
        (marker, rest) = next_marker(rest)?;
        if marker == END_OF_IMAGE {
            return Some(true);
        }
        // Restart markers and `01` stand alone; all others say how long they are, the two length bytes included.
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        let length = u16::from_be_bytes(*rest.first_chunk()?);
        rest = rest.get(usize::from(length).max(2)..)?;
        if marker == START_OF_SCAN && rest.is_empty() {
            return None;
        }
    }
}

/// Skips compressed data up to the next marker: `ff` followed by anything but `00` (a stuffed `ff`) or `ff` (padding).
fn next_marker(mut bytes: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let start = bytes.iter().position(|&byte| byte == 0xff)?;
        bytes = bytes.get(start + 1..)?;
        match *bytes.first()? {
            0x00 | 0xff => {}
            marker => return Some((marker, &bytes[1..])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(quality: u8) -> Vec<u8> {
        let image = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8]));
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&image).unwrap();
        bytes
    }

    #[test]
    fn a_whole_jpeg_is_whole_and_every_shorter_one_is_not() {
        let bytes = jpeg(90);
        assert!(is_whole(&bytes));
        for length in 0..bytes.len() {
            assert!(!is_whole(&bytes[..length]), "cut to {length} of {}", bytes.len());
        }
    }

    #[test]
    fn bytes_after_the_end_do_no_harm() {
        let mut bytes = jpeg(80);
        bytes.extend_from_slice(&[0; 100]);
        assert!(is_whole(&bytes));
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        let thumbnail = jpeg(50);
        let whole = jpeg(90);
        let mut bytes = whole[..2].to_vec();
        bytes.extend_from_slice(&[0xff, 0xe1]);
        bytes.extend_from_slice(&(thumbnail.len() as u16 + 2).to_be_bytes());
        bytes.extend_from_slice(&thumbnail);
        bytes.extend_from_slice(&whole[2..]);
        assert!(is_whole(&bytes));
        assert!(!is_whole(&bytes[..bytes.len() - 10]));
    }
}
