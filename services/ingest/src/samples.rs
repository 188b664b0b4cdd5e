//! Believable reports of a small project's CI over six days, for demonstrations and tests.
//!
//! The project is this one. Its story: the tail of the journal is flaky under load, packing starts to exceed
//! its budget on the fourth day and is mended on the sixth, a test of full disks runs into its time limit on
//! the third. A seed decides durations and on which days the flaky test fails; the same seed always gives the
//! same bytes.

use serde_json::{Value, json};

/// Days that are told of, from [`FIRST_DAY`] of November 2026 on.
const DAYS: u64 = 6;
const FIRST_DAY: u64 = 14;
/// Seconds since 1970 of the first day, 02:00 UTC.
const FIRST_NIGHT: u64 = 1_794_621_600;
/// The number of the first build.
const FIRST_BUILD: u64 = 41;

/// Suites and their tests, by crate.
const SUITES: &[(&str, &str, &[&str])] = &[
    (
        "journal::append",
        "services/journal/src/append.rs",
        &[
            "gives_dense_positions",
            "repeats_give_the_first_answer",
            "a_lost_race_names_the_head",
            "survives_a_full_disk",
        ],
    ),
    (
        "journal::tail",
        "services/journal/src/tail.rs",
        &[
            "starts_at_the_first_commit",
            "resumes_after_a_lost_connection",
            "refuses_a_foreign_cursor",
        ],
    ),
    (
        "index::lexical",
        "services/index/src/lexical.rs",
        &[
            "scores_as_of_a_commit",
            "keeps_identifiers_whole",
            "counts_only_visible_rows",
        ],
    ),
    (
        "index::dense",
        "services/index/src/dense.rs",
        &[
            "scans_exactly",
            "is_the_same_on_every_processor",
            "uses_avx512_where_there_is_any",
        ],
    ),
    (
        "retrieval::packing",
        "services/retrieval/src/packing.rs",
        &[
            "fills_the_budget",
            "never_exceeds_the_budget",
            "breaks_ties_by_id",
        ],
    ),
    (
        "retrieval::verify",
        "services/retrieval/src/verify.rs",
        &["rebuilds_the_same_bytes", "names_the_flipped_byte"],
    ),
    (
        "ingest::redaction",
        "services/ingest/src/redact/mod.rs",
        &[
            "masks_tokens",
            "leaves_code_alone",
            "masking_twice_is_masking_once",
        ],
    ),
];

/// Tests of the whole, which Jenkins runs.
const WHOLE: &[(&str, &str)] = &[
    ("demo", "packs_are_verified"),
    ("demo", "the_second_run_takes_seconds"),
    ("recovery", "nothing_acknowledged_is_lost"),
    ("recovery", "the_index_catches_up"),
    ("branches", "a_session_sees_its_own_writes"),
];

