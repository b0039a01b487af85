/// Decisions read out of arbitrary bytes. Where the bytes have run out it decides for zero, the
/// least there is, so that shorter inputs mean simpler cases and findings shrink.
#[derive(Debug)]
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    /// Reads decisions from these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether the bytes have run out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that wasn't read yet.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// One of two.
    pub fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number below `end`, and 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let random = if end <= 256 {
            usize::from(self.u8())
        } else {
            (0..3).fold(0, |sum, _| sum << 8 | usize::from(self.u8()))
        };
        random.checked_rem(end).unwrap_or(0)
    }

    /// A number: mostly a small one, sometimes one at an edge, sometimes any.
    pub fn u64(&mut self) -> u64 {
        match self.u8() {
            small @ 0..160 => u64::from(small % 8),
            160..192 => u64::from(self.u8()),
            192..208 => u64::MAX - u64::from(self.u8() % 4),
            208..224 => 1 << self.below(64),
            _ => (0..8).fold(0, |sum, _| sum << 8 | u64::from(self.u8())),
        }
    }

    /// A number of 32 bits, as [`Self::u64`].
    pub fn u32(&mut self) -> u32 {
        self.u64() as u32
    }

    /// A number of 16 bits, as [`Self::u64`].
    pub fn u16(&mut self) -> u16 {
        self.u64() as u16
    }

    /// A length of at most `max`: mostly short, sometimes the longest.
    pub fn length(&mut self, max: usize) -> usize {
        match self.u8() {
            short @ 0..200 => usize::from(short % 8).min(max),
            200..228 => self.below(max + 1),
            _ => max,
        }
    }

    /// Bytes of a fixed number.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u8())
    }

    /// At most `max` bytes.
    pub fn bytes(&mut self, max: usize) -> Vec<u8> {
        let length = self.length(max);
        (0..length).map(|_| self.u8()).collect()
    }

    /// A text of at most `max` bytes.
    pub fn text(&mut self, max: usize) -> String {
        let mut text = String::new();
        let length = self.length(max);
        while text.len() < length {
            let next = match self.u8() {
                ascii @ 0..200 => char::from(ascii & 0x7f),
                200..220 => 'ä',
                220..240 => '☃',
                _ => '🐦',
            };
            if text.len() + next.len_utf8() > length {
                break;
            }
            text.push(next);
        }
        text
    }
}
