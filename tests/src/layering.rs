//! The rules of the structure: who may depend on whom, who may call whom, who may name the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The files of a service that turn the wire into the domain and back.
const WIRE_FILES: [&str; 4] = ["service.rs", "convert.rs", "client.rs", "lib.rs"];
/// What only those files may name.
const WIRE_WORDS: [&str; 4] = ["tonic", "prost", "prost_types", "commonplace_proto"];

/// A source file of a crate.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it stands, for messages.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Reads every Rust file under a folder, in order of path.
pub fn sources(folder: &Path) -> std::io::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path)?;
                found.push(Source {
                    path: path.display().to_string(),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Domain modules that name the wire: one line for each place.
pub fn wire_in_domain(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        let is_wire = WIRE_FILES.contains(&file) || source.path.contains("/convert/");
        if is_wire || is_test(&source.path) {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = words.into_iter().find(|word| WIRE_WORDS.contains(word)) {
                found.push(format!("{}:{} names `{word}`", source.path, number + 1));
            }
        }
    }
    found
}

/// Which services a service calls, by the generated clients that its sources name outside of tests.
pub fn calls(sources: &[Source]) -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for source in sources.iter().filter(|source| !is_test(&source.path)) {
        let code = source
            .text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        for word in code.split(|c: char| !c.is_alphanumeric()) {
            if let Some(name) = word
                .strip_suffix("ServiceClient")
                .filter(|name| !name.is_empty())
            {
                called.insert(name.to_lowercase());
            }
        }
    }
    called
}

/// A cycle in a graph of who calls whom, if there is one, as the names along it.
pub fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        at: &str,
        graph: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|seen| seen == at) {
            return Some(
                path[start..]
                    .iter()
                    .cloned()
                    .chain([at.to_owned()])
                    .collect(),
            );
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        path.push(at.to_owned());
        let found = graph
            .get(at)
            .into_iter()
            .flatten()
            .find_map(|next| walk(next, graph, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| walk(start, graph, &mut Vec::new(), &mut done))
}

/// The layer of a crate of ours; a crate may depend on lower layers only, libraries also on each other.
fn layer(name: &str) -> Option<u8> {
    Some(match name {
        "commonplace-proto" | "commonplace-types" => 0,
        "commonplace-access"
        | "commonplace-config"
        | "commonplace-telemetry"
        | "commonplace-storage"
        | "commonplace-embed"
        | "commonplace-limits"
        | "commonplace-rpc"
        | "commonplace-testkit" => 1,
        "commonplace-ingest"
        | "commonplace-journal"
        | "commonplace-index"
        | "commonplace-retrieval"
        | "commonplace-policy"
        | "commonplace-gateway" => 2,
        "commonplace-node" => 3,
        "commonplace-com" => 4,
        "commonplace-qdrant-server" | "commonplace-tests" => 5,
        "commonplace-bench" => 6,
        _ => return None,
    })
}

/// Dependencies that go the wrong way, from `cargo metadata`: one line for each. Dependencies of tests do
/// not count.
pub fn wrong_dependencies(metadata: &serde_json::Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if !name.starts_with("commonplace-") {
            continue;
        }
        let Some(own) = layer(name) else {
            found.push(format!(
                "{name} has no layer; give it one in tests/src/layering.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if !dependency["kind"].is_null() {
                continue;
            }
            let other = dependency["name"].as_str().unwrap_or_default();
            let Some(lower) = layer(other) else { continue };
            let among_libraries = own == 1 && lower == 1;
            if lower > own || (lower == own && !among_libraries) {
                found.push(format!("{name} depends on {other}"));
            }
        }
    }
    found.sort();
    found
}

/// Whether a source file only serves tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/testing.rs")
}
