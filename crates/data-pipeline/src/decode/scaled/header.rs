//! What stands in a jpeg before its scan.

use super::entropy::Huffman;

/// Size, components and tables.
pub(super) struct Header {
    /// Width and height, in pixels.
    pub(super) size: [usize; 2],
    pub(super) components: Vec<Component>,
    /// In the order in which frequencies are stored.
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    /// For the lowest frequency, and for the others.
    pub(super) tables: [[Option<Huffman>; 4]; 2],
    /// Units between two restart markers; 0 for no such marker.
    pub(super) restart_interval: usize,
}

/// Brightness, or one of the two colour differences.
pub(super) struct Component {
    id: u8,
    /// Blocks in a unit, across and down.
    pub(super) sampling: [usize; 2],
    /// Which table of steps.
    pub(super) quantisation: usize,
    /// Which of Huffman's tables, for the lowest frequency and for the others.
    pub(super) tables: [usize; 2],
}

impl Header {
    /// Reads up to the scan, and gives the bytes from there on. `None` for a jpeg of a kind that is not read here.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut header = Self {
            size: [0, 0],
            components: Vec::new(),
            quantisation: [None; 4],
            tables: Default::default(),
            restart_interval: 0,
        };
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let marker = match *rest.first_chunk()? {
                // Padding before a marker.
                [0xff, 0xff] => {
                    rest = &rest[1..];
                    continue;
                }
                [0xff, marker] => marker,
                _ => return None,
            };
            let length = usize::from(u16::from_be_bytes(*rest.get(2..)?.first_chunk()?));
            let (content, behind) = (rest.get(4..2 + length)?, rest.get(2 + length..)?);
            match marker {
                // Sequential, 8 or 12 bits; all other kinds of frame are not.
                0xc0 | 0xc1 => header.read_frame(content)?,
                0xc4 => header.read_huffman(content)?,
                0xdb => header.read_quantisation(content)?,
                0xdd => header.restart_interval = usize::from(u16::from_be_bytes(*content.first_chunk()?)),
                0xda => return header.begin_scan(content).map(|()| (header, behind)),
                // Adobe's note that the three components are not YCbCr.
                0xee if content.starts_with(b"Adobe") && content.get(11) != Some(&1) => return None,
                0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
            rest = behind;
        }
    }

    /// Blocks in a unit of the component that has most, across and down.
    pub(super) fn largest_sampling(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.components.iter().map(|component| component.sampling[axis]).max().unwrap_or(1))
    }

    fn read_frame(&mut self, content: &[u8]) -> Option<()> {
        let &[precision, h1, h2, w1, w2, count] = content.first_chunk()?;
        let (components, behind) = content[6..].as_chunks::<3>();
        let is_known = precision == 8 && matches!(count, 1 | 3) && behind.is_empty();
        if !is_known || components.len() != usize::from(count) || !self.components.is_empty() {
            return None;
        }
        self.size = [[w1, w2], [h1, h2]].map(|side| usize::from(u16::from_be_bytes(side)));
        self.components = components
            .iter()
            .map(|&[id, sampling, quantisation]| Component {
                id,
                sampling: [sampling >> 4, sampling & 15].map(usize::from),
                quantisation: usize::from(quantisation & 3),
                tables: [0, 0],
            })
            .collect();
        if let [only] = self.components.as_mut_slice() {
            // A single component has one block a unit, whatever it says.
            only.sampling = [1, 1];
        }
        // Colour may be stored at half the size of brightness, but not the other way round.
        let [first, others @ ..] = self.components.as_slice() else { return None };
        let is_fine = |sampling: [usize; 2]| sampling.iter().all(|count| matches!(count, 1 | 2));
        let divides = |of: &Component| (0..2).all(|axis| of.sampling[axis] <= first.sampling[axis]);
        let is_rgb = self.components.iter().map(|component| component.id).eq(*b"RGB");
        let fits = self.components.iter().all(|of| is_fine(of.sampling)) && others.iter().all(divides) && !is_rgb;
        (fits && self.size.iter().all(|&side| side > 0)).then_some(())
    }

    fn read_huffman(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&kind, behind)) = content.split_first() {
            let (counts, behind) = behind.split_first_chunk::<16>()?;
            let symbols = counts.iter().map(|&count| usize::from(count)).sum();
            let table = Huffman::new(counts, behind.get(..symbols)?)?;
            *self.tables.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? = Some(table);
            content = &behind[symbols..];
        }
        Some(())
    }

    fn read_quantisation(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&kind, behind)) = content.split_first() {
            let steps;
            (steps, content) = match kind >> 4 {
                0 => {
                    let (steps, behind) = behind.split_first_chunk::<64>()?;
                    (steps.map(u16::from), behind)
                }
                _ => {
                    let (steps, behind) = behind.split_first_chunk::<128>()?;
                    (std::array::from_fn(|index| u16::from_be_bytes([steps[2 * index], steps[2 * index + 1]])), behind)
                }
            };
            *self.quantisation.get_mut(usize::from(kind & 15))? = Some(steps);
        }
        Some(())
    }

    /// All components must stand in the one scan, in the order of the frame, with all their frequencies.
    fn begin_scan(&mut self, content: &[u8]) -> Option<()> {
        let (&count, behind) = content.split_first()?;
        let count = usize::from(count);
        let (choices, whole) = (behind.get(..2 * count)?, behind.get(2 * count..)?);
        if count != self.components.len() || count == 0 || whole != [0, 63, 0] {
            return None;
        }
        for (component, &[id, tables]) in self.components.iter_mut().zip(choices.as_chunks::<2>().0) {
            component.tables = [tables >> 4, tables & 15].map(usize::from);
            if component.id != id || component.tables.iter().any(|&table| table > 3) {
                return None;
            }
        }
        Some(())
    }
}
