//! The structure of the code, kept true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use commonplace_tests::layering::{
    Source, calls, cycle, sources, wire_in_domain, wrong_dependencies,
};
use commonplace_tests::repository;

/// Services with a domain of their own. The gateway has none: it is all wire.
const SERVICES: [&str; 5] = ["ingest", "journal", "index", "policy", "retrieval"];

fn sources_of(service: &str) -> Vec<Source> {
    let found = sources(&repository().join("services").join(service).join("src")).unwrap();
    assert!(found.len() > 3, "{service} has sources");
    found
}

#[test]
fn domain_modules_do_not_name_the_wire() {
    let found: Vec<String> = SERVICES
        .iter()
        .flat_map(|service| wire_in_domain(&sources_of(service)))
        .collect();
    assert!(
        found.is_empty(),
        "only service.rs, convert.rs, client.rs and lib.rs may:\n{}",
        found.join("\n")
    );
}

#[test]
fn calls_go_the_way_of_the_drawing() {
    let graph: BTreeMap<String, BTreeSet<String>> = SERVICES
        .iter()
        .map(|service| (service.to_string(), calls(&sources_of(service))))
        .collect();
    assert_eq!(cycle(&graph), None);
    let drawn = [
        ("ingest", vec!["journal"]),
        ("journal", vec![]),
        ("index", vec!["journal"]),
        ("policy", vec![]),
        ("retrieval", vec!["index", "policy"]),
    ];
    for (service, may_call) in drawn {
        let may_call: BTreeSet<String> = may_call.into_iter().map(String::from).collect();
        assert_eq!(
            graph[service], may_call,
            "{service} calls what ARCHITECTURE.md draws"
        );
    }
}

#[test]
fn a_process_asks_others_only_what_they_tell_about_themselves() {
    let node = sources(&repository().join("services/node/src")).unwrap();
    assert_eq!(calls(&node), BTreeSet::from(["telemetry".to_owned()]));
    let gateway = sources(&repository().join("services/gateway/src")).unwrap();
    assert_eq!(calls(&gateway), BTreeSet::from(["ingest".to_owned()]));
}

#[test]
fn dependencies_point_downwards() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(wrong_dependencies(&metadata), Vec::<String>::new());
}

#[test]
fn a_real_module_that_is_broken_on_purpose_is_found() {
    for service in SERVICES {
        let mut sources = sources_of(service);
        let domain = sources
            .iter_mut()
            .find(|source| source.path.ends_with("/error.rs"))
            .unwrap();
        domain.text.push_str("\nuse tonic::Status;\n");
        assert_eq!(wire_in_domain(&sources).len(), 1, "{service}");
    }
}

#[test]
fn a_domain_module_that_names_the_wire_is_found() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.into(),
    };
    let broken = [
        source(
            "services/x/src/packing.rs",
            "// tonic in a comment is fine\nuse tonic::Status;",
        ),
        source(
            "services/x/src/store/sqlite.rs",
            "fn f(t: prost_types::Timestamp) {}",
        ),
        source("services/x/src/service.rs", "use tonic::Status;"),
        source("services/x/src/packing/tests.rs", "use tonic::Status;"),
    ];
    let found = wire_in_domain(&broken);
    assert_eq!(
        found,
        [
            "services/x/src/packing.rs:2 names `tonic`",
            "services/x/src/store/sqlite.rs:1 names `prost_types`"
        ]
    );
}

#[test]
fn a_cycle_of_calls_is_found() {
    let client = |name: &str| {
        [Source {
            path: "a/src/client.rs".into(),
            text: format!("{name}ServiceClient::new(c)"),
        }]
    };
    assert_eq!(
        calls(&client("Journal")),
        BTreeSet::from(["journal".to_owned()])
    );
    let mut graph = BTreeMap::from([
        ("index".to_owned(), calls(&client("Journal"))),
        ("retrieval".to_owned(), calls(&client("Index"))),
    ]);
    assert_eq!(cycle(&graph), None);
    graph.insert("journal".to_owned(), calls(&client("Retrieval")));
    let names = cycle(&graph).unwrap();
    assert_eq!(names.first(), names.last());
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn a_dependency_that_points_upwards_is_found() {
    let package = |name: &str, on: &str, kind: Option<&str>| serde_json::json!({"name": name, "dependencies": [{"name": on, "kind": kind}]});
    let metadata = serde_json::json!({"packages": [
        package("commonplace-retrieval", "commonplace-index", None),
        package("commonplace-rpc", "commonplace-journal", None),
        package("commonplace-index", "commonplace-journal", Some("dev")),
        package("commonplace-node", "commonplace-journal", None),
        package("commonplace-new", "commonplace-types", None),
    ]});
    assert_eq!(
        wrong_dependencies(&metadata),
        [
            "commonplace-new has no layer; give it one in tests/src/layering.rs",
            "commonplace-retrieval depends on commonplace-index",
            "commonplace-rpc depends on commonplace-journal",
        ]
    );
}
