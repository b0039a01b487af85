//! Frames over QUIC streams, as simply as can be.

use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tern_protocol::{
    code::Code,
    codec,
    frame::{Extension, Frame},
    framing::Deframer,
    limits,
};

/// How a direction of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With FIN.
    Finished,
    /// It was reset.
    Reset(Code),
    /// The connection is gone.
    Lost,
}

/// Reads frames until the end, and remembers what that was.
pub struct Frames {
    stream: RecvStream,
    deframer: Deframer,
    pub end: Option<End>,
}

impl Frames {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, deframer: Deframer::new(limits::FRAME_BYTES), end: None }
    }

    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.deframer.next_frame().unwrap() {
                return Some(codec::decode(frame).unwrap());
            }
            match self.stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => self.deframer.push(&chunk.bytes),
                Ok(None) => self.end = Some(End::Finished),
                Err(ReadError::Reset(code)) => self.end = Some(End::Reset(from_var_int(code))),
                Err(_) => self.end = Some(End::Lost),
            }
            if self.end.is_some() {
                return None;
            }
        }
    }

    pub fn stop(&mut self, code: Code) {
        self.stream.stop(var_int(code)).unwrap();
    }
}

pub fn var_int(code: Code) -> VarInt {
    VarInt::from_u32(u32::from(code.value()))
}

pub fn from_var_int(code: VarInt) -> Code {
    Code::from(u16::try_from(code.into_inner()).unwrap())
}

pub async fn write(stream: &mut SendStream, frame: &Frame) -> Option<()> {
    stream.write_all(&codec::encode(frame)).await.ok()
}

/// Grease, which a client has to ignore wherever it may stand.
pub async fn write_grease(stream: &mut SendStream) -> Option<()> {
    let grease = Extension { id: 0x7a7a, body: vec![0xff; 40].into() };
    write(stream, &Frame::Extension(grease)).await
}
