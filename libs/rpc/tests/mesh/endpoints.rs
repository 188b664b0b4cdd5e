//! Which endpoints a channel uses: spread, dropped, found again, replaced, and never waited for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use commonplace_rpc::server::ServerOptions;
use commonplace_rpc::{Channel, Code, Endpoint, RemoteOptions, Resolver};

use crate::common::proxy::{Mode, Proxy};
use crate::common::{Act, Peer, READ, call, listed, live, options, read, until};

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_spread_over_endpoints() {
    let peers = [
        Peer::start(Act::Answer).await,
        Peer::start(Act::Answer).await,
        Peer::start(Act::Answer).await,
    ];
    let (channel, _list) = listed(peers.iter().map(Peer::endpoint).collect(), &options());
    live(&channel, peers.iter().map(Peer::endpoint).collect()).await;
    for _ in 0..300 {
        read(&channel).await.unwrap();
    }
    for peer in &peers {
        assert!(peer.seen() > 50, "{}", peer.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_endpoint_gets_fewer_calls() {
    let (slow, quick) = (
        Peer::start(Act::After(Duration::from_millis(200))).await,
        Peer::start(Act::Answer).await,
    );
    let (channel, _list) = listed(vec![slow.endpoint(), quick.endpoint()], &options());
    live(&channel, vec![slow.endpoint(), quick.endpoint()]).await;
    let calls = (0..8).map(|_| async {
        for _ in 0..20 {
            read(&channel).await.unwrap();
        }
    });
    futures::future::join_all(calls).await;
    assert!(
        quick.seen() > 3 * slow.seen(),
        "{} and {}",
        quick.seen(),
        slow.seen()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_dropped_and_taken_back() {
    let (stays, goes) = (
        Peer::start(Act::Answer).await,
        Peer::start(Act::Answer).await,
    );
    let (address, endpoint) = (goes.server.address().to_string(), goes.endpoint());
    let (channel, _list) = listed(vec![stays.endpoint(), endpoint.clone()], &options());
    live(&channel, vec![stays.endpoint(), endpoint.clone()]).await;
    drop(goes);
    live(&channel, vec![stays.endpoint()]).await;
    for _ in 0..50 {
        read(&channel).await.unwrap();
    }
    let back = Peer::start_at(&address, Act::Answer, ServerOptions::default()).await;
    live(&channel, vec![stays.endpoint(), endpoint]).await;
    for _ in 0..50 {
        read(&channel).await.unwrap();
    }
    assert!(back.seen() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_replaced_at_its_address_is_noticed() {
    let first = Peer::start(Act::Answer).await;
    let address = first.server.address().to_string();
    let channel = Channel::remote(&[first.url()], &options()).unwrap();
    for _ in 0..5 {
        read(&channel).await.unwrap();
        drop(Peer::start(Act::Answer).await);
    }
    drop(first);
    for _ in 0..5 {
        let next = Peer::start_at(&address, Act::Answer, ServerOptions::default()).await;
        read(&channel).await.unwrap();
        assert_eq!(next.seen(), 1);
        drop(next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_is_followed() {
    let (old, new) = (
        Peer::start(Act::Answer).await,
        Peer::start(Act::Answer).await,
    );
    let (channel, list) = listed(vec![old.endpoint()], &options());
    read(&channel).await.unwrap();
    list.send_replace(vec![new.endpoint()]);
    live(&channel, vec![new.endpoint()]).await;
    for _ in 0..20 {
        read(&channel).await.unwrap();
    }
    assert_eq!((old.seen(), new.seen()), (1, 20));
    list.send_replace(vec![new.endpoint(), old.endpoint(), old.endpoint()]);
    live(&channel, vec![old.endpoint(), new.endpoint()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_on_an_endpoint_that_leaves_still_ends() {
    let (old, new) = (
        Peer::start(Act::After(Duration::from_millis(300))).await,
        Peer::start(Act::Answer).await,
    );
    let (channel, list) = listed(vec![old.endpoint()], &options());
    live(&channel, vec![old.endpoint()]).await;
    let running = tokio::spawn({
        let channel = channel.clone();
        async move { read(&channel).await }
    });
    until("the call runs", async || old.seen() == 1).await;
    list.send_replace(vec![new.endpoint()]);
    running.await.unwrap().unwrap();
    assert_eq!((old.seen(), new.seen()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_to_endpoints() {
    let peer = Peer::start(Act::Answer).await;
    let address = format!("http+dns://localhost:{}", peer.server.address().port());
    let channel = Channel::remote(&[address], &options()).unwrap();
    read(&channel).await.unwrap();
    assert_eq!(
        *channel.endpoints(),
        [peer.endpoint()].map(|e| Endpoint {
            name: Some("localhost".into()),
            ..e
        })
    );
}

struct Counting(AtomicUsize, Endpoint);

#[async_trait]
impl Resolver for Counting {
    async fn resolve(&self) -> std::io::Result<Vec<Endpoint>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![self.1.clone()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_do_not_make_a_storm_of_resolutions() {
    let nobody = Endpoint::parse("http://127.0.0.1:1").unwrap();
    let resolver = Arc::new(Counting(AtomicUsize::new(0), nobody));
    let spacing = Duration::from_millis(100);
    let options = RemoteOptions {
        resolve_spacing: spacing,
        ..options()
    };
    let started = Instant::now();
    let channel = Channel::resolved(resolver.clone(), &options);
    let failed = call(&channel, READ, Duration::from_millis(600))
        .await
        .unwrap_err();
    assert_eq!(failed.code, Code::DeadlineExceeded);
    let most = started.elapsed().as_millis() / spacing.as_millis() + 1;
    let count = resolver.0.load(Ordering::SeqCst) as u128;
    assert!((2..=most).contains(&count), "{count} of at most {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_can_be_asked_for() {
    let (one, other) = (
        Peer::start(Act::Answer).await,
        Peer::start(Act::Answer).await,
    );
    let (channel, list) = listed(vec![one.endpoint(), other.endpoint()], &options());
    let to = channel.to(&one.endpoint());
    for _ in 0..20 {
        read(&to).await.unwrap();
    }
    assert_eq!((one.seen(), other.seen()), (20, 0));
    let endpoint = one.endpoint();
    drop(one);
    let failed = read(&to).await.unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::Unavailable, "PEER_UNREACHABLE"),
        "{failed:?}"
    );
    assert!(failed.message.contains(&endpoint.to_string()), "{failed:?}");
    list.send_replace(vec![other.endpoint()]);
    live(&channel, vec![other.endpoint()]).await;
    until("it is known to have left", async || {
        let failed = read(&to).await.unwrap_err();
        failed.message.contains("no endpoint of the service")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unavailable_and_says_why() {
    let options = RemoteOptions {
        patience: Duration::from_millis(100),
        ..options()
    };
    let channel = Channel::remote(&["http://127.0.0.1:1".into()], &options).unwrap();
    let failed = read(&channel).await.unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_str()),
        (Code::Unavailable, "PEER_UNREACHABLE")
    );
    assert_eq!(failed.metadata["sent"], "no");
    assert!(failed.message.contains("refused"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_connections_but_says_nothing_is_not_live() {
    let peer = Peer::start(Act::Answer).await;
    let hole = Proxy::start(peer.server.address(), Mode::Hole).await;
    let options = RemoteOptions {
        connect_timeout: Duration::from_millis(200),
        ..options()
    };
    let endpoint = Endpoint::parse(&hole.url()).unwrap();
    let (channel, list) = listed(vec![endpoint.clone()], &options);
    for time in [50, 300, 900] {
        let time = Duration::from_millis(time);
        let started = Instant::now();
        let failed = call(&channel, READ, time).await.unwrap_err();
        assert_eq!(failed.code, Code::DeadlineExceeded);
        assert!(
            started.elapsed() < time + Duration::from_millis(250),
            "{:?}",
            started.elapsed()
        );
    }
    assert!(channel.endpoints().is_empty());
    list.send_replace(vec![endpoint, peer.endpoint()]);
    live(&channel, vec![peer.endpoint()]).await;
    for _ in 0..20 {
        read(&channel).await.unwrap();
    }
    hole.set(Mode::Pass);
    until("the hole is filled", async || {
        channel.endpoints().len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_given_up() {
    let peer = Peer::start(Act::Answer).await;
    let proxy = Proxy::start(peer.server.address(), Mode::Pass).await;
    let options = RemoteOptions {
        connect_timeout: Duration::from_millis(200),
        ..options()
    };
    let channel = Channel::remote(&[proxy.url()], &options).unwrap();
    read(&channel).await.unwrap();
    proxy.set(Mode::Hole);
    let started = Instant::now();
    let failed = call(&channel, READ, Duration::from_millis(1_200))
        .await
        .unwrap_err();
    assert_eq!(failed.code, Code::DeadlineExceeded);
    assert!(
        started.elapsed() < Duration::from_millis(1_450),
        "{:?}",
        started.elapsed()
    );
    // Long before the keep-alive would notice.
    until("the silent connection is dropped", async || {
        channel.endpoints().is_empty()
    })
    .await;
    proxy.set(Mode::Pass);
    read(&channel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_to_a_dead_peer_is_noticed_by_its_probe() {
    let peer = Peer::start(Act::Answer).await;
    let proxy = Proxy::start(peer.server.address(), Mode::Pass).await;
    let options = RemoteOptions {
        keep_alive: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(200),
        ..options()
    };
    let channel = Channel::remote(&[proxy.url()], &options).unwrap();
    read(&channel).await.unwrap();
    proxy.set(Mode::Hole);
    until("the dead peer is dropped", async || {
        channel.endpoints().is_empty()
    })
    .await;
}
