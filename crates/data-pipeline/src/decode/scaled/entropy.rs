//! The entropy code: bits, Huffman's tables, and the frequencies of a block.

use super::block::{Frequencies, places};

/// Codes up to this long are found in one step.
const FAST_BITS: u32 = 10;

/// One of Huffman's tables.
pub(super) struct Huffman {
    /// By the next bits: the symbol, and the length of its code in the upper byte; 0 for longer codes.
    fast: Vec<u16>,
    /// By the same bits: what they hold where a number follows its symbol within them.
    short: Vec<ShortNumber>,
    /// By length: the first code that is longer, as the upper bits of 16.
    ends: [u32; 17],
    /// By length: what leads from a code to the place of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the number of codes of each length, 1 to 16, and the symbols in their order. `None` for more codes than fit.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: vec![0; 1 << FAST_BITS],
            short: vec![ShortNumber::default(); 1 << FAST_BITS],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
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
                    for bits in code << free..(code + 1) << free {
                        table.fast[bits as usize] = (length << 8) as u16 | u16::from(symbol);
                        table.short[bits as usize] = ShortNumber::read(bits, symbol, length);
                    }
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

/// A frequency whose symbol and number are read at once.
#[derive(Debug, Clone, Copy, Default)]
struct ShortNumber {
    value: i16,
    /// Zeros that stand before it.
    zeros: u8,
    /// Of both; 0 where there is no such number.
    bits: u8,
}

impl ShortNumber {
    /// What the next bits, [`FAST_BITS`] of them, hold if they begin with a symbol, whose code is so long.
    fn read(bits: u32, symbol: u8, length: u32) -> Self {
        let [zeros, size] = [symbol >> 4, symbol & 15];
        let length = length + u32::from(size);
        if size == 0 || length > FAST_BITS {
            return Self::default();
        }
        let number = bits >> (FAST_BITS - length) & ((1 << size) - 1);
        Self { value: signed(number as i32, size.into()) as i16, zeros, bits: length as u8 }
    }
}

/// A number of so many bits, at least one: the lower half of them stands for negative ones.
fn signed(bits: i32, size: u32) -> i32 {
    if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

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

    /// Reads the next block, and the frequencies in it of which `SIDE` x `SIDE` pixels are made: first the difference of the lowest one to the block
    /// before, then the others with runs of zeros left out.
    pub(super) fn block<const SIDE: usize>(
        &mut self,
        lowest: &Huffman,
        others: &Huffman,
        quantisation: &[u16; 64],
        prediction: &mut i32,
    ) -> Option<Frequencies> {
        let places = const { &places::<SIDE>() };
        let mut frequencies = Frequencies::default();
        self.refill();
        let size = u32::from(self.symbol(lowest)?);
        if size > 11 {
            return None;
        }
        *prediction = prediction.saturating_add(self.number(size));
        frequencies[0] = dequantised(*prediction, quantisation[0]);
        let mut index = 1;
        while index < 64 {
            self.refill();
            let short = others.short[self.next(FAST_BITS)];
            let (zeros, value) = if short.bits > 0 {
                self.skip(short.bits.into());
                (short.zeros, short.value.into())
            } else {
                let symbol = self.symbol(others)?;
                let (zeros, size) = (symbol >> 4, symbol & 15);
                if size == 0 {
                    // A run of sixteen zeros, or the end of the block.
                    if zeros < 15 {
                        break;
                    }
                    index += 16;
                    continue;
                }
                (zeros, self.number(size.into()))
            };
            index += usize::from(zeros);
            let place = usize::from(*places.get(index)?);
            frequencies[place] = dequantised(value, quantisation[index]);
            index += 1;
        }
        Some(frequencies)
    }

    /// The next bits, at least one, as a number.
    #[inline]
    fn next(&self, bits: u32) -> usize {
        (self.buffer >> (64 - bits)) as usize
    }

    /// After a refill.
    #[inline]
    fn symbol(&mut self, table: &Huffman) -> Option<u8> {
        let fast = table.fast[self.next(FAST_BITS)];
        if fast != 0 {
            self.skip(u32::from(fast >> 8));
            return Some(fast as u8);
        }
        let next = self.next(16) as u32;
        let length = (FAST_BITS as usize + 1..=16).find(|&length| next < table.ends[length])?;
        let code = (next >> (16 - length)) as i32;
        self.skip(length as u32);
        table.symbols.get(usize::try_from(code + table.offsets[length]).ok()?).copied()
    }

    /// A number of so many bits, 0 to 15, after a symbol. Both take at most 31 bits, and a refill gives more.
    #[inline]
    fn number(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = self.next(size) as i32;
        self.skip(size);
        signed(bits, size)
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// At least 32 bits, a symbol and its number.
    #[inline]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        // Four bytes at once, as long as none of them is the first of a marker or stuffed.
        match self.bytes.get(self.position..).and_then(<[u8]>::first_chunk).map(|&bytes| u32::from_be_bytes(bytes)) {
            Some(bytes) if !has_byte_of_ones(bytes) => {
                self.buffer |= u64::from(bytes) << (32 - self.count);
                self.count += 32;
                self.position += 4;
            }
            _ => self.refill_by_bytes(),
        }
    }

    #[cold]
    fn refill_by_bytes(&mut self) {
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

/// Whether one of the four bytes is 0xff: of the complement, one that is zero borrows from its highest bit.
#[inline]
fn has_byte_of_ones(bytes: u32) -> bool {
    (!bytes).wrapping_sub(0x0101_0101) & bytes & 0x8080_8080 != 0
}

/// What is beyond i16 is damaged.
#[inline]
fn dequantised(value: i32, step: u16) -> f32 {
    (value as f32 * f32::from(step)).clamp(f32::from(i16::MIN), f32::from(i16::MAX))
}
