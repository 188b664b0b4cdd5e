//! Believable records of a small project over six days, for demonstrations and tests: its CI and its tracker.
//!
//! The project is invented: a small web shop for books. No such shop exists, and nothing here is about this
//! repository. So that nobody takes a sample for a finding, every name, class and path begins with
//! `sample-shop` or `sample_shop`. Its story: reserving the last copy of a book is flaky under load, a bank
//! that stays silent makes a test run into its time limit on the third day, and from the fourth day on totals
//! are off by a cent, until the sixth. A seed decides durations and on which days the flaky test fails; the
//! same seed always gives the same bytes.

use serde_json::{Value, json};

/// Days that are told of, from [`FIRST_DAY`] of November 2026 on.
const DAYS: u64 = 6;
const FIRST_DAY: u64 = 14;
/// Seconds since 1970 of the first day, 02:00 UTC.
const FIRST_NIGHT: u64 = 1_794_621_600;
/// The number of the first build.
const FIRST_BUILD: u64 = 41;

/// Suites and their tests, by module of the shop.
const SUITES: &[(&str, &str, &[&str])] = &[
    (
        "sample_shop.payment",
        "sample-shop/payment.py",
        &[
            "test_charges_once",
            "test_repeats_give_the_first_receipt",
            "test_refunds_at_most_what_was_paid",
            "test_answers_when_the_bank_is_silent",
        ],
    ),
    (
        "sample_shop.stock",
        "sample-shop/stock.py",
        &[
            "test_counts_down",
            "test_reserves_the_last_copy_once",
            "test_gives_back_what_was_not_bought",
        ],
    ),
    (
        "sample_shop.search",
        "sample-shop/search.py",
        &[
            "test_finds_by_author",
            "test_finds_by_isbn",
            "test_ignores_accents",
        ],
    ),
    (
        "sample_shop.shipping",
        "sample-shop/shipping.py",
        &[
            "test_weighs_a_parcel",
            "test_ships_abroad",
            "test_prints_a_label",
        ],
    ),
    (
        "sample_shop.totals",
        "sample-shop/totals.py",
        &[
            "test_adds_up_a_basket",
            "test_discounts_are_exact_to_the_cent",
            "test_an_empty_basket_costs_nothing",
        ],
    ),
    (
        "sample_shop.login",
        "sample-shop/login.py",
        &["test_locks_after_five_tries", "test_keeps_the_basket"],
    ),
    (
        "sample_shop.mail",
        "sample-shop/mail.py",
        &[
            "test_confirms_an_order",
            "test_writes_plain_text",
            "test_sends_nothing_twice",
        ],
    ),
];

/// Tests of the whole shop, which Jenkins runs.
const WHOLE: &[(&str, &str)] = &[
    ("order", "a_visitor_buys_a_book"),
    ("order", "the_receipt_adds_up"),
    ("payment", "a_silent_bank_is_reported"),
    ("payment", "a_refund_arrives"),
    ("stock", "two_visitors_want_the_last_copy"),
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
                format!("sample-shop/nightly/2026-11-{}/junit.xml", FIRST_DAY + day),
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
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"sample-shop nightly\" timestamp=\"{date}T02:00:00Z\">\n{suites}</testsuites>\n"
    )
}

