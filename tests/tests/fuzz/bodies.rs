//! JSON bodies and parameters of every HTTP path, and reports of every format.

use commonplace_tests::dice::Dice;
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};

use crate::server::Served;
use crate::{cases, spoil};

/// Verb, path, whether the body is the message, and the message.
pub fn paths() -> Vec<(&'static str, String, bool, MessageDescriptor)> {
    let services = commonplace_proto::pool().services();
    let ours = services.filter(|service| service.full_name().starts_with("commonplace."));
    let methods = ours.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.filter_map(|method| rule(&method)).collect()
}

fn rule(method: &MethodDescriptor) -> Option<(&'static str, String, bool, MessageDescriptor)> {
    let extension = commonplace_proto::pool().get_extension_by_name("google.api.http")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let rule = options.get_extension(&extension).as_message()?.clone();
    let has_body = rule.get_field_by_name("body")?.as_str() == Some("*");
    let verbs = [("get", "GET"), ("put", "PUT"), ("post", "POST")];
    verbs.into_iter().find_map(|(name, verb)| {
        let path = rule.get_field_by_name(name)?.as_str()?.to_owned();
        (!path.is_empty()).then(|| (verb, path, has_body, method.input()))
    })
}

/// A JSON object for a message, in which this and that is wrong.
pub fn object(message: &MessageDescriptor, dice: &mut Dice, depth: usize) -> String {
    let mut fields = Vec::new();
    for field in message.fields() {
        if dice.one_in(3) {
            continue;
        }
        let name = if dice.one_in(2) {
            field.name()
        } else {
            field.json_name()
        };
        for _ in 0..if dice.one_in(40) { 2 } else { 1 } {
            let one = value(&field.kind(), dice, depth);
            let value = match field.is_list() != dice.one_in(20) {
                true => format!("[{one}]"),
                false => one,
            };
            fields.push(format!("\"{name}\":{value}"));
        }
    }
    if dice.one_in(20) {
        fields.push(format!("\"{}\":{}", dice.word(), anything(dice)));
    }
    format!("{{{}}}", fields.join(","))
}

fn value(kind: &Kind, dice: &mut Dice, depth: usize) -> String {
    if dice.one_in(8) {
        return anything(dice);
    }
    match kind {
        Kind::Message(message) if depth < 6 && !message.full_name().starts_with("google.") => {
            object(message, dice, depth + 1)
        }
        Kind::Message(_) => "\"2026-11-21T08:00:00Z\"".into(),
        Kind::String if dice.one_in(2) => format!("\"{}\"", dice.word()),
        Kind::String => serde_json::json!(spoil::text(dice)).to_string(),
        Kind::Bool => "true".into(),
        Kind::Enum(values) => format!("\"{}\"", values.values().last().unwrap().name()),
        Kind::Bytes => "\"AAEC\"".into(),
        _ => number(dice),
    }
}

fn number(dice: &mut Dice) -> String {
    const NUMBERS: [&str; 12] = [
        "0",
        "1",
        "-1",
        "3",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "1e308",
        "1e999",
        "0.1",
    ];
    (*dice.pick(&NUMBERS)).to_owned()
}

fn anything(dice: &mut Dice) -> String {
    match dice.below(9) {
        0 => "null".into(),
        1 => "true".into(),
        2 => number(dice),
        3 => format!("\"{}\"", "9".repeat(dice.below(400))),
        4 => format!("{}{}", "[".repeat(200), "]".repeat(200)),
        5 => "{\"a\":".repeat(300),
        6 => format!("[{}1]", "1,".repeat(dice.below(3_000))),
        7 => serde_json::json!(spoil::text(dice)).to_string(),
        _ => "{}".into(),
    }
}

