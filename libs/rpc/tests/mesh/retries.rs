//! What is sent again and what is not, counted at the server.

use std::time::Duration;

use commonplace_rpc::remote::RetryOptions;
use commonplace_rpc::{Channel, Code, Failure, RemoteOptions};

use crate::common::proxy::{Mode, Proxy};
use crate::common::{Act, Peer, READ, TAIL, WRITE, call, options, read, unavailable, until, write};

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_answer_is_asked_again_if_that_is_safe() {
    let peer = Peer::start(Act::FailFirst(2, unavailable())).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    read(&channel).await.unwrap();
    assert_eq!(peer.seen(), 3);
    peer.act(Act::Fail(unavailable()));
    assert_eq!(read(&channel).await.unwrap_err().reason, "TEST");
    assert_eq!(peer.seen(), 6, "three times and no more");
    assert_eq!(write(&channel).await.unwrap_err().reason, "TEST");
    assert_eq!(peer.seen(), 7, "a call without a promise is sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_failures_are_not_asked_again() {
    for code in [
        Code::Internal,
        Code::Aborted,
        Code::ResourceExhausted,
        Code::NotFound,
        Code::DeadlineExceeded,
    ] {
        let peer = Peer::start(Act::Fail(Failure::new(code, "TEST"))).await;
        let channel = Channel::remote(&[peer.url()], &options()).unwrap();
        assert_eq!(read(&channel).await.unwrap_err().code, code);
        assert_eq!(peer.seen(), 1, "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_has_asked_again_is_not_multiplied() {
    let further = Failure::new(Code::Unavailable, "PEER_UNREACHABLE");
    let peer = Peer::start(Act::Fail(further)).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    read(&channel).await.unwrap_err();
    assert_eq!(peer.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_a_call_is_survived_only_if_that_is_safe() {
    for (path, seen) in [(READ, 2), (WRITE, 1), (TAIL, 2)] {
        let peer = Peer::start(Act::HangFirst(1)).await;
        let proxy = Proxy::start(peer.server.address(), Mode::Pass).await;
        let channel = Channel::remote(&[proxy.url()], &options()).unwrap();
        let running =
            tokio::spawn(async move { call(&channel, path, Duration::from_secs(3)).await });
        until("the call is at the server", async || peer.seen() == 1).await;
        proxy.set(Mode::Cut);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(Mode::Pass);
        match (path, running.await.unwrap()) {
            (READ, answer) => answer.unwrap(),
            (TAIL, answer) => assert_eq!(answer.unwrap_err().code, Code::DeadlineExceeded),
            (_, answer) => {
                let failed = answer.unwrap_err();
                assert_eq!(
                    (failed.code, failed.reason.as_str()),
                    (Code::Unavailable, "PEER_UNREACHABLE")
                );
                assert_eq!(failed.metadata["sent"], "maybe");
            }
        }
        assert_eq!(peer.seen(), seen, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_waits_for_the_peer_whatever_it_is() {
    let peer = Peer::start(Act::Answer).await;
    let proxy = Proxy::start(peer.server.address(), Mode::Cut).await;
    let channel = Channel::remote(&[proxy.url()], &options()).unwrap();
    let running = tokio::spawn(async move { write(&channel).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.set(Mode::Pass);
    running.await.unwrap().unwrap();
    assert_eq!(peer.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_bounds_repeats() {
    let peer = Peer::start(Act::Fail(unavailable())).await;
    let retry = RetryOptions {
        budget_floor: 0.0,
        ..options().retry
    };
    let channel = Channel::remote(&[peer.url()], &RemoteOptions { retry, ..options() }).unwrap();
    for _ in 0..200 {
        read(&channel).await.unwrap_err();
    }
    assert!(
        (235..=240).contains(&peer.seen()),
        "a fifth more than the calls, not three times: {}",
        peer.seen()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_time_gets_it_or_the_call_ends() {
    let later = unavailable().retry_after(Duration::from_millis(300));
    let peer = Peer::start(Act::FailFirst(1, later)).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    let started = std::time::Instant::now();
    read(&channel).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    peer.act(Act::Fail(
        unavailable().retry_after(Duration::from_secs(60)),
    ));
    let seen = peer.seen();
    let failed = call(&channel, READ, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(
        (failed.reason.as_str(), peer.seen()),
        ("TEST", seen + 1),
        "past the deadline nothing is awaited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_deadline_sends_nothing() {
    let peer = Peer::start(Act::Answer).await;
    let channel = Channel::remote(&[peer.url()], &options()).unwrap();
    read(&channel).await.unwrap();
    let failed = call(&channel, READ, Duration::ZERO).await.unwrap_err();
    assert_eq!((failed.code, peer.seen()), (Code::DeadlineExceeded, 1));
}
