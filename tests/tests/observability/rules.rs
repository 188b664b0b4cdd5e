//! The alerting rules hold what they promise, and each alert has its page.

use std::collections::BTreeSet;
use std::process::Command;

use commonplace_tests::repository;

fn promtool(arguments: &[&str]) -> Option<std::process::Output> {
    let done = Command::new("promtool")
        .args(arguments)
        .current_dir(repository().join("observability"))
        .output();
    match done {
        Ok(done) => Some(done),
        Err(error) => {
            eprintln!(
                "SKIPPED: promtool cannot be run ({error}); install the package `prometheus`"
            );
            None
        }
    }
}

fn passes(arguments: &[&str]) {
    if let Some(done) = promtool(arguments) {
        let said = String::from_utf8_lossy(&done.stdout).into_owned()
            + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
    }
}

#[test]
fn rules_are_valid_and_fire_when_they_should() {
    passes(&["check", "rules", "alerts/commonplace.rules.yaml"]);
    passes(&["test", "rules", "tests/commonplace.test.yaml"]);
}

#[test]
fn a_rule_that_never_fires_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let observability = repository().join("observability");
    let read = |path: &str| std::fs::read_to_string(observability.join(path)).unwrap();
    let rules = read("alerts/commonplace.rules.yaml").replace("> 14.4 * 0.001", "> 144 * 0.001");
    std::fs::create_dir_all(folder.path().join("alerts")).unwrap();
    std::fs::create_dir_all(folder.path().join("tests")).unwrap();
    std::fs::write(folder.path().join("alerts/commonplace.rules.yaml"), rules).unwrap();
    let tests = folder.path().join("tests/commonplace.test.yaml");
    std::fs::write(&tests, read("tests/commonplace.test.yaml")).unwrap();
    if let Some(done) = promtool(&["test", "rules", &tests.display().to_string()]) {
        assert!(!done.status.success());
    }
}

#[test]
fn every_alert_has_a_case_and_a_page() {
    let observability = repository().join("observability");
    let rules =
        std::fs::read_to_string(observability.join("alerts/commonplace.rules.yaml")).unwrap();
    let cases = std::fs::read_to_string(observability.join("tests/commonplace.test.yaml")).unwrap();
    let after = |text: &str, key: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix(key));
        lines.map(|rest| rest.trim().to_owned()).collect()
    };
    let alerts = after(&rules, "- alert:");
    let pages = after(&rules, "runbook_url:");
    assert_eq!(alerts.len(), pages.len());
    assert!(alerts.len() > 10, "{alerts:?}");
    let mut used = BTreeSet::new();
    for (alert, url) in alerts.iter().zip(pages) {
        assert!(cases.contains(alert.as_str()), "{alert} has a case");
        let page = url.rsplit('/').next().unwrap();
        let text = std::fs::read_to_string(repository().join("docs/runbooks").join(page));
        assert!(
            text.unwrap_or_default().contains(alert.as_str()),
            "{page} is about {alert}"
        );
        used.insert(page.to_owned());
    }
    let index = std::fs::read_to_string(repository().join("docs/runbooks/README.md")).unwrap();
    assert!(
        used.iter().all(|page| index.contains(page.as_str())),
        "{used:?}"
    );
}

#[test]
fn dashboards_are_json_with_panels() {
    for (path, text) in crate::exported::files() {
        if path.ends_with(".json") {
            let board: serde_json::Value = serde_json::from_str(&text).expect(&path);
            assert!(board["panels"].as_array().unwrap().len() > 5, "{path}");
        }
    }
}
