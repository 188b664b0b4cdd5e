use super::*;
use proptest::prelude::*;

fn pieces<'a>(artifact_type: &str, text: &'a str) -> Vec<&'a str> {
    split(artifact_type, text)
        .into_iter()
        .map(|range| &text[range])
        .collect()
}

fn assert_sound(artifact_type: &str, text: &str) {
    let ranges = split(artifact_type, text);
    assert_eq!(ranges, split(artifact_type, text));
    assert!(!ranges.is_empty());
    let mut end = 0;
    for range in &ranges {
        assert!(
            range.start >= end && range.end <= text.len(),
            "{range:?} after {end}"
        );
        assert!(range.len() <= MAX_BYTES, "{range:?}");
        assert!(!range.is_empty() || ranges.len() == 1);
        assert!(
            text[end..range.start].trim().is_empty(),
            "bytes left out before {range:?}"
        );
        assert_eq!(text[range.clone()].trim(), &text[range.clone()]);
        end = range.end;
    }
    assert!(text[end..].trim().is_empty());
}

/// Texts with what matters to the cuts: line ends, sentences, long words, marks of each kind.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z]{1,9} ",
        1 => Just(". ".to_owned()),
        1 => Just("\n".to_owned()),
        1 => Just("\n\n    ".to_owned()),
        1 => "\\PC{0,40}",
        1 => (1usize..3_000).prop_map(|count| "x".repeat(count)),
        1 => (1usize..3_000).prop_map(|count| " ".repeat(count)),
        1 => (1usize..900).prop_map(|count| "\u{4e2d}".repeat(count)),
        1 => prop_oneof![
            Just("\n@@ -1,2 +1,2 @@\n"), Just("\ndiff --git a/f b/f\n"), Just("\nERROR it failed\n"),
            Just("\n    at frame(x)\n"), Just("\n# Heading\n"), Just("\n}\n\nfn f() {\n"),
        ].prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn passages_are_in_order_and_cover_the_text(text in text()) {
        for artifact_type in ["diff", "runlog", "test", "decision"] {
            assert_sound(artifact_type, &text);
        }
    }
}

#[test]
fn short_and_empty_texts_are_one_passage() {
    assert_eq!(split("spec", ""), vec![0..0; 1]);
    assert_eq!(split("spec", " \n\t\n").len(), 1);
    assert_eq!(pieces("spec", "  one line\n"), ["one line"]);
    assert_eq!(split("diff", &"+ line\n".repeat(100)).len(), 1);
}

#[test]
fn a_diff_is_cut_between_files_then_hunks() {
    let hunk = |at: u32| {
        format!(
            "@@ -{at},9 +{at},9 @@\n{}",
            "-old line\n+new line\n".repeat(18)
        )
    };
    let file = |name: &str| {
        format!(
            "diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n{}{}",
            hunk(1),
            hunk(90)
        )
    };
    let text = ["one.rs", "two.rs", "three.rs"].map(file).concat();
    let pieces = pieces("diff", &text);
    assert_eq!(pieces.len(), 3);
    assert!(
        pieces.iter().all(|piece| piece.starts_with("diff --git")),
        "{pieces:#?}"
    );
}

#[test]
fn code_is_cut_before_definitions() {
    let function = |name: &str| {
        let body = "    let value = compute(value);\n\n".repeat(12);
        format!("/// What {name} does.\nfn {name}() {{\n{body}    value\n}}\n\n")
    };
    let text = ["one", "two", "three", "four", "five", "six"]
        .map(function)
        .concat();
    for piece in pieces("test", &text) {
        assert!(
            piece.starts_with("/// What ") && piece.ends_with('}'),
            "{piece}"
        );
    }
}

#[test]
fn the_failing_region_of_a_log_stays_together() {
    let calm = "10:00:01 [INFO] Downloaded artifact from the mirror\n".repeat(60);
    let trace = "    at org.example.Service.run(Service.java:42)\n".repeat(8);
    let failure = format!("10:00:02 [ERROR] java.lang.IllegalStateException: no lease\n{trace}");
    let text = format!("{calm}{failure}{calm}");
    let pieces = pieces("runlog", &text);
    let failing: Vec<_> = pieces
        .iter()
        .filter(|piece| piece.contains("IllegalState"))
        .collect();
    assert_eq!(failing.len(), 1);
    assert!(failing[0].contains(failure.trim()), "{}", failing[0]);
    assert!(failing[0].starts_with("10:00:02 [ERROR]"), "{}", failing[0]);
}

#[test]
fn prose_is_cut_between_paragraphs_and_long_paragraphs_between_sentences() {
    let sentence = "The scheduler gives each worker one lease and waits for its answer. ";
    let paragraphs = format!("{}\n\n", sentence.repeat(9)).repeat(6);
    for piece in pieces("decision", &paragraphs) {
        assert_eq!(piece.matches("lease").count() % 9, 0, "{piece}");
    }
    for piece in pieces("decision", &sentence.repeat(100)) {
        assert!(
            piece.starts_with("The ") && piece.ends_with("answer."),
            "{piece}"
        );
    }
}

#[test]
fn large_texts_take_linear_time() {
    for unit in [
        "word ",
        " ",
        "x",
        "\n",
        "Sentence one. ",
        "@@ -1 +1 @@\n",
        "error\n",
        "\u{4e2d}",
    ] {
        let started = std::time::Instant::now();
        assert_sound("spec", &unit.repeat(4_000_000 / unit.len()));
        assert!(
            started.elapsed().as_secs() < 20,
            "{unit:?} took {:?}",
            started.elapsed()
        );
    }
}

/// Citations hold these ranges: when this fails, [`SPLITTER`] needs a new number.
#[test]
fn passages_stay_what_they_are() {
    let prose = "One sentence here. Another follows it!\n\n".repeat(70);
    let log = format!(
        "{}ERROR: no route\n  at main\n{}",
        "step done\n".repeat(150),
        "ok\n".repeat(400)
    );
    let diff = "diff --git a/x b/x\n@@ -1,2 +1,2 @@\n-a\n+b\n context line\n".repeat(60);
    let starts = |artifact_type, text: &str| -> Vec<usize> {
        split(artifact_type, text)
            .iter()
            .map(|range| range.start)
            .collect()
    };
    assert_eq!(
        (
            SPLITTER,
            starts("spec", &prose),
            starts("runlog", &log),
            starts("diff", &diff)
        ),
        (
            "passages/1",
            vec![0, 1040, 2080],
            vec![0, 890, 1500, 2387],
            vec![0, 825, 1650, 2475]
        )
    );
}
