//! A pack made with a store's candidates can be made again without the store.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Dice, Side, World, qdrant, server};
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{PackView, RetrieveRequest, VerifyPackRequest};
use commonplace_rpc::Channel;
use commonplace_types::{ManualClock, Timestamp};
use tonic::service::Routes;

async fn retrieval(folder: &Path, side: &Side) -> RetrievalServiceClient<Channel> {
    let clock = Arc::new(ManualClock::new(
        Timestamp::parse("2026-11-21T08:00:30Z").unwrap(),
    ));
    let policies = commonplace_policy::start(Default::default(), folder, clock.clone())
        .await
        .unwrap();
    let to_policy = Channel::in_process(Routes::new(policies.service()).prepare());
    let to_index = Channel::in_process(Routes::new(side.index.service()).prepare());
    let started =
        commonplace_retrieval::start(Default::default(), folder, to_index, to_policy, clock);
    let retrieval = started.await.unwrap();
    RetrievalServiceClient::new(Channel::in_process(
        Routes::new(retrieval.service()).prepare(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_verify_without_the_store_and_after_later_writes() {
    let mut world = World::start().await;
    let store = server(&world.path("store"), None).await;
    for exact in [true, false] {
        let project = if exact { "exact" } else { "approximate" };
        let options = commonplace_index::QdrantOptions {
            exact,
            ..qdrant(vec![store.url()])
        };
        let folder = world.path(project);
        std::fs::create_dir_all(&folder).unwrap();
        let outside = Side::start(&folder, &world.to_journal, common::with_store(options));
        let outside = outside.await;
        let mut dice = Dice(37);
        world.grow(project, &mut dice, 60).await;
        outside.stored(project).await;
        let mut here = retrieval(&folder, &outside).await;
        let mut packs = Vec::new();
        for _ in 0..5 {
            let request = RetrieveRequest {
                project: project.into(),
                query: dice.words(5),
                wait_for_dense: true,
                view: PackView::Full.into(),
                ..Default::default()
            };
            let answer = here.retrieve(request).await.unwrap().into_inner();
            let pack = answer.pack.unwrap();
            let text = String::from_utf8(pack.content.to_vec()).unwrap();
            assert!(
                text.contains(r#""dense":{"candidates":"recorded""#),
                "{text}"
            );
            packs.push(pack);
        }
        world.grow(project, &mut dice, 20).await;
        outside.stored(project).await;
        let local_folder = world.path(&format!("{project}-local"));
        std::fs::create_dir_all(&local_folder).unwrap();
        let local = Side::start(&local_folder, &world.to_journal, common::quick()).await;
        let mut elsewhere = retrieval(&local_folder, &local).await;
        for pack in &packs {
            for client in [&mut here, &mut elsewhere] {
                let request = VerifyPackRequest {
                    id: pack.id.clone(),
                    content: pack.content.clone(),
                };
                let verdict = client.verify_pack(request).await.unwrap().into_inner();
                assert!(verdict.differences.is_empty(), "{verdict:?}");
                assert_eq!(verdict.id, pack.id);
            }
            // A changed dense score is noticed.
            let text = String::from_utf8(pack.content.to_vec()).unwrap();
            if let Some(place) = text.find(r#""dense_rank":1,"#) {
                let forged = [&text[..place], r#""dense_rank":2,"#, &text[place + 15..]].concat();
                let request = VerifyPackRequest {
                    id: String::new(),
                    content: forged.into_bytes().into(),
                };
                let verdict = here.verify_pack(request).await.unwrap().into_inner();
                assert!(!verdict.differences.is_empty());
            }
        }
        outside.index.shutdown().await;
        local.index.shutdown().await;
    }
    world.stop(vec![]).await;
    store.stop();
}
