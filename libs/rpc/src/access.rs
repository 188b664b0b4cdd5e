//! What a caller may do: asked before a handler runs, of whoever the call is made for.
//!
//! The contract of each rpc says which right it asks for, and which field names the project. The layer around
//! the service reads that field from the first message as it came, and asks the [`Authorize`] of the process.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use commonplace_types::{Digest, Principal, ProjectName, Right};
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tonic::body::Body;

use crate::compression::Inflow;
use crate::methods::Method;
use crate::server::MESSAGE_BYTES;
use crate::view::View;
use crate::{Code, Failure};

/// Decides who may do what. One for each process.
#[async_trait]
pub trait Authorize: Send + Sync + fmt::Debug {
    /// Who calls that proved nothing. Error: UNAUTHENTICATED.
    fn nobody(&self) -> Result<Arc<Principal>, Failure>;

    /// What of a project a principal may do this to; of the tenant, if no project is given.
    /// Error: UNAUTHENTICATED if the proof has ended, UNAVAILABLE if it cannot be decided.
    async fn decide(
        &self,
        principal: &Arc<Principal>,
        action: Action,
        project: Option<&ProjectName>,
    ) -> Result<Decision, Failure>;
}

/// What was decided, and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What of the project may be seen; or the refusal, PERMISSION_DENIED.
    pub answer: Result<View, Failure>,
    /// By which rules.
    pub because: Because,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Because {
    /// Ids of the policies and grants that decided, sorted; none: nothing allows it.
    pub policies: Arc<[String]>,
    /// The hash of all rules that were asked.
    pub rules: Option<Digest>,
}

/// What the call that is served was asked for, before it was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The right.
    pub right: Right,
    /// Over which project; none: the tenant.
    pub project: Option<ProjectName>,
    /// What decided.
    pub because: Because,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action {
    /// The rpc, as `package.Service/Method`.
    pub method: &'static str,
    /// The right that it asks for.
    pub right: Right,
    /// The caller makes do with parts of the project.
    pub parts: bool,
}

/// How much of a refused call's body is read, and for how long, before it is answered.
const DRAINED_BYTES: usize = 64 << 10;
const DRAINED_FOR: Duration = Duration::from_millis(100);

/// Reads what is left of a refused call, within bounds. HTTP/2 resets a stream that is answered before its caller
/// has sent all of it, and ends the connection of a caller who met many resets.
pub(crate) async fn drain(request: Request<Body>) {
    if let Some(inflow) = Inflow::of(request.extensions()) {
        inflow.unwanted();
    }
    drain_body(request.into_body()).await;
}

/// The same of a body of which nobody else knows.
pub(crate) async fn drain_body<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DRAINED_BYTES {
                return;
            }
        }
    };
    // Whoever sends more, or slower, is reset.
    let _ = tokio::time::timeout(DRAINED_FOR, rest).await;
}

/// The first message of a call and its body, to be read from the start.
pub(crate) struct Opened {
    pub(crate) message: Bytes,
    pub(crate) body: Body,
}

/// Reads the first message of a call; of one that cannot be read, the body is left as far as it was not read.
/// Compressed ones were opened at the port.
/// Error: INVALID_ARGUMENT if there is none or it cannot be read, RESOURCE_EXHAUSTED if it is too long.
pub(crate) async fn open(body: &mut Body) -> Result<Opened, Failure> {
    open_within(body, |_| Ok(())).await
}

