//! Bytes as a row of choices, so that a fuzzer's blind changes become changes of meaning: another field is
//! evil, another host speaks, another byte is flipped. Past the end every choice is the first.

/// What is left to choose with.
pub struct Bytes<'a>(&'a [u8]);

/// A chunk up to this long has its length in one byte; this byte itself announces two more.
const LONG: u8 = 255;

impl<'a> Bytes<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte; 0 past the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One of `count`, from 0. `count` is from 1 to 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// Two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number, most often one at which arithmetic breaks.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => i64::MAX as u64,
            4 => u64::from(u32::MAX),
            5 => u64::from(self.short()),
            6 => u64::MAX - u64::from(self.byte()),
            _ => u64::from(self.byte()),
        }
    }

    /// So many bytes, or what is left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A chunk with its length before it.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            LONG => usize::from(self.short()),
            short => usize::from(short),
        };
        self.take(length)
    }

    /// A chunk as text; `absent` if it is empty.
    pub fn text(&mut self, absent: &str) -> String {
        match self.chunk() {
            [] => absent.to_owned(),
            chunk => String::from_utf8_lossy(chunk).into_owned(),
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Writes a chunk as [`Bytes::chunk`] reads it; what is longer than 65,535 bytes is cut.
pub fn put_chunk(out: &mut Vec<u8>, chunk: &[u8]) {
    let chunk = &chunk[..chunk.len().min(usize::from(u16::MAX))];
    match u8::try_from(chunk.len()) {
        Ok(length) if length < LONG => out.push(length),
        Ok(_) | Err(_) => {
            out.push(LONG);
            out.extend(u16::try_from(chunk.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
    }
    out.extend(chunk);
}
