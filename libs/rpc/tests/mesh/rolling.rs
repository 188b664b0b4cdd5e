//! Servers that are restarted under load: no call may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use commonplace_rpc::server::ServerOptions;
use commonplace_rpc::{Channel, Code};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::common::{Act, Peer, READ, TAIL, WRITE, call, message, options, request, until};

/// Calls without a pause until told to stop, reads and writes in turn.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(channel: &Channel) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let workers = (0..8).map(|_| {
            let (channel, stop, done) = (channel.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    for path in [READ, WRITE] {
                        call(&channel, path, Duration::from_secs(20)).await.unwrap();
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        Self {
            workers: workers.collect(),
            stop,
            done,
        }
    }

    /// Lets some more calls pass.
    async fn go_on(&self) {
        let now = self.done.load(Ordering::SeqCst);
        until("the load goes on", async || {
            self.done.load(Ordering::SeqCst) > now + 200
        })
        .await;
    }

    /// Error: a call failed.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.await.unwrap();
        }
        self.done.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_are_restarted_in_turn_without_a_failed_call() {
    let mut peers = Vec::new();
    for _ in 0..2 {
        peers.push(Peer::start(Act::After(Duration::from_millis(1))).await);
    }
    let addresses: Vec<String> = peers.iter().map(Peer::url).collect();
    let channel = Channel::remote(&addresses, &options()).unwrap();
    let load = Load::start(&channel);
    load.go_on().await;
    for _ in 0..3 {
        for _ in 0..2 {
            let peer = peers.remove(0);
            let address = peer.server.address().to_string();
            assert!(peer.server.drain(Duration::from_secs(10)).await);
            load.go_on().await;
            peers.push(
                Peer::start_at(
                    &address,
                    Act::After(Duration::from_millis(1)),
                    ServerOptions::default(),
                )
                .await,
            );
            load.go_on().await;
        }
    }
    for peer in &peers {
        until("it takes calls again", async || peer.seen() > 0).await;
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_server_is_restarted_without_a_failed_call() {
    let mut peer = Peer::start(Act::After(Duration::from_millis(1))).await;
    let address = peer.server.address().to_string();
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    let load = Load::start(&channel);
    for _ in 0..3 {
        load.go_on().await;
        assert!(peer.server.drain(Duration::from_secs(10)).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
        peer = Peer::start_at(
            &address,
            Act::After(Duration::from_millis(1)),
            ServerOptions::default(),
        )
        .await;
    }
    load.go_on().await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_calls_end_within_a_drain() {
    let peer = Peer::start(Act::After(Duration::from_millis(300))).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    let running = tokio::spawn(async move { call(&channel, WRITE, Duration::from_secs(20)).await });
    until("the call runs", async || peer.seen() == 1).await;
    assert!(peer.server.drain(Duration::from_secs(10)).await);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_cap_and_leaves_nothing_running() {
    let peer = Peer::start(Act::Hang).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    let running = tokio::spawn(async move { call(&channel, WRITE, Duration::from_secs(20)).await });
    until("the call runs", async || peer.seen() == 1).await;
    let started = Instant::now();
    let handlers = peer.running.clone();
    assert!(
        !peer.server.drain(Duration::from_millis(300)).await,
        "something had to be cut"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(handlers.load(Ordering::SeqCst), 0);
    let failed = running.await.unwrap().unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::Unavailable, "PEER_UNREACHABLE")
    );
    assert_eq!(failed.metadata["sent"], "maybe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_streams() {
    let peer = Peer::start(Act::Answer).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    let answer = channel.clone().oneshot(request(TAIL)).await.unwrap();
    let mut stream = answer.into_body();
    stream.frame().await.unwrap().unwrap();
    let started = Instant::now();
    assert!(peer.server.drain(Duration::from_secs(20)).await);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    let trailers = loop {
        match stream.frame().await.unwrap().unwrap().into_trailers() {
            Ok(trailers) => break trailers,
            Err(_) => continue,
        }
    };
    let status = tonic::Status::from_header_map(&trailers).unwrap();
    assert_eq!(
        commonplace_rpc::Failure::from_status(&status).reason,
        "DRAINING"
    );
}

/// A call that gets through to a draining server on an old connection may go elsewhere, whatever it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_a_draining_server_is_not_the_calls_failure() {
    let draining = commonplace_rpc::Failure::new(Code::Unavailable, "DRAINING").into_status();
    let refuser = commonplace_rpc::server::Server::bind("127.0.0.1:0")
        .await
        .unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    refuser.open(tower::service_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut answer = draining.clone().into_http();
        answer.headers_mut().insert(
            "x-commonplace-not-begun",
            http::HeaderValue::from_static("1"),
        );
        async { Ok(answer) }
    }));
    let taker = commonplace_rpc::server::Server::bind("127.0.0.1:0")
        .await
        .unwrap();
    taker.open(tower::service_fn(async |_| Ok(message())));
    let addresses = [&refuser, &taker].map(|server| format!("http://{}", server.address()));
    let channel = Channel::remote(&addresses, &options()).unwrap();
    until("both are live", async || channel.endpoints().len() == 2).await;
    for _ in 0..40 {
        call(&channel, WRITE, Duration::from_secs(20))
            .await
            .unwrap();
    }
    let refused = refused.load(Ordering::SeqCst);
    assert!(
        (1..10).contains(&refused),
        "it rests after a refusal: {refused}"
    );
}
