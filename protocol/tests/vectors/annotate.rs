//! Says what each word of a frame is, by the committed code-generator request: so by the schema and
//! not by this crate's codec.

use std::collections::BTreeMap;

use capnp::{
    message::ReaderOptions,
    schema_capnp::{code_generator_request, field, node, type_},
    serialize,
};

#[derive(Clone)]
enum Type {
    Void,
    /// A number of so many bits.
    Number(usize),
    Bool,
    Text,
    Data,
    List(Box<Type>),
    Struct(u64),
    Enum(u64),
}

struct Field {
    name: String,
    /// The union tag with which this field is there.
    tag: Option<u16>,
    offset: usize,
    of: Type,
}

#[derive(Default)]
struct Node {
    name: String,
    fields: Vec<Field>,
    /// Where the union's tag is, in units of 16 bits, if there is a union.
    tag_offset: Option<usize>,
    enumerants: Vec<String>,
}

pub(crate) struct Schema {
    nodes: BTreeMap<u64, Node>,
    frame: u64,
}

fn read_type(from: type_::Reader<'_>) -> Type {
    match from.which().unwrap() {
        type_::Void(()) => Type::Void,
        type_::Bool(()) => Type::Bool,
        type_::Uint16(()) => Type::Number(16),
        type_::Uint32(()) => Type::Number(32),
        type_::Uint64(()) => Type::Number(64),
        type_::Text(()) => Type::Text,
        type_::Data(()) => Type::Data,
        type_::List(list) => Type::List(Box::new(read_type(list.get_element_type().unwrap()))),
        type_::Enum(it) => Type::Enum(it.get_type_id()),
        type_::Struct(it) => Type::Struct(it.get_type_id()),
        _ => panic!("the schema has no other types"),
    }
}

impl Schema {
    pub(crate) fn load() -> Self {
        let request = include_bytes!("../../schema/tern.request");
        let message = serialize::read_message(&request[..], ReaderOptions::new()).unwrap();
        let request: code_generator_request::Reader<'_> = message.get_root().unwrap();
        let mut nodes = BTreeMap::new();
        let mut frame = 0;
        for from in request.get_nodes().unwrap() {
            let name = from.get_display_name().unwrap().to_str().unwrap();
            let name = name.rsplit(['.', ':']).next().unwrap().to_owned();
            let mut node = Node { name, ..Node::default() };
            match from.which().unwrap() {
                node::Struct(from) => {
                    node.tag_offset = (from.get_discriminant_count() > 0)
                        .then(|| from.get_discriminant_offset() as usize);
                    for from in from.get_fields().unwrap() {
                        let field::Slot(slot) = from.which().unwrap() else {
                            panic!("the schema has no groups");
                        };
                        let tag = from.get_discriminant_value();
                        node.fields.push(Field {
                            name: from.get_name().unwrap().to_str().unwrap().to_owned(),
                            tag: (tag != field::NO_DISCRIMINANT).then_some(tag),
                            offset: slot.get_offset() as usize,
                            of: read_type(slot.get_type().unwrap()),
                        });
                    }
                }
                node::Enum(from) => {
                    for from in from.get_enumerants().unwrap() {
                        let name = from.get_name().unwrap().to_str().unwrap().to_owned();
                        node.enumerants.push(name);
                    }
                }
                _ => {}
            }
            if node.name == "Frame" {
                frame = from.get_id();
            }
            nodes.insert(from.get_id(), node);
        }
        Self { nodes, frame }
    }

    /// The frame as lines of eight bytes, each with what it is.
    pub(crate) fn annotate(&self, frame: &[u8]) -> String {
        let words: Vec<u64> = frame
            .chunks(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("whole words")))
            .collect();
        let mut notes =
            Notes { schema: self, words: &words[1..], notes: vec![Vec::new(); words.len() - 1] };
        notes.structure(0, "", self.frame);
        let mut lines = String::new();
        let framing = vec![format!("one segment of {} words", words.len() - 1)];
        for (word, notes) in frame.chunks(8).zip(std::iter::once(&framing).chain(&notes.notes)) {
            let hex: Vec<String> = word.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push_str(&format!("{}   {}\n", hex.join(" "), notes.join(", ")));
        }
        lines
    }
}

struct Notes<'a> {
    schema: &'a Schema,
    words: &'a [u64],
    notes: Vec<Vec<String>>,
}