/// Of an answer: it is one, and nothing of ours went wrong.
pub fn is_answered(what: &str, status: Option<u16>, answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    let text: String = text.chars().take(1_000).collect();
    let status = status.unwrap_or_else(|| panic!("{what}: no answer: {text}"));
    assert!(
        status != 500 && (200..=504).contains(&status),
        "{what}: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_any_kind_is_answered() {
    let served = Served::open().await;
    let paths = paths();
    assert!(paths.len() > 25);
    let json = b"content-type: application/json\r\ngrpc-timeout: 3S".to_vec();
    for (number, mut dice) in cases() {
        let (verb, path, has_body, message) = dice.pick(&paths).clone();
        // Slow by what it is.
        if path == "/index/rebuild" && !dice.one_in(10) {
            continue;
        }
        let id = match dice.one_in(2) {
            true => dice.word(),
            false => "%00%ff..%2f".into(),
        };
        let mut line = format!("{verb} {}", path.replace("{id}", &id));
        let mut body = Vec::new();
        if has_body {
            body = object(&message, &mut dice, 0).into_bytes();
            if dice.one_in(3) {
                body = spoil::bytes(body, &mut dice);
            }
        } else {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for field in message.fields() {
                let text = spoil::text(&mut dice);
                let text: String = text.chars().take(2_000).collect();
                query.append_pair(field.name(), &text);
            }
            line += &format!("?{}", query.finish());
        }
        let (status, answer) = served.call(&line, std::slice::from_ref(&json), &body).await;
        let shown: String = String::from_utf8_lossy(&body).chars().take(500).collect();
        is_answered(&format!("case {number}: {line} {shown}"), status, &answer);
        served.did_not_panic(&format!("case {number}: {line}"));
    }
    served.close("JSON of any kind").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_the_limit_are_answered_and_forgotten() {
    let served = Served::open().await;
    let json = b"content-type: application/json".to_vec();
    let most = 32 << 20;
    let deep = |open: &str| open.repeat(most / open.len());
    for (what, body) in [
        ("arrays in arrays", deep("[")),
        ("objects in objects", deep("{\"events\":[")),
        (
            "a long text",
            format!("{{\"project\":\"{}\"}}", "x".repeat(most - 32)),
        ),
        (
            "a long name",
            format!("{{\"{}\":1}}", "x".repeat(most - 32)),
        ),
        (
            "many numbers",
            format!("{{\"events\":[{}1]}}", "1,".repeat(most / 2 - 32)),
        ),
        (
            "many events",
            format!("{{\"events\":[{}{{}}]}}", "{},".repeat(most / 3 - 32)),
        ),
        (
            "many tags",
            format!(
                "{{\"events\":[{{\"tags\":[{}\"\"]}}]}}",
                "\"\",".repeat(most / 3 - 32)
            ),
        ),
        (
            "escapes",
            format!("{{\"project\":\"{}\"}}", "\\u0041".repeat(most / 6 - 32)),
        ),
        ("spaces", " ".repeat(most)),
    ] {
        let sent = std::slice::from_ref(&json);
        let (status, answer) = served.call("POST /events", sent, body.as_bytes()).await;
        is_answered(what, status, &answer);
        assert_ne!(status, Some(200), "{what}");
        served.did_not_panic(what);
    }
    served.close("bodies up to the limit").await;
}

/// Reports as their tools write them.
const REPORTS: [(&str, &str); 5] = [
    (
        "junit",
        "<testsuites><testsuite name=\"s\" tests=\"2\" timestamp=\"2026-11-21T08:00:00\"><properties>\
         <property name=\"a\" value=\"b\"/></properties><testcase classname=\"c\" name=\"t\" time=\"0.1\">\
         <failure message=\"m\" type=\"T\"><![CDATA[trace &amp; more]]></failure></testcase>\
         <testcase name=\"u\"><skipped/></testcase></testsuite></testsuites>",
    ),
    (
        "jenkins",
        "{\"_class\":\"org.jenkinsci.plugins.workflow.job.WorkflowRun\",\"number\":7,\"result\":\"FAILURE\",\
         \"timestamp\":1700000000000,\"duration\":12,\"url\":\"http://ci/job/x/7/\",\"fullDisplayName\":\"x #7\",\
         \"actions\":[{\"failCount\":1,\"totalCount\":2,\"urlName\":\"testReport\"}]}",
    ),
    (
        "git",
        "commit 0123456789abcdef0123456789abcdef01234567\nAuthor: A <a@example.com>\n\
         Date:   2026-11-21T08:00:00+00:00\n\n    Subject\n\ndiff --git a/x b/x\nindex 1..2 100644\n--- a/x\n\
         +++ b/x\n@@ -1,2 +1,2 @@\n-old\n+new\n",
    ),
    (
        "jsonl",
        "{\"artifact_type\":\"note\",\"title\":\"t\",\"text\":\"AKIAIOSFODNN7EXAMPLE\",\"links\":[{\"relation\":\
         \"file\",\"target\":\"x\"}],\"event_time\":\"2026-11-21T08:00:00Z\"}\n{\"artifact_type\":\"bug\"}\n",
    ),
    ("unknown", "anything"),
];

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_any_kind_are_answered() {
    let served = Served::open().await;
    for (number, mut dice) in cases() {
        let (format, report) = *dice.pick(&REPORTS);
        let mut body = report.as_bytes().to_vec();
        for _ in 0..dice.below(4) {
            body = spoil::bytes(body, &mut dice);
        }
        if dice.one_in(20) {
            body = body.repeat(dice.below(200));
        }
        let line = format!("POST /ingest/{format}?project=fuzz&name=report");
        let (status, answer) = served.call(&line, &[], &body).await;
        let shown = String::from_utf8_lossy(&body).into_owned();
        is_answered(&format!("case {number}: {line} {shown}"), status, &answer);
        served.did_not_panic(&format!("case {number}: {line} {shown}"));
    }
    served.close("reports of any kind").await;
}
