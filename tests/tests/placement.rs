//! Replicas of the index: each project is searched where it belongs, and goes elsewhere, without a failed call, when
//! that replica dies or another one comes.

#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use commonplace_node::{Channels, Role};
use commonplace_proto::common::EventDraft;
use commonplace_proto::index::GetStatusRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::ingest::IngestEventsRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::retrieval::SearchRequest;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_rpc::{Endpoint, context, remote::placed};
use commonplace_tests::mesh::{Form, Mesh};

const PROJECTS: usize = 8;
const EVENTS: usize = 400;
const DEADLINE: Duration = Duration::from_secs(10);

fn project(number: usize) -> String {
    format!("project-{number}")
}

async fn fill(channels: &Channels) {
    let mut ingest = IngestServiceClient::new(channels.ingest.clone());
    for number in 0..PROJECTS {
        let event = |count: usize| EventDraft {
            artifact_type: "test".into(),
            title: format!("test {count}"),
            text: format!(
                "fails {} times of {number} in module {}",
                count % 7,
                count % 31
            ),
            ..Default::default()
        };
        let request = IngestEventsRequest {
            project: project(number),
            events: (0..EVENTS).map(event).collect(),
            ..Default::default()
        };
        ingest.ingest_events(request).await.unwrap();
    }
}

/// The ranking of a project, with scores.
async fn ranking(channels: &Channels, number: usize) -> Result<Vec<String>, tonic::Status> {
    let request = SearchRequest {
        project: project(number),
        query: "fails 3 times in module 7".into(),
        limit: 20,
        ..Default::default()
    };
    let mut retrieval = RetrievalServiceClient::new(channels.retrieval.clone());
    let call = retrieval.search(request);
    let answer = context::with_deadline(DEADLINE, call).await?.into_inner();
    let line = |item: &commonplace_proto::retrieval::Item| {
        format!("{} {:?} {}", item.event_id, item.scores, item.text)
    };
    Ok(answer.items.iter().map(line).collect())
}

/// Callers who ask for every project over and over, and hold each answer against the first.
struct Asking {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<(usize, Vec<String>, Duration)>>,
}

impl Asking {
    fn start(mesh: &Mesh, expected: &Arc<Vec<Vec<String>>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (channels, stop, expected) = (mesh.channels(), stop.clone(), expected.clone());
            tokio::spawn(async move {
                let (mut calls, mut wrong, mut longest) = (0, Vec::new(), Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let number = calls % PROJECTS;
                    let started = Instant::now();
                    match ranking(&channels, number).await {
                        Ok(found) if found == expected[number] => {}
                        Ok(_) => wrong.push(format!("{}: another ranking", project(number))),
                        Err(status) => wrong.push(format!("{}: {status:?}", project(number))),
                    }
                    longest = longest.max(started.elapsed());
                    calls += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (calls, wrong, longest)
            })
        };
        let callers = (0..3).map(caller).collect();
        Self { stop, callers }
    }

    async fn stop(self) -> (usize, Vec<String>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = (0, Vec::new(), Duration::ZERO);
        for caller in self.callers {
            let (calls, wrong, longest) = caller.await.unwrap();
            all = (all.0 + calls, all.1, all.2.max(longest));
            all.1.extend(wrong);
        }
        all
    }
}

/// Which projects belong to which of these replicas.
fn owners(mesh: &Mesh, replicas: &[usize]) -> BTreeMap<usize, Vec<String>> {
    let endpoint = |replica: &usize| Endpoint::parse(&mesh.address(Role::Index, *replica)).unwrap();
    let endpoints: Vec<Endpoint> = replicas.iter().map(endpoint).collect();
    let mut owners = BTreeMap::<usize, Vec<String>>::new();
    for number in 0..PROJECTS {
        let order = placed(&endpoints, &["default", &project(number)]);
        let first = endpoints.iter().position(|one| *one == order[0]).unwrap();
        owners
            .entry(replicas[first])
            .or_default()
            .push(project(number));
    }
    owners
}

/// Waits until a replica holds these projects whole, and says how long that took.
async fn holds(mesh: &Mesh, replica: usize, projects: &[String]) -> Duration {
    let mut index = IndexServiceClient::new(mesh.replica(Role::Index, replica));
    let started = Instant::now();
    loop {
        let status = index.get_status(GetStatusRequest::default()).await.unwrap();
        let built: Vec<String> = status
            .into_inner()
            .projects
            .into_iter()
            .filter(|project| project.passages as usize >= EVENTS)
            .map(|project| project.project)
            .collect();
        if projects.iter().all(|project| built.contains(project)) {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{projects:?}: {built:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_dies_and_another_comes_without_a_failed_retrieval() {
    let mut mesh = Mesh::builder(Form::PerRole)
        .replicas(Role::Index, 3)
        .replicas(Role::Retrieval, 2)
        .asleep(Role::Index, 2)
        .start()
        .await;
    let channels = mesh.channels();
    fill(&channels).await;
    let mut expected = Vec::new();
    for number in 0..PROJECTS {
        let found = ranking(&channels, number).await.unwrap();
        assert_eq!(found.len(), 20);
        expected.push(found);
    }
    let asking = Asking::start(&mesh, &Arc::new(expected));
    println!("belongs to: {:?}", owners(&mesh, &[0, 1]));
    tokio::time::sleep(Duration::from_millis(500)).await;

    mesh.kill9(Role::Index, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let started = mesh.start(Role::Index, 2).await;
    let now = owners(&mesh, &[1, 2]);
    let gained = now.get(&2).cloned().unwrap_or_default();
    let built = holds(&mesh, 2, &gained).await;
    println!("belongs to: {now:?}");
    println!(
        "index-2 started in {started:.2?} and held {} projects {built:.2?} later",
        gained.len()
    );
    tokio::time::sleep(Duration::from_millis(500)).await;

    mesh.start(Role::Index, 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (calls, wrong, longest) = asking.stop().await;
    println!(
        "{calls} searches, {} wrong, longest {longest:.2?}",
        wrong.len()
    );
    assert_eq!(wrong, Vec::<String>::new());
    assert!(calls > 100, "{calls}");
    mesh.shutdown().await;
}
