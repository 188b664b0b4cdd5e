//! The index over a vector store gives what the index over a scan gives, whatever happens to the store.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{Dice, Side, World, at, both, keyed_server, plain, qdrant, secret, server, until};
use commonplace_index::{QdrantOptions, Quantization};
use commonplace_proto::common::EventFilter;
use commonplace_proto::index as proto;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::{self as wire};

/// Many questions: at all commits and heads, with and without filters.
fn questions(world: &World, dice: &mut Dice) -> Vec<proto::SearchRequest> {
    let filters = [
        None,
        Some(EventFilter {
            artifact_types: vec!["bug".into()],
            ..Default::default()
        }),
        Some(EventFilter {
            tags_any: vec!["slow".into()],
            agents: vec!["ann".into()],
            ..Default::default()
        }),
        Some(EventFilter {
            pinned_only: true,
            ..Default::default()
        }),
        Some(EventFilter {
            sources: vec!["git".into()],
            min_importance: 0.5,
            ..Default::default()
        }),
        Some(EventFilter {
            record_ids: vec!["record:3".into(), "record:4".into()],
            ..Default::default()
        }),
    ];
    let mut questions = Vec::new();
    for (place, (project, hash)) in world.commits.iter().enumerate() {
        let mut request = both(project, &dice.words(5));
        request.as_of = at(hash);
        request.filter = filters[place % filters.len()].clone();
        questions.push(request);
    }
    questions
}

async fn same(world: &World, dice: &mut Dice, local: &Side, outside: &Side) {
    for question in questions(world, dice) {
        let (expected, found) = (
            local.search(&question).await,
            outside.search(&question).await,
        );
        let dense = found.dense.clone().unwrap();
        assert!(dense.available && dense.recorded, "{dense:?}");
        assert_eq!(plain(found), plain(expected), "{question:?}");
    }
}

