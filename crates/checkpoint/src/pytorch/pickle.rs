//! The part of Python's pickle format that PyTorch writes, read into plain data.
//!
//! The opcodes are those of Python's [`pickletools`](https://docs.python.org/3/library/pickletools.html). Nothing is imported or called: what a
//! pickle wants built by a function is kept as the function's name and its arguments, and whoever knows the function may look at them. Each opcode
//! makes one object at most, and what is used twice is held once, so that the objects never outgrow the bytes.

/// An object, by its place in [`Objects`].
pub(super) type Reference = usize;

/// One Python object, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    Integer(i64),
    Text(String),
    Tuple(Vec<Reference>),
    List(Vec<Reference>),
    Dict(Vec<(Reference, Reference)>),
    /// A class or function: `module.name`.
    Global(String),
    /// What the pickle says lies elsewhere, by a description that only the writer's program understands.
    Persistent(Reference),
    /// What calling a function, or making an instance of a class, would give.
    Made {
        by: Reference,
        arguments: Reference,
    },
    /// `None`, truth values, numbers with a point, bytes: nothing that weights are made of.
    Other,
}

/// All objects of a pickle; containers refer to their parts by place.
#[derive(Debug, Default)]
pub(super) struct Objects(Vec<Object>);

impl Objects {
    pub(super) fn get(&self, at: Reference) -> &Object {
        &self.0[at]
    }

