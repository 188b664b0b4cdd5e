//! Calls of any rpc by its path, with messages as they are on the wire.

use bytes::Bytes;
use commonplace_rpc::{Channel, Raw};
use tonic::{Request, Status};

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
