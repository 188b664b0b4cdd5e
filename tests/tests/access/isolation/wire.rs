//! One call, and every byte of its answer: heads, messages, trailers, details.

use std::time::Duration;

use bytes::Bytes;
use commonplace_rpc::{Channel, Failure, Raw, context};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

/// How long a call may take. A tail says nothing for longer where there is nothing to say.
const PATIENCE: Duration = Duration::from_secs(8);
const TAIL_PATIENCE: Duration = Duration::from_millis(400);

/// What came of a call.
#[derive(Debug)]
pub struct Answer {
    pub code: Code,
    /// The first message; of a stream there may be more.
    pub message: Bytes,
    pub failure: Option<Failure>,
    /// Everything that came, in any order.
    pub bytes: Vec<u8>,
}

impl Answer {
    fn failed(status: &Status) -> Self {
        let mut bytes = written(status.metadata());
        bytes.extend_from_slice(status.message().as_bytes());
        bytes.extend_from_slice(status.details());
        Self {
            code: status.code(),
            message: Bytes::new(),
            failure: Some(Failure::from_status(status)),
            bytes,
        }
    }
}

fn written(head: &MetadataMap) -> Vec<u8> {
    format!("{head:?}").into_bytes()
}

/// A gRPC call. `endless`: only its first message is waited for.
pub async fn grpc(channel: &Channel, path: &str, messages: Vec<Bytes>, endless: bool) -> Answer {
    let patience = if endless { TAIL_PATIENCE } else { PATIENCE };
    let call = answered(channel, path, messages, endless);
    match context::with_deadline(patience, call).await {
        Ok(answer) => answer,
        Err(status) => Answer::failed(&status),
    }
}

async fn answered(
    channel: &Channel,
    path: &str,
    messages: Vec<Bytes>,
    endless: bool,
) -> Result<Answer, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::new(futures::stream::iter(messages));
    let answer = client
        .streaming(request, path.parse().unwrap(), Raw)
        .await?;
    let mut bytes = written(answer.metadata());
    let mut stream = answer.into_inner();
    let message = stream.message().await?.unwrap_or_default();
    bytes.extend_from_slice(&message);
    if !endless {
        while let Some(more) = stream.message().await? {
            bytes.extend_from_slice(&more);
        }
        let trailers = stream.trailers().await?;
        bytes.extend(trailers.iter().flat_map(written));
    }
    Ok(Answer {
        code: Code::Ok,
        message,
        failure: None,
        bytes,
    })
}

/// An HTTP call as `curl` makes it: its status, and the whole answer.
pub async fn http(
    address: std::net::SocketAddr,
    verb: &str,
    path: &str,
    bearer: Option<&str>,
    body: &str,
) -> (u16, Vec<u8>) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let credential = bearer.map_or(String::new(), |bearer| {
        format!("authorization: Bearer {bearer}\r\n")
    });
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {credential}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    read.await.expect("it is answered in time").unwrap();
    let status = answer
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let status = status.and_then(|digits| digits.parse().ok());
    (status.expect("it is an HTTP answer"), answer)
}