fn outcome(day: u64, suite: &str, test: &str, flaky: bool) -> Outcome {
    match (suite, test) {
        ("sample_shop.stock", "test_reserves_the_last_copy_once") if flaky => Outcome::Flaky(
            "sample-shop/tests/test_stock.py:88: TimeoutError\nno reservation within 250 ms: two buyers waited for the same row of the table of copies\nload average 9.4, 2 cores",
        ),
        ("sample_shop.totals", "test_discounts_are_exact_to_the_cent") if (3..5).contains(&day) => {
            Outcome::Failed(
                "assert 2701 == 2700",
                "def test_discounts_are_exact_to_the_cent():\n    basket = Basket([Line(cents=1999), Line(cents=1001)], discount_percent=10)\n>   assert total(basket) == 2700\nE   assert 2701 == 2700\nthe discount is rounded on each line, so a basket of two lines is a cent too dear\nsample-shop/totals.py:41: in total\nsample-shop/tests/test_totals.py:57: AssertionError",
            )
        }
        ("sample_shop.payment", "test_answers_when_the_bank_is_silent") if day == 2 => {
            Outcome::Error(
                "timed out after 60 s",
                "the call to the bank had no deadline and never came back;\nexpected PaymentUnknown within 5 s\nsample-shop/payment.py:141: in charge",
            )
        }
        ("sample_shop.shipping", "test_prints_a_label") => {
            Outcome::Skipped("this builder has no label printer")
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
            "<flakyFailure type=\"TimeoutError\"><stackTrace><![CDATA[{trace}]]></stackTrace></flakyFailure>"
        ),
        Outcome::Failed(message, trace) => {
            format!(
                "<failure type=\"AssertionError\" message=\"{message}\"><![CDATA[{trace}]]></failure>"
            )
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
            format!("sample-shop/jenkins/{number}.json"),
            format!("{document:#}\n"),
        ));
    }
    documents
}

