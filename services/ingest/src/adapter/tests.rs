//! Every sample payload of real tools, through its adapter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Options;
use crate::intake::{self, Origin};
use crate::redact::Redactor;

/// The folder of sample payloads, where there is one.
pub(crate) fn payloads(kind: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/payloads")
        .join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: no sample payloads at {}", folder.display());
    None
}

/// Every file below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}

/// What an adapter finds in a report.
pub(crate) fn found(
    format: &str,
    report: &[u8],
) -> Result<(Vec<Draft>, Vec<Refusal>), ReportError> {
    let (mut drafts, mut refusals) = (Vec::new(), Vec::new());
    Format::named(format)
        .unwrap()
        .read(report, &TextLimits::default(), &mut |found| {
            match found {
                Found::Draft(draft) | Found::State(draft) => drafts.push(*draft),
                Found::Refused(refusal) => refusals.push(refusal),
            }
            Ok(())
        })?;
    Ok((drafts, refusals))
}

/// The drafts of a report as they would be appended.
pub(crate) fn appended(format: &str, name: &str, report: &[u8]) -> Vec<Draft> {
    let redactor = Redactor::new(&Default::default()).unwrap();
    let origin = Origin {
        source: name.into(),
        author: String::new(),
    };
    let mut drafts = Vec::new();
    let format = Format::named(format).unwrap();
    let tally = intake::read(
        report,
        format,
        origin,
        &redactor,
        &Options::default(),
        &Default::default(),
        &mut |batch| {
            drafts.extend(batch.into_iter().map(|(_, draft)| draft));
            Ok(())
        },
    );
    assert_eq!(tally.unwrap().refusals, []);
    drafts
}

pub(crate) fn attribute<'d>(draft: &'d Draft, key: &str) -> Option<&'d str> {
    draft
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| attribute.value.as_str())
}

fn of_type<'d>(drafts: &'d [Draft], kind: &str) -> Vec<&'d Draft> {
    drafts
        .iter()
        .filter(|draft| draft.artifact_type.as_str() == kind)
        .collect()
}

/// The report without its comments, so that what is commented out is not counted.
fn without_comments(xml: &str) -> String {
    let mut out = String::new();
    let mut rest = xml;
    while let Some((before, after)) = rest.split_once("<!--") {
        out.push_str(before);
        rest = after.split_once("-->").map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// The start tags of an element, by plain text search.
fn tags<'x>(xml: &'x str, element: &str) -> Vec<&'x str> {
    let open = format!("<{element}");
    let found = xml.match_indices(&open).map(|(at, _)| &xml[at..]);
    let whole =
        found.filter(|tag| tag[open.len()..].starts_with([' ', '>', '/', '\n', '\r', '\t']));
    whole
        .map(|tag| &tag[..tag.find('>').unwrap_or(tag.len())])
        .collect()
}

fn written<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    let start = [' ', '\n', '\t']
        .iter()
        .find_map(|space| tag.find(&format!("{space}{name}=\"")))?;
    let value = &tag[start + name.len() + 3..];
    value.split('"').next()
}

