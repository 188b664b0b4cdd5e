//! Tenants on one server learn nothing of each other: not by what is answered, counted or ranked, not by how a call
//! fails, and not by how long that takes.
//!
//! What is tried is generated: tenants, projects, grants, policies, scopes and delegations from a seed, calls of every
//! rpc and every HTTP path from the contracts, by everybody, with names of everybody's things. `COM_ISOLATION_ROUNDS`
//! is how often every rpc is called (20 by default), `COM_ISOLATION_SEED` the seed. A failure names both.

mod calls;
mod model;
mod storm;
mod timing;
mod twin;
mod wire;
mod world;

use std::collections::HashSet;

use commonplace_tests::dice::Dice;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::Value as Json;

use wire::Answer;

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    setting("COM_ISOLATION_SEED", 1)
}

/// Dice for one part of a test.
fn dice(part: u64) -> Dice {
    Dice::new(seed().wrapping_mul(0x9e37_79b9).wrapping_add(part))
}

/// What an answer tells, in a form that is the same for the same answer: hashes, ids of commits and whatever else is
/// made by chance become the number of their first appearance.
fn told(method: &MethodDescriptor, answer: &Answer, chance: &[(String, String)]) -> String {
    let text = match &answer.failure {
        Some(failure) => format!("{failure:?}"),
        None => {
            let decoded = DynamicMessage::decode(method.output(), answer.message.clone()).unwrap();
            let mut json = serde_json::to_value(&decoded).unwrap();
            without_moments(&mut json);
            let mut text = json.to_string();
            for (from, to) in chance {
                text = text.replace(from, to);
            }
            let mut json: Json = serde_json::from_str(&text).unwrap();
            sorted(&mut json);
            format!("ok {json}")
        }
    };
    let mut text = text;
    for (from, to) in chance {
        text = text.replace(from, to);
    }
    numbered(&text)
}

/// Words as they stand in what is sent.
type Words = HashSet<[u8; 16]>;

/// Every 16 lower-case letters in a row, also those that are written as hex digits.
fn words(bytes: &[u8]) -> Words {
    let mut words = Words::new();
    let mut add = |bytes: &[u8]| {
        for run in bytes.split(|byte| !byte.is_ascii_lowercase()) {
            let all = run.windows(16);
            words.extend(all.filter_map(|word| <[u8; 16]>::try_from(word).ok()));
        }
    };
    add(bytes);
    for run in bytes.split(|byte| !byte.is_ascii_hexdigit()) {
        for from in [0, 1].into_iter().filter(|from| run.len() >= 32 + from) {
            let pairs = run[from..].chunks_exact(2);
            let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
            let read: Vec<u8> = pairs
                .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
                .collect();
            add(&read);
        }
    }
    words
}

/// Takes out what differs from one moment to the next on one server.
fn without_moments(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.remove("uptimeSeconds");
            fields.remove("sizeBytes");
            fields.remove("lastUseTime");
            fields.remove("content");
            fields.values_mut().for_each(without_moments);
        }
        Json::Array(items) => items.iter_mut().for_each(without_moments),
        _ => {}
    }
}

/// Keys are listed by their ids, which are made by chance.
fn sorted(json: &mut Json) {
    if let Some(Json::Array(keys)) = json.get_mut("keys") {
        keys.sort_by_key(ToString::to_string);
    }
}

/// Each run of 16 or more hex digits as the number of its first appearance.
fn numbered(text: &str) -> String {
    let (mut out, mut seen, mut rest) = (String::new(), Vec::new(), text);
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if run.len() < 16 {
            out.push_str(run);
        } else {
            let known = seen.iter().position(|other| *other == run);
            let number = known.unwrap_or_else(|| {
                seen.push(run);
                seen.len() - 1
            });
            out.push_str(&format!("#{number}"));
        }
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[test]
fn words_are_found_however_they_are_written() {
    let word = "zanzibarquixotic";
    let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        format!("a{word}b"),
        format!("{{\"x\":\"{word}\"}}"),
        format!("0f{hex}"),
    ] {
        assert!(words(text.as_bytes()).contains(word.as_bytes()), "{text}");
    }
    assert!(!words(b"zanzibarQuixotic").contains(word.as_bytes()));
}

#[test]
fn what_is_made_by_chance_is_numbered() {
    let (one, two) = ("0f".repeat(16), "a".repeat(64));
    let text = format!("{one} {two} {one} feed");
    assert_eq!(numbered(&text), "#0 #1 #0 feed");
}
