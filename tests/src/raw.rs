//! Calls of any rpc by its path, with messages as they are on the wire.

use bytes::{Buf, BufMut, Bytes};
use commonplace_rpc::Channel;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// Messages as they are on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Sends messages to an rpc, whichever side of it streams, and gives the first answer; nothing if a stream ends
/// without one. `path`: like `/package.Service/Method`.
pub async fn call(
    channel: &Channel,
    path: &str,
    messages: Vec<Bytes>,
) -> Result<Option<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path
        .parse()
        .map_err(|_| Status::invalid_argument("expected a path"))?;
    let request = Request::new(futures::stream::iter(messages));
    let answer = client.streaming(request, path, Raw).await?;
    answer.into_inner().message().await
}
