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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use commonplace_node::{Channels, Node, NodeOptions, Ports, Role, Surroundings};
use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::ingest_report_request::Part;
use commonplace_proto::{gateway, index, ingest, journal, policy, retrieval};
use commonplace_rpc::{Channel, RemoteOptions};
use commonplace_testkit::Server;
use commonplace_types::SystemClock;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// Callers at the same time.
const CALLERS: usize = 8;

fn cancels() -> usize {
    let asked = std::env::var("COM_CANCELS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Messages as they are on the wire.
#[derive(Clone, Default)]
struct Raw;

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

/// What a call of each rpc needs to know.
#[derive(Clone)]
struct Known {
    event: String,
    pack: retrieval::ContextPack,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

fn draft() -> EventDraft {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    EventDraft {
        record_id: format!("cancel:{number}"),
        artifact_type: "note".into(),
        title: format!("Note {number}"),
        text: "written while callers come and go".into(),
        ..Default::default()
    }
}

/// The messages of one call. Panics for an rpc without a case, so that a new one gets one.
fn messages(rpc: &str, known: &Known) -> Vec<Bytes> {
    let project = || "cancel".to_owned();
    let name = || format!("n{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let query = || retrieval::RetrieveRequest {
        project: project(),
        query: format!("callers {}", name()),
        budget_tokens: 300,
        ..Default::default()
    };
    let one = match rpc {
        "gateway.v1.GatewayService/GetServerInfo" => {
            gateway::GetServerInfoRequest::default().encode_to_vec()
        }
        "index.v1.IndexService/Search" => index::SearchRequest {
            project: project(),
            query: "callers come".into(),
            lexical_limit: 50,
            dense_limit: 50,
            ..Default::default()
        }
        .encode_to_vec(),
        "index.v1.IndexService/GetPassages" => index::GetPassagesRequest {
            project: project(),
            keys: vec![index::PassageKey {
                event_id: known.event.clone(),
                passage: 0,
            }],
            ..Default::default()
        }
        .encode_to_vec(),
        "index.v1.IndexService/GetStatus" => {
            index::GetStatusRequest { project: project() }.encode_to_vec()
        }
        "index.v1.IndexService/Check" => index::CheckRequest {
            project: "small".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "index.v1.IndexService/Rebuild" => index::RebuildRequest {
            project: "small".into(),
        }
        .encode_to_vec(),
        "ingest.v1.IngestService/IngestEvents" => ingest::IngestEventsRequest {
            project: project(),
            events: vec![draft()],
            ..Default::default()
        }
        .encode_to_vec(),
        "ingest.v1.IngestService/Commit" => ingest::CommitRequest {
            project: project(),
            events: vec![draft(), draft()],
            ..Default::default()
        }
        .encode_to_vec(),
        "ingest.v1.IngestService/IngestReport" => return report(),
        "ingest.v1.IngestService/ListFormats" => ingest::ListFormatsRequest {}.encode_to_vec(),
        "journal.v1.JournalService/Append" => journal::AppendRequest {
            project: project(),
            events: vec![draft()],
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListProjects" => {
            journal::ListProjectsRequest::default().encode_to_vec()
        }
        "journal.v1.JournalService/CreateBranch" => journal::CreateBranchRequest {
            project: project(),
            branch: name(),
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/CreateTag" => journal::CreateTagRequest {
            project: project(),
            tag: name(),
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListRefs" => journal::ListRefsRequest {
            project: "small".into(),
        }
        .encode_to_vec(),
        "journal.v1.JournalService/Resolve" => journal::ResolveRequest {
            project: project(),
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/GetEvents" => journal::GetEventsRequest {
            project: project(),
            ids: vec![known.event.clone()],
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/QueryEvents" => journal::QueryEventsRequest {
            project: project(),
            page_size: 20,
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/ListCommits" => journal::ListCommitsRequest {
            project: project(),
            page_size: 20,
            ..Default::default()
        }
        .encode_to_vec(),
        "journal.v1.JournalService/VerifyChain" => journal::VerifyChainRequest {
            project: "small".into(),
        }
        .encode_to_vec(),
        "journal.v1.JournalService/Tail" => journal::TailRequest {
            project: "small".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.PolicyService/ListPolicies" => {
            policy::ListPoliciesRequest::default().encode_to_vec()
        }
        "policy.v1.PolicyService/GetPolicy" => policy::GetPolicyRequest {
            id: "general".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.PolicyService/PutPolicy" => policy::PutPolicyRequest {
            id: format!("p{}", NUMBER.fetch_add(1, Ordering::Relaxed) % 50),
            source: "weights: {lexical: 1, dense: 0}".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "policy.v1.PolicyService/ActivatePolicy" => policy::ActivatePolicyRequest {
            id: "qa_smoke".into(),
            version: 1,
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/Retrieve" => query().encode_to_vec(),
        "retrieval.v1.RetrievalService/PreviewPack" => retrieval::PreviewPackRequest {
            request: Some(query()),
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/Search" => retrieval::SearchRequest {
            project: project(),
            query: "callers".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/GetPack" => retrieval::GetPackRequest {
            id: known.pack.id.clone(),
        }
        .encode_to_vec(),
        "retrieval.v1.RetrievalService/VerifyPack" => retrieval::VerifyPackRequest {
            id: known.pack.id.clone(),
            content: known.pack.content.clone(),
        }
        .encode_to_vec(),
        other => panic!("no case for {other}: add one"),
    };
    vec![one.into()]
}

fn report() -> Vec<Bytes> {
    let part = |part| {
        let message = ingest::IngestReportRequest { part: Some(part) };
        Bytes::from(message.encode_to_vec())
    };
    let header = ingest::ReportHeader {
        project: "cancel".into(),
        format: "jsonl".into(),
        ..Default::default()
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let line = format!("{{\"artifact_type\":\"note\",\"title\":\"Line {number}\"}}\n");
    let mut parts = vec![part(Part::Header(header))];
    parts.extend(
        line.as_bytes()
            .chunks(16)
            .map(|chunk| part(Part::Chunk(chunk.to_vec().into()))),
    );
    parts
}

/// Every rpc of the contracts: `journal.v1.JournalService/Append`, and whether its answers never end.
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
    let role: Role = rpc.split('.').next().unwrap().parse().unwrap();
    channels.to(role).clone()
}

/// One call to its end; of an endless answer, the first message.
async fn call(
    channel: Channel,
    rpc: &str,
    messages: Vec<Bytes>,
    endless: bool,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(error))?;
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
    let appended = append("cancel", 200).await;
    let mut client = retrieval::retrieval_service_client::RetrievalServiceClient::new(
        channels.retrieval.clone(),
    );
    let request = retrieval::RetrieveRequest {
        project: "cancel".into(),
        query: "callers come and go".into(),
        budget_tokens: 300,
        durable: true,
        ..Default::default()
    };
    Known {
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
        let given_up = give_up(channels, &known, &rpc, endless, cancels()).await;
        tasks_end(before, &rpc).await;
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
    for project in ["cancel", "small"] {
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
    storm(&format!("{store}, in process"), node.channels()).await;
    let address = format!("http://{}", ports.service_address().unwrap());
    let remote = Channel::remote(&[address], &RemoteOptions::default()).unwrap();
    let channels = Channels::all(remote);
    storm(&format!("{store}, over a socket"), &channels).await;
    assert!(ports.drain(Duration::from_secs(5)).await);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_at_any_point_leave_nothing_behind() {
    leave_nothing_behind(String::new()).await;
}

/// Of three services, each with eight connections for reading and two for writing, and the leader's.
const CONNECTIONS: u64 = 3 * (8 + 2) + 1;

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
