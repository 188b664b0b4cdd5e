use commonplace_rpc::convert::Filter;
use commonplace_types::{ArtifactType, Attribute, Digest, Importance};

use super::*;
use crate::candidate::{Eligibility, Off};
use crate::engine::fill;
use crate::rules::FusionMethod;
use crate::testing::{candidate, clock, event, policy, recipe, rules};
use crate::verify::compare;

fn passage(key: PassageKey) -> Passage {
    Passage {
        key,
        record: format!("bug:{}", key.passage),
        artifact_type: "bug".into(),
        title: "Login \"fails\"".into(),
        text: "line one\n\tline two \u{1} ä 😀\\".into(),
        start: 12,
        end: 46,
        event_time: clock(),
        source: "jira".into(),
        author: "ann".into(),
        checksum: format!("sha256:{}", "ab".repeat(32)),
        tokens: 100,
    }
}

/// A pack with something in every part of it.
fn sample() -> Pack {
    let mut candidates: Vec<Candidate> = (1..=5).map(candidate).collect();
    candidates[0].lexical_score = 8.0;
    candidates[0].lexical_rank = 1;
    candidates[1].lexical_score = 4.0;
    candidates[1].lexical_rank = 2;
    candidates[1].dense_score = Some(0.75);
    candidates[1].dense_rank = 1;
    candidates[2].dense_score = Some(0.25);
    candidates[2].dense_rank = 2;
    candidates[3].eligibility = Eligibility::Superseded;
    candidates[4].tokens = 900;
    let found = Found {
        commit: Digest::of(&[b"commit"]),
        commit_number: 42,
        statistics: Statistics {
            passages: 5,
            total_length: 250,
            terms: vec![("fail".into(), 2), ("login".into(), 3)],
            analyzer: "code/1".into(),
        },
        dense: Dense::On {
            embedder: "model@1".into(),
            through: 41,
            recorded: false,
        },
        candidates,
    };
    let mut recipe = recipe(350);
    recipe.fusion = Some(FusionMethod::WeightedSum);
    recipe.filter = Filter {
        artifact_types: vec![ArtifactType::new("bug").unwrap()],
        attributes: vec![Attribute::new("verdict", "failed")],
        min_importance: Some(Importance::new(0.25).unwrap()),
        from_time: Some(Timestamp::from_micros(1_700_000_000_123_456).unwrap()),
        pinned_only: true,
        ..Filter::default()
    };
    let draft = fill(recipe, &policy(rules()), found, &[], "o200k").unwrap();
    let passages = draft
        .wanted
        .iter()
        .map(|wanted| wanted.key)
        .map(|key| Arc::new(passage(key)))
        .collect();
    draft.finish(passages)
}

/// Canonical JSON by another road: parsed, keys sorted by the map, written compactly.
fn canonical(bytes: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn the_bytes_never_change() {
    let bytes = sample().to_bytes();
    let golden = include_bytes!("golden.json");
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        String::from_utf8_lossy(golden)
    );
    assert_eq!(
        id(&bytes),
        "blake3:da70a48de0c56b9184c315c44bc165d403afa1298f0e0d99f22b9975d13c8c1e"
    );
}

#[test]
fn the_bytes_are_canonical() {
    let bytes = sample().to_bytes();
    assert_eq!(canonical(&bytes), bytes);
    assert!(!bytes.contains(&b'.') || !has_fraction(&serde_json::from_slice(&bytes).unwrap()));
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => !number.is_u64(),
        serde_json::Value::Array(items) => items.iter().any(has_fraction),
        serde_json::Value::Object(members) => members.values().any(has_fraction),
        _ => false,
    }
}

#[test]
fn a_pack_is_read_back_whole() {
    let pack = sample();
    assert_eq!(read(&pack.to_bytes()).unwrap(), pack);
    let mut plain = sample();
    plain.recipe.filter = Filter::default();
    plain.recipe.fusion = None;
    plain.dense = Dense::Off {
        reason: Off::NoModel,
    };
    assert_eq!(read(&plain.to_bytes()).unwrap(), plain);
}

#[test]
fn what_is_no_pack_is_refused_with_its_reason() {
    let text = String::from_utf8(sample().to_bytes()).unwrap();
    let refused = |from: &str, to: &str| {
        read(text.replacen(from, to, 1).as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert!(
        refused("commonplace.pack/1", "commonplace.pack/2")
            .contains("expected `commonplace.pack/1`")
    );
    assert!(refused("\"analyzer\"", "\"analyser\"").contains("unknown field `analyser`"));
    assert!(refused("\"included\"", "\"maybe\"").contains("`maybe` is not known"));
    assert!(refused("\"number\":42", "\"number\":-42").contains("invalid value"));
    assert!(read(b"").is_err());
}

#[test]
fn a_flip_of_any_byte_is_found_and_told() {
    let pack = sample();
    let bytes = pack.to_bytes();
    let file = to_file(&id(&bytes), &bytes);
    for place in 0..file.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut flipped = file.clone();
            flipped[place] ^= flip;
            match from_file(&flipped) {
                // A bracket or quote that went missing looks like a file that was cut.
                Err(error) => assert!(
                    ["not a pack file: ", "the file ends early, "]
                        .iter()
                        .any(|start| error.to_string().starts_with(start)),
                    "{error}"
                ),
                Ok((claimed, content)) => {
                    assert_ne!(claimed, id(&content), "byte {place}: the id still fits");
                    let differences = compare(&content, &bytes);
                    // A flip in the id itself leaves the bytes as they are.
                    assert_eq!(differences.is_empty(), content == bytes, "byte {place}");
                    assert!(
                        differences
                            .iter()
                            .all(|d| !d.path.is_empty() && d.given != d.expected)
                    );
                }
            }
        }
    }
}

#[test]
fn the_evidence_stands_for_the_items_alone() {
    let pack = sample();
    let root = evidence(&pack.items);
    assert_eq!(pack.evidence, root);
    let mut items = pack.items.clone();
    Arc::make_mut(&mut items[0].passage).title.clear();
    assert_eq!(evidence(&items), root);
    Arc::make_mut(&mut items[0].passage).end += 1;
    assert_ne!(evidence(&items), root);
    let mut turned = pack.items;
    turned.swap(0, 1);
    assert_ne!(evidence(&turned), root);
}

#[test]
fn efficiency_is_used_by_budget() {
    let pack = sample();
    assert_eq!((pack.used_tokens, pack.efficiency()), (300, 857_142));
    assert_eq!(
        pack.candidates
            .iter()
            .filter(|listed| listed.key.event == event(5))
            .count(),
        1
    );
}
