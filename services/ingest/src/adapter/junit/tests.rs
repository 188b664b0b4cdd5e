use super::super::tests::{attribute, found};

fn single(xml: &str) -> commonplace_types::Draft {
    let (drafts, refusals) = found("junit", xml.as_bytes()).unwrap();
    assert_eq!(refusals, []);
    drafts[0].clone().checked().unwrap()
}

#[test]
fn a_failure_keeps_everything_it_says() {
    let test = single(
        r#"<testsuites><testsuite name="unit" timestamp="2026-11-20T10:00:00+01:00" file="a.py"><testcase classname="a.T" name="x&lt;1&gt;" time="0.50" line="7">
        <failure type="AssertionError" message="1 &#x2260; 2">Traceback
  line 7 &amp; more</failure><system-out><![CDATA[out <1>]]></system-out><system-err>err</system-err></testcase></testsuite></testsuites>"#,
    );
    assert_eq!(test.title, "x<1>: failed");
    assert_eq!(
        test.record_id.as_ref().unwrap().as_str(),
        "test:unit::a.T::x<1>"
    );
    assert_eq!(test.event_time.unwrap().to_string(), "2026-11-20T09:00:00Z");
    for part in [
        "test a.T::x<1> failed in unit",
        "failure (AssertionError): 1 ≠ 2",
        "line 7 & more",
        "stdout:\nout <1>",
        "stderr:\nerr",
    ] {
        assert!(test.text.contains(part), "{part} in {}", test.text);
    }
    for (key, value) in [
        ("verdict", "failed"),
        ("duration", "0.5"),
        ("suite", "unit"),
        ("classname", "a.T"),
        ("file", "a.py"),
        ("line", "7"),
        ("failure_type", "AssertionError"),
        ("message", "1 ≠ 2"),
    ] {
        assert_eq!(attribute(&test, key), Some(value), "{key}");
    }
    assert_eq!(test.links.len(), 2);
}

#[test]
fn verdicts_follow_the_worst_element_then_the_status() {
    for (inside, expected) in [
        ("<testcase name='t'/>", "passed"),
        (
            "<testcase name='t'><skipped message='later'/></testcase>",
            "skipped",
        ),
        ("<testcase name='t'><failure/></testcase>", "failed"),
        ("<testcase name='t'><failure/><error/></testcase>", "error"),
        (
            "<testcase name='t'><flakyFailure message='once'><stackTrace>at 1</stackTrace></flakyFailure></testcase>",
            "flaky",
        ),
        ("<testcase name='t'><rerunFailure/></testcase>", "flaky"),
        (
            "<testcase name='t'><failure/><rerunFailure/></testcase>",
            "failed",
        ),
        ("<testcase name='t' status='notrun'/>", "skipped"),
        ("<testcase name='t' status='run'/>", "passed"),
        ("<testcase name='t' status='FAILED'/>", "failed"),
    ] {
        let test = single(&format!("<testsuite>{inside}</testsuite>"));
        assert_eq!(attribute(&test, "verdict"), Some(expected), "{inside}");
    }
}

#[test]
fn nested_suites_give_paths_and_pass_on_times_and_files() {
    let xml = "<testsuites name='all'><testsuite name='a' timestamp='2026-01-02T03:04:05Z' file='a.rs'><testsuite name='b'><testcase name='t' time='soon'/></testsuite>
        <testcase name='u'/></testsuite><testsuite name='c'><error message='broken'>cannot import</error></testsuite></testsuites>";
    let (drafts, _) = found("junit", xml.as_bytes()).unwrap();
    let titles: Vec<&str> = drafts.iter().map(|draft| draft.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "t: passed",
            "a/b: 1 passed",
            "u: passed",
            "a: 2 passed",
            "c: no tests",
            "all: 2 passed"
        ]
    );
    assert_eq!(
        drafts[0].record_id.as_ref().unwrap().as_str(),
        "test:a/b::t"
    );
    assert_eq!(drafts[0].event_time, drafts[3].event_time);
    assert!(drafts[0].event_time.is_some());
    assert_eq!(attribute(&drafts[0], "file"), Some("a.rs"));
    assert_eq!(attribute(&drafts[0], "duration_as_given"), Some("soon"));
    assert_eq!(attribute(&drafts[4], "verdict"), Some("error"));
    assert!(drafts[4].text.contains("cannot import"));
}

