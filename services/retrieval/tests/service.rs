//! The retrieval service as its callers see it, over the real journal, index and policies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Mesh, Words, ask, at, draft, history};
use commonplace_proto::common::EventFilter;
use commonplace_proto::index::RebuildRequest;
use commonplace_proto::index::index_service_client::IndexServiceClient;
use commonplace_proto::policy::FusionMethod;
use commonplace_proto::retrieval as proto;
use commonplace_retrieval::pack;
use commonplace_rpc::{Code, Failure};

#[tokio::test]
async fn a_pack_is_cited_within_budget_and_named_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    let commit = mesh.append(history()).await;
    let request = proto::RetrieveRequest {
        budget_tokens: 200,
        ..ask("login timeout session cache")
    };
    let made = mesh.pack(request).await;
    assert_eq!(made.commit, commit);
    assert_eq!((made.policy.as_str(), made.policy_version), ("general", 1));
    assert_eq!(made.id, pack::id(&made.content));
    assert!(!made.items.is_empty());
    let used: u32 = made.items.iter().map(|item| item.tokens).sum();
    assert_eq!(used, made.used_tokens);
    assert!(used <= 200 && made.efficiency > 0.75, "{} used", used);
    for (rank, item) in (1..).zip(&made.items) {
        let citation = item.citation.as_ref().unwrap();
        assert_eq!((item.rank, &citation.event_id), (rank, &item.event_id));
        assert_eq!(citation.end - citation.start, item.text.len() as u64);
        assert!(citation.checksum.starts_with("sha256:"));
        assert_eq!(citation.author, "ann");
    }
    let manifest = made.manifest.unwrap();
    assert_eq!(manifest.embedder, "words@1");
    assert!(!manifest.tokenizer.is_empty() && !manifest.analyzer.is_empty());
    assert_eq!(
        manifest.clock.unwrap().seconds % 60,
        0,
        "floored to the minute"
    );
    let inside: BTreeSet<_> = made.items.iter().map(|item| &item.event_id).collect();
    let outside: BTreeSet<_> = made
        .exclusions
        .iter()
        .map(|excluded| &excluded.event_id)
        .collect();
    assert!(inside.is_disjoint(&outside));
    assert!(
        made.exclusions
            .iter()
            .all(|e| e.reason != 0 && !e.detail.is_empty())
    );
    assert!(
        made.exclusions
            .iter()
            .any(|e| e.reason() == proto::ExclusionReason::Budget)
    );
    mesh.stop().await;
}

#[tokio::test]
async fn an_answer_gives_as_much_of_a_pack_as_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let viewed = |view: proto::PackView| proto::RetrieveRequest {
        budget_tokens: 200,
        clock: Some(commonplace_proto::Timestamp {
            seconds: 1_780_100_040,
            nanos: 0,
        }),
        view: view.into(),
        ..ask("login timeout session cache")
    };
    let full = mesh.pack(viewed(proto::PackView::Full)).await;
    let counted: u32 = full.exclusion_counts.iter().map(|of| of.count).sum();
    assert_eq!(counted as usize, full.exclusions.len());
    assert!(full.exclusion_counts.is_sorted_by_key(|of| of.reason));
    for of in &full.exclusion_counts {
        let found = full.exclusions.iter().filter(|e| e.reason == of.reason);
        assert_eq!(found.count(), of.count as usize);
    }
    let basic = proto::ContextPack {
        content: Bytes::new(),
        exclusions: Vec::new(),
        ..full.clone()
    };
    assert!(!full.content.is_empty() && !full.exclusions.is_empty());
    for view in [proto::PackView::Unspecified, proto::PackView::Basic] {
        assert_eq!(mesh.pack(viewed(view)).await, basic, "{view:?}");
    }
    let preview = async |view| {
        let request = Some(viewed(view));
        let request = proto::PreviewPackRequest { request };
        let answer = mesh.client.clone().preview_pack(request).await.unwrap();
        answer.into_inner().pack.unwrap()
    };
    for view in [proto::PackView::Unspecified, proto::PackView::Full] {
        assert_eq!(preview(view).await, full, "{view:?}");
    }
    assert_eq!(preview(proto::PackView::Basic).await, basic);
    let id = full.id.clone();
    let mut client = mesh.client.clone();
    let kept = client.get_pack(proto::GetPackRequest { id }).await.unwrap();
    assert_eq!(kept.into_inner().pack.unwrap(), full);
    mesh.stop().await;
}

