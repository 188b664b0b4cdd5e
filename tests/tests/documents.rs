//! What the documents promise is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use commonplace_tests::layering::sources;
use commonplace_tests::repository;

fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(repository().join("docs/errors/README.md")).unwrap();
    page.lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(String::from)
        .collect()
}

/// Reasons as the sources give them: the text after `Failure::new(Code::…, ` and `not_found(`.
fn in_sources() -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    for part in ["libs", "services"] {
        for source in sources(&repository().join(part)).unwrap() {
            let code = source
                .text
                .split("\nmod tests {")
                .next()
                .unwrap_or_default();
            if source.path.contains("/tests") || !code.contains("Failure") {
                continue;
            }
            let joined = code.split_whitespace().collect::<Vec<_>>().join(" ");
            for (place, _) in joined.match_indices("Failure::new(") {
                let arguments = &joined[place..(place + 160).min(joined.len())];
                let mut quoted = arguments.split('"').skip(1);
                let (Some(reason), Some(_)) = (quoted.next(), quoted.next()) else {
                    continue;
                };
                if reason
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                    && !reason.is_empty()
                {
                    reasons.insert(reason.to_owned());
                }
            }
        }
    }
    reasons
}

#[test]
fn every_reason_is_documented() {
    let (documented, used) = (documented(), in_sources());
    assert!(used.len() > 30, "the sources are read: {}", used.len());
    let missing: Vec<_> = used.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "docs/errors/README.md lacks {missing:?}"
    );
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut waiting = vec![repository().join("docs")];
    let mut pages = vec![
        repository().join("README.md"),
        repository().join("ARCHITECTURE.md"),
    ];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path)
            } else {
                pages.push(path)
            }
        }
    }
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("http") {
                continue;
            }
            let target = page.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{} links to {link}", page.display());
        }
    }
}
