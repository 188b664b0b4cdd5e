//! The examples of docs/http.md and README.md, run as they stand against a node over an empty journal.

use std::process::Command;

use commonplace_tests::repository;

use crate::common::Served;

/// Fails where a call fails, and shows its answer.
const PRELUDE: &str =
    "set -eu\ncurl() { command curl --silent --show-error --fail-with-body \"$@\"; echo; }\n";

fn page(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap()
}

/// The shell blocks of a page, one after the other.
fn shell(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks.collect::<Vec<_>>().join("\n")
}

async fn run(script: String) -> String {
    let served = Served::start().await;
    let script = PRELUDE.to_owned() + &script.replace("localhost:8083", &served.address);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.xml"), "<testsuite name=\"s\"/>").unwrap();
    let ran = tokio::task::spawn_blocking(move || {
        let mut sh = Command::new("sh");
        sh.arg("-c").arg(script).current_dir(folder.path());
        sh.output().unwrap()
    });
    let output = ran.await.unwrap();
    let (out, errors) = (output.stdout, output.stderr);
    let out = String::from_utf8_lossy(&out).into_owned();
    let errors = String::from_utf8_lossy(&errors).into_owned();
    assert!(output.status.success(), "{out}\n{errors}");
    out
}

#[tokio::test]
async fn the_examples_of_the_json_surface_run() {
    let out = run(shell(&page("docs/http.md"))).await;
    assert!(out.contains(r#""verified":true"#), "{out}");
    assert!(!out.contains("refusals"), "{out}");
}

#[tokio::test]
async fn the_calls_of_the_readme_run() {
    let readme = shell(&page("README.md"));
    let calls: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert!(!calls.is_empty(), "README.md shows a call");
    run(calls.join("\n")).await;
}

/// The verb and path of a line that calls.
fn called(line: &str) -> Option<(&'static str, String)> {
    let (_, rest) = line.split_once("localhost:8083")?;
    let end = rest.find(['?', ' ', '\'', '"']).unwrap_or(rest.len());
    let verb = match line {
        _ if line.contains("-X PUT") => "put",
        _ if line.contains(" -d ") || line.contains("--data-binary") => "post",
        _ => "get",
    };
    Some((verb, rest[..end].to_owned()))
}

/// Whether a path fits a template like `/packs/{id}`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template
            .zip(path)
            .all(|(part, given)| part == given || part.starts_with('{'))
}

#[test]
fn every_path_has_an_example() {
    let examples = shell(&page("docs/http.md"));
    let calls: Vec<_> = examples.lines().filter_map(called).collect();
    let mut paths = vec![
        ("post", "/ingest/{format}".to_owned()),
        ("get", "/health".to_owned()),
        ("get", "/metrics".to_owned()),
    ];
    for service in [
        "gateway",
        "index",
        "ingest",
        "journal",
        "policy",
        "retrieval",
        "telemetry",
    ] {
        let contract = page(&format!("proto/commonplace/{service}/v1/{service}.proto"));
        for verb in ["get", "put", "post"] {
            let start = format!("{verb}: \"");
            let rules = contract.split(&start).skip(1);
            paths.extend(rules.filter_map(|rest| Some((verb, rest.split('"').next()?.to_owned()))));
        }
    }
    assert!(paths.len() > 20, "the contracts are read: {paths:?}");
    for (verb, template) in paths {
        let shown = calls
            .iter()
            .any(|(with, path)| *with == verb && fits(&template, path));
        assert!(shown, "docs/http.md shows no call of {verb} {template}");
    }
}
