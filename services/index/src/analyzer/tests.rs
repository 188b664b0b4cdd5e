use super::*;
use proptest::prelude::*;

fn check(text: &str, expected: &[&str]) {
    assert_eq!(terms(text), expected, "{text:?}");
}

#[test]
fn plain_words_are_stemmed_and_stop_words_dropped() {
    check(
        "The runners were running to the stations",
        &["runner", "run", "station"],
    );
    check("When did she say it?", &["say"]);
    check("", &[]);
    check(" ___ -- \u{2014} ", &[]);
    check("It's Caroline's", &["s", "carolin", "s"]);
}

#[test]
fn identifiers_are_kept_whole_and_added_in_parts() {
    check("NumberUtils", &["numberutils", "number", "util"]);
    check("HTTPServer2", &["httpserver2", "http", "server", "2"]);
    check("to_string", &["to_string", "string"]);
    check("__init__", &["init"]);
    check("isEmpty", &["isempty", "empti"]);
    check("SCREAMING_SNAKE", &["screaming_snake", "scream", "snake"]);
    check("running", &["run"]);
    check("README", &["readm"]);
    check(
        "parseJSON5Document",
        &["parsejson5document", "pars", "json", "5", "document"],
    );
    check(
        "src/main/StringUtils.java:42",
        &["src", "main", "stringutils", "string", "util", "java", "42"],
    );
    check("getÜberName", &["getübername", "get", "über", "name"]);
}

#[test]
fn equal_looking_text_gives_equal_terms() {
    assert_eq!(terms("cafe\u{301}"), terms("caf\u{e9}"));
    assert_eq!(terms("\u{fb01}le"), terms("file"));
    assert_eq!(terms("ＡＰＩ"), terms("API"));
    assert_eq!(terms("ПРИВЕТ"), terms("привет"));
}

#[test]
fn unspaced_scripts_become_pairs() {
    check(
        "\u{6771}\u{4eac}\u{90fd}",
        &["\u{6771}\u{4eac}", "\u{4eac}\u{90fd}"],
    );
    check("\u{6771}", &["\u{6771}"]);
    check(
        "API\u{6771}\u{4eac}test",
        &["api", "\u{6771}\u{4eac}", "test"],
    );
}

#[test]
fn long_words_are_cut_but_told_apart() {
    let long = |last: char| format!("{}{last}", "Ab1".repeat(100));
    let (one, other) = (terms(&long('x')), terms(&long('y')));
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].len(), MAX_TERM_BYTES);
    assert_ne!(one, other);
    assert_eq!(one, terms(&long('x')));
    assert_eq!(terms(&"aB".repeat(40)).len(), 1, "too many parts");
}

#[test]
fn a_title_counts_twice() {
    assert_eq!(
        passage_terms("Lease lost", "retry"),
        ["leas", "lost", "leas", "lost", "retri"]
    );
    assert_eq!(passage_terms("", "retry"), ["retri"]);
}

/// Indexes on disk hold these terms: when this fails, [`ANALYZER`] needs a new number.
#[test]
fn terms_stay_what_they_are() {
    let text = "Retry with back-off failed: HttpClient2.get_url() threw IOException at 10:42; \
                it isn't the proxies' timeouts. \u{6771}\u{4eac} na\u{ef}ve \u{3a9}mega";
    let joined = terms(text).join(" ");
    assert_eq!(
        (ANALYZER, joined.as_str()),
        (
            "code-english/1",
            "retri back off fail httpclient2 http client 2 get_url get url threw ioexception io \
             except 10 42 isn t proxi timeout \u{6771}\u{4eac} na\u{ef}v \u{3c9}mega"
        )
    );
}

#[test]
fn stop_words_are_sorted() {
    for word in ["a", "having", "yourselves", "with"] {
        assert!(is_stop_word(word), "{word}");
    }
    for word in ["may", "can", "us", "mine", "all", ""] {
        assert!(!is_stop_word(word), "{word}");
    }
}

proptest! {
    #[test]
    fn terms_are_bounded_and_stand_alone(text in "(\\PC|[A-Za-z0-9_ ]){0,200}") {
        let all = terms(&text);
        for term in &all {
            prop_assert!(!term.is_empty() && term.len() <= MAX_TERM_BYTES);
            let separates = |character: char| character.is_whitespace() || character.is_control();
            prop_assert!(!term.contains(separates));
        }
        prop_assert_eq!(&all, &terms(&text));
        // Words do not reach over line ends, so passages can be analysed apart.
        let twice = terms(&format!("{text}\n{text}"));
        prop_assert_eq!(twice, [all.clone(), all].concat());
    }
}