    /// The text at a place; none if it is something else.
    pub(super) fn text(&self, at: Reference) -> Option<&str> {
        match self.get(at) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of the class or function at a place; none if it is something else.
    pub(super) fn global(&self, at: Reference) -> Option<&str> {
        match self.get(at) {
            Object::Global(name) => Some(name),
            _ => None,
        }
    }

    fn add(&mut self, object: Object) -> Reference {
        self.0.push(object);
        self.0.len() - 1
    }
}

/// Reads a pickle: its objects, and which of them is the whole.
///
/// # Errors
/// A sentence that says what is wrong: the end comes too early, an opcode is unknown, or something refers to nothing.
pub(super) fn unpickle(bytes: &[u8]) -> Result<(Objects, Reference), String> {
    let mut machine = Machine { bytes, at: 0, objects: Objects::default(), stack: vec![], marks: vec![], memo: vec![] };
    let root = machine.run()?;
    Ok((machine.objects, root))
}

/// The newest protocol: Python 3.8's.
const NEWEST_PROTOCOL: u8 = 5;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Objects,
    stack: Vec<Reference>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: Vec<Option<Reference>>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Reference, String> {
        loop {
            let place = self.at;
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => {
                    let known = self.containers(opcode)? || self.values(opcode)? || self.bookkeeping(opcode)?;
                    if !known {
                        return Err(format!("its pickle has the unknown opcode 0x{opcode:02x} at byte {place}"));
                    }
                }
            }
        }
    }

    /// Opcodes that make and fill containers, or have something made; whether this was one.
    fn containers(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            b')' => self.push(Object::Tuple(vec![])),
            b']' => self.push(Object::List(vec![])),
            b'}' => self.push(Object::Dict(vec![])),
            b't' => {
                let parts = self.pop_to_mark()?;
                self.push(Object::Tuple(parts));
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let parts = self.pop_many(count)?;
                self.push(Object::Tuple(parts));
            }
            b'l' => {
                let parts = self.pop_to_mark()?;
                self.push(Object::List(parts));
            }
            b'd' => {
                let parts = self.pop_to_mark()?;
                self.push(Object::Dict(pairs(&parts)));
            }
            b'a' => {
                let parts = self.pop_many(1)?;
                self.extend_list(&parts)?;
            }
            b'e' => {
                let parts = self.pop_to_mark()?;
                self.extend_list(&parts)?;
            }
            b's' => {
                let parts = self.pop_many(2)?;
                self.extend_dict(&parts)?;
            }
            b'u' => {
                let parts = self.pop_to_mark()?;
                self.extend_dict(&parts)?;
            }
            b'R' | 0x81 => self.make()?,
            // An instance's state: attributes, of which weights have none that matter.
            b'b' => {
                self.pop()?;
            }
            b'Q' => {
                let description = self.pop()?;
                self.push(Object::Persistent(description));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opcodes that stand for one value; whether this was one.
    fn values(&mut self, opcode: u8) -> Result<bool, String> {
        let object = match opcode {
            b'N' | 0x88 | 0x89 => Object::Other,
            b'K' => Object::Integer(i64::from(self.byte()?)),
            b'M' => Object::Integer(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Object::Integer(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => {
                let length = usize::from(self.byte()?);
                integer(self.take(length)?)
            }
            b'G' => self.skip(8)?,
            b'X' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.string(length)?
            }
            0x8c => {
                let length = usize::from(self.byte()?);
                self.string(length)?
            }
            // Bytes and Python 2's strings, short and long.
            b'C' | b'U' => {
                let length = usize::from(self.byte()?);
                self.skip(length)?
            }
            b'B' | b'T' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.skip(length)?
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Object::Global(format!("{module}.{name}"))
            }
            0x93 => {
                let parts = self.pop_many(2)?;
                match (self.objects.text(parts[0]), self.objects.text(parts[1])) {
                    (Some(module), Some(name)) => Object::Global(format!("{module}.{name}")),
                    _ => return Err("its pickle names a class by something that is no text".to_owned()),
                }
            }
            _ => return Ok(false),
        };
        self.push(object);
        Ok(true)
    }

    /// Opcodes about the pickle itself; whether this was one.
    fn bookkeeping(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            0x80 => {
                let protocol = self.byte()?;
                if protocol > NEWEST_PROTOCOL {
                    return Err(format!("its pickle is of protocol {protocol}, newer than {NEWEST_PROTOCOL}"));
                }
            }
            // A frame's length: the bytes are all here.
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'q' => {
                let slot = usize::from(self.byte()?);
                self.memoize(slot)?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?) as usize;
                self.memoize(slot)?;
            }
            0x94 => self.memoize(self.memo.len())?,
            b'h' => {
                let slot = usize::from(self.byte()?);
                self.recall(slot)?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?) as usize;
                self.recall(slot)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Keeps what a call would give as the call, but for an empty ordered dict, which is filled afterwards as every dict is.
    fn make(&mut self) -> Result<(), String> {
        let [by, arguments] = self.pop_many(2)?.try_into().expect("two were asked for");
        let is_empty = matches!(self.objects.get(arguments), Object::Tuple(parts) if parts.is_empty());
        let is_dict = self.objects.global(by) == Some("collections.OrderedDict");
        self.push(if is_empty && is_dict { Object::Dict(vec![]) } else { Object::Made { by, arguments } });
        Ok(())
    }

    /// Items of anything but a list belong to an object that is not understood, and are left out with it.
    fn extend_list(&mut self, parts: &[Reference]) -> Result<(), String> {
        let list = self.top()?;
        if let Object::List(items) = &mut self.objects.0[list] {
            items.extend(parts);
        }
        Ok(())
    }

    fn extend_dict(&mut self, parts: &[Reference]) -> Result<(), String> {
        let dict = self.top()?;
        if let Object::Dict(items) = &mut self.objects.0[dict] {
            items.extend(pairs(parts));
        }
        Ok(())
    }

    fn push(&mut self, object: Object) {
        let added = self.objects.add(object);
        self.stack.push(added);
    }

    fn top(&self) -> Result<Reference, String> {
        self.stack.last().copied().ok_or_else(nothing_there)
    }

    fn pop(&mut self) -> Result<Reference, String> {
        self.stack.pop().ok_or_else(nothing_there)
    }

    /// The upmost `count` objects, the lowest first.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Reference>, String> {
        let start = self.stack.len().checked_sub(count).ok_or_else(nothing_there)?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Reference>, String> {
        let start = self.marks.pop().filter(|start| *start <= self.stack.len()).ok_or_else(nothing_there)?;
        Ok(self.stack.split_off(start))
    }

    fn memoize(&mut self, slot: usize) -> Result<(), String> {
        // Writers number their slots from 0 on, each with an object: a number beyond the bytes is a mistake.
        if slot > self.bytes.len() {
            return Err(format!("its pickle keeps an object in slot {slot}, which is out of bounds"));
        }
        let top = self.top()?;
        if slot >= self.memo.len() {
            self.memo.resize(slot + 1, None);
        }
        self.memo[slot] = Some(top);
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Result<(), String> {
        let kept = self.memo.get(slot).copied().flatten();
        self.stack.push(kept.ok_or_else(|| format!("its pickle asks for slot {slot}, which is empty"))?);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("its pickle ends too early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<Object, String> {
        self.take(count)?;
        Ok(Object::Other)
    }

    fn string(&mut self, length: usize) -> Result<Object, String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "its pickle has text that is not UTF-8")?;
        Ok(Object::Text(text.to_owned()))
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or("its pickle ends too early")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }
}

/// A signed number of up to eight bytes, the lowest first; longer ones count nothing that is here.
fn integer(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Other;
    }
    let sign = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Object::Integer(i64::from_le_bytes(wide))
}