/// What a day's run of a test brought.
enum Outcome {
    Passed,
    /// Failed first, then passed.
    Flaky(&'static str),
    Failed(&'static str, &'static str),
    Error(&'static str, &'static str),
    Skipped(&'static str),
}

/// JUnit reports, one for each day, as (name, XML). Deterministic: the same seed, the same bytes.
pub fn junit(seed: u64) -> Vec<(String, String)> {
    let mut random = Random(seed);
    (0..DAYS)
        .map(|day| {
            (
                format!("nightly/2026-11-{}/junit.xml", FIRST_DAY + day),
                report(day, &mut random),
            )
        })
        .collect()
}

fn report(day: u64, random: &mut Random) -> String {
    let date = format!("2026-11-{}", FIRST_DAY + day);
    let flaky = day == 1 || random.below(3) == 0;
    let mut suites = String::new();
    let mut minute = 2;
    for (suite, file, tests) in SUITES {
        let (mut cases, mut total, mut failures, mut errors, mut skipped) =
            (String::new(), 0, 0, 0, 0);
        for test in *tests {
            let millis = 2 + random.below(180);
            let outcome = outcome(day, suite, test, flaky);
            match outcome {
                Outcome::Failed(..) => failures += 1,
                Outcome::Error(..) => errors += 1,
                Outcome::Skipped(_) => skipped += 1,
                Outcome::Passed | Outcome::Flaky(_) => {}
            }
            let millis = if matches!(outcome, Outcome::Error(..)) {
                60_000
            } else {
                millis
            };
            total += millis;
            cases += &case(suite, file, test, millis, &outcome);
        }
        suites += &format!(
            "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{}\" timestamp=\"{date}T02:{minute:02}:00Z\" hostname=\"builder-{}\" file=\"{file}\">\n{cases}  </testsuite>\n",
            tests.len(),
            seconds(total),
            1 + day % 2,
        );
        minute += 3;
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"commonplace nightly\" timestamp=\"{date}T02:00:00Z\">\n{suites}</testsuites>\n"
    )
}

fn outcome(day: u64, suite: &str, test: &str, flaky: bool) -> Outcome {
    match (suite, test) {
        ("journal::tail", "resumes_after_a_lost_connection") if flaky => Outcome::Flaky(
            "thread 'tail::resumes_after_a_lost_connection' panicked at services/journal/src/tail.rs:214:9:\nno heartbeat within 250 ms: the subscriber was still replaying commit 118 of 120\nload average 9.4, 2 cores",
        ),
        ("retrieval::packing", "never_exceeds_the_budget") if (3..5).contains(&day) => {
            Outcome::Failed(
                "used 2051 tokens of a budget of 2048",
                "thread 'packing::never_exceeds_the_budget' panicked at services/retrieval/src/packing.rs:187:5:\nassertion failed: pack.tokens_used <= pack.budget_tokens\n  left: 2051\n right: 2048\nthe separators between items are not counted since items are joined by a blank line\n   at retrieval::packing::fill (services/retrieval/src/packing.rs:96)\n   at retrieval::packing::tests::never_exceeds_the_budget (services/retrieval/src/packing.rs:187)",
            )
        }
        ("journal::append", "survives_a_full_disk") if day == 2 => Outcome::Error(
            "timed out after 60 s",
            "the writer waited for space on a full volume and never answered;\nexpected RESOURCE_EXHAUSTED within 5 s\n   at journal::writer::commit (services/journal/src/writer.rs:141)",
        ),
        ("index::dense", "uses_avx512_where_there_is_any") => {
            Outcome::Skipped("this processor has no AVX-512")
        }
        _ => Outcome::Passed,
    }
}

fn case(suite: &str, file: &str, test: &str, millis: u64, outcome: &Outcome) -> String {
    let open = format!(
        "    <testcase classname=\"{suite}\" name=\"{test}\" time=\"{}\" file=\"{file}\"",
        seconds(millis)
    );
    let inside = match outcome {
        Outcome::Passed => return format!("{open}/>\n"),
        Outcome::Skipped(why) => format!("<skipped message=\"{why}\"/>"),
        Outcome::Flaky(trace) => format!(
            "<flakyFailure type=\"panic\"><stackTrace><![CDATA[{trace}]]></stackTrace></flakyFailure>"
        ),
        Outcome::Failed(message, trace) => {
            format!("<failure type=\"panic\" message=\"{message}\"><![CDATA[{trace}]]></failure>")
        }
        Outcome::Error(message, trace) => {
            format!("<error type=\"timeout\" message=\"{message}\"><![CDATA[{trace}]]></error>")
        }
    };
    format!("{open}>\n      {inside}\n    </testcase>\n")
}

/// Jenkins documents, a build with its test report for each day, as (name, JSON). Deterministic: the same
/// seed, the same bytes.
pub fn jenkins(seed: u64) -> Vec<(String, String)> {
    let mut random = Random(seed.wrapping_add(0x5eed));
    let mut documents = Vec::new();
    for day in 0..DAYS {
        let number = FIRST_BUILD + day;
        let document =
            json!({"build": build(day, &mut random), "testReport": tests(day, &mut random)});
        documents.push((
            format!("jenkins/commonplace-e2e/{number}.json"),
            format!("{document:#}\n"),
        ));
    }
    documents
}

/// The change that each day's build brought: message, author, path.
const CHANGES: [(&str, &str, &str); DAYS as usize] = [
    (
        "Index commits in the order of the journal",
        "Mara Lindt",
        "services/index/src/feed.rs",
    ),
    (
        "Send heartbeats while a subscriber replays",
        "Jonas Ek",
        "services/journal/src/tail.rs",
    ),
    (
        "Answer at once when the volume is full",
        "Mara Lindt",
        "services/journal/src/writer.rs",
    ),
    (
        "Join the items of a pack by a blank line",
        "Ines Duarte",
        "services/retrieval/src/packing.rs",
    ),
    (
        "Say which rule masked a text",
        "Jonas Ek",
        "services/ingest/src/redact/mod.rs",
    ),
    (
        "Count the separators of a pack in its budget",
        "Ines Duarte",
        "services/retrieval/src/packing.rs",
    ),
];

fn build(day: u64, random: &mut Random) -> Value {
    let number = FIRST_BUILD + day;
    let (message, author, path) = CHANGES[day as usize % CHANGES.len()];
    let commit: String = (0..5)
        .map(|_| format!("{:08x}", random.next() as u32))
        .collect();
    let broken = failing(day).len();
    json!({
        "_class": "hudson.model.FreeStyleBuild",
        "actions": [
            {"causes": [{"shortDescription": "Started by timer"}]},
            {"lastBuiltRevision": {"SHA1": commit}},
            {"failCount": broken, "skipCount": 0, "totalCount": WHOLE.len()},
        ],
        "building": false,
        "number": number,
        "fullDisplayName": format!("commonplace-e2e #{number}"),
        "url": format!("https://ci.commonplace.example/job/commonplace-e2e/{number}/"),
        "result": if broken > 0 { "UNSTABLE" } else { "SUCCESS" },
        "timestamp": (FIRST_NIGHT + day * 86_400) * 1_000,
        "duration": 184_000 + random.below(40_000),
        "builtOn": format!("builder-{}", 1 + day % 2),
        "changeSet": {"kind": "git", "items": [{"commitId": commit, "msg": message, "author": {"fullName": author}, "affectedPaths": [path]}]},
        "culprits": [{"fullName": author}],
    })
}

/// What fails in the whole on a day: the test, its message, since which build.
fn failing(day: u64) -> Vec<(&'static str, &'static str, u64)> {
    match day {
        2 => vec![(
            "nothing_acknowledged_is_lost",
            "the server did not stop within 30 s: an append was waiting for space",
            FIRST_BUILD + 2,
        )],
        3 | 4 => vec![(
            "packs_are_verified",
            "com verify: pack is 3 tokens over its budget of 2048, see retrieval::packing::never_exceeds_the_budget",
            FIRST_BUILD + 3,
        )],
        _ => Vec::new(),
    }
}

fn tests(day: u64, random: &mut Random) -> Value {
    let (today, before) = (
        failing(day),
        day.checked_sub(1).map(failing).unwrap_or_default(),
    );
    let fails =
        |list: &[(&str, &str, u64)], test: &str| list.iter().any(|(name, ..)| *name == test);
    let cases: Vec<Value> = WHOLE
        .iter()
        .map(|(class, test)| {
            let status = match (fails(&today, test), fails(&before, test)) {
                (true, true) => "FAILED",
                (true, false) => "REGRESSION",
                (false, true) => "FIXED",
                (false, false) => "PASSED",
            };
            let failure = today.iter().find(|(name, ..)| name == test);
            let since = failure.map_or(0, |(_, _, since)| *since);
            json!({
                "className": format!("e2e.{class}"),
                "name": test,
                "status": status,
                "duration": (400 + random.below(9_000)) as f64 / 1e3,
                "age": if since == 0 { 0 } else { FIRST_BUILD + day - since + 1 },
                "failedSince": since,
                "skipped": false,
                "errorDetails": failure.map(|(_, message, _)| *message),
                "errorStackTrace": failure.map(|(name, message, _)| format!("{message}\n   at e2e.{class}.{name}(e2e/{class}.rs)")),
            })
        })
        .collect();
    let (failed, all) = (today.len(), WHOLE.len());
    json!({"_class": "hudson.tasks.junit.TestResult", "failCount": failed, "passCount": all - failed, "skipCount": 0, "suites": [{"name": "e2e", "cases": cases}]})
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// Numbers that look random and depend on the seed alone. Source: SplitMix64, Steele, Lea and Flood, 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::tests::{appended, attribute};

    #[test]
    fn the_samples_are_deterministic_and_read_without_a_refusal() {
        assert_eq!(junit(7), junit(7));
        assert_eq!(jenkins(7), jenkins(7));
        assert_ne!(junit(7), junit(8));
        let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
        let mut ids = std::collections::BTreeSet::new();
        let reports = junit(7)
            .into_iter()
            .map(|report| ("junit", report))
            .chain(jenkins(7).into_iter().map(|report| ("jenkins", report)));
        for (format, (name, report)) in reports {
            for draft in appended(format, &name, report.as_bytes()) {
                let time = draft.event_time.unwrap().to_string();
                assert!(time.starts_with("2026-11-"), "{time}");
                assert!(ids.insert(draft.id.unwrap()), "{}", draft.title);
                let verdict = attribute(&draft, "verdict").unwrap();
                *verdicts
                    .entry(format!("{} {verdict}", draft.artifact_type))
                    .or_default() += 1;
            }
        }
        println!("{verdicts:?}");
        for kind in [
            "test passed",
            "test flaky",
            "test failed",
            "test error",
            "test skipped",
            "build unstable",
            "build success",
            "runlog failed",
        ] {
            assert!(verdicts.contains_key(kind), "{kind}: {verdicts:?}");
        }
    }
}