fn assert_clean(checked: &proto::CheckResponse) {
    assert_eq!(
        (
            checked.missing_count,
            checked.different_count,
            checked.extra_count
        ),
        (0, 0, 0),
        "{checked:?}"
    );
    assert_eq!(checked.expected_digest, checked.found_digest);
    assert_eq!(checked.expected, checked.found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_gives_what_a_scan_gives() {
    let mut world = World::start().await;
    let server = server(&world.path("store"), None).await;
    let (local, outside) = (
        world.local().await,
        world.outside(qdrant(vec![server.url()])).await,
    );
    let mut dice = Dice(7);
    for _ in 0..3 {
        world.grow("one", &mut dice, 25).await;
        world.grow("two", &mut dice, 10).await;
        // First with much that the store has not been told, then with everything.
        same(&world, &mut dice, &local, &outside).await;
        outside.stored("one").await;
        outside.stored("two").await;
        same(&world, &mut dice, &local, &outside).await;
    }
    assert!(
        server.faults.searches.load(SeqCst) > 100,
        "the store was asked"
    );
    let status = outside.status("one").await;
    assert!(status.vectors > 200, "{status:?}");
    for project in ["one", "two"] {
        let checked = outside.check(project, false).await;
        assert_eq!(
            (checked.store.as_str(), checked.first_commit),
            ("qdrant", None)
        );
        assert_clean(&checked);
    }
    world.stop(vec![local, outside]).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_read_from_disk_where_memory_does_not_hold_them() {
    let mut world = World::start().await;
    let server = server(&world.path("store"), None).await;
    server.faults.read_only(true);
    let options = QdrantOptions {
        held_vectors: 0,
        ..qdrant(vec![server.url()])
    };
    let mut dice = Dice(11);
    // More than a chunk of rows, so that some are given back; nothing reaches the store.
    for _ in 0..12 {
        let events = (0..250).map(|number| commonplace_proto::common::EventDraft {
            artifact_type: "bug".into(),
            title: format!("{} {number}", dice.words(3)),
            text: dice.words(6),
            ..Default::default()
        });
        let events = events.collect();
        world.append("one", "", events).await;
    }
    let (local, outside) = (world.local().await, world.outside(options.clone()).await);
    let problem = outside.told("one", "cannot be reached").await;
    assert!(problem.contains(&server.url()), "{problem}");
    let asked = both("one", "timeout parser 17");
    assert_eq!(
        plain(outside.search(&asked).await),
        plain(local.search(&asked).await)
    );
    // Opened again, and then told.
    outside.index.shutdown().await;
    let outside = world.outside(options).await;
    assert_eq!(
        plain(outside.search(&asked).await),
        plain(local.search(&asked).await)
    );
    server.faults.read_only(false);
    outside.stored("one").await;
    same(&world, &mut dice, &local, &outside).await;
    assert_clean(&outside.check("one", false).await);
    world.stop(vec![local, outside]).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_and_comes_back_needs_no_restart() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    let address = store.address;
    let (local, outside) = (
        world.local().await,
        world.outside(qdrant(vec![store.url()])).await,
    );
    let mut dice = Dice(3);
    world.grow("one", &mut dice, 60).await;
    outside.stored("one").await;

    store.stop();
    outside.told("one", "cannot be reached").await;
    let asked = both("one", "retry timeout");
    let answer = outside.search(&asked).await;
    let dense = answer.dense.clone().unwrap();
    assert_eq!(
        (dense.available, dense.reason.as_str()),
        (false, "the vector store cannot be reached")
    );
    let without = proto::SearchRequest {
        without_dense: true,
        ..asked.clone()
    };
    assert_eq!(answer.candidates, local.search(&without).await.candidates);
    // What is appended meanwhile is found by words at once, and by meaning later.
    world.grow("one", &mut dice, 20).await;

    let store = server(&world.path("store"), Some(address)).await;
    outside.stored("one").await;
    same(&world, &mut dice, &local, &outside).await;
    assert_clean(&outside.check("one", false).await);

    // It comes back without what it held.
    store.stop();
    outside.told("one", "cannot be reached").await;
    let store = server(&world.path("emptied"), Some(address)).await;
    outside.stored("one").await;
    same(&world, &mut dice, &local, &outside).await;
    assert_clean(&outside.check("one", false).await);
    world.stop(vec![local, outside]).await;
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_fail_or_whose_answers_are_lost_are_repeated() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    let options = QdrantOptions {
        failures: 100,
        ..qdrant(vec![store.url()])
    };
    let outside = world.outside(options).await;
    let mut dice = Dice(5);
    for round in 0..6 {
        store.faults.lose_next_answers(3);
        world.grow("one", &mut dice, 10).await;
        outside.stored("one").await;
        store.faults.fail_next(round);
        world.grow("one", &mut dice, 5).await;
        outside.stored("one").await;
    }
    let checked = outside.check("one", false).await;
    assert!(checked.expected > 100);
    assert_clean(&checked);
    world.stop(vec![outside]).await;
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_index_of_the_same_project_writes_the_same_points() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    let mut dice = Dice(9);
    let first = world.outside(qdrant(vec![store.url()])).await;
    world.grow("one", &mut dice, 40).await;
    first.stored("one").await;
    let folder = world.path("second");
    let second = Side::start(
        &folder,
        &world.to_journal,
        common::with_store(qdrant(vec![store.url()])),
    );
    let second = second.await;
    world.grow("one", &mut dice, 40).await;
    for side in [&first, &second] {
        side.stored("one").await;
        assert_clean(&side.check("one", false).await);
    }
    let local = world.local().await;
    same(&world, &mut dice, &local, &first).await;
    same(&world, &mut dice, &local, &second).await;
    world.stop(vec![local, first, second]).await;
    store.stop();
}

/// Reaches past the index into the store.
async fn points_of(url: &str) -> (PointsClient<tonic::transport::Channel>, String) {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut collections = wire::collections_client::CollectionsClient::new(channel.clone());
    let listed = collections
        .list(wire::ListCollectionsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.collections.len(), 1);
    (
        PointsClient::new(channel),
        listed.collections[0].name.clone(),
    )
}

async fn some_points(
    client: &mut PointsClient<tonic::transport::Channel>,
    collection: &str,
    project: &str,
) -> Vec<wire::RetrievedPoint> {
    let request = wire::ScrollPoints {
        collection_name: collection.into(),
        filter: Some(wire::Filter::must([wire::Condition::matches(
            "project",
            project.to_owned(),
        )])),
        limit: Some(1_000),
        with_payload: Some(true.into()),
        ..Default::default()
    };
    client.scroll(request).await.unwrap().into_inner().result
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_named_and_mended() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    let (local, outside) = (
        world.local().await,
        world.outside(qdrant(vec![store.url()])).await,
    );
    let mut dice = Dice(13);
    world.grow("one", &mut dice, 40).await;
    world.grow("two", &mut dice, 20).await;
    outside.stored("one").await;
    outside.stored("two").await;
    let (mut client, collection) = points_of(&store.url()).await;
    let before = some_points(&mut client, &collection, "one").await;

    // One goes, one says something else, one is nobody's.
    let (gone, other) = (before[3].id.clone().unwrap(), before[7].id.clone().unwrap());
    let selected = |id: &wire::PointId| wire::PointsSelector {
        points_selector_one_of: Some(wire::points_selector::PointsSelectorOneOf::Points(
            wire::PointsIdsList {
                ids: vec![id.clone()],
            },
        )),
    };
    let delete = wire::DeletePoints {
        collection_name: collection.clone(),
        points: Some(selected(&gone)),
        ..Default::default()
    };
    client.delete(delete).await.unwrap();
    let set = wire::SetPayloadPoints {
        collection_name: collection.clone(),
        payload: [(
            "died".to_owned(),
            wire::Value::from(vec![wire::Value::from(1i64 << 32)]),
        )]
        .into(),
        points_selector: Some(selected(&other)),
        ..Default::default()
    };
    client.set_payload(set).await.unwrap();
    let mut payload = before[0].payload.clone();
    payload.insert("passage".into(), 99i64.into());
    let extra = wire::UpsertPoints {
        collection_name: collection.clone(),
        points: vec![wire::PointStruct {
            id: Some("00000000-0000-4000-8000-000000000000".into()),
            payload,
            vectors: Some(vec![0.5f32; 384].into()),
        }],
        ..Default::default()
    };
    client.upsert(extra).await.unwrap();

    let checked = outside.check("one", false).await;
    assert_eq!(
        (
            checked.missing_count,
            checked.different_count,
            checked.extra_count
        ),
        (1, 1, 1),
        "{checked:?}"
    );
    assert_eq!(checked.extra, ["00000000-0000-4000-8000-000000000000"]);
    assert_ne!(checked.expected_digest, checked.found_digest);
    assert!(checked.first_commit.is_some() && !checked.repaired);
    assert_clean(&outside.check("two", false).await);

    assert!(outside.check("one", true).await.repaired);
    assert_clean(&outside.check("one", false).await);
    same(&world, &mut dice, &local, &outside).await;
    assert_eq!(local.check("one", false).await.store, "local");
    world.stop(vec![local, outside]).await;
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_writes_a_projects_points_again_and_no_others() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    let (local, outside) = (
        world.local().await,
        world.outside(qdrant(vec![store.url()])).await,
    );
    let mut dice = Dice(17);
    world.grow("one", &mut dice, 30).await;
    world.grow("two", &mut dice, 30).await;
    outside.stored("one").await;
    outside.stored("two").await;
    let (mut client, collection) = points_of(&store.url()).await;
    let others = some_points(&mut client, &collection, "two").await.len();
    // A point of a passage that there is no more.
    let mut left = some_points(&mut client, &collection, "one").await.remove(0);
    left.payload.insert("passage".into(), 99i64.into());
    let upsert = wire::UpsertPoints {
        collection_name: collection.clone(),
        points: vec![wire::PointStruct {
            id: Some("00000000-0000-4000-8000-000000000000".into()),
            payload: left.payload,
            vectors: Some(vec![0.5f32; 384].into()),
        }],
        ..Default::default()
    };
    client.upsert(upsert).await.unwrap();
    let request = proto::RebuildRequest {
        project: "one".into(),
    };
    outside.client.clone().rebuild(request).await.unwrap();
    same(&world, &mut dice, &local, &outside).await;
    outside.stored("one").await;
    until(|| async { outside.check("one", false).await.extra_count == 0 }).await;
    assert_clean(&outside.check("one", false).await);
    assert_eq!(
        some_points(&mut client, &collection, "two").await.len(),
        others
    );
    same(&world, &mut dice, &local, &outside).await;
    world.stop(vec![local, outside]).await;
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_candidates_give_the_same_answer_without_the_store() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    let options = QdrantOptions {
        exact: false,
        margin: 0,
        quantization: Quantization::Int8,
        ..qdrant(vec![store.url()])
    };
    let (local, outside) = (world.local().await, world.outside(options).await);
    let mut dice = Dice(19);
    world.grow("one", &mut dice, 60).await;
    outside.stored("one").await;
    let mut again = Vec::new();
    for mut question in questions(&world, &mut dice) {
        let answer = outside.search(&question).await;
        let keys = |takes: fn(&proto::Candidate) -> bool| -> Vec<proto::PassageKey> {
            let taken = answer
                .candidates
                .iter()
                .filter(|candidate| takes(candidate));
            taken
                .filter_map(|candidate| candidate.key.clone())
                .collect()
        };
        question.recorded = Some(proto::RecordedCandidates {
            dense: keys(|candidate| candidate.dense_rank > 0),
            ineligible: keys(|candidate| candidate.dense_rank == 0 && candidate.lexical_rank == 0),
        });
        question.dense_through = answer.dense.as_ref().map(|dense| dense.through);
        again.push((question, answer));
    }
    store.stop();
    outside.told("one", "cannot be reached").await;
    for (question, answer) in again {
        assert_eq!(outside.search(&question).await, answer);
        assert_eq!(local.search(&question).await, answer);
        // Fewer candidates give another answer: it is these that are scored.
        let mut fewer = question.clone();
        let removed = fewer.recorded.as_mut().unwrap().dense.pop();
        if removed.is_some() {
            assert_ne!(local.search(&fewer).await, answer);
        }
    }
    world.stop(vec![local, outside]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_settings_is_told() {
    let mut world = World::start().await;
    let store = keyed_server(&world.path("store"), None, "right").await;
    world.grow("one", &mut Dice(1), 3).await;

    let wrong = QdrantOptions {
        api_key: secret("wrong"),
        ..qdrant(vec![store.url()])
    };
    let outside = world.outside(wrong).await;
    let told = outside.told("one", "api_key").await;
    assert!(
        told.contains(&store.url()) && !told.contains("wrong"),
        "{told}"
    );
    let checked = outside
        .client
        .clone()
        .check(proto::CheckRequest {
            project: "one".into(),
            repair: false,
        })
        .await;
    let failure = commonplace_rpc::Failure::from_status(&checked.unwrap_err());
    assert_eq!(failure.reason, "VECTOR_STORE_DOWN");
    outside.index.shutdown().await;

    let nobody = qdrant(vec!["http://127.0.0.1:9".into()]);
    let outside = world.outside(nobody).await;
    let told = outside
        .told("one", "http://127.0.0.1:9 cannot be reached")
        .await;
    assert!(told.contains("refused"), "{told}");
    outside.index.shutdown().await;

    let right = QdrantOptions {
        api_key: secret("right"),
        ..qdrant(vec![store.url()])
    };
    let outside = world.outside(right).await;
    outside.stored("one").await;
    let never = world.path("never");
    for (addresses, problem) in [
        (vec![], "at least one"),
        (vec!["127.0.0.1:1".to_owned()], "http://"),
    ] {
        let options = common::with_store(qdrant(addresses));
        let clock = std::sync::Arc::new(commonplace_types::SystemClock);
        let started = commonplace_index::start_with(
            options,
            &never,
            world.to_journal.clone(),
            Ok(common::words()),
            clock,
        );
        let error = started.await.err().unwrap().to_string();
        assert!(
            error.contains("index.qdrant.addresses") && error.contains(problem),
            "{error}"
        );
    }
    world.stop(vec![outside]).await;
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_asked_when_one_fails() {
    let mut world = World::start().await;
    let second = server(&world.path("second"), None).await;
    let first = commonplace_qdrant_server::Server::start(commonplace_qdrant_server::Options {
        data: world.path("first"),
        peers: vec![second.url()],
        ..Default::default()
    });
    let first = first.await.unwrap();
    let options = qdrant(vec![first.url(), second.url()]);
    let (local, outside) = (world.local().await, world.outside(options).await);
    let mut dice = Dice(23);
    world.grow("one", &mut dice, 60).await;
    outside.stored("one").await;
    first.stop();
    same(&world, &mut dice, &local, &outside).await;
    assert!(second.faults.searches.load(SeqCst) > 10);
    world.stop(vec![local, outside]).await;
    second.stop();
}