#[tokio::test]
async fn a_text_is_fetched_once_but_a_check_fetches_it_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let first = mesh.pack(ask("login timeout")).await;
    let items = first.items.len() as u64;
    assert!(items > 1);
    assert_eq!(mesh.texts(), (0, items));
    mesh.clock.advance(Duration::from_secs(60));
    let later = mesh.pack(ask("login timeout")).await;
    assert_ne!(later.id, first.id);
    assert_eq!(later.items, first.items);
    assert_eq!(mesh.texts(), (items, items));
    let request = proto::SearchRequest {
        query: "login timeout".into(),
        ..Default::default()
    };
    mesh.search(request).await.unwrap();
    let (memory, index) = mesh.texts();
    assert!(memory > items && index < 2 * items);
    let verdict = mesh.verify(&later.id, &later.content).await;
    assert!(verdict.verified, "{:?}", verdict.differences);
    assert_eq!(mesh.texts(), (memory, index + items));
    mesh.stop().await;
}

#[tokio::test]
async fn a_pack_verifies_after_later_writes_policies_and_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let mut packs = Vec::new();
    for (task, query, fusion) in [
        ("", "login timeout", FusionMethod::Unspecified),
        ("code_review", "session cache", FusionMethod::Unspecified),
        (
            "root_cause",
            "ERROR login timeout after 30 s",
            FusionMethod::ReciprocalRank,
        ),
        ("", "zebra", FusionMethod::MaxScore),
    ] {
        let request = proto::RetrieveRequest {
            task: task.into(),
            fusion: fusion.into(),
            ..ask(query)
        };
        packs.push(mesh.pack(request).await);
    }
    assert_eq!(packs[1].policy, "qa_code_review_py");

    for round in 0..20 {
        let text = format!("login timeout of the session cache, round {round}");
        mesh.append(vec![draft("bug", "Login again", &text)]).await;
    }
    mesh.put_policy("general", "weights: {lexical: 0.1, recency: 3}")
        .await;
    mesh.put_policy("qa_root_cause", "candidates: 3").await;
    mesh.clock.advance(Duration::from_secs(90 * 86_400));
    for pack in &packs {
        let verdict = mesh.verify(&pack.id, &pack.content).await;
        assert!(verdict.verified, "{:?}", verdict.differences);
        assert_eq!(
            (&verdict.id, &verdict.commit, verdict.commits_since),
            (&pack.id, &pack.commit, 20)
        );
    }
    let mut index = IndexServiceClient::new(mesh.index.clone());
    index
        .rebuild(RebuildRequest {
            project: String::new(),
        })
        .await
        .unwrap();
    for pack in &packs {
        let verdict = mesh.verify(&pack.id, &[]).await;
        assert!(
            verdict.verified,
            "kept, after a rebuild: {:?}",
            verdict.differences
        );
    }
    mesh.stop().await;

    let mesh = Mesh::start(folder.path()).await;
    let read = mesh
        .client
        .clone()
        .get_pack(proto::GetPackRequest {
            id: packs[2].id.clone(),
        })
        .await
        .unwrap();
    assert_eq!(read.into_inner().pack.unwrap(), packs[2]);
    assert!(
        mesh.verify(&packs[2].id, &packs[2].content).await.verified,
        "after a restart"
    );
    mesh.stop().await;
}