#[test]
fn every_junit_payload_is_taken_with_names_verdicts_times_and_messages() {
    let Some(folder) = payloads("junit-xml") else {
        return;
    };
    println!(
        "{:<75} {:>5} {:>5} {:>5}  verdicts",
        "file", "cases", "tests", "runs"
    );
    let mut total = 0;
    for path in files(&folder) {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let (drafts, refusals) =
            found("junit", &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(refusals, [], "{name}");
        let xml = without_comments(&String::from_utf8(bytes).unwrap());
        let (cases, tests) = (tags(&xml, "testcase"), of_type(&drafts, "test"));
        let runs = of_type(&drafts, "runlog");
        let mut verdicts = BTreeMap::new();
        for test in &tests {
            *verdicts
                .entry(attribute(test, "verdict").unwrap())
                .or_insert(0) += 1;
        }
        println!(
            "{name:<75} {:>5} {:>5} {:>5}  {verdicts:?}",
            cases.len(),
            tests.len(),
            runs.len()
        );
        assert_eq!(cases.len(), tests.len(), "{name}");
        assert!(!runs.is_empty(), "{name}");
        check_cases(&name, &cases, &tests);
        check_verdicts(&name, &xml, &verdicts);
        check_messages(&name, &xml, &drafts);
        total += tests.len();
    }
    assert_eq!(total, 5_261);
}

/// Names and times are those of the tags, in order.
fn check_cases(name: &str, cases: &[&str], tests: &[&Draft]) {
    for (tag, test) in cases.iter().zip(tests) {
        let stated = written(tag, "name").unwrap();
        let plain = unescaped(stated);
        let title = &test.title;
        assert!(
            title.starts_with(&cut_line(&plain, 900)),
            "{name}: `{title}` for `{stated}`"
        );
        if let Some(time) = written(tag, "time") {
            let kept = attribute(test, "duration")
                .or(attribute(test, "duration_as_given"))
                .unwrap();
            assert_eq!(
                kept.parse::<f64>().unwrap(),
                time.parse::<f64>().unwrap(),
                "{name}: {title}"
            );
        }
        let class = written(tag, "classname").map(|class| cut_line(&unescaped(class), 4_096));
        let class = class.filter(|class| !class.is_empty());
        assert_eq!(
            attribute(test, "classname").map(str::to_owned),
            class,
            "{name}: {title}"
        );
    }
}

fn unescaped(text: &str) -> String {
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'");
    text.replace("&#10;", "\n")
        .replace("&#9;", "\t")
        .replace("&amp;", "&")
}

/// As many tests failed, broke or were skipped as there are elements that say so.
fn check_verdicts(name: &str, xml: &str, verdicts: &BTreeMap<&str, i32>) {
    // Within a suite, not within a case.
    let outside = if name.ends_with("nested-testsuites.xml") {
        1
    } else {
        0
    };
    for (verdict, element, less) in [
        ("failed", "failure", 0),
        ("error", "error", outside),
        ("skipped", "skipped", 0),
        ("flaky", "flakyFailure", 0),
    ] {
        let stated = tags(xml, element).len() as i32 - less;
        let found = verdicts.get(verdict).copied().unwrap_or(0);
        // Several flaky runs are one flaky test.
        let fits = if verdict == "flaky" {
            (found > 0) == (stated > 0)
        } else {
            found == stated
        };
        assert!(fits, "{name}: {stated} {element}, {found} {verdict}");
    }
}

/// Every message that the report states is in some event's text.
fn check_messages(name: &str, xml: &str, drafts: &[Draft]) {
    for element in [
        "failure",
        "error",
        "skipped",
        "flakyFailure",
        "rerunFailure",
    ] {
        for tag in tags(xml, element) {
            let message = unescaped(written(tag, "message").unwrap_or_default());
            let message = message.trim();
            let kept = drafts.iter().any(|draft| draft.text.contains(message));
            assert!(kept, "{name}: `{message}` is lost");
        }
    }
}

#[test]
fn the_same_report_twice_gives_the_same_ids_under_any_name() {
    for kind in ["junit-xml", "jenkins-api"] {
        let Some(folder) = payloads(kind) else { return };
        let format = kind.split('-').next().unwrap();
        for path in files(&folder) {
            let bytes = std::fs::read(&path).unwrap();
            if found(format, &bytes).is_err() {
                continue;
            }
            let (one, other) = (
                appended(format, "a.xml", &bytes),
                appended(format, "/b/c.xml", &bytes),
            );
            let ids = |drafts: &[Draft]| {
                drafts
                    .iter()
                    // States get theirs from the journal.
                    .filter_map(|draft| draft.id)
                    .collect::<Vec<_>>()
            };
            assert_eq!(ids(&one), ids(&other), "{}", path.display());
            let unique: std::collections::BTreeSet<_> = ids(&one).into_iter().collect();
            assert_eq!(unique.len(), ids(&one).len(), "{}", path.display());
        }
    }
}