fn pairs(parts: &[Reference]) -> Vec<(Reference, Reference)> {
    parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

fn nothing_there() -> String {
    "its pickle takes an object where there is none".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Object, String> {
        unpickle(bytes).map(|(objects, root)| objects.get(root).clone())
    }

    #[test]
    fn numbers_of_every_width_are_read() {
        let cases: [(&[u8], i64); 7] = [
            (b"K\x07.", 7),
            (b"M\x00\x01.", 256),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\x80.", -128),
            (b"\x8a\x05\x00\x00\x00\x00\x01.", 1 << 32),
            (b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00K\x2a.", 42),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(bytes), Ok(Object::Integer(expected)), "{bytes:?}");
        }
        assert_eq!(read(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."), Ok(Object::Other));
    }

    #[test]
    fn a_dict_that_is_kept_before_it_is_filled_is_the_same_dict_afterwards() {
        // d = {}; [d, d] with d["a"] = 1, d kept in slot 0 while it was empty.
        let (objects, root) = unpickle(b"](}q\x00X\x01\x00\x00\x00aK\x01sh\x00e.").unwrap();
        let Object::List(items) = objects.get(root) else { panic!("{root}") };
        assert_eq!(items[0], items[1]);
        assert!(matches!(objects.get(items[0]), Object::Dict(entries) if entries.len() == 1));
    }

    #[test]
    fn nothing_is_called() {
        // os.system("true"), as a pickle that would do harm is made.
        let (objects, root) = unpickle(b"cos\nsystem\n(X\x04\x00\x00\x00truetR.").unwrap();
        let Object::Made { by, .. } = *objects.get(root) else { panic!("{root}") };
        assert_eq!(objects.global(by), Some("os.system"));
    }

    #[test]
    fn an_unknown_opcode_is_named_with_its_place() {
        assert_eq!(read(b"\x80\x02\xfe."), Err("its pickle has the unknown opcode 0xfe at byte 2".to_owned()));
        assert_eq!(read(b"\x80\x09."), Err("its pickle is of protocol 9, newer than 5".to_owned()));
    }

    #[test]
    fn no_bytes_whatever_make_it_panic() {
        // Every opcode alone, after a mark, after some objects, and cut off at every length.
        let beginnings: [&[u8]; 4] = [b"", b"(", b"K\x01K\x02K\x03", b"(]}q\x00"];
        for beginning in beginnings {
            for opcode in 0..=u8::MAX {
                let mut bytes = [beginning, &[opcode], b"\xff\xff\xff\xff\xff\xff\xff\xff\n\n."].concat();
                while !bytes.is_empty() {
                    let _ = unpickle(&bytes);
                    bytes.pop();
                }
            }
        }
        assert!(read(b"").is_err());
    }
}
