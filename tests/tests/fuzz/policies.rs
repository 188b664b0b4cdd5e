//! Policies of both kinds: texts that are nearly right, and texts that go deep.

use commonplace_tests::dice::Dice;

use crate::bodies::is_answered;
use crate::server::Served;
use crate::{cases, spoil};

fn expression(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 || dice.one_in(4) {
        const LEAVES: [&str; 14] = [
            "true",
            "principal",
            "resource.name",
            "\"text\"",
            "1",
            "-9223372036854775808",
            "[]",
            "context.method",
            "Role::\"admin\"",
            "resource.tenant.name",
            "{}",
            "principal.tenant",
            "ip(\"1.2.3.4\")",
            "decimal(\"1.2\")",
        ];
        return (*dice.pick(&LEAVES)).to_owned();
    }
    let mut inner = || expression(dice, depth - 1);
    let (a, b, c) = (inner(), inner(), inner());
    match dice.below(12) {
        0 => format!("({a})"),
        1 => format!("!({a})"),
        2 => format!("{a} && {b}"),
        3 => format!("{a} || {b}"),
        4 => format!("{a} == {b}"),
        5 => format!("if {a} then {b} else {c}"),
        6 => format!("[{a}, {b}].contains({c})"),
        7 => format!("{a} in {b}"),
        8 => format!("{a} has name"),
        9 => format!("{a} like \"*a*\""),
        10 => format!("{a} + {b} < {c}"),
        _ => format!("{{\"k\": {a}}}.k"),
    }
}

fn cedar(dice: &mut Dice) -> String {
    let mut source = String::new();
    for _ in 0..1 + dice.below(3) {
        let effect = dice.pick(&["permit", "forbid", "allow"]);
        let who = dice.pick(&[
            "principal",
            "principal in Role::\"x\"",
            "principal == User::\"a/b\"",
            "principal == ?principal",
        ]);
        let what = dice.pick(&[
            "action",
            "action in Action::\"read\"",
            "action == Action::\"made up\"",
        ]);
        let condition = dice.pick(&["when", "unless"]);
        let depth = dice.below(7);
        source += &format!(
            "@id(\"x\") {effect} ({who}, {what}, resource) {condition} {{ {} }};\n",
            expression(dice, depth)
        );
    }
    source
}

/// Texts that go deep, each in another way.
fn bombs() -> Vec<String> {
    let when = |text: String| format!("permit (principal, action, resource) when {{ {text} }};");
    let nested = |open: &str, close: &str| {
        let depth = 60_000 / (open.len() + close.len());
        format!("{}true{}", open.repeat(depth), close.repeat(depth))
    };
    let chained = |link: &str| format!("{}true", link.repeat(60_000 / link.len()));
    let mut bombs = vec![
        when(nested("(", ")")),
        when(nested("[", "]")),
        when(nested("{a:", "}")),
        when(nested("!(", ")")),
        when(nested("[true].contains(", ")")),
        when(nested("if ", " then true else true")),
    ];
    let links = [
        "true && ",
        "false || ",
        "1 + ",
        "1 * ",
        "!",
        "-",
        "if true then true else ",
        "principal.",
        "principal has a.",
        "\"\\u{1f600}\" == ",
        "true ",
        "a::",
    ];
    bombs.extend(links.map(|link| when(chained(link))));
    bombs.push("when { true } ".repeat(4_000));
    bombs.push("@a(\"b\") ".repeat(7_000));
    bombs.push("permit (principal, action, resource);".repeat(1_700));
    bombs.push("//".repeat(30_000));
    bombs.push("\"".into());
    bombs
}

async fn put(served: &Served, path: &str, source: &str) {
    let json = b"content-type: application/json".to_vec();
    let body = serde_json::json!({ "source": source, "validate_only": true }).to_string();
    let line = format!("PUT {path}");
    let (status, answer) = served.call(&line, &[json], body.as_bytes()).await;
    let shown: String = source.chars().take(800).collect();
    is_answered(&format!("{path}: {shown}"), status, &answer);
    served.did_not_panic(&shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorization_policies_of_any_kind_are_answered() {
    let served = Served::open().await;
    for bomb in bombs() {
        put(&served, "/access/policies/fuzz", &bomb).await;
    }
    for (_, mut dice) in cases() {
        let mut source = cedar(&mut dice);
        if dice.one_in(3) {
            let bytes = spoil::bytes(source.into_bytes(), &mut dice);
            source = String::from_utf8_lossy(&bytes).into_owned();
        }
        put(&served, "/access/policies/fuzz", &source).await;
    }
    served.close("authorization policies of any kind").await;
}

const POLICY: &str = "description: what it is for\ntasks: [review]\nweights: {lexical: 0.6, dense: 0.4}\nfusion: \
    reciprocal_rank\nrrf_k: 60\ncandidates: 100\nfilters:\n  artifact_types: [bug, test]\n  tags_any: [a]\n  \
    min_importance: 0.1\nalways_include: {pinned: true}\nquotas:\n  - {artifact_type: bug, max_items: 3}\npacking:\n  \
    method: greedy\n  max_items: 10\n";

#[tokio::test(flavor = "multi_thread")]
async fn retrieval_policies_of_any_kind_are_answered() {
    let served = Served::open().await;
    let nested = |open: &str, close: &str| {
        let depth = 60_000 / (open.len() + close.len()).max(1);
        format!("{}{}", open.repeat(depth), close.repeat(depth))
    };
    let mut lines = String::new();
    let mut deeper = String::new();
    for _ in 0..300 {
        lines += &format!("{deeper}a:\n");
        deeper.push(' ');
    }
    let aliases = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, number| {
        let before = number - 1;
        text + &format!("a{number}: &a{number} [*a{before}, *a{before}, *a{before}, *a{before}]\n")
    });
    for bomb in [
        nested("[", "]"),
        nested("{a: ", "}"),
        nested("- ", ""),
        nested("? ", ""),
        nested("!x ", ""),
        nested("&a ", ""),
        lines,
        aliases,
        format!("weights: {{lexical: {}}}", "9".repeat(60_000)),
        "a: |\n".to_owned() + &" x\n".repeat(20_000),
        "%YAML 9.9\n---\n".into(),
    ] {
        put(&served, "/policies/fuzz", &bomb).await;
    }
    for (_, mut dice) in cases() {
        let mut bytes = POLICY.as_bytes().to_vec();
        for _ in 0..1 + dice.below(3) {
            bytes = spoil::bytes(bytes, &mut dice);
        }
        put(&served, "/policies/fuzz", &String::from_utf8_lossy(&bytes)).await;
    }
    served.close("retrieval policies of any kind").await;
}
