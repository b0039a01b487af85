//! A Cap'n Proto writer of a page, which writes what it is told, be it wrong. It lays out a struct's
//! pointers depth first, so its frames differ from those of the crate's encoder.

/// A struct: words of data, then pointers.
#[derive(Clone)]
pub(crate) struct Struct(pub(crate) Vec<u64>, pub(crate) Vec<Pointer>);

#[derive(Clone)]
pub(crate) enum Pointer {
    Null,
    /// This word, whatever it means.
    Raw(u64),
    To(Struct),
    Data(Vec<u8>),
    /// A text with the zero byte that ends it.
    Text(String),
    Ids(Vec<u16>),
    Longs(Vec<u64>),
    /// A list of structs of the size of the first.
    Structs(Vec<Struct>),
    /// A list with this element size code, count and content.
    List(u64, u64, Vec<u8>),
}

/// A pointer to a struct, `offset` words behind the pointer.
pub(crate) fn struct_pointer(offset: i64, data: usize, pointers: usize) -> u64 {
    (offset as u64 & 0x3fff_ffff) << 2 | (data as u64) << 32 | (pointers as u64) << 48
}

/// A pointer to a list, `offset` words behind the pointer.
pub(crate) fn list_pointer(offset: i64, size: u64, count: u64) -> u64 {
    (offset as u64 & 0x3fff_ffff) << 2 | 1 | size << 32 | count << 35
}

/// A segment with the framing in front.
pub(crate) fn framed(words: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend((words.len() as u32).to_le_bytes());
    for word in words {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// A frame with this union tag and arm.
pub(crate) fn frame(tag: u64, arm: Pointer) -> Vec<u8> {
    framed(&segment(Struct(vec![tag], vec![arm])))
}

/// The words of a segment with this root.
pub(crate) fn segment(root: Struct) -> Vec<u64> {
    let mut words = vec![0];
    put(&mut words, 0, Pointer::To(root));
    words
}

fn put(words: &mut Vec<u64>, at: usize, pointer: Pointer) {
    let offset = (words.len() - at - 1) as i64;
    match pointer {
        Pointer::Null => {}
        Pointer::Raw(word) => words[at] = word,
        Pointer::To(it) => {
            words[at] = struct_pointer(offset, it.0.len(), it.1.len());
            let start = words.len();
            words.extend(vec![0; it.0.len() + it.1.len()]);
            fill(words, start, it);
        }
        Pointer::Data(bytes) => put_list(words, at, 2, bytes.len() as u64, &bytes),
        Pointer::Text(text) => {
            let bytes = [text.as_bytes(), &[0]].concat();
            put_list(words, at, 2, bytes.len() as u64, &bytes);
        }
        Pointer::Ids(ids) => {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            put_list(words, at, 3, ids.len() as u64, &bytes);
        }
        Pointer::Longs(longs) => {
            let bytes: Vec<u8> = longs.iter().flat_map(|long| long.to_le_bytes()).collect();
            put_list(words, at, 5, longs.len() as u64, &bytes);
        }
        Pointer::List(size, count, bytes) => put_list(words, at, size, count, &bytes),
        Pointer::Structs(items) => {
            let (data, pointers) = (items[0].0.len(), items[0].1.len());
            let each = data + pointers;
            words[at] = list_pointer(offset, 7, (items.len() * each) as u64);
            words.push(struct_pointer(items.len() as i64, data, pointers));
            let start = words.len();
            words.extend(vec![0; items.len() * each]);
            for (index, item) in items.into_iter().enumerate() {
                fill(words, start + index * each, item);
            }
        }
    }
}

fn fill(words: &mut Vec<u64>, start: usize, it: Struct) {
    let pointers = start + it.0.len();
    words[start..pointers].copy_from_slice(&it.0);
    for (index, pointer) in it.1.into_iter().enumerate() {
        put(words, pointers + index, pointer);
    }
}

fn put_list(words: &mut Vec<u64>, at: usize, size: u64, count: u64, bytes: &[u8]) {
    words[at] = list_pointer((words.len() - at - 1) as i64, size, count);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        words.push(u64::from_le_bytes(word));
    }
}
