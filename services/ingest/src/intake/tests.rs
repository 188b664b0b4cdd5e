use std::collections::BTreeSet;
use std::time::Instant;

use commonplace_types::{ArtifactType, Attribute};
use proptest::prelude::*;

use super::*;
use crate::adapter::tests::{appended, files, payloads};
use crate::adapter::{FORMATS, TextLimits};

fn redactor() -> Redactor {
    Redactor::new(&Default::default()).unwrap()
}

fn jsonl(lines: &[&str]) -> Vec<u8> {
    lines.join("\n").into_bytes()
}

fn read_all(format: &str, report: &[u8], options: &Options) -> (Vec<Vec<Draft>>, Tally) {
    let mut batches = Vec::new();
    let origin = Origin {
        source: "report by a@example.org".into(),
        author: "CI".into(),
    };
    let tally = read(
        report,
        Format::named(format).unwrap(),
        origin,
        &redactor(),
        options,
        &Cancel::default(),
        &mut |batch| {
            batches.push(batch.into_iter().map(|(_, draft)| draft).collect());
            Ok(())
        },
    );
    (batches, tally.unwrap())
}

#[test]
fn drafts_are_masked_before_they_are_named() {
    let line = |password: &str| {
        format!(r#"{{"artifact_type":"bug","title":"t","text":"password = \"{password}\""}}"#)
    };
    let (batches, tally) = read_all("jsonl", line("hunter2").as_bytes(), &Options::default());
    let (others, _) = read_all("jsonl", line("s3a-shell").as_bytes(), &Options::default());
    assert_eq!(batches[0][0].id, others[0][0].id);
    assert_eq!(batches[0][0].text, "password = \"[redacted:assignment]\"");
    assert_eq!(
        tally.redactions.into_iter().collect::<Vec<_>>(),
        [("assignment".into(), 1), ("email".into(), 1)]
    );
    assert_eq!(
        tally.types.into_iter().collect::<Vec<_>>(),
        [("bug".into(), 1)]
    );
}

#[test]
fn stated_drafts_that_repeat_are_one_and_reported_ones_are_several() {
    let line = r#"{"artifact_type":"bug","title":"t"}"#;
    let given = r#"{"id":"ev_00112233445566778899aabbccddeeff","artifact_type":"bug","title":"u"}"#;
    let other = given.replace("\"u\"", "\"v\"");
    let (batches, tally) = read_all(
        "jsonl",
        &jsonl(&[line, line, given, given, &other]),
        &Options::default(),
    );
    assert_eq!(batches[0].len(), 2);
    assert_eq!(tally.repeats, 2);
    assert_eq!(
        (tally.refusals.len(), tally.refusals[0].field.as_str()),
        (1, "id")
    );
    let cases = "<testcase name='t'/><testcase name='t'/><testcase name='t' time='1'/></testsuite>";
    let twice = format!("<testsuite timestamp='2026-11-20T10:00:00Z'>{cases}");
    let drafts = appended("junit", "x", twice.as_bytes());
    let ids: BTreeSet<_> = drafts.iter().map(|draft| draft.id.unwrap()).collect();
    assert_eq!((drafts.len(), ids.len()), (4, 4));
}

#[test]
fn what_breaks_a_bound_is_refused_with_its_field() {
    let long = format!(
        r#"{{"artifact_type":"bug","title":"{}"}}"#,
        "x".repeat(1_025)
    );
    let lines = [
        long.as_str(),
        r#"{"artifact_type":"bug"}"#,
        r#"{"artifact_type":"bug","title":"t","attributes":[{"key":"A","value":"x"}]}"#,
        r#"{"artifact_type":"bug","title":"t","importance":"password=hunter2"}"#,
    ];
    let (batches, tally) = read_all("jsonl", &jsonl(&lines), &Options::default());
    assert_eq!(batches.len(), 0);
    let fields: Vec<&str> = tally
        .refusals
        .iter()
        .map(|refusal| refusal.field.as_str())
        .collect();
    assert_eq!(fields, ["title", "text", "attributes[0].key", "importance"]);
    let few = Options {
        max_refusals: 3,
        ..Options::default()
    };
    let (_, tally) = read_all("jsonl", &jsonl(&lines), &few);
    assert_eq!((tally.refusals.len(), tally.refusals_unlisted), (3, 1));
}

#[test]
fn batches_stay_within_number_and_bytes() {
    let lines: Vec<String> = (0..25)
        .map(|n| {
            format!(
                r#"{{"artifact_type":"bug","title":"{n}","text":"{}"}}"#,
                "x".repeat(1_000)
            )
        })
        .collect();
    let report = lines.join("\n");
    let sizes = |options: Options| {
        let (batches, _) = read_all("jsonl", report.as_bytes(), &options);
        batches.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(
        sizes(Options {
            batch_events: 10,
            ..Options::default()
        }),
        [10, 10, 5]
    );
    let by_bytes = sizes(Options {
        batch_bytes: 8 << 10,
        ..Options::default()
    });
    assert!(
        by_bytes.len() >= 4 && by_bytes.iter().all(|size| *size <= 8),
        "{by_bytes:?}"
    );
    assert_eq!(
        sizes(Options {
            batch_bytes: 1,
            ..Options::default()
        }),
        [1; 25]
    );
}

#[test]
fn too_many_events_are_refused_before_the_first_is_written() {
    let options = Options {
        max_report_events: 2,
        ..Options::default()
    };
    let report = b"<testsuite><testcase name='a'/><testcase name='b'/></testsuite>";
    let error = check(
        report,
        Format::named("junit").unwrap(),
        &options,
        &Cancel::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("more than 2 events"), "{error}");
}

#[test]
fn titles_become_one_line_and_texts_plain() {
    let (redactor, options) = (redactor(), Options::default());
    let mut intake = Intake::new(
        &redactor,
        &options,
        Origin::default(),
        true,
        Cancel::default(),
    );
    let mut draft = Draft::new(
        ArtifactType::new("runlog").unwrap(),
        " a\r\n\tb ",
        "x\r\ny\x1b[31m!\0",
    );
    draft.attributes.push(Attribute::new("k", "v"));
    let Ok(Ready::New(draft, size)) = intake.ready(draft) else {
        panic!("not taken")
    };
    assert_eq!(
        (draft.title.as_str(), draft.text.as_str()),
        ("a b", "x\ny!")
    );
    assert!(size > 0);
}

/// Every sample payload, whatever its kind, with what it is.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut corpus = Vec::new();
    for (format, kind) in [("junit", "junit-xml"), ("jenkins", "jenkins-api")] {
        let Some(folder) = payloads(kind) else {
            continue;
        };
        let small = files(&folder)
            .into_iter()
            .map(|path| std::fs::read(path).unwrap())
            .filter(|bytes| bytes.len() < 40_000);
        corpus.extend(small.map(|bytes| (format, bytes)));
    }
    corpus.extend(
        crate::samples::junit(1)
            .into_iter()
            .take(2)
            .map(|(_, xml)| ("junit", xml.into_bytes())),
    );
    corpus.extend(
        crate::samples::jenkins(1)
            .into_iter()
            .take(2)
            .map(|(_, json)| ("jenkins", json.into_bytes())),
    );
    corpus.push(("jsonl", br#"{"artifact_type":"bug","title":"t","tags":["a"],"links":[{"relation":"file","target":"x"}],"importance":0.5}"#.to_vec()));
    corpus.push(("git", b"\0commit\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\0A\0a@b.cd\x002026-11-20T10:00:00Z\x002026-11-20T10:00:00Z\0s\0b\0\n\n:100644 100644 1 2 M\t\"a\\303.rs\"\n\ndiff --git a/x b/x\n+y\n".to_vec()));
    corpus
}

/// Reads a report as any format; whatever it is, that ends, without a panic, and what is taken holds.
fn read_as(format: &Format, report: &[u8], limits: &TextLimits) {
    let mut drafts = Vec::new();
    let start = Instant::now();
    let _ = format.read(report, limits, &mut |found| {
        if let Found::Draft(draft) | Found::State(draft) = found {
            drafts.push(draft);
        }
        Ok(())
    });
    for draft in drafts {
        if let Err(error) = draft.checked() {
            // Only stated drafts may break a bound; those of reports are cut to fit.
            assert!(format.states_origin, "{}: {error}", format.name);
        }
    }
    assert!(
        start.elapsed().as_secs() < 20,
        "{} takes too long",
        format.name
    );
}

#[test]
fn mutated_reports_never_panic_and_never_hang() {
    let corpus = corpus();
    let (limits, mut state) = (TextLimits::default(), 0x1234_5678_9abc_def1_u64);
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    let pieces: [&[u8]; 12] = [
        b"<",
        b">",
        b"\"",
        b"&#x",
        b"]]>",
        b"<![CDATA[",
        b"\0",
        b"\xff",
        b"{",
        b"[",
        b"\n",
        b"<!--",
    ];
    for round in 0..3_000 {
        let (format, original) = &corpus[round % corpus.len()];
        let mut report = original.clone();
        for _ in 0..1 + random(4) {
            let at = random(report.len());
            match random(5) {
                0 => report.truncate(at),
                1 if !report.is_empty() => report[at] = random(256) as u8,
                2 => {
                    let end = (at + random(200)).min(report.len());
                    report.drain(at..end);
                }
                3 => {
                    let end = (at + random(400)).min(report.len());
                    let copy = report[at..end].to_vec();
                    report.splice(at..at, copy);
                }
                _ => {
                    let piece = pieces[random(pieces.len())];
                    report.splice(at..at, piece.iter().copied());
                }
            }
        }
        read_as(Format::named(format).unwrap(), &report, &limits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for format in FORMATS {
            read_as(format, &bytes, &TextLimits::default());
        }
    }

    #[test]
    fn small_limits_still_hold(text in "[<>&a-z\\n \u{e4}]{0,400}", bytes in 256_usize..600) {
        let limits = TextLimits { trace_bytes: bytes, output_bytes: bytes, file_diff_bytes: bytes, commit_diff_bytes: bytes, ..TextLimits::default() };
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
        let report = format!("<testsuite name='{escaped}'><testcase name='x{escaped}'><failure message='{escaped}'>{escaped}</failure><system-out>{escaped}</system-out></testcase></testsuite>");
        read_as(Format::named("junit").unwrap(), report.as_bytes(), &limits);
    }
}

#[test]
fn a_report_of_many_megabytes_is_read_in_time() {
    let mut report = String::from("<testsuites>");
    for suite in 0..200 {
        report += &format!("<testsuite name='suite{suite}'>");
        for case in 0..250 {
            report += &format!(
                "<testcase classname='c{suite}' name='case{case}' time='0.{case}'><failure message='m'>{}</failure></testcase>",
                "trace line with token = lexer.next()\n".repeat(10)
            );
        }
        report += "</testsuite>";
    }
    report += "</testsuites>";
    let start = Instant::now();
    check(
        report.as_bytes(),
        Format::named("junit").unwrap(),
        &Options::default(),
        &Cancel::default(),
    )
    .unwrap();
    let checked = start.elapsed();
    let (batches, tally) = read_all("junit", report.as_bytes(), &Options::default());
    println!(
        "{} MB, 50,000 cases: checked in {checked:?}, checked and taken in {:?}",
        report.len() / 1_000_000,
        start.elapsed()
    );
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 50_201);
    // Nothing but the report's own name.
    assert_eq!(
        tally.redactions.into_iter().collect::<Vec<_>>(),
        [("email".into(), 1)]
    );
}
