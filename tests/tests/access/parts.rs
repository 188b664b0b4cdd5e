//! Whoever may see parts of a project is answered as if there were nothing else in it.

use std::time::Duration;

use bytes::Bytes;
use commonplace_proto::common::{EventDraft, Right};
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::policy::GrantResource;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::{index, ingest, journal, retrieval};
use commonplace_rpc::{Channel, Failure, context};
use commonplace_tests::raw;
use commonplace_types::TenantName;
use prost::Message;
use tonic::{Code, Status};

use super::common::{House, Person, REFRESH_MS};
use super::doors::http;

/// Type, author and words of every event, in the order in which they were written.
const EVENTS: [(&str, &str, &str); 9] = [
    ("test", "carol", "the retry test failed on timeout"),
    ("diff", "bob", "retry retry retry with a zanzibar timeout"),
    ("decision", "alice", "we retry three times and then give up"),
    ("diff", "alice", "lower the timeout of the parser"),
    ("bug", "bob", "zanzibar parser loops on a retry"),
    ("test", "bob", "parser test passed"),
    (
        "runlog",
        "carol",
        "zanzibar zanzibar timeout timeout timeout",
    ),
    (
        "decision",
        "bob",
        "zanzibar is the name of the next release",
    ),
    ("test", "alice", "login test flaky on timeout and retry"),
];
/// A word of what `tester` may not see.
const SECRET: &str = "zanzibar";

fn may_see(kind: &str, author: &str) -> bool {
    kind == "test" || author == "alice"
}

fn id(number: usize) -> String {
    format!("ev_{number:032x}")
}

fn draft(number: usize) -> EventDraft {
    let (kind, author, text) = EVENTS[number];
    EventDraft {
        id: id(number),
        artifact_type: kind.into(),
        author: author.into(),
        title: format!("event {number}"),
        text: text.into(),
        record_id: format!("record:{}", number % 4),
        pinned: number.is_multiple_of(3),
        event_time: Some(commonplace_proto::Timestamp {
            seconds: 1_780_000_000 + number as i64,
            nanos: 0,
        }),
        ..EventDraft::default()
    }
}

async fn commit(house: &House, project: &str, events: Vec<EventDraft>) {
    let request = ingest::CommitRequest {
        project: project.into(),
        message: format!("about {SECRET}"),
        events,
        ..ingest::CommitRequest::default()
    };
    let mut client = IngestServiceClient::new(house.operator.ingest.clone());
    let call = async { client.commit(request).await.unwrap() };
    context::for_tenant(TenantName::new("acme").unwrap(), call).await;
}

async fn person(house: &House, name: &'static str, resources: &[(&str, &str, &str)]) -> Channel {
    for (project, artifact_type, author) in resources {
        let resource = GrantResource {
            project: (*project).into(),
            artifact_type: (*artifact_type).into(),
            author: (*author).into(),
        };
        house.grant("acme", name, Right::Read, resource).await;
    }
    let person = Person {
        name,
        ..Person::default()
    };
    house.channel(Some(&house.key("acme", &person).await.1))
}

/// A project `all` with everything, and `shown` with what `tester` may see of it. Gives the channels of `tester`,
/// of somebody who may see all tests, and of an administrator.
async fn furnished(house: &House) -> (Channel, Channel, Channel) {
    // One commit for each, so that the commits have equal numbers too.
    for (number, (kind, author, _)) in EVENTS.into_iter().enumerate() {
        commit(house, "all", vec![draft(number)]).await;
        if may_see(kind, author) {
            commit(house, "shown", vec![draft(number)]).await;
        }
    }
    let tester = [("all", "test", ""), ("all", "", "alice"), ("shown", "", "")];
    let tester = person(house, "tester", &tester).await;
    let narrow = person(house, "narrow", &[("all", "test", "")]).await;
    let admin = Person {
        name: "admin",
        roles: &["admin"],
        scopes: None,
    };
    let admin = house.channel(Some(&house.key("acme", &admin).await.1));
    tokio::time::sleep(Duration::from_millis(2 * REFRESH_MS)).await;
    (tester, narrow, admin)
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    context::with_deadline(Duration::from_secs(20), call).await
}

fn search(project: &str, query: &str) -> index::SearchRequest {
    index::SearchRequest {
        project: project.into(),
        query: query.into(),
        lexical_limit: 20,
        ineligible_limit: 20,
        always_include: Some(index::AlwaysInclude {
            pinned: true,
            ..Default::default()
        }),
        ..index::SearchRequest::default()
    }
}

