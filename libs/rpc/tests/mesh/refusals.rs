//! Calls that are refused before they are read: their connection lasts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commonplace_rpc::server::{Door, Server};
use commonplace_rpc::{Action, Authorize, Channel, Code, Decision, Failure, Layered, Limits, View};
use commonplace_telemetry::Metrics;
use commonplace_types::{Principal, ProjectName};
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::body::Body;
use tower::ServiceExt;

use crate::common::{MESSAGE, message};

/// For services alone.
const FOR_SERVICES: &str = "/commonplace.journal.v1.JournalService/ListTenants";
/// More than an HTTP/2 connection survives when each is reset.
const REFUSED: usize = 4_000;

/// Everybody is somebody, who is no service.
#[derive(Debug)]
struct Somebody;

#[async_trait::async_trait]
impl Authorize for Somebody {
    fn nobody(&self) -> Result<Arc<Principal>, Failure> {
        Ok(Arc::new(Principal::developer()))
    }

    async fn decide(
        &self,
        _: &Arc<Principal>,
        _: Action,
        _: Option<&ProjectName>,
    ) -> Result<Decision, Failure> {
        Ok(Decision {
            answer: Ok(View::Whole),
            because: Default::default(),
        })
    }
}

/// Lets nobody in.
#[derive(Debug)]
struct Shut(HeaderMap);

impl Door for Shut {
    fn turn_away(&self, _: &str, _: &HeaderMap) -> Option<HeaderMap> {
        Some(self.0.clone())
    }
}

async fn answer(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(message())
}

/// A call whose message comes after its head, as over a real network.
fn late() -> Request<Body> {
    let frames = futures::stream::once(async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(MESSAGE)))
    });
    Request::post(FOR_SERVICES)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(frames)))
        .unwrap()
}

async fn refused(client: tonic::transport::Channel) -> Failure {
    let answer = match client.oneshot(late()).await {
        Ok(answer) => answer,
        Err(error) => return Failure::from_status(&tonic::Status::from_error(error.into())),
    };
    let status = tonic::Status::from_header_map(answer.headers());
    Failure::from_status(&status.unwrap_or_else(|| tonic::Status::ok("")))
}

/// Many over one connection, as few at a time as HTTP/2 takes from anybody; and as many at once as it does not, unless
/// told to. A generated client sends as it is given; our channels may put what is late beside the head.
async fn all_refused(at_once: usize, door: Option<Arc<dyn Door>>) {
    let layered = Layered::new(tower::service_fn(answer), Limits::default(), Metrics::new());
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    if let Some(door) = door {
        server.guard(door);
    }
    server.open(layered.authorized(Arc::new(Somebody)));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address()));
    let client = endpoint.unwrap().connect().await.unwrap();
    let calls = (0..REFUSED).map(|_| refused(client.clone()));
    let answers: Vec<Failure> = futures::stream::iter(calls)
        .buffer_unordered(at_once)
        .collect()
        .await;
    let other = answers
        .iter()
        .find(|failure| failure.reason != "FOR_SERVICES_ONLY");
    assert_eq!(other, None);
    assert!(
        answers
            .iter()
            .all(|failure| failure.code == Code::PermissionDenied)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_survives_any_number_of_refusals() {
    all_refused(40, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_survives_any_number_of_refusals_at_the_door() {
    let failure = Failure::new(Code::PermissionDenied, "FOR_SERVICES_ONLY");
    let (head, _) = failure.into_status().into_http::<Body>().into_parts();
    all_refused(40, Some(Arc::new(Shut(head.headers)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_survives_many_small_calls_at_once() {
    all_refused(1_000, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_wait_for_a_body_without_end() {
    let layered = Layered::new(tower::service_fn(answer), Limits::default(), Metrics::new());
    let channel = Channel::in_process(layered.authorized(Arc::new(Somebody)));
    for frames in [
        futures::stream::pending().boxed(),
        futures::stream::repeat_with(|| {
            Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(&[0; 4_096])))
        })
        .boxed(),
    ] {
        let mut call = late();
        *call.body_mut() = Body::new(StreamBody::new(frames));
        let answer = channel.clone().oneshot(call);
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        let answer = answer.expect("it is answered in time").unwrap();
        assert_eq!(answer.headers()["grpc-status"], "7");
    }
}
