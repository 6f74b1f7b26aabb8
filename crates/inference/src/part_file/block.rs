//! One batch of predictions as bytes: the length and the checksum of what follows, how many images were computed at once, then image by image
//! what became of it.

use std::io::{self, Read};

use crate::{Outcome, Prediction, View};

/// Length and checksum.
const HEAD_BYTES: usize = 8;

/// A block of more is none: a batch of 1024 images of 20,000 classes takes 164 MB.
const LONGEST: u32 = 1 << 30;

/// First byte of an image's record.
mod tag {
    /// One row of probabilities: those of the image as it is are those of the views.
    pub(super) const ONE_ROW: u8 = 0;
    /// The image as it is, then the views merged.
    pub(super) const TWO_ROWS: u8 = 1;
    /// A reason.
    pub(super) const UNREADABLE: u8 = 2;
    /// A view's place in the list.
    pub(super) const NOT_FINITE: u8 = 3;
}

/// What a reader has to know to understand a block.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) classes: usize,
    /// An image that is scored in none of them is scored as it is.
    pub(super) views: Vec<View>,
}

/// A batch, read back.
pub(super) struct Block {
    pub(super) predictions: Vec<Prediction>,
    pub(super) at_once: Option<usize>,
    /// In the file.
    pub(super) bytes: u64,
}

impl Layout {
    pub(super) fn encode(&self, predictions: &[Prediction], at_once: Option<usize>) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes.extend(whole(at_once.unwrap_or(0)));
        for prediction in predictions {
            self.put(&mut bytes, &prediction.outcome);
        }
        let payload = &bytes[HEAD_BYTES..];
        let head = [whole(payload.len()), crc32fast::hash(payload).to_le_bytes()].concat();
        bytes[..HEAD_BYTES].copy_from_slice(&head);
        bytes
    }

    fn put(&self, bytes: &mut Vec<u8>, outcome: &Outcome) {
        let row = |bytes: &mut Vec<u8>, row: &[f32]| {
            assert_eq!(row.len(), self.classes, "a probability for each class");
            bytes.extend(row.iter().flat_map(|probability| probability.to_le_bytes()));
        };
        match outcome {
            Outcome::Scored { plain, merged } if plain == merged => {
                bytes.push(tag::ONE_ROW);
                row(bytes, plain);
            }
            Outcome::Scored { plain, merged } => {
                bytes.push(tag::TWO_ROWS);
                row(bytes, plain);
                row(bytes, merged);
            }
            Outcome::Unreadable { reason } => {
                bytes.push(tag::UNREADABLE);
                bytes.extend(whole(reason.len()));
                bytes.extend(reason.as_bytes());
            }
            Outcome::NotFinite { view } => {
                bytes.push(tag::NOT_FINITE);
                let place = self.views.iter().position(|known| known == view);
                bytes.extend(whole(place.unwrap_or(self.views.len())));
            }
        }
    }

    /// The next block, of `images` images from sample `first` on; none where the bytes are none.
    pub(super) fn read(&self, reader: &mut impl Read, first: usize, images: usize) -> io::Result<Option<Block>> {
        let mut payload = Vec::new();
        let head = &mut [0; HEAD_BYTES];
        if !fill(reader, head)? {
            return Ok(None);
        }
        let [length, checksum] =
            [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if length <= LONGEST {
            reader.take(u64::from(length)).read_to_end(&mut payload)?;
        }
        if payload.len() != length as usize || crc32fast::hash(&payload) != checksum {
            return Ok(None);
        }
        let bytes = (HEAD_BYTES + payload.len()) as u64;
        let decoded = self.decode(&payload, first, images);
        Ok(decoded.map(|(at_once, predictions)| Block { predictions, at_once, bytes }))
    }

    fn decode(&self, payload: &[u8], first: usize, images: usize) -> Option<(Option<usize>, Vec<Prediction>)> {
        let mut cursor = Cursor(payload);
        let at_once = Some(cursor.whole()?).filter(|&limit| limit > 0);
        let outcomes =
            (first..first + images).map(|sample| Some(Prediction { sample, outcome: self.get(&mut cursor)? }));
        let predictions: Vec<Prediction> = outcomes.collect::<Option<_>>()?;
        cursor.0.is_empty().then_some((at_once, predictions))
    }

    fn get(&self, cursor: &mut Cursor) -> Option<Outcome> {
        Some(match cursor.bytes(1)?[0] {
            tag::ONE_ROW => {
                let plain = cursor.row(self.classes)?;
                Outcome::Scored { merged: plain.clone(), plain }
            }
            tag::TWO_ROWS => Outcome::Scored { plain: cursor.row(self.classes)?, merged: cursor.row(self.classes)? },
            tag::UNREADABLE => {
                let length = cursor.whole()?;
                Outcome::Unreadable { reason: String::from_utf8(cursor.bytes(length)?.to_vec()).ok()? }
            }
            tag::NOT_FINITE => {
                Outcome::NotFinite { view: self.views.get(cursor.whole()?).copied().unwrap_or(View::IDENTITY) }
            }
            _ => return None,
        })
    }
}

fn whole(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

/// False where the bytes end before.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

/// What is left of a block; none where it ends too early.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn whole(&mut self) -> Option<usize> {
        let bytes = self.bytes(4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    }

    fn row(&mut self, classes: usize) -> Option<Vec<f32>> {
        let (numbers, _) = self.bytes(classes.checked_mul(4)?)?.as_chunks::<4>();
        Some(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }
}
