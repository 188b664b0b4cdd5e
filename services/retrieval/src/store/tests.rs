use commonplace_testkit::{Backend, Site, each_backend};
use commonplace_types::Digest;

use super::*;
use crate::candidate::{Dense, Found, Off, Statistics};
use crate::engine::fill;
use crate::testing::{clock, policy, recipe, rules};

each_backend!(
    a_pack_is_there_at_once_and_after_a_restart,
    durable_waits_for_the_disk,
    a_damaged_pack_is_told_and_not_served,
);

fn kept(query: &str) -> Arc<Kept> {
    let found = Found {
        commit: Digest::ZERO,
        commit_number: 1,
        statistics: Statistics::default(),
        dense: Dense::Off {
            reason: Off::NoModel,
        },
        candidates: Vec::new(),
    };
    let mut recipe = recipe(100);
    recipe.query = query.into();
    let draft = fill(recipe, &policy(rules()), found, &[], "o200k").unwrap();
    Arc::new(Kept::new(draft.finish(Vec::new())))
}

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}

async fn a_pack_is_there_at_once_and_after_a_restart(backend: Backend) {
    let site = Site::new(backend);
    let options = Options {
        cached_packs: 2,
        ..Options::default()
    };
    let store = Store::open(&site.place("retrieval"), &options)
        .await
        .unwrap();
    let packs: Vec<Arc<Kept>> = (0..100)
        .map(|number| kept(&format!("query {number}")))
        .collect();
    for pack in &packs {
        assert!(
            !store
                .put(tenant("a"), pack.clone(), clock(), false)
                .await
                .unwrap()
        );
        assert_eq!(store.get(&tenant("a"), &pack.id).await.unwrap(), *pack);
    }
    store.shutdown().await.unwrap();
    let refused = store
        .put(tenant("a"), packs[0].clone(), clock(), false)
        .await;
    assert!(matches!(
        refused,
        Ok(true) | Err(RetrievalError::ShuttingDown)
    ));

    let store = Store::open(&site.place("retrieval"), &options)
        .await
        .unwrap();
    for pack in &packs {
        assert_eq!(store.get(&tenant("a"), &pack.id).await.unwrap(), *pack);
    }
    let other = store.get(&tenant("b"), &packs[0].id).await.unwrap_err();
    assert!(matches!(other, RetrievalError::UnknownPack(_)), "{other}");
}

async fn durable_waits_for_the_disk(backend: Backend) {
    let site = Site::new(backend);
    let options = Options {
        write_delay_ms: 1_000,
        ..Options::default()
    };
    let store = Store::open(&site.place("retrieval"), &options)
        .await
        .unwrap();
    let pack = kept("durable");
    assert!(
        !store
            .put(tenant("a"), pack.clone(), clock(), true)
            .await
            .unwrap()
    );
    assert_eq!(store.read(&tenant("a"), &pack.id).await.unwrap(), *pack);
    assert!(
        store
            .put(tenant("a"), pack.clone(), clock(), true)
            .await
            .unwrap(),
        "known already"
    );
}

async fn a_damaged_pack_is_told_and_not_served(backend: Backend) {
    let site = Site::new(backend);
    let store = Store::open(&site.place("retrieval"), &Options::default())
        .await
        .unwrap();
    let (one, two) = (kept("one"), kept("two"));
    store
        .put(tenant("a"), one.clone(), clock(), true)
        .await
        .unwrap();
    store
        .put(tenant("a"), two.clone(), clock(), true)
        .await
        .unwrap();
    let content = zstd::bulk::compress(&two.content, LEVEL).unwrap();
    let swap = "UPDATE pack SET content = ? WHERE id = ?";
    let values = vec![content.into(), one.id.clone().into()];
    store
        .database
        .for_all()
        .execute(swap, values)
        .await
        .unwrap();
    let error = store.read(&tenant("a"), &one.id).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("its bytes hash to {}", two.id)),
        "{error}"
    );
}

#[tokio::test]
async fn two_processes_keep_the_same_pack() {
    let site = Site::new(Backend::Postgres);
    let options = Options::default();
    let one = Store::open(&site.place("retrieval"), &options)
        .await
        .unwrap();
    let two = Store::open(&site.place("retrieval"), &options)
        .await
        .unwrap();
    let packs: Vec<Arc<Kept>> = (0..40).map(|n| kept(&format!("query {n}"))).collect();
    let put = async |store: &Store| {
        for pack in &packs {
            let put = store.put(tenant("a"), pack.clone(), clock(), true);
            assert!(!put.await.unwrap());
        }
    };
    tokio::join!(put(&one), put(&two));
    let other = kept("only the other has it");
    one.put(tenant("a"), other.clone(), clock(), true)
        .await
        .unwrap();
    assert_eq!(two.get(&tenant("a"), &other.id).await.unwrap(), other);
    let rows = two
        .database
        .for_all()
        .query_one("SELECT count(*) FROM pack", Vec::new())
        .await;
    let rows: i64 = rows.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(rows, 41);
}
