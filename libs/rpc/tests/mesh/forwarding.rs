//! Calls that a server sends on to another, as a gateway does.

use std::convert::Infallible;
use std::time::Duration;

use commonplace_rpc::Channel;
use commonplace_rpc::server::Server;
use futures::StreamExt;
use http::Request;
use tonic::body::Body;
use tower::ServiceExt;

use crate::common::proxy::{Mode, Proxy};
use crate::common::{Act, Peer, WRITE, call, options};

/// Several times as many as HTTP/2 takes of empty pieces over the life of a connection.
const CALLS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_calls_is_sent_on_over_one_connection() {
    let behind = Peer::start(Act::Answer).await;
    let proxy = Proxy::start(behind.server.address(), Mode::Pass).await;
    let onward = Channel::remote(&[proxy.url()], &options()).unwrap();
    let before = Server::bind("127.0.0.1:0").await.unwrap();
    before.open(tower::service_fn(move |request: Request<Body>| {
        let onward = onward.clone();
        async move {
            let answer = onward.oneshot(request).await;
            Ok::<_, Infallible>(
                answer.unwrap_or_else(|error| tonic::Status::from_error(error).into_http()),
            )
        }
    }));
    let channel = Channel::remote(&[format!("http://{}", before.address())], &options()).unwrap();
    let calls = (0..CALLS).map(|_| call(&channel, WRITE, Duration::from_secs(20)));
    let failed: Vec<_> = futures::stream::iter(calls)
        .buffer_unordered(20)
        .filter_map(async |answer| answer.err())
        .collect()
        .await;
    assert_eq!(failed, []);
    assert_eq!((behind.seen(), proxy.taken()), (CALLS, 1));
}