impl Notes<'_> {
    fn note(&mut self, at: usize, what: String) {
        self.notes[at].push(what);
    }

    /// Where the pointer at `at` points.
    fn target(&self, at: usize) -> usize {
        let offset = (self.words[at] as u32 as i32) >> 2;
        (at as i64 + 1 + i64::from(offset)) as usize
    }

    fn structure(&mut self, at: usize, label: &str, id: u64) {
        let node = &self.schema.nodes[&id];
        if self.words[at] == 0 {
            return self.note(at, format!("{label}: null"));
        }
        let (data, pointers) = (self.words[at] >> 32 & 0xffff, self.words[at] >> 48);
        let label = if label.is_empty() { &node.name } else { label };
        let plural =
            |count, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let size = match pointers {
            0 => plural(data, "word"),
            _ => format!("{}, {}", plural(data, "word"), plural(pointers, "pointer")),
        };
        self.note(at, format!("→ {label}: {size}"));
        self.content(self.target(at), data as usize, id);
    }

    fn content(&mut self, start: usize, data: usize, id: u64) {
        let node = &self.schema.nodes[&id];
        let tag = node.tag_offset.map(|offset| {
            let tag = (self.words[start + offset / 4] >> (offset % 4 * 16)) as u16;
            (start + offset / 4, tag)
        });
        for field in &node.fields {
            if let Some((at, tag)) = tag.filter(|_| field.tag.is_some()) {
                if field.tag != Some(tag) {
                    continue;
                }
                self.note(at, format!("union tag {tag}: {}", field.name));
            }
            self.field(start, data, field);
        }
    }

    fn field(&mut self, start: usize, data: usize, field: &Field) {
        let name = &field.name;
        let pointer = start + data + field.offset;
        let bits = |width: usize| {
            let at = start + field.offset * width / 64;
            let shift = field.offset * width % 64;
            (at, self.words[at] >> shift & (u64::MAX >> (64 - width)))
        };
        match &field.of {
            Type::Void => {}
            Type::Bool => {
                let (at, value) = bits(1);
                self.note(at, format!("{name} {}", value == 1));
            }
            Type::Number(width) => {
                let (at, value) = bits(*width);
                let shown = if name == "code" {
                    format!("{name} {value:#05x}")
                } else if value > 1 << 48 {
                    format!("{name} {value:#018x}")
                } else {
                    format!("{name} {value}")
                };
                self.note(at, shown);
            }
            Type::Enum(id) => {
                let (at, value) = bits(16);
                let enumerant = self.schema.nodes[id].enumerants[value as usize].clone();
                self.note(at, format!("{name} {enumerant}"));
            }
            Type::Struct(id) => self.structure(pointer, name, *id),
            Type::Text | Type::Data | Type::List(_) => self.list(pointer, name, &field.of),
        }
    }

    fn list(&mut self, at: usize, name: &str, of: &Type) {
        if self.words[at] == 0 {
            return self.note(at, format!("{name}: null, so empty"));
        }
        let target = self.target(at);
        let (size, count) = (self.words[at] >> 32 & 7, (self.words[at] >> 35) as usize);
        let width = [0, 0, 1, 2, 4, 8, 8, 8][size as usize];
        match of {
            Type::Text => {
                self.note(at, format!("→ {name}: text of {count} bytes with its zero byte"))
            }
            Type::Data => self.note(at, format!("→ {name}: {count} bytes")),
            _ => self.note(at, format!("→ {name}: a list")),
        }
        let bytes: Vec<u8> = self.words[target..][..(count * width).div_ceil(8)]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        match of {
            Type::Text => {
                // Chunks of a text may end within a character, so it is shown once.
                let text = std::str::from_utf8(&bytes[..count - 1]).unwrap();
                self.rest(target, count, &format!("{text:?}"));
            }
            Type::Data if count > 0 => self.rest(target, count, name),
            Type::List(element) => match **element {
                Type::Number(_) if count > 0 => self.rest(target, count * width, name),
                Type::Struct(id) => {
                    let (count, data, pointers) = (
                        (self.words[target] as u32 >> 2) as usize,
                        (self.words[target] >> 32 & 0xffff) as usize,
                        (self.words[target] >> 48) as usize,
                    );
                    self.note(target, format!("{count} times: {data} words, {pointers} pointers"));
                    for index in 0..count {
                        self.content(target + 1 + index * (data + pointers), data, id);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn rest(&mut self, at: usize, bytes: usize, what: &str) {
        self.note(at, what.to_owned());
        for word in 1..bytes.div_ceil(8) {
            self.note(at + word, "…".to_owned());
        }
    }
}
