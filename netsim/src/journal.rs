//! The journal: one file to which several processes append what happened, a JSON object a line.
//!
//! A line is one `write` to a file opened for appending, so the order of the lines is an order in which
//! the events can have happened: what one process wrote before it caused something in another stands
//! before what the other wrote about it. The file outlives every process. One that is killed
//! within a `write` may leave a part of a line; each line therefore begins with a newline of its own, and
//! the part is counted and left out. A writer records what it is *about* to do, or what *was* done, as
//! [`Event`](crate::checker::Event) says, so that a missing last line is never an accusation.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use crate::{app::Recorder, checker::Record};

/// Appends to a journal.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// Opens the journal, which is made if it isn't there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).create(true).open(path)? })
    }

    /// Appends a record. When this returns, the record survives the death of the process.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

impl Recorder for Writer {
    fn record(&mut self, record: Record) -> io::Result<()> {
        self.append(&record)
    }
}

/// Reads a journal that may still grow.
#[derive(Debug)]
pub struct Reader {
    file: File,
    rest: Vec<u8>,
    torn: usize,
}

impl Reader {
    /// Opens the journal, which is made if it isn't there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        Ok(Self { file, rest: Vec::new(), torn: 0 })
    }

    /// The records that came since the last call.
    pub fn read(&mut self) -> io::Result<Vec<Record>> {
        self.file.read_to_end(&mut self.rest)?;
        let complete = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut records = Vec::new();
        for line in self.rest[..complete].split(|&byte| byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(record) => records.push(record),
                Err(_) => self.torn += 1,
            }
        }
        self.rest.drain(..complete);
        Ok(records)
    }

    /// Lines of which a part alone was written.
    pub fn torn(&self) -> usize {
        self.torn
    }
}

#[cfg(test)]
mod tests {
    use tern_protocol::id::{ConversationId, DeviceId};

    use super::*;
    use crate::checker::Event;

    #[test]
    fn records_come_back_and_a_torn_line_costs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut reader = Reader::open(&path).unwrap();
        let record = |up_to| Record {
            device: DeviceId::new(u64::MAX).unwrap(),
            event: Event::Held { conversation: ConversationId::new([7; 16]), up_to },
        };
        let mut one = Writer::open(&path).unwrap();
        let mut two = Writer::open(&path).unwrap();
        one.append(&record(1)).unwrap();
        assert_eq!(reader.read().unwrap(), [record(1)]);
        // Killed within a write.
        one.file.write_all(b"\n{\"device\":\"00").unwrap();
        assert_eq!(reader.read().unwrap(), []);
        two.append(&record(2)).unwrap();
        two.append(&record(3)).unwrap();
        assert_eq!(reader.read().unwrap(), [record(2), record(3)]);
        assert_eq!(reader.torn(), 1);
    }
}
