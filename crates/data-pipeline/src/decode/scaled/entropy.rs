//! The entropy code: bits, Huffman's tables, and the frequencies of a block.

use super::block::Block;

/// Codes up to this long are found in one step.
const FAST_BITS: u32 = 10;

/// One of Huffman's tables.
pub(super) struct Huffman {
    /// By the next bits: the symbol, and the length of its code in the upper byte; 0 for longer codes.
    fast: Vec<u16>,
    /// By length: the first code that is longer, as the upper bits of 16.
    ends: [u32; 17],
    /// By length: what leads from a code to the place of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the number of codes of each length, 1 to 16, and the symbols in their order. `None` for more codes than fit.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table =
            Self { fast: vec![0; 1 << FAST_BITS], ends: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(place)?;
                if code >= 1 << length {
                    return None;
                }
                if length <= FAST_BITS {
                    let free = FAST_BITS - length;
                    let start = (code << free) as usize;
                    table.fast[start..start + (1 << free)].fill((length << 8) as u16 | u16::from(symbol));
                }
                code += 1;
                place += 1;
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// Where frequencies lie in a block, from the lowest to the highest. Beyond the last one, damaged data may point.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Reads a scan bit by bit. Beyond its end come zeros.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The next bits, from the highest on.
    buffer: u64,
    count: u32,
    /// Zeros that stand for bits that are not there.
    invented: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, buffer: 0, count: 0, invented: 0 }
    }

    /// Whether no bit was used that is not there.
    pub(super) fn is_within_the_scan(&self) -> bool {
        self.invented <= self.count
    }

    /// Goes on behind a restart marker, which must come next.
    pub(super) fn pass_restart_marker(&mut self) -> Option<()> {
        let is_next = matches!(self.bytes.get(self.position..self.position + 2), Some([0xff, 0xd0..=0xd7]));
        if !is_next || !self.is_within_the_scan() || self.count - self.invented >= 8 {
            return None;
        }
        *self = Self { position: self.position + 2, ..Self::new(self.bytes) };
        Some(())
    }

    /// The frequencies of the next block: first the difference of the lowest one to the block before, then the others with
    /// runs of zeros left out.
    pub(super) fn block(
        &mut self,
        lowest: &Huffman,
        others: &Huffman,
        quantisation: &[u16; 64],
        prediction: &mut i32,
    ) -> Option<Block> {
        let mut block = [0; 64];
        let size = u32::from(self.symbol(lowest)?);
        if size > 11 {
            return None;
        }
        *prediction = prediction.saturating_add(self.number(size));
        block[0] = dequantised(*prediction, quantisation[0]);
        let mut index = 1;
        while index < 64 {
            let symbol = self.symbol(others)?;
            let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                // A run of sixteen zeros, or the end of the block.
                if zeros < 15 {
                    break;
                }
                index += 16;
                continue;
            }
            index += zeros;
            let place = *ZIGZAG.get(index)?;
            block[usize::from(place)] = dequantised(self.number(size), quantisation[index]);
            index += 1;
        }
        Some(block)
    }

    fn symbol(&mut self, table: &Huffman) -> Option<u8> {
        self.refill();
        let fast = table.fast[(self.buffer >> (64 - FAST_BITS)) as usize];
        if fast != 0 {
            self.skip(u32::from(fast >> 8));
            return Some(fast as u8);
        }
        let next = (self.buffer >> 48) as u32;
        let length = (FAST_BITS as usize + 1..=16).find(|&length| next < table.ends[length])?;
        let code = (next >> (16 - length)) as i32;
        self.skip(length as u32);
        table.symbols.get(usize::try_from(code + table.offsets[length]).ok()?).copied()
    }

    /// A number of so many bits, 0 to 15, after a symbol; the lower half of them stands for negative ones. A symbol and its
    /// number take at most 31 bits, and a refill gives more.
    fn number(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = (self.buffer >> (64 - size)) as i32;
        self.skip(size);
        if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
    }

    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// At least 32 bits, a symbol and its number.
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        // Four bytes at once, as long as none of them is the first of a marker or stuffed.
        if let Some(&[a, b, c, d]) = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk)
            && a != 0xff
            && b != 0xff
            && c != 0xff
            && d != 0xff
        {
            self.buffer |= u64::from(u32::from_be_bytes([a, b, c, d])) << (32 - self.count);
            self.count += 32;
            self.position += 4;
            return;
        }
        while self.count <= 56 {
            let byte = self.next_byte();
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// A zero is stuffed behind a byte of ones; anything else there is a marker, which ends the scan.
    fn next_byte(&mut self) -> u8 {
        match (self.bytes.get(self.position), self.bytes.get(self.position + 1)) {
            (Some(0xff), Some(0)) => {
                self.position += 2;
                0xff
            }
            (Some(&byte), _) if byte != 0xff => {
                self.position += 1;
                byte
            }
            _ => {
                self.invented = self.invented.saturating_add(8);
                0
            }
        }
    }
}

fn dequantised(value: i32, step: u16) -> i16 {
    value.saturating_mul(i32::from(step)).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}