#[tokio::test]
async fn what_differs_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let made = mesh
        .pack(proto::RetrieveRequest {
            budget_tokens: 120,
            ..ask("login timeout")
        })
        .await;
    let text = String::from_utf8(made.content.to_vec()).unwrap();
    let commit = &made.commit;
    let hash = &made.manifest.as_ref().unwrap().policy_hash;
    for (from, to, path) in [
        ("\"id\":\"general\"", "\"id\":\"other\"", "policy"),
        ("\"version\":1", "\"version\":7", "policy"),
        (
            hash.as_str(),
            &hash.replace(['1', '2', '3'], "0"),
            "policy.hash",
        ),
        (commit.as_str(), &"ab".repeat(32), "commit.hash"),
        (
            "\"embedder\":\"words@1\"",
            "\"embedder\":\"other@1\"",
            "dense.embedder",
        ),
        ("commonplace.pack/1", "commonplace.pack/9", "format"),
        ("login timeout", "login\\ttimeout", "bytes"),
        (
            "\"author\":\"ann\"",
            "\"author\":\"eve\"",
            "items[0].author",
        ),
        (
            "\"project\":\"default\"",
            "\"project\":\"elsewhere\"",
            "project",
        ),
        ("\"tokens\":120", "\"tokens\":1", "budget.tokens"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let verdict = mesh.verify(&made.id, changed.as_bytes()).await;
        assert!(!verdict.verified, "{from}");
        assert_eq!(verdict.differences[0].path, "id", "{from}");
        let paths: Vec<&str> = verdict
            .differences
            .iter()
            .map(|d| d.path.as_str())
            .collect();
        if path != "bytes" || from.starts_with("commonplace") {
            assert!(paths.contains(&path), "{from}: {paths:?}");
        }
        let unnamed = mesh.verify("", changed.as_bytes()).await;
        assert!(
            !unnamed.verified && unnamed.differences[0].path != "id",
            "{from}"
        );
    }
    let verdict = mesh.verify("", &text.as_bytes()[..text.len() - 1]).await;
    assert_eq!(verdict.differences[0].path, "bytes");
    let verdict = mesh
        .verify("", text.replacen(':', ": ", 1).as_bytes())
        .await;
    assert_eq!(
        verdict.differences[0].path, "bytes",
        "the same, but not canonical"
    );
    assert!(mesh.verify("", text.as_bytes()).await.verified);

    let request = proto::VerifyPackRequest::default();
    let status = mesh.client.clone().verify_pack(request).await.unwrap_err();
    assert_eq!(Failure::from_status(&status).fields[0].field, "id");
    let request = proto::VerifyPackRequest {
        id: format!("blake3:{}", "0".repeat(64)),
        ..Default::default()
    };
    let status = mesh.client.clone().verify_pack(request).await.unwrap_err();
    assert_eq!(Failure::from_status(&status).reason, "PACK_NOT_FOUND");
    mesh.stop().await;
}

#[tokio::test]
async fn a_flip_of_any_byte_of_a_kept_file_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let made = mesh
        .pack(proto::RetrieveRequest {
            budget_tokens: 60,
            ..ask("palette")
        })
        .await;
    let file = pack::to_file(&made.id, &made.content);
    assert_eq!(
        pack::from_file(&file).unwrap(),
        (made.id.clone(), made.content.to_vec())
    );
    for place in (0..file.len()).step_by(7) {
        let mut flipped = file.clone();
        flipped[place] ^= 1;
        if let Ok((id, content)) = pack::from_file(&flipped) {
            let verdict = mesh.verify(&id, &content).await;
            assert!(
                !verdict.verified && !verdict.differences.is_empty(),
                "byte {place}"
            );
        }
    }
    mesh.stop().await;
}

#[tokio::test]
async fn the_same_request_at_the_same_commit_is_the_same_pack() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    let first_commit = mesh.append(history()).await;
    let first = mesh.retrieve(ask("login")).await.unwrap();
    assert!(!first.reused);
    let first = first.pack.unwrap();
    let again = mesh.retrieve(ask("login")).await.unwrap();
    assert!(again.reused);
    assert_eq!(again.pack.unwrap(), first);
    let named = proto::RetrieveRequest {
        as_of: at(&first_commit),
        ..ask("login")
    };
    assert_eq!(mesh.pack(named.clone()).await, first);

    mesh.append(vec![draft("bug", "Login", "login login login")])
        .await;
    let later = mesh.retrieve(ask("login")).await.unwrap();
    assert!(!later.reused);
    assert_ne!(later.pack.unwrap().id, first.id);
    assert_eq!(mesh.pack(named.clone()).await, first, "as of then");

    mesh.put_policy("general", "weights: {lexical: 1, dense: 0}")
        .await;
    let other = mesh.retrieve(named.clone()).await.unwrap();
    assert!(!other.reused, "another policy");
    let manifest = other.pack.unwrap().manifest.unwrap();
    assert_eq!(manifest.dense_off_reason, "the policy gives it no weight");
    mesh.clock.advance(Duration::from_secs(60));
    assert!(
        !mesh.retrieve(named).await.unwrap().reused,
        "another minute"
    );

    let durable = proto::RetrieveRequest {
        durable: true,
        ..ask("durable login")
    };
    assert!(!mesh.retrieve(durable.clone()).await.unwrap().reused);
    assert!(mesh.retrieve(durable).await.unwrap().reused);
    mesh.stop().await;
}

