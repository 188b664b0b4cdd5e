//! A body of gRPC messages, each made smaller or opened as it passes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Frame;
use tonic::{Status, body::Body};

use super::encoding::{Encoding, Unopened};
use super::inflow::Inflow;
use crate::server::MESSAGE_BYTES;
use crate::{Code, Failure};

/// Before each message: whether it is compressed, and its length in four bytes.
const HEAD: usize = 5;

/// What is done to messages.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Those of at least so many bytes are compressed.
    Shrink(usize),
    Open,
}

/// A body whose messages are changed one by one. At most one message is held, and only if it is to be changed.
pub(crate) struct Messages {
    body: Body,
    encoding: Encoding,
    work: Work,
    inflow: Inflow,
    /// What came in and was not looked at yet.
    waiting: Bytes,
    place: Place,
}

/// Where in the messages we are.
enum Place {
    /// In a head, of which so much is here.
    Head(BytesMut),
    /// In a message that passes as it is; so many bytes are to come.
    Pass(usize),
    /// In a message that is to be changed; its bytes so far, and its length.
    Hold(BytesMut, usize),
}

impl Messages {
    /// Messages of at least `floor` bytes get smaller, if they can.
    pub(crate) fn shrink(body: Body, encoding: Encoding, floor: usize) -> Self {
        Self::new(body, encoding, Work::Shrink(floor), Inflow::default())
    }

    /// Compressed messages are opened, as far as the inflow lets them.
    pub(crate) fn open(body: Body, encoding: Encoding, inflow: Inflow) -> Self {
        Self::new(body, encoding, Work::Open, inflow)
    }

    fn new(body: Body, encoding: Encoding, work: Work, inflow: Inflow) -> Self {
        Self {
            body,
            encoding,
            work,
            inflow,
            waiting: Bytes::new(),
            place: Place::Head(BytesMut::new()),
        }
    }

    /// The next bytes to pass on, if there are some. Error: a message cannot be opened.
    fn step(&mut self) -> Result<Option<Bytes>, Status> {
        if self.inflow.is_unwanted() {
            self.place = Place::Pass(usize::MAX);
        }
        while !self.waiting.is_empty() {
            let passed = match &mut self.place {
                Place::Head(_) => self.head()?,
                Place::Pass(left) => {
                    let part = self.waiting.split_to(self.waiting.len().min(*left));
                    *left -= part.len();
                    let over = *left == 0;
                    if over {
                        self.place = Place::Head(BytesMut::new());
                    }
                    Some(part)
                }
                Place::Hold(held, length) => {
                    let missing = *length - held.len();
                    held.put(self.waiting.split_to(self.waiting.len().min(missing)));
                    let room = self.inflow.hold(held.len());
                    room.map_err(Failure::into_status)?;
                    match held.len() == *length {
                        true => Some(self.changed()?),
                        false => None,
                    }
                }
            };
            if passed.is_some() {
                return Ok(passed);
            }
        }
        Ok(None)
    }

    /// Completes a head and decides what becomes of its message.
    fn head(&mut self) -> Result<Option<Bytes>, Status> {
        let Place::Head(head) = &mut self.place else {
            return Ok(None);
        };
        let missing = HEAD - head.len();
        head.put(self.waiting.split_to(self.waiting.len().min(missing)));
        if head.len() < HEAD {
            return Ok(None);
        }
        let compressed = head[0] == 1;
        let length = (&head[1..]).get_u32() as usize;
        let changes = match self.work {
            Work::Shrink(floor) => !compressed && length >= floor.max(1) && length <= MESSAGE_BYTES,
            Work::Open => compressed,
        };
        if !changes {
            // In one piece with its message, if that is here.
            head.put(self.waiting.split_to(self.waiting.len().min(length)));
            let passed = std::mem::take(head).freeze();
            let left = length - (passed.len() - HEAD);
            if left > 0 {
                self.place = Place::Pass(left);
            }
            return Ok(Some(passed));
        }
        self.inflow.check(length)?;
        self.place = Place::Hold(BytesMut::new(), length);
        match length {
            0 => self.changed().map(Some),
            _ => Ok(None),
        }
    }

    /// The message that is held, changed, with its head.
    fn changed(&mut self) -> Result<Bytes, Status> {
        let place = std::mem::replace(&mut self.place, Place::Head(BytesMut::new()));
        let Place::Hold(message, _) = place else {
            return Ok(Bytes::new());
        };
        match self.work {
            Work::Open => match self.encoding.decompress(&message, self.inflow.most()) {
                Ok(opened) => Ok(framed(false, &opened)),
                Err(Unopened::TooLarge) => Err(too_large(self.inflow.most())),
                Err(Unopened::Damaged(problem)) => Err(unreadable(self.encoding, &problem)),
            },
            Work::Shrink(_) => match self.encoding.compress(&message) {
                Ok(smaller) if smaller.len() < message.len() => Ok(framed(true, &smaller)),
                _ => Ok(framed(false, &message)),
            },
        }
    }

    /// What is left when a body ends within a message: it is passed on as it is, for its reader to complain of.
    fn rest(&mut self) -> Option<Bytes> {
        let rest = match std::mem::replace(&mut self.place, Place::Head(BytesMut::new())) {
            Place::Head(head) => head.freeze(),
            Place::Pass(_) => Bytes::new(),
            Place::Hold(held, length) => {
                let mut rest = BytesMut::with_capacity(HEAD + held.len());
                rest.put_u8(u8::from(matches!(self.work, Work::Open)));
                rest.put_u32(length as u32);
                rest.put(held);
                rest.freeze()
            }
        };
        (!rest.is_empty()).then_some(rest)
    }
}

fn framed(compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(u8::from(compressed));
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

pub(super) fn too_large(most: usize) -> Status {
    Failure::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        .metadata("limit_bytes", most)
        .message(format!(
            "a message is larger than {most} bytes once it is decompressed"
        ))
        .into_status()
}

fn unreadable(encoding: Encoding, problem: &std::io::Error) -> Status {
    let text = format!("a message is not {}: {problem}", encoding.as_str());
    Failure::new(Code::InvalidArgument, "MESSAGE_UNREADABLE")
        .message(text)
        .into_status()
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            match this.step() {
                Ok(None) => {}
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(status) => {
                    this.body = Body::empty();
                    this.waiting = Bytes::new();
                    return Poll::Ready(Some(Err(status)));
                }
            }
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(None) => {
                    return Poll::Ready(this.rest().map(|rest| Ok(Frame::data(rest))));
                }
                other => return other,
            };
            match frame.into_data() {
                Ok(bytes) => this.waiting = bytes,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let between = matches!(&self.place, Place::Head(head) if head.is_empty());
        between && self.waiting.is_empty() && self.body.is_end_stream()
    }
}