fn retrieve(project: &str, query: &str) -> retrieval::RetrieveRequest {
    retrieval::RetrieveRequest {
        project: project.into(),
        query: query.into(),
        budget_tokens: 400,
        clock: Some(commonplace_proto::Timestamp {
            seconds: 1_780_100_000,
            nanos: 0,
        }),
        view: retrieval::PackView::Full.into(),
        ..retrieval::RetrieveRequest::default()
    }
}

async fn packed(channel: &Channel, project: &str, query: &str) -> retrieval::ContextPack {
    let mut client = RetrievalServiceClient::new(channel.clone());
    let answer = in_time(client.retrieve(retrieve(project, query))).await;
    answer.unwrap().into_inner().pack.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_searched_as_if_there_were_nothing_else() {
    let house = House::new().await;
    let (tester, ..) = furnished(&house).await;
    let mut client = IndexServiceClient::new(tester.clone());
    for query in ["retry timeout", "parser", SECRET, "event", "release alice"] {
        let mut found = Vec::new();
        for project in ["all", "shown"] {
            let answer = in_time(client.search(search(project, query))).await;
            let answer = answer.unwrap().into_inner();
            found.push((answer.statistics, answer.candidates));
        }
        assert_eq!(found[0], found[1], "{query}");
        let (all, shown) = (
            packed(&tester, "all", query).await,
            packed(&tester, "shown", query).await,
        );
        assert_eq!(all.items, shown.items, "{query}");
        assert_eq!(all.exclusions, shown.exclusions, "{query}");
        let (all, shown) = (all.manifest.unwrap(), shown.manifest.unwrap());
        assert_eq!(
            (all.passages, all.total_length),
            (shown.passages, shown.total_length)
        );
        let within = all.within.unwrap();
        assert_eq!(within.artifact_types, ["test"]);
        assert_eq!(within.authors, ["alice"]);
        assert_eq!(shown.within, None);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_is_told_of_as_if_it_were_not_there() {
    let house = House::new().await;
    let (tester, ..) = furnished(&house).await;
    let mut client = JournalServiceClient::new(tester.clone());
    let mut listed = Vec::new();
    for project in ["all", "shown"] {
        let mut ids = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = journal::QueryEventsRequest {
                project: project.into(),
                page_size: 2,
                page_token,
                ..Default::default()
            };
            let page = in_time(client.query_events(request)).await.unwrap();
            let page = page.into_inner();
            ids.extend(page.events.into_iter().map(|event| event.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        listed.push(ids);
    }
    assert_eq!(listed[0], listed[1]);
    assert_eq!(listed[0].len(), 5);

    let get = |numbers: &[usize]| journal::GetEventsRequest {
        project: "all".into(),
        ids: numbers.iter().map(|number| id(*number)).collect(),
        ..Default::default()
    };
    let seen = in_time(client.get_events(get(&[8, 0]))).await.unwrap();
    assert_eq!(seen.into_inner().events.len(), 2);
    let mut told = Vec::new();
    // The second is hidden, or is nowhere; the last is nowhere in any case.
    for second in [1, 77] {
        let error = in_time(client.get_events(get(&[0, second, 99]))).await;
        let failure = Failure::from_status(&error.unwrap_err());
        told.push(format!("{failure:?}").replace(&id(second), "<id>"));
    }
    assert_eq!(told[0], told[1]);

    let mut client = IndexServiceClient::new(tester.clone());
    let passage = |number| index::GetPassagesRequest {
        project: "all".into(),
        keys: vec![index::PassageKey {
            event_id: id(number),
            passage: 0,
        }],
        ..Default::default()
    };
    in_time(client.get_passages(passage(0))).await.unwrap();
    let mut told = Vec::new();
    for number in [1, 77] {
        let error = in_time(client.get_passages(passage(number))).await;
        let failure = Failure::from_status(&error.unwrap_err());
        told.push(format!("{failure:?}").replace(&id(number), "<id>"));
    }
    assert_eq!(told[0], told[1]);

    let request = index::GetStatusRequest {
        project: "all".into(),
    };
    let status = in_time(client.get_status(request)).await.unwrap();
    let project = status.into_inner().projects.remove(0);
    assert_eq!(
        (project.passages, project.vectors, project.size_bytes),
        (0, 0, 0)
    );
    let person = Person {
        name: "tester",
        ..Person::default()
    };
    let key = house.key("acme", &person).await.1;
    for path in ["/events?project=all", "/index/status", "/projects"] {
        let answer = http(&house, "GET", path, Some(&key)).await;
        assert!(!answer.contains(SECRET), "{path}: {answer}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_parts_is_for_those_who_may_see_them() {
    let house = House::new().await;
    let (tester, narrow, admin) = furnished(&house).await;
    let own = packed(&tester, "all", "retry timeout").await;
    let whole = packed(&admin, "all", "retry timeout").await;
    assert_ne!(own.id, whole.id);
    let verify = async |channel: &Channel, pack: &retrieval::ContextPack, by_content: bool| {
        let mut client = RetrievalServiceClient::new(channel.clone());
        let request = retrieval::VerifyPackRequest {
            id: pack.id.clone(),
            content: match by_content {
                true => pack.content.clone(),
                false => Bytes::new(),
            },
        };
        let answer = in_time(client.verify_pack(request)).await;
        answer.map(|answer| answer.into_inner().verified)
    };
    let get = async |channel: &Channel, pack: &retrieval::ContextPack| {
        let mut client = RetrievalServiceClient::new(channel.clone());
        let request = retrieval::GetPackRequest {
            id: pack.id.clone(),
        };
        let answer = in_time(client.get_pack(request)).await;
        answer.map(|_| ()).map_err(|status| status.code())
    };
    // Whoever may see as much, or more, makes it anew to the same bytes.
    for channel in [&tester, &admin] {
        assert!(verify(channel, &own, true).await.unwrap());
        assert!(verify(channel, &own, false).await.unwrap());
        assert_eq!(get(channel, &own).await, Ok(()));
    }
    assert!(verify(&admin, &whole, true).await.unwrap());
    for (channel, pack) in [(&tester, &whole), (&narrow, &own), (&narrow, &whole)] {
        assert_eq!(get(channel, pack).await, Err(Code::NotFound));
        let code = |answer: Result<bool, Status>| answer.unwrap_err().code();
        assert_eq!(code(verify(channel, pack, false).await), Code::NotFound);
        assert_eq!(
            code(verify(channel, pack, true).await),
            Code::PermissionDenied
        );
    }
    // The same question of somebody who may see less is not answered from what another was given.
    let less = packed(&narrow, "all", "retry timeout").await;
    assert!(less.items.iter().all(|item| item.artifact_type == "test"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_open_nothing_that_needs_the_whole() {
    let house = House::new().await;
    let (tester, ..) = furnished(&house).await;
    let project = || "all".to_owned();
    let asked = [
        (
            "journal.v1.JournalService/ListCommits",
            journal::ListCommitsRequest {
                project: project(),
                ..Default::default()
            }
            .encode_to_vec(),
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
            "journal.v1.JournalService/Tail",
            journal::TailRequest {
                project: project(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "ingest.v1.IngestService/Commit",
            ingest::CommitRequest {
                project: project(),
                events: vec![draft(0)],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
    ];
    for (path, message) in asked {
        let path = format!("/commonplace.{path}");
        let answer = in_time(raw::call(&tester, &path, vec![message.into()])).await;
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{path}");
    }
    // Nor may a search ask for more than is granted.
    let mut client = IndexServiceClient::new(tester);
    let request = index::SearchRequest {
        within: Some(commonplace_proto::common::Parts {
            artifact_types: vec!["diff".into(), "test".into()],
            authors: Vec::new(),
        }),
        ..search("all", "retry")
    };
    let answer = in_time(client.search(request)).await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
    house.close().await;
}

/// That an event is out of date is true for everybody, whoever may see why.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_superseded_is_not_shown_as_current() {
    let house = House::new().await;
    let (tester, ..) = furnished(&house).await;
    let hidden = EventDraft {
        id: id(50),
        supersedes: vec![id(0)],
        ..draft(1)
    };
    commit(&house, "all", vec![hidden]).await;
    let pack = packed(&tester, "all", "retry test failed timeout").await;
    assert!(pack.items.iter().all(|item| item.event_id != id(0)));
    let mut client = JournalServiceClient::new(tester);
    let request = |include_superseded| journal::QueryEventsRequest {
        project: "all".into(),
        include_superseded,
        ..Default::default()
    };
    for (with, expected) in [(false, 4), (true, 5)] {
        let page = in_time(client.query_events(request(with))).await.unwrap();
        assert_eq!(page.into_inner().events.len(), expected, "{with}");
    }
    house.close().await;
}