#[tokio::test]
async fn a_preview_is_the_same_pack_and_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let request = proto::PreviewPackRequest {
        request: Some(ask("login")),
    };
    let preview = mesh
        .client
        .clone()
        .preview_pack(request)
        .await
        .unwrap()
        .into_inner()
        .pack
        .unwrap();
    let get = proto::GetPackRequest {
        id: preview.id.clone(),
    };
    let status = mesh.client.clone().get_pack(get.clone()).await.unwrap_err();
    assert_eq!(Failure::from_status(&status).reason, "PACK_NOT_FOUND");
    assert_eq!(mesh.pack(ask("login")).await, preview);
    assert!(mesh.client.clone().get_pack(get).await.is_ok());
    mesh.stop().await;
}

/// A pack whose bytes were changed and whose id was made to fit them.
async fn forged(mesh: &Mesh, content: &[u8], from: &str, to: &str) -> proto::VerifyPackResponse {
    let text = String::from_utf8(content.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let bytes = text.replacen(from, to, 1).into_bytes();
    let id = format!("blake3:{}", blake3::hash(&bytes).to_hex());
    mesh.verify(&id, &bytes).await
}

#[tokio::test]
async fn a_pack_can_say_nothing_that_no_request_gives() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    mesh.put_policy("general", "weights: {lexical: 1, dense: 0}")
        .await;
    let filter = commonplace_proto::common::EventFilter {
        artifact_types: vec!["bug".into()],
        ..Default::default()
    };
    let request = proto::RetrieveRequest {
        filter: Some(filter),
        ..ask("login")
    };
    let made = mesh.pack(request).await;
    assert!(mesh.verify(&made.id, &made.content).await.verified);
    let off = r#"{"off":"no_weight"}"#;
    let types = r#"{"artifact_types":["bug"]}"#;
    for (from, to) in [
        (off, r#"{"off":"reviewed and approved"}"#),
        (off, r#"{"off":"no_model"}"#),
        (types, r#"{"artifact_types":["bug","bug"]}"#),
        (types, r#"{"artifact_types":["bug"],"min_importance":0}"#),
    ] {
        let verdict = forged(&mesh, &made.content, from, to).await;
        assert!(!verdict.verified && !verdict.differences.is_empty(), "{to}");
    }
    mesh.stop().await;
}

#[tokio::test]
async fn without_a_model_packs_say_so_and_still_verify() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start_with(folder.path(), Err("no model".into())).await;
    mesh.append(history()).await;
    let request = proto::RetrieveRequest {
        query: "login timeout".into(),
        ..Default::default()
    };
    let made = mesh.pack(request.clone()).await;
    let manifest = made.manifest.as_ref().unwrap();
    assert!(
        manifest.embedder.is_empty() && manifest.dense_off_reason.contains("no embedding model")
    );
    assert!(mesh.retrieve(request).await.unwrap().reused);
    mesh.stop().await;
    let mesh = Mesh::start_with(folder.path(), Ok(Arc::new(Words("words@1")))).await;
    let verdict = mesh.verify(&made.id, &made.content).await;
    assert!(
        verdict.verified,
        "with a model by now: {:?}",
        verdict.differences
    );
    let dense = mesh.pack(ask("login timeout")).await;
    mesh.stop().await;
    let mesh = Mesh::start_with(folder.path(), Err("no model".into())).await;
    let verdict = mesh.verify(&dense.id, &dense.content).await;
    assert_eq!(verdict.differences[0].path, "dense.embedder");
    assert!(
        verdict.differences[0]
            .expected
            .contains("no embedding model"),
        "{:?}",
        verdict.differences
    );
    assert_eq!(verdict.verdict(), proto::Verdict::Unverifiable);
    assert!(verdict.unverifiable_reason.contains("no embedding model"));
    mesh.stop().await;
}

#[tokio::test]
async fn a_pack_is_not_called_wrong_where_it_cannot_be_checked() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let made = mesh.pack(ask("login timeout")).await;
    let verdict = mesh.verify(&made.id, &made.content).await;
    assert_eq!(verdict.verdict(), proto::Verdict::Verified);
    mesh.stop().await;

    let mesh = Mesh::start(elsewhere.path()).await;
    let verdict = mesh.verify(&made.id, &made.content).await;
    assert_eq!(verdict.verdict(), proto::Verdict::Unverifiable);
    assert!(!verdict.verified && verdict.unverifiable_reason.contains("project"));
    assert_eq!(verdict.differences[0].path, "project");
    mesh.append(vec![draft(
        "bug",
        "Logout hangs",
        "Another history altogether.",
    )])
    .await;
    let verdict = mesh.verify(&made.id, &made.content).await;
    assert_eq!(verdict.verdict(), proto::Verdict::Unverifiable);
    assert_eq!(verdict.differences[0].path, "commit.hash");
    // What is wrong with a pack in itself is wrong everywhere.
    let changed = String::from_utf8(made.content.to_vec()).unwrap();
    let changed = changed.replacen("login", "logon", 1);
    let verdict = mesh.verify(&made.id, changed.as_bytes()).await;
    assert_eq!(verdict.verdict(), proto::Verdict::Differs);
    assert!(verdict.unverifiable_reason.is_empty());
    mesh.stop().await;
}

#[tokio::test]
async fn an_answer_says_why_its_policy_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let mut reasons = Vec::new();
    for (task, policy) in [
        ("code_review", ""),
        ("bogus", ""),
        ("", ""),
        ("", "general"),
    ] {
        let request = proto::RetrieveRequest {
            task: task.into(),
            policy: policy.into(),
            ..ask("login timeout")
        };
        reasons.push(mesh.retrieve(request).await.unwrap().policy_reason);
    }
    assert_eq!(
        reasons,
        [
            "it names task `code_review`",
            "no policy names task `bogus`; used `general`",
            "no task and no policy is named; used `general`",
            "named by the request",
        ]
    );
    mesh.stop().await;
}

#[tokio::test]
async fn superseded_events_and_filters_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    let mut old = draft("decision", "Cache", "zebra sessions live in memory");
    old.record_id = "decision:cache".into();
    let mut new = draft("decision", "Cache", "zebra sessions live in Redis");
    new.record_id = "decision:cache".into();
    new.supersede_heads = true;
    mesh.append(vec![old]).await;
    mesh.append(vec![new, draft("note", "n", "zebra note")])
        .await;
    let filter = EventFilter {
        artifact_types: vec!["decision".into()],
        ..Default::default()
    };
    let made = mesh
        .pack(proto::RetrieveRequest {
            filter: Some(filter),
            ..ask("zebra sessions")
        })
        .await;
    assert_eq!(made.items.len(), 1);
    assert!(made.items[0].text.contains("Redis"));
    let reasons: BTreeSet<_> = made
        .exclusions
        .iter()
        .map(|e| e.reason().as_str_name())
        .collect();
    assert!(
        reasons.contains("EXCLUSION_REASON_SUPERSEDED"),
        "{reasons:?}"
    );
    assert!(reasons.contains("EXCLUSION_REASON_POLICY"), "{reasons:?}");
    assert!(mesh.verify(&made.id, &made.content).await.verified);
    mesh.stop().await;
}