#[test]
fn a_case_without_a_name_is_refused_with_its_place() {
    let (drafts, refusals) = found(
        "junit",
        b"<testsuite>\n<testcase name='a'/>\n<testcase time='1'/>\n</testsuite>",
    )
    .unwrap();
    assert_eq!(drafts.len(), 2);
    assert_eq!(refusals.len(), 1);
    assert_eq!(
        (refusals[0].location.as_str(), refusals[0].field.as_str()),
        ("testcase 2 (line 3)", "name")
    );
}

#[test]
fn what_is_no_report_is_refused_with_its_place() {
    for (xml, expected) in [
        ("", "found none; is the report empty?"),
        ("   \n", "found none"),
        (
            "plain text",
            "line 1, column 1: expected an XML element, found text",
        ),
        (
            "<html><body/></html>",
            "line 1, column 1: expected `testsuites` or `testsuite` as the outermost element, found `html`",
        ),
        (
            "<testsuite>\n  <testcase name='a'>\n</testsuite>",
            "line 3, column 1: ill-formed document: expected `</testcase>`, but `</testsuite>` was found",
        ),
        (
            "<testsuite>\n<testcase name='a'/>",
            "line 2, column 21: the report ends inside 1 open elements",
        ),
        (
            "<testsuite/><testsuite/>",
            "line 1, column 13: expected one outermost element",
        ),
        (
            "<testsuite><testcase name='a' name='b'/></testsuite>",
            "line 1, column 12",
        ),
        (
            "<testsuite><testcase name=a/></testsuite>",
            "line 1, column 12",
        ),
        ("<testsuite><testcase name='a", "line 1, column 12"),
        ("<testsuite>\n<![CDATA[", "line 2, column 1"),
    ] {
        let error = found("junit", xml.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{xml}: {error}");
    }
    let error = found("junit", b"<testsuite>\n<testcase name='\xff'/></testsuite>").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("line 2, column 17: expected UTF-8"),
        "{error}"
    );
}

#[test]
fn entities_are_never_expanded() {
    let lol = "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY a 'lollollol'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c SYSTEM 'file:///etc/passwd'>]>
        <testsuite><testcase name='&b;'><failure message='&c;'>&b;&c;&lt;&#65;&#0;</failure></testcase></testsuite>";
    let test = single(lol);
    assert_eq!(test.title, "&b;: failed");
    assert!(test.text.contains("&b;&c;<A"), "{}", test.text);
    assert!(!test.text.contains("lol") && !test.text.contains("root:"));
}

#[test]
fn deep_nesting_is_refused_and_never_overflows() {
    let error = found("junit", "<testsuite>".repeat(100_000).as_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("nested deeper than 256"),
        "{error}"
    );
}

#[test]
fn long_output_is_cut_in_the_middle() {
    let out: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
    let test = single(&format!(
        "<testsuite><testcase name='t'><system-out>{out}</system-out></testcase></testsuite>"
    ));
    assert!(test.text.len() < 10_000, "{}", test.text.len());
    assert!(
        test.text.contains("line 0\n") && test.text.ends_with("line 99999"),
        "{}",
        test.text.len()
    );
    assert!(test.text.contains("bytes cut …]"));
}

#[test]
fn properties_become_attributes_with_unique_keys() {
    let test = single(
        "<testsuite><testcase name='t'><properties><property name='Attachment' value='a.png'/><property name='attachment' value='b.png'/><property name='d'>long\n text</property></properties></testcase></testsuite>",
    );
    assert_eq!(attribute(&test, "property.attachment"), Some("a.png"));
    assert_eq!(attribute(&test, "property.attachment.2"), Some("b.png"));
    assert_eq!(attribute(&test, "property.d"), Some("long text"));
}