/// The same, as long as there is `room` for so many bytes. Error: also what `room` says.
pub(crate) async fn open_within(
    body: &mut Body,
    mut room: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<Opened, Failure> {
    let mut read = BytesMut::new();
    let mut whole: Option<Bytes> = None;
    loop {
        let have = whole.as_ref().map_or(&read[..], |bytes| &bytes[..]);
        let have_bytes = have.len();
        if let Some(end) = end_of_first(have)? {
            let bytes = whole.unwrap_or_else(|| read.freeze());
            return rejoin(bytes, end, std::mem::take(body));
        }
        let Some(frame) = body.frame().await else {
            return Err(unreadable("it ended before its first message did"));
        };
        let frame = frame.map_err(|status| Failure::from_status(&status))?;
        let Ok(data) = frame.into_data() else {
            return Err(unreadable("it ended before its first message did"));
        };
        room(have_bytes + data.len())?;
        // Most calls are one piece, which is then not copied.
        match whole.take() {
            None if read.is_empty() => whole = Some(data),
            None => read.extend_from_slice(&data),
            Some(first) => {
                read.extend_from_slice(&first);
                read.extend_from_slice(&data);
            }
        }
    }
}

/// Where the first message ends, once all of it is there: a flag, four bytes of length, the message.
fn end_of_first(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(mut head) = bytes.get(..5) else {
        return Ok(None);
    };
    head.advance(1);
    let length = head.get_u32() as usize;
    if length > MESSAGE_BYTES {
        return Err(too_long());
    }
    Ok((bytes.len() >= 5 + length).then_some(5 + length))
}

fn rejoin(read: Bytes, end: usize, rest: Body) -> Result<Opened, Failure> {
    if read.first() != Some(&0) {
        return Err(unreadable(
            "it is compressed, with nothing that was agreed on",
        ));
    }
    let message = read.slice(5..end);
    let body = Body::new(Rejoined {
        read: Some(read),
        rest,
    });
    Ok(Opened { message, body })
}

fn unreadable(problem: &str) -> Failure {
    Failure::new(Code::InvalidArgument, "MESSAGE_INVALID").message(format!(
        "the call's first message cannot be read: {problem}"
    ))
}

fn too_long() -> Failure {
    Failure::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        .metadata("limit_bytes", MESSAGE_BYTES)
        .message(format!(
            "the message is larger than {MESSAGE_BYTES} bytes; send less at once"
        ))
}

/// What was read of a body, and what comes after.
struct Rejoined {
    read: Option<Bytes>,
    rest: Body,
}

impl http_body::Body for Rejoined {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(bytes) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }
}

/// Reads the project that a message names, by the numbers of the fields on the way to its name. An absent or
/// empty name is the default project. Error: INVALID_ARGUMENT if the message or the name is none.
pub(crate) fn project_of(message: &[u8], path: &[u32]) -> Result<ProjectName, Failure> {
    let name = text_at(message, path)
        .ok_or_else(|| unreadable("it is not a message of this call"))?
        .unwrap_or_default();
    let name =
        std::str::from_utf8(name).map_err(|_| unreadable("the project's name is not UTF-8"))?;
    crate::convert::project_from_proto(name).map_err(|invalid| Failure::invalid(&invalid))
}

/// The bytes of the last field at the end of a path, as a decoder would see it: of several the last counts,
/// and embedded messages of the same number are one. Nothing if the bytes are no message.
fn text_at<'a>(mut message: &'a [u8], path: &[u32]) -> Option<Option<&'a [u8]>> {
    let (first, deeper) = path.split_first()?;
    let mut found = None;
    while !message.is_empty() {
        let (number, bytes) = next_field(&mut message)?;
        if number != *first {
            continue;
        }
        let bytes = bytes?;
        match deeper.is_empty() {
            true => found = Some(bytes),
            false => found = text_at(bytes, deeper)?.or(found),
        }
    }
    Some(found)
}

/// Takes a field off the front: its number, and its bytes if it has a length.
fn next_field<'a>(message: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = varint(message)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
    let mut take = |length: usize| {
        let (bytes, rest) = message.split_at_checked(length)?;
        *message = rest;
        Some(bytes)
    };
    match key & 7 {
        1 => take(8).map(|_| (number, None)),
        5 => take(4).map(|_| (number, None)),
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Some((number, Some(bytes)))
        }
        0 => varint(message).map(|_| (number, None)),
        // Groups are in none of the contracts.
        _ => None,
    }
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The answer to a method that the contracts do not know.
pub(crate) fn unknown(path: &str) -> Failure {
    Failure::new(Code::Unimplemented, "UNKNOWN_METHOD")
        .message(format!("no service answers `{path}`"))
}

/// The action that a method is, for whoever is asked about it.
pub(crate) fn action(method: &'static Method, right: Right, parts: bool) -> Action {
    Action {
        method: &method.name,
        right,
        parts,
    }
}

#[cfg(test)]
mod tests;