/// The change that each day's build brought: message, author, path.
const CHANGES: [(&str, &str, &str); DAYS as usize] = [
    (
        "Find books whose titles have accents",
        "Mara Lindt",
        "sample-shop/search.py",
    ),
    (
        "Hold a copy while its buyer pays",
        "Jonas Ek",
        "sample-shop/stock.py",
    ),
    (
        "Give a call to the bank a deadline",
        "Mara Lindt",
        "sample-shop/payment.py",
    ),
    (
        "Show the discount on each line of the receipt",
        "Ines Duarte",
        "sample-shop/totals.py",
    ),
    (
        "Say in the mail when an order was paid",
        "Jonas Ek",
        "sample-shop/mail.py",
    ),
    (
        "Round the discount once, on the order",
        "Ines Duarte",
        "sample-shop/totals.py",
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
        "fullDisplayName": format!("sample-shop #{number}"),
        "url": format!("https://ci.sample-shop.example/job/sample-shop/{number}/"),
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
            "a_silent_bank_is_reported",
            "the order page was still waiting for the bank after 30 s",
            FIRST_BUILD + 2,
        )],
        3 | 4 => vec![(
            "the_receipt_adds_up",
            "the receipt says 27.01, its lines come to 27.00, see sample_shop.totals test_discounts_are_exact_to_the_cent",
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
                "className": format!("sample_shop.whole.{class}"),
                "name": test,
                "status": status,
                "duration": (400 + random.below(9_000)) as f64 / 1e3,
                "age": if since == 0 { 0 } else { FIRST_BUILD + day - since + 1 },
                "failedSince": since,
                "skipped": false,
                "errorDetails": failure.map(|(_, message, _)| *message),
                "errorStackTrace": failure.map(|(name, message, _)| format!("{message}\n   at sample_shop.whole.{class}.{name}(sample-shop/whole/{class}.py)")),
            })
        })
        .collect();
    let (failed, all) = (today.len(), WHOLE.len());
    json!({"_class": "hudson.tasks.junit.TestResult", "failCount": failed, "passCount": all - failed, "skipCount": 0, "suites": [{"name": "sample_shop.whole", "cases": cases}]})
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// What the shop's people wrote down and changed, as JSON lines, as (name, text). Always the same bytes.
pub fn tracker() -> Vec<(String, String)> {
    let change = |day: u64, author: &str, path: &str, title: &str, text: &str| {
        json!({
            "artifact_type": "diff", "title": title, "text": text, "author": author,
            "record_id": format!("sample-shop/change/{day}"),
            "event_time": format!("2026-11-{}T16:30:00Z", FIRST_DAY + day - 1),
            "links": [{"relation": "file", "target": path}], "tags": ["sample"],
        })
    };
    let note = |kind: &str, number: u64, day: u64, title: &str, text: &str| {
        json!({
            "artifact_type": kind, "title": title, "text": text, "author": "Mara Lindt",
            "record_id": format!("sample-shop/{kind}/{number}"), "importance": 0.8,
            "event_time": format!("2026-11-{}T09:00:00Z", FIRST_DAY + day), "tags": ["sample"],
        })
    };
    let entries = [
        note(
            "decision",
            7,
            0,
            "Money is whole cents, rounded once",
            "Prices, discounts and totals of the sample shop are whole cents. A discount is rounded once, on the order, never on its lines: rounding each line lets the total of an order drift by up to a cent for each line.",
        ),
        note(
            "decision",
            9,
            1,
            "A copy is held for ten minutes",
            "A buyer who goes to the till holds the last copy for ten minutes. Two buyers of one copy are told apart by the row that holds it, not by a lock over all of the stock.",
        ),
        change(
            3,
            "Mara Lindt",
            "sample-shop/payment.py",
            "Give a call to the bank a deadline",
            "--- a/sample-shop/payment.py\n+++ b/sample-shop/payment.py\n@@ -139,3 +139,5 @@ def charge(order):\n-    answer = bank.charge(order.cents)\n+    try:\n+        answer = bank.charge(order.cents, timeout=5)\n+    except TimeoutError:\n+        raise PaymentUnknown(order.id)",
        ),
        change(
            4,
            "Ines Duarte",
            "sample-shop/totals.py",
            "Show the discount on each line of the receipt",
            "--- a/sample-shop/totals.py\n+++ b/sample-shop/totals.py\n@@ -38,4 +38,4 @@ def total(basket):\n-    cents = sum(line.cents for line in basket.lines)\n-    return cents - round(cents * basket.discount_percent / 100)\n+    return sum(discounted(line, basket.discount_percent) for line in basket.lines)",
        ),
        note(
            "bug",
            212,
            4,
            "An order's total is off by a cent",
            "With a discount of 10 percent, books for 19.99 and 10.01 come to 27.01 instead of 27.00. Customers see it on the receipt since build 44; test_discounts_are_exact_to_the_cent fails.",
        ),
        change(
            6,
            "Ines Duarte",
            "sample-shop/totals.py",
            "Round the discount once, on the order",
            "Fixes sample-shop bug 212: the total of an order is exact to the cent again.\n--- a/sample-shop/totals.py\n+++ b/sample-shop/totals.py\n@@ -38,3 +38,4 @@ def total(basket):\n-    return sum(discounted(line, basket.discount_percent) for line in basket.lines)\n+    cents = sum(line.cents for line in basket.lines)\n+    return cents - round(cents * basket.discount_percent / 100)",
        ),
    ];
    let lines = entries.map(|entry| format!("{entry}\n"));
    vec![("sample-shop/tracker.jsonl".to_owned(), lines.concat())]
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
            .chain(jenkins(7).into_iter().map(|report| ("jenkins", report)))
            .chain(tracker().into_iter().map(|report| ("jsonl", report)));
        for (format, (name, report)) in reports {
            for draft in appended(format, &name, report.as_bytes()) {
                let time = draft.event_time.unwrap().to_string();
                assert!(time.starts_with("2026-11-"), "{time}");
                if let Some(id) = draft.id {
                    assert!(ids.insert(id), "{}", draft.title);
                }
                assert!(name.starts_with("sample-shop/"), "{name}");
                let record = draft.record_id.as_ref().map(ToString::to_string);
                let record = record.unwrap_or_default().replace('_', "-");
                assert!(record.contains("sample-shop"), "{record}");
                let verdict = attribute(&draft, "verdict").unwrap_or("none");
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
            "decision none",
            "diff none",
            "bug none",
        ] {
            assert!(verdicts.contains_key(kind), "{kind}: {verdicts:?}");
        }
    }
}
