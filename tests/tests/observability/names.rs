//! Span fields are those of the one table.

use std::collections::BTreeSet;

use commonplace_telemetry::names::{ATTRIBUTES, PLACES};
use commonplace_tests::layering::sources;
use commonplace_tests::repository;

/// The names of the fields of every span macro in a source.
fn fields(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("info_span!(") {
        let rest = &text[at + "info_span!(".len()..];
        let mut depth = 1;
        let end = rest.char_indices().find(|(_, c)| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let inside = &rest[..end.map_or(0, |(end, _)| end)];
        found.extend(inside.split(',').skip(1).filter_map(field));
    }
    found
}

/// `name = value`, `"name" = value` or the name alone; not the name of the span, nor parts of values.
fn field(part: &str) -> Option<String> {
    let part = part.trim();
    let (name, _) = part.split_once('=').unwrap_or((part, ""));
    let quoted = name.trim();
    let name = quoted.trim_matches('"');
    let plain = name
        .chars()
        .all(|c| c.is_alphanumeric() || c == '.' || c == '_');
    let is_span_name = quoted.starts_with('"') && !part.contains('=');
    (!name.is_empty() && plain && !is_span_name).then(|| name.to_owned())
}

#[test]
fn every_span_field_is_in_the_table() {
    let known: BTreeSet<&str> = ATTRIBUTES
        .iter()
        .map(|(name, _)| *name)
        .chain(PLACES)
        .collect();
    let mut used = BTreeSet::new();
    for folder in ["libs", "services"] {
        for source in sources(&repository().join(folder)).unwrap() {
            if source.path.contains("/tests/") || source.path.contains("/telemetry/src/lines.rs") {
                continue;
            }
            for name in fields(&source.text) {
                assert!(
                    known.contains(name.as_str()),
                    "{} uses `{name}`",
                    source.path
                );
                used.insert(name);
            }
        }
    }
    assert!(used.len() > 20, "spans were found: {used:?}");
}

#[test]
fn a_field_that_is_made_up_is_found() {
    let text = "info_span!(\n target: \"commonplace\", \"step\", event.text = f(a), parent, \"error.type\" = Empty)";
    let found = fields(text);
    let expected = ["event.text", "parent", "error.type"].map(String::from);
    assert_eq!(found, BTreeSet::from(expected));
}