#[tokio::test]
async fn search_ranks_events_by_their_best_passage() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    let mut events = history();
    let long: String = (0..400)
        .map(|n| format!("zebra stripe number {n} runs.\n\n"))
        .collect();
    events.push(draft("note", "Stripes", &long));
    let commit = mesh.append(events).await;
    let request = proto::SearchRequest {
        query: "zebra stripe".into(),
        limit: 100,
        wait_for_dense: true,
        ..Default::default()
    };
    let found = mesh.search(request.clone()).await.unwrap();
    assert_eq!(found.commit, commit);
    let events: BTreeSet<_> = found.items.iter().map(|item| &item.event_id).collect();
    assert_eq!(events.len(), found.items.len(), "each event once");
    assert_eq!(found.items[0].title, "Stripes");
    assert!(!found.items[0].text.is_empty());
    let totals: Vec<i64> = found
        .items
        .iter()
        .map(|item| item.scores.unwrap().total)
        .collect();
    assert!(totals.is_sorted_by(|a, b| a >= b));
    let keys = mesh
        .search(proto::SearchRequest {
            keys_only: true,
            ..request
        })
        .await
        .unwrap();
    let ids = |response: &proto::SearchResponse| -> Vec<String> {
        response
            .items
            .iter()
            .map(|item| item.event_id.clone())
            .collect()
    };
    assert_eq!(ids(&keys), ids(&found));
    for (key, item) in keys.items.iter().zip(&found.items) {
        assert!(!item.record_id.is_empty());
        assert_eq!(
            (&key.record_id, &key.artifact_type),
            (&item.record_id, &item.artifact_type)
        );
    }
    assert!(
        keys.items
            .iter()
            .all(|item| item.text.is_empty() && item.title.is_empty())
    );
    mesh.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(folder.path()).await;
    mesh.append(history()).await;
    let long = "x".repeat(8_193);
    for (request, field) in [
        (ask(""), "query"),
        (ask(" \n"), "query"),
        (ask(&long), "query"),
        (
            proto::RetrieveRequest {
                budget_tokens: 1_000_001,
                ..ask("a")
            },
            "budget_tokens",
        ),
        (
            proto::RetrieveRequest {
                task: "a\nb".into(),
                ..ask("a")
            },
            "task",
        ),
        (
            proto::RetrieveRequest {
                project: "No".into(),
                ..ask("a")
            },
            "project",
        ),
        (
            proto::RetrieveRequest {
                fusion: 99,
                ..ask("a")
            },
            "fusion",
        ),
        (
            proto::RetrieveRequest {
                view: 9,
                ..ask("a")
            },
            "view",
        ),
        (
            proto::RetrieveRequest {
                as_of: at("xyz"),
                ..ask("a")
            },
            "as_of.commit",
        ),
        (
            proto::RetrieveRequest {
                policy: "No".into(),
                ..ask("a")
            },
            "policy",
        ),
        (
            proto::RetrieveRequest {
                filter: Some(EventFilter {
                    min_importance: 7.0,
                    ..Default::default()
                }),
                ..ask("a")
            },
            "filter.min_importance",
        ),
        (
            proto::RetrieveRequest {
                clock: Some(prost_types::Timestamp {
                    seconds: 884_541_340_800,
                    nanos: 0,
                }),
                ..ask("a")
            },
            "clock",
        ),
    ] {
        let failure = mesh.retrieve(request).await.unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{failure:?}");
        assert_eq!(failure.fields[0].field, field, "{failure:?}");
    }
    let unknown = proto::RetrieveRequest {
        policy: "nope".into(),
        ..ask("login")
    };
    let failure = mesh.retrieve(unknown).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    assert!(failure.message.contains("`qa_smoke`"), "{failure:?}");
    let unknown = proto::RetrieveRequest {
        as_of: at(&"ab".repeat(32)),
        ..ask("login")
    };
    assert_eq!(
        mesh.retrieve(unknown).await.unwrap_err().reason,
        "COMMIT_NOT_FOUND"
    );
    let small = proto::RetrieveRequest {
        budget_tokens: 1,
        ..ask("login timeout")
    };
    let failure = mesh.retrieve(small).await.unwrap_err();
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::FailedPrecondition, "BUDGET_TOO_SMALL")
    );
    assert_eq!(failure.metadata["budget_tokens"], "1");
    assert!(
        failure.metadata["smallest_item_tokens"]
            .parse::<u32>()
            .unwrap()
            > 1
    );
    let limit = proto::SearchRequest {
        query: "a".into(),
        limit: 1_001,
        ..Default::default()
    };
    assert_eq!(
        mesh.search(limit).await.unwrap_err().fields[0].field,
        "limit"
    );
    mesh.stop().await;
}
