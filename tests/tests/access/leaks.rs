//! What one tenant, or one project, may not learn of another: by no answer, no count, no error.

use std::time::Duration;

use bytes::Bytes;
use commonplace_proto::common::Right;
use commonplace_proto::policy::GrantResource;
use commonplace_proto::{index, journal, retrieval};
use commonplace_rpc::{Channel, Failure, context};
use commonplace_tests::raw;
use prost::Message;
use tonic::Status;

use super::common::{House, Person};
use super::doors::http;

/// Words that stand in what a tenant wrote, and nowhere else.
const SECRETS: [&str; 3] = ["zanzibar", "quixotic", "marmalade"];

/// Every rpc that reads, asked about a project, in every way that may tell what is there.
fn questions(project: &str, pack: &str) -> Vec<(&'static str, Bytes)> {
    let project = || project.to_owned();
    let search = |query: &str| retrieval::SearchRequest {
        project: project(),
        query: query.into(),
        ..Default::default()
    };
    let retrieve = retrieval::RetrieveRequest {
        project: project(),
        query: "the passage about zanzibar".into(),
        ..Default::default()
    };
    let mut all: Vec<(&'static str, Vec<u8>)> = vec![
        (
            "journal.v1.JournalService/ListProjects",
            journal::ListProjectsRequest::default().encode_to_vec(),
        ),
        (
            "journal.v1.JournalService/ListRefs",
            journal::ListRefsRequest { project: project() }.encode_to_vec(),
        ),
        (
            "journal.v1.JournalService/Resolve",
            journal::ResolveRequest {
                project: project(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "journal.v1.JournalService/QueryEvents",
            journal::QueryEventsRequest {
                project: project(),
                include_superseded: true,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "journal.v1.JournalService/ListCommits",
            journal::ListCommitsRequest {
                project: project(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "journal.v1.JournalService/VerifyChain",
            journal::VerifyChainRequest { project: project() }.encode_to_vec(),
        ),
        (
            "journal.v1.JournalService/Tail",
            journal::TailRequest {
                project: project(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "index.v1.IndexService/Search",
            index::SearchRequest {
                project: project(),
                query: "passage zanzibar".into(),
                lexical_limit: 10,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "index.v1.IndexService/GetStatus",
            index::GetStatusRequest { project: project() }.encode_to_vec(),
        ),
        (
            "index.v1.IndexService/GetStatus",
            index::GetStatusRequest::default().encode_to_vec(),
        ),
        (
            "retrieval.v1.RetrievalService/GetPack",
            retrieval::GetPackRequest {
                id: pack.to_owned(),
            }
            .encode_to_vec(),
        ),
        (
            "retrieval.v1.RetrievalService/VerifyPack",
            retrieval::VerifyPackRequest {
                id: pack.to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "retrieval.v1.RetrievalService/Retrieve",
            retrieve.encode_to_vec(),
        ),
        (
            "retrieval.v1.RetrievalService/PreviewPack",
            retrieval::PreviewPackRequest {
                request: Some(retrieve),
            }
            .encode_to_vec(),
        ),
    ];
    for query in ["passage", "zanzibar", "title"] {
        all.push((
            "retrieval.v1.RetrievalService/Search",
            search(query).encode_to_vec(),
        ));
    }
    all.into_iter()
        .map(|(path, bytes)| (path, bytes.into()))
        .collect()
}

async fn ask(channel: &Channel, path: &str, message: Bytes) -> Result<Option<Bytes>, Status> {
    let path = format!("/commonplace.{path}");
    let call = raw::call(channel, &path, vec![message]);
    context::with_deadline(Duration::from_secs(10), call).await
}

/// An answer or an error as text, with the name of the project that was asked about taken out.
fn told(answer: Result<Option<Bytes>, Status>, project: &str) -> String {
    let text = match answer {
        Ok(bytes) => format!("ok {}", String::from_utf8_lossy(&bytes.unwrap_or_default())),
        // Details are a map on the wire, in no order.
        Err(status) => format!("{:?}", Failure::from_status(&status)),
    };
    text.replace(project, "<project>")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_learns_nothing_of_another() {
    let house = House::new().await;
    for secret in SECRETS {
        house.write("acme", "vault", "note", secret).await;
    }
    house.write("rival", "market", "note", "apples").await;
    let pack = house
        .pack("acme", "vault", "the passage about zanzibar")
        .await;
    let admin = Person {
        name: "eve",
        roles: &["admin"],
        scopes: None,
    };
    let (_, eve) = house.key("rival", &admin).await;
    let eve_channel = house.channel(Some(&eve));
    let (mut found, mut same) = (0, 0);
    for ((path, there), (_, nowhere)) in questions("vault", &pack)
        .into_iter()
        .zip(questions("nowhere", &format!("blake3:{}", "0".repeat(64))))
    {
        let answer = told(ask(&eve_channel, path, there).await, "vault");
        let secrets = SECRETS
            .iter()
            .filter(|secret| answer.contains(*secret))
            .count();
        // What the caller said itself may come back to it.
        let own_words = answer.starts_with("ok") && answer.contains("the passage about zanzibar");
        assert!(secrets == 0 || own_words, "{path}: {answer}");
        let elsewhere = told(ask(&eve_channel, path, nowhere).await, "nowhere");
        let (answer, elsewhere) = (
            answer.replace(&pack, "<pack>"),
            elsewhere.replace(&format!("blake3:{}", "0".repeat(64)), "<pack>"),
        );
        assert_eq!(answer, elsewhere, "{path} tells whether it exists");
        same += 1;
        found += usize::from(answer.starts_with("ok"));
    }
    assert!(same > 15 && found >= 2, "{same} asked, {found} answered");
    for path in [
        "/projects",
        "/events?project=vault",
        "/journal/refs?project=vault",
        "/index/status",
        "/policies",
        "/keys",
        "/grants",
    ] {
        let answer = http(&house, "GET", path, Some(&eve)).await;
        assert!(
            SECRETS.iter().all(|secret| !answer.contains(secret)),
            "{path}: {answer}"
        );
        assert!(!answer.contains("acme"), "{path}: {answer}");
    }
    house.close().await;
}

/// Many combinations of projects and grants: who has no right over a project is told the same of one that is
/// there and of one that is not, and who has it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_learns_nothing_of_projects_that_it_may_not_read() {
    let house = House::new().await;
    let projects = ["p-alpha", "p-beta", "p-gamma"];
    for (project, secret) in projects.iter().zip(SECRETS) {
        house.write("acme", project, "note", secret).await;
    }
    let names = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
    for (bits, name) in names.into_iter().enumerate() {
        for (place, project) in projects.iter().enumerate() {
            if bits >> place & 1 == 1 {
                let resource = GrantResource {
                    project: (*project).into(),
                    ..GrantResource::default()
                };
                house.grant("acme", name, Right::Read, resource).await;
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(2 * super::common::REFRESH_MS)).await;
    for (bits, name) in names.into_iter().enumerate() {
        let person = Person {
            name,
            roles: &[],
            scopes: None,
        };
        let (_, key) = house.key("acme", &person).await;
        let channel = house.channel(Some(&key));
        for (place, project) in projects.iter().enumerate() {
            let granted = bits >> place & 1 == 1;
            for (path, message) in questions(project, &format!("blake3:{}", "0".repeat(64))) {
                let answer = told(ask(&channel, path, message).await, project);
                let whole = !path.ends_with("GetPack") && !path.ends_with("VerifyPack");
                let listed = path.ends_with("ListProjects")
                    || path.ends_with("GetStatus") && answer.starts_with("ok");
                if listed {
                    for (other, hidden) in projects.iter().enumerate() {
                        let shown = answer.contains(*hidden)
                            || *hidden == *project && answer.contains("<project>");
                        assert!(
                            bits >> other & 1 == 1 || !shown,
                            "{name} sees {hidden} by {path}: {answer}"
                        );
                    }
                    continue;
                }
                if granted && whole {
                    assert!(
                        answer.starts_with("ok"),
                        "{name} {path} {project}: {answer}"
                    );
                    continue;
                }
                assert!(
                    !answer.starts_with("ok"),
                    "{name} {path} {project}: {answer}"
                );
                assert!(!answer.contains(SECRETS[place]), "{name} {path}: {answer}");
                let nowhere = questions("nowhere", &format!("blake3:{}", "0".repeat(64)));
                let (_, message) = nowhere
                    .into_iter()
                    .find(|(other, _)| *other == path)
                    .unwrap();
                if whole {
                    let elsewhere = told(ask(&channel, path, message).await, "nowhere");
                    assert_eq!(
                        answer, elsewhere,
                        "{path} tells {name} whether {project} exists"
                    );
                }
            }
        }
    }
    house.close().await;
}
