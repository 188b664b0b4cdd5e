use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(source: &str, line: u64, key: &str, expected: &str) {
    let problem = rules(source).unwrap_err();
    assert_eq!(
        (problem.line, problem.key.as_str()),
        (line, key),
        "{problem}"
    );
    assert!(problem.problem.contains(expected), "{problem}");
}

#[test]
fn an_empty_table_is_all_defaults() {
    assert_eq!(rules("{}").unwrap(), Rules::default());
}

#[test]
fn every_key_is_read() {
    let source = "\
description: All of it
tasks: [b, a, b]
weights: {lexical: 1, dense: 0.5, recency: 0.25, importance: 10, pin: 0}
fusion: reciprocal_rank
rrf_k: 10
candidates: 7
recency_lambda: 0.5
filters:
  artifact_types: [test, diff]
  tags_any: [y, x]
  time_window_days: 30
  min_importance: 0.1
always_include: {pinned: true, record_ids: [r], tags: [t]}
quotas:
  - {artifact_type: test, max_items: 2}
  - {artifact_type: diff, max_items: 0}
packing: {method: knapsack, max_items: 3, max_per_event: 2, min_score: 0.3, budget_tokens: 99}
";
    let read = rules(source).unwrap();
    assert_eq!(read.tasks, ["a", "b"]);
    assert_eq!(read.weights.importance, Millionths::new(10_000_000));
    assert_eq!(read.fusion, FusionMethod::ReciprocalRank);
    assert_eq!((read.rrf_k, read.candidates), (10, 7));
    assert_eq!(read.recency_lambda, Millionths::new(500_000));
    assert_eq!(read.filters.tags_any, ["x", "y"]);
    assert_eq!(read.filters.time_window_days, 30);
    assert!(read.always_include.pinned);
    assert_eq!(read.quotas[0].artifact_type.as_str(), "diff");
    assert_eq!(read.packing.method, PackingMethod::Knapsack);
    assert_eq!(
        read.canonical(),
        concat!(
            r#"{"always_include":{"pinned":true,"record_ids":["r"],"tags":["t"]},"candidates":7,"#,
            r#""description":"All of it","filters":{"artifact_types":["diff","test"],"#,
            r#""min_importance":100000,"tags_any":["x","y"],"time_window_days":30},"#,
            r#""fusion":"reciprocal_rank","packing":{"budget_tokens":99,"max_items":3,"#,
            r#""max_per_event":2,"method":"knapsack","min_score":300000},"quotas":["#,
            r#"{"artifact_type":"diff","max_items":0},{"artifact_type":"test","max_items":2}],"#,
            r#""recency_lambda":500000,"rrf_k":10,"tasks":["a","b"],"weights":{"dense":500000,"#,
            r#""importance":10000000,"lexical":1000000,"pin":0,"recency":250000}}"#
        )
    );
}

#[test]
fn what_is_wrong_is_named_by_line_key_and_expectation() {
    refused(
        "weight: {}",
        1,
        "weight",
        "unknown key, expected one of `description`",
    );
    refused("\nweights:\n  lexica: 1", 3, "weights.lexica", "`lexical`");
    refused(
        "weights: {lexical: a lot}",
        1,
        "weights.lexical",
        "a number from 0 to 10, found `a lot`",
    );
    refused(
        "weights:\n  lexical: 11",
        2,
        "weights.lexical",
        "a number from 0 to 10, found `11`",
    );
    refused(
        "weights: {lexical: -0.1}",
        1,
        "weights.lexical",
        "found `-0.1`",
    );
    refused(
        "weights: {lexical: .nan}",
        1,
        "weights.lexical",
        "a number from 0 to 10",
    );
    refused(
        "weights: {lexical: 0, dense: 0}",
        1,
        "weights",
        "at least one weight above 0",
    );
    refused(
        "weights: 3",
        1,
        "weights",
        "a table of keys and values, found `3`",
    );
    refused(
        "weights:",
        1,
        "weights",
        "a table of keys and values, found nothing",
    );
    refused(
        "fusion: best",
        1,
        "fusion",
        "`weighted_sum` or `reciprocal_rank` or `max_score`, found `best`",
    );
    refused(
        "rrf_k: 0",
        1,
        "rrf_k",
        "a whole number from 1 to 1000, found `0`",
    );
    refused("candidates: 10.5", 1, "candidates", "a whole number");
    refused("candidates: '10'", 1, "candidates", "a whole number");
    refused("description: 3", 1, "description", "a text");
    refused("tasks: [code review]", 1, "tasks[0]", "a word");
    refused("tasks: review", 1, "tasks", "a list");
    refused(
        "filters:\n  artifact_types:\n    - diff\n    - Diff",
        4,
        "filters.artifact_types[1]",
        "a-z",
    );
    refused(
        "filters: {min_importance: 2}",
        1,
        "filters.min_importance",
        "0 to 1",
    );
    refused(
        "filters: {time_window_days: 40000}",
        1,
        "filters.time_window_days",
        "36500",
    );
    refused(
        "always_include: {pinned: 1}",
        1,
        "always_include.pinned",
        "`true` or `false`, found `1`",
    );
    refused(
        "always_include: {tags: ['']}",
        1,
        "always_include.tags[0]",
        "1 to 128 bytes",
    );
    refused(
        "quotas:\n  - {artifact_type: diff, max_items: 1}\n  - artifact_type: diff\n    max_items: 2",
        3,
        "quotas[1].artifact_type",
        "each type once, found `diff` again",
    );
    refused(
        "quotas:\n  - {artifact_type: diff}",
        2,
        "quotas[0]",
        "the key `max_items`",
    );
    refused(
        "packing: {budget_tokens: 1000001}",
        1,
        "packing.budget_tokens",
        "1 to 1000000",
    );
    refused(
        "packing: {method: best}",
        1,
        "packing.method",
        "`greedy` or `knapsack`",
    );
    refused(
        "fusion: max_score\nfusion: max_score",
        2,
        "",
        "each key once, found `fusion` again",
    );
    refused("weights: {lexical: 1", 1, "", "expected YAML");
    refused("a: b: c", 1, "", "expected YAML");
    refused("[]", 1, "", "a table of keys and values, found a list");
    refused("", 1, "", "a table of keys and values, found nothing");
    refused("{}\n---\n{}", 3, "", "one YAML document");
    refused(
        &"#".repeat(SOURCE_BYTES + 1),
        0,
        "source",
        "at most 65536 bytes",
    );
}

#[test]
fn how_it_is_written_does_not_change_the_hash() {
    let flow = rules("weights: {lexical: 0.50, dense: 5e-1}\ntasks: [x, y]").unwrap();
    let block = rules("tasks:\n- y\n- x\nweights:\n  dense: 0.5\n  lexical: 0.5\n").unwrap();
    assert_eq!(flow.hash(), block.hash());
    assert_ne!(flow.hash(), Rules::default().hash());
}

#[test]
fn the_hash_of_the_defaults_never_changes() {
    assert_eq!(
        Rules::default().hash(),
        "sha256:fc2b1e11b4cdfe569d9cca05dce7e4bb96a45116df2b9921c1e432ff16969180"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(source in "\\PC{0,200}") {
        let _ = rules(&source);
    }

    #[test]
    fn any_structured_text_is_read_or_refused(
        source in "([a-z_]{1,10}|weights|packing|quotas|[{}\\[\\],:&*!|>'\"# \n-]|[0-9.]{1,5}){0,40}"
    ) {
        let _ = rules(&source);
    }
}
