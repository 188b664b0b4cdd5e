//! Every rpc, given up by its caller at many points: no task, permit or connection is lost, nothing is half done.
//!
//! `COM_CANCELS` is how often each rpc is given up in each form (in process and over a socket, over SQLite and over
//! PostgreSQL); 100 by default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use commonplace_node::{Channels, Node, NodeOptions, Ports, Role, Surroundings};
use commonplace_proto::{journal, policy, retrieval};
use commonplace_rpc::{Channel, Raw, RemoteOptions};
use commonplace_testkit::Server;
use commonplace_types::SystemClock;
use messages::{draft, messages};
use tonic::{Code, Request, Status};

mod messages;

/// Callers at the same time.
const CALLERS: usize = 8;

fn cancels() -> usize {
    let asked = std::env::var("COM_CANCELS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// What a call of each rpc needs to know.
#[derive(Clone)]
struct Known {
    event: String,
    pack: retrieval::ContextPack,
    key: String,
}

/// Every rpc of the contracts, like `journal.v1.JournalService/Append`, and whether its answers never end.
fn rpcs() -> Vec<(String, bool)> {
    let mut rpcs: Vec<(String, bool)> = commonplace_proto::pool()
        .services()
        .filter(|service| service.full_name().starts_with("commonplace."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| {
            let service = method
                .parent_service()
                .full_name()
                .trim_start_matches("commonplace.")
                .to_owned();
            (
                format!("{service}/{}", method.name()),
                method.is_server_streaming(),
            )
        })
        .collect();
    rpcs.sort();
    rpcs
}

fn channel(channels: &Channels, rpc: &str) -> Channel {
    if rpc.starts_with("telemetry.") {
        return channels.telemetry.clone();
    }
    let role: Role = rpc.split('.').next().unwrap().parse().unwrap();
    channels.to(role).clone()
}

/// Whether an rpc may answer so, besides what it is for: services alone may call it, its thing is gone after the
/// first time, others changed the same at that moment, or there is only room for so many.
fn may_refuse(rpc: &str, code: Code) -> bool {
    let access = rpc.starts_with("policy.v1.AccessService/")
        || rpc.starts_with("policy.v1.LimitsService/")
        || rpc.ends_with("/ListTenants")
        || rpc.ends_with("/RecordCalls");
    let codes = [
        Code::PermissionDenied,
        Code::NotFound,
        Code::Aborted,
        Code::ResourceExhausted,
    ];
    access && codes.contains(&code)
}

/// One call to its end; of an endless answer, the first message.
async fn call(
    channel: Channel,
    rpc: &str,
    messages: Vec<Bytes>,
    endless: bool,
) -> Result<(), Status> {
    match answered(channel, rpc, messages, endless).await {
        Err(status) if may_refuse(rpc, status.code()) => Ok(()),
        answer => answer,
    }
}

async fn answered(
    channel: Channel,
    rpc: &str,
    messages: Vec<Bytes>,
    endless: bool,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    client.ready().await.map_err(Status::from_error)?;
    let path = format!("/commonplace.{rpc}").parse().unwrap();
    let request = Request::new(futures::stream::iter(messages));
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    while answers.message().await?.is_some() {
        if endless {
            return Ok(());
        }
    }
    Ok(())
}

async fn prepare(channels: &Channels) -> Known {
    let mut journal =
        journal::journal_service_client::JournalServiceClient::new(channels.journal.clone());
    let mut append = async |project: &str, count: usize| {
        let request = journal::AppendRequest {
            project: project.into(),
            events: (0..count).map(|_| draft()).collect(),
            ..Default::default()
        };
        journal.append(request).await.unwrap().into_inner()
    };
    append("small", 3).await;
    append("growing", 1).await;
    let appended = append("cancel", 200).await;
    let mut client = retrieval::retrieval_service_client::RetrievalServiceClient::new(
        channels.retrieval.clone(),
    );
    let request = retrieval::RetrieveRequest {
        project: "cancel".into(),
        query: "callers come and go".into(),
        budget_tokens: 300,
        durable: true,
        view: retrieval::PackView::Full.into(),
        ..Default::default()
    };
    let mut access =
        policy::access_service_client::AccessServiceClient::new(channels.policy.clone());
    let key = policy::CreateKeyRequest {
        subject: "caller".into(),
        ..Default::default()
    };
    let key = access.create_key(key).await.unwrap().into_inner();
    Known {
        key: key.key.unwrap().id,
        event: appended.events[0].id.clone(),
        pack: client
            .retrieve(request)
            .await
            .unwrap()
            .into_inner()
            .pack
            .unwrap(),
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Gives calls of one rpc up: after some polls, or after some time, from at once to about when they end.
async fn give_up(
    channels: &Channels,
    known: &Known,
    rpc: &str,
    endless: bool,
    count: usize,
) -> usize {
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let started = Instant::now();
        call(channel(channels, rpc), rpc, messages(rpc, known), endless)
            .await
            .unwrap_or_else(|status| panic!("{rpc}: {status}"));
        longest = longest.max(started.elapsed());
    }
    let span = longest.min(Duration::from_millis(30)).as_nanos() as u64 + 1_000;
    let (left, given_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|caller| {
            let (channel, known, rpc) = (channel(channels, rpc), known.clone(), rpc.to_owned());
            let (left, given_up) = (left.clone(), given_up.clone());
            tokio::spawn(async move {
                let mut dice = Dice(caller);
                while left.fetch_add(1, Ordering::Relaxed) < count {
                    let one = call(channel.clone(), &rpc, messages(&rpc, &known), endless);
                    let ended = match dice.next() % 3 {
                        0 => after_polls(one, dice.next() % 12).await,
                        // Timers are coarser than a millisecond.
                        _ if span < 2_000_000 => {
                            after_yields(one, dice.next() % (span / 500)).await
                        }
                        _ => {
                            let after = Duration::from_nanos(dice.next() % span);
                            tokio::time::timeout(after, one).await.is_ok()
                        }
                    };
                    given_up.fetch_add(usize::from(!ended), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    given_up.load(Ordering::Relaxed)
}

/// Polls a future at most so many times, then drops it. Whether it ended.
async fn after_polls(future: impl Future, most: u64) -> bool {
    let mut future = Box::pin(future);
    let mut polls = 0;
    std::future::poll_fn(move |context| {
        if polls == most {
            return std::task::Poll::Ready(false);
        }
        polls += 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

/// Drops a future after other tasks have had so many turns. Whether it ended.
async fn after_yields(future: impl Future, turns: u64) -> bool {
    let turns = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = future => true,
        () = turns => false,
    }
}

/// Waits until no more tasks live than before; the background's own come and go by a few.
async fn tasks_end(before: usize, what: &str) {
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let until = Instant::now() + Duration::from_secs(30);
    while alive() > before + 4 {
        assert!(
            Instant::now() < until,
            "{what}: {} tasks, {before} before",
            alive()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn storm(form: &str, channels: &Channels) {
    let known = prepare(channels).await;
    for (rpc, endless) in rpcs() {
        call(
            channel(channels, &rpc),
            &rpc,
            messages(&rpc, &known),
            endless,
        )
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let mut told = BTreeMap::new();
    for (rpc, endless) in rpcs() {
        let started = Instant::now();
        let given_up = give_up(channels, &known, &rpc, endless, cancels()).await;
        tasks_end(before, &rpc).await;
        println!(
            "{form}: {rpc}: {given_up} given up, {:?}",
            started.elapsed()
        );
        told.insert(rpc, given_up);
    }
    println!(
        "{form}: given up before the end, of {} calls each: {told:?}",
        cancels()
    );
    assert!(
        told.values().sum::<usize>() > rpcs().len() * cancels() / 10,
        "{told:?}"
    );
    // Everything still answers, all callers at once, and what was appended is whole.
    for (rpc, endless) in rpcs() {
        let calls = (0..64).map(|_| {
            call(
                channel(channels, &rpc),
                &rpc,
                messages(&rpc, &known),
                endless,
            )
        });
        let calls = calls.take(if rpc.ends_with("/Rebuild") { 2 } else { 64 });
        for answer in futures::future::join_all(calls).await {
            answer.unwrap_or_else(|status| panic!("{form}: {rpc} afterwards: {status}"));
        }
    }
    let mut journal =
        journal::journal_service_client::JournalServiceClient::new(channels.journal.clone());
    for project in ["cancel", "growing", "small"] {
        let request = journal::VerifyChainRequest {
            project: project.into(),
        };
        let verified = journal.verify_chain(request).await.unwrap().into_inner();
        assert!(verified.intact, "{form}: {verified:?}");
    }
}

/// Storms on a node of its own, which keeps its records in the database of a URL, or in files without one.
async fn leave_nothing_behind(url: String) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = NodeOptions {
        data_dir: folder.path().to_owned(),
        service_listen: "127.0.0.1:0".into(),
        listen: "127.0.0.1:0".into(),
        // No more than call at once: a permit that is lost is missed soon.
        concurrent_calls: 80,
        ..NodeOptions::default()
    };
    options.database.url = url;
    options.index.queued_searches = 80;
    let surroundings = Surroundings::new(&options).unwrap();
    let ports = Ports::bind(&options, &surroundings).await.unwrap();
    let node = Node::start_in(&options, Arc::new(SystemClock), surroundings)
        .await
        .unwrap();
    ports.open(&node);
    let store = match options.database.url.is_empty() {
        true => "SQLite",
        false => "PostgreSQL",
    };
    let own = node.channels().in_name_of("operator");
    storm(&format!("{store}, in process"), &own).await;
    let address = format!("http://{}", ports.service_address().unwrap());
    let remote = Channel::remote(&[address], &RemoteOptions::default()).unwrap();
    let channels = Channels::all(remote);
    // Nobody is known here to be a service: what is for services alone is refused, and no worse for it.
    storm(&format!("{store}, over a socket"), &channels).await;
    assert!(ports.drain(Duration::from_secs(5)).await);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_at_any_point_leave_nothing_behind() {
    leave_nothing_behind(String::new()).await;
}

/// Of three services, each with eight connections for reading and two for writing, the leader's, and those that a look
/// at the stores opens, of which one may still be closing.
const CONNECTIONS: u64 = 3 * (8 + 2) + 1 + 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_leave_no_connection_to_the_database_behind() {
    let server = Server::shared();
    let name = server.database(None).await;
    let sessions = async |states: &str| {
        let sql = format!(
            "SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid() {states}"
        );
        server.run(&name, &sql).await
    };
    let watch = async {
        // Some are always under way; one that stays is seen again and again.
        let stuck =
            "AND state LIKE 'idle in transaction%' AND now() - state_change > interval '2 s'";
        let mut most = 0;
        loop {
            assert_eq!(sessions(stuck).await, 0, "a transaction was left open");
            most = sessions("").await.max(most);
            assert!(most <= CONNECTIONS, "{most} connections");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = leave_nothing_behind(server.url(&name)) => {}
        _ = watch => {}
    }
    let until = Instant::now() + Duration::from_secs(10);
    while sessions("").await > 0 {
        assert!(Instant::now() < until, "connections outlive their node");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
