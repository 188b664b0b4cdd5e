use commonplace_types::{ArtifactType, Attribute, Link, limits};
use proptest::prelude::*;

use super::*;

fn redactor() -> Redactor {
    Redactor::new(&RedactionOptions::default()).unwrap()
}

fn masked_text(text: &str) -> String {
    redactor_once()
        .text(text, &mut Receipts::new())
        .into_owned()
}

/// Written in pieces, so that no tool takes these samples for real secrets.
fn join(parts: &[&str]) -> String {
    parts.concat()
}

const KEY_BODY: &str = "MIIEpAIBAAKCAQEAx2v8sYkq3l9Zb7cW\nQ1p0fJm4T6uR5nXeVhGdLkOaSyBiCwDz\nab==";

#[test]
fn secrets_are_masked() {
    let begin = join(&["-----BEGIN RSA PRIVATE", " KEY-----"]);
    let end = join(&["-----END RSA PRIVATE", " KEY-----"]);
    let github = join(&["ghp", "_16C7e42F292c6912E7710c838347Ae178B4a"]);
    let jwt = join(&[
        "eyJhbGciOiJIUzI1NiJ9",
        ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.",
        "dozjgNryP4J3jVmNHl0w5N",
    ]);
    let cases = [
        (
            format!("a\n{begin}\n{KEY_BODY}\n{end}\nb"),
            "a\n[redacted:private_key]\nb".to_owned(),
        ),
        (
            format!(
                "+{begin}\n+{}\n+{end}\n+next",
                KEY_BODY.replace('\n', "\n+")
            ),
            "+[redacted:private_key]\n+next".to_owned(),
        ),
        (
            format!(
                "-{begin}\n-{}\n-{end}\n unchanged",
                KEY_BODY.replace('\n', "\n-")
            ),
            "-[redacted:private_key]\n unchanged".to_owned(),
        ),
        (
            format!(
                "k = \"{begin}\\n{}\\n{end}\\n\"",
                KEY_BODY.replace('\n', "\\n")
            ),
            "k = \"[redacted:private_key]\\n\"".to_owned(),
        ),
        (
            format!("cut: {begin}\n{KEY_BODY}\n[… 9 bytes cut …]"),
            "cut: [redacted:private_key]\nab==\n[… 9 bytes cut …]".to_owned(),
        ),
        (
            format!(
                "tail {}\n{end}.",
                "QmFzZTY0UmFuZG9tRGF0YQ\nQ1p0fJm4T6uR5nXeVhGd\nAb=="
            ),
            "tail [redacted:private_key].".to_owned(),
        ),
        (
            join(&["id AK", "IAIOSFODNN7EXAMPLE."]),
            "id [redacted:aws_key].".to_owned(),
        ),
        (
            format!("push with {github}!"),
            "push with [redacted:github_token]!".to_owned(),
        ),
        (
            join(&["x gl", "pat-a1B2c3D4e5F6g7H8i9J0 y"]),
            "x [redacted:gitlab_token] y".to_owned(),
        ),
        (
            join(&["x xo", "xb-123456789012-abcdefGHIJ y"]),
            "x [redacted:slack_token] y".to_owned(),
        ),
        (
            format!("cookie {jwt};"),
            "cookie [redacted:jwt];".to_owned(),
        ),
        (
            "Authorization: Basic dXNlcjpwYXNzd29yZA==".into(),
            "Authorization: Basic [redacted:authorization]".into(),
        ),
        (
            "-H 'authorization: bearer a8f5f167f44f4964e6c998dee827110c'".into(),
            "-H 'authorization: bearer [redacted:authorization]'".into(),
        ),
        (
            "X-Api-Key: 9f86d081884c7d65".into(),
            "X-Api-Key: [redacted:authorization]".into(),
        ),
        (
            "postgres://app:s3a-shell@db/x".into(),
            "postgres://app:[redacted:url_password]@db/x".into(),
        ),
        (
            "https://a1b2c3d4e5f6a7b8c9d0@host/x".into(),
            "https://[redacted:url_password]@host/x".into(),
        ),
        (
            "curl -u bob:hunter2 x".into(),
            "curl -u bob:[redacted:command_user] x".into(),
        ),
        (
            "mail ada.b+c@example.org, ok".into(),
            "mail [redacted:email]@example.org, ok".into(),
        ),
        (
            "card 4111 1111 1111 1111 ok".into(),
            "card [redacted:card_number] ok".into(),
        ),
        (
            "amex 378282246310005".into(),
            "amex [redacted:card_number]".into(),
        ),
        // Assignments: JSON, YAML, environment, flags, code.
        (
            r#"{"password": "hunter", "user": "bob"}"#.into(),
            r#"{"password": "[redacted:assignment]", "user": "bob"}"#.into(),
        ),
        (
            r#"{\"db_password\":\"tiger\"}"#.into(),
            r#"{\"db_password\":\"[redacted:assignment]\"}"#.into(),
        ),
        (
            r#""api_key": "9f86d081884c7d659a2feaa0""#.into(),
            r#""api_key": "[redacted:assignment]""#.into(),
        ),
        (
            "db:\n  password: hunter2\n  user: bob".into(),
            "db:\n  password: [redacted:assignment]\n  user: bob".into(),
        ),
        (
            "+  password: s3cr3t!\n".into(),
            "+  password: [redacted:assignment]\n".into(),
        ),
        (
            "client_secret: 9f86d081-884c-7d65".into(),
            "client_secret: [redacted:assignment]".into(),
        ),
        (
            "export GITHUB_TOKEN=abc123def456".into(),
            "export GITHUB_TOKEN=[redacted:assignment]".into(),
        ),
        (
            "PGPASSWORD=tiger psql".into(),
            "PGPASSWORD=[redacted:assignment] psql".into(),
        ),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            "aws_secret_access_key = [redacted:assignment]".into(),
        ),
        (
            "run --password hunter2 --verbose".into(),
            "run --password [redacted:assignment] --verbose".into(),
        ),
        (
            "run --api-key=9f86d081 x".into(),
            "run --api-key=[redacted:assignment] x".into(),
        ),
        (
            "url?user=a&password=secure%20pass1&x=1".into(),
            "url?user=a&password=[redacted:assignment]&x=1".into(),
        ),
        (
            "let password = \"tr0ub4dor\";".into(),
            "let password = \"[redacted:assignment]\";".into(),
        ),
        (
            "const apiKey = 'hX7kQ2mZ9pLw';".into(),
            "const apiKey = '[redacted:assignment]';".into(),
        ),
        (
            "password: b\"tr0ub4dor\",".into(),
            "password: b\"[redacted:assignment]\",".into(),
        ),
        (
            "hash => ('secret' => 'hX7kQ2mZ9pLw')".into(),
            "hash => ('secret' => '[redacted:assignment]')".into(),
        ),
        (
            "headers.set(\"api_key\", \"hX7kQ2mZ9pLw\")".into(),
            "headers.set(\"api_key\", \"[redacted:assignment]\")".into(),
        ),
        (
            "Server=db;Password=hunter2;Database=x".into(),
            "Server=db;Password=[redacted:assignment];Database=x".into(),
        ),
        (
            "os.environ['API_TOKEN'] = 'hX7kQ2mZ9pLw'".into(),
            "os.environ['API_TOKEN'] = 'hX7kQ2mZ9pLw'".into(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(masked_text(&text), expected);
    }
}

#[test]
fn ordinary_code_and_prose_survive() {
    for text in [
        "struct Login { user: String, password: String }",
        "let token = lexer.next();",
        "let token = tokens[index];",
        "    token: Token,",
        "fn check(password: &str, secret: Option<&[u8]>) -> bool",
        "self.password = password",
        "connect(user=user, password=password)",
        "password = input.value.trim()",
        "if password == other.password { return }",
        "token_count: 1024, max_tokens=4096",
        "const TOKEN_LIMIT: usize = 1_048_576;",
        "next_page_token: \"abc123def456ghi789\"",
        "PASSWORD=${DB_PASSWORD} TOKEN=$(cat token) secret: {{ .Values.secret }}",
        "password: <your-password>",
        "--token TOKEN     the token to use",
        "--password is required",
        "\"password\": \"********\"",
        "{\"password\": \"string\", \"token\": \"identifier\"}",
        "secretName: my-database-secret",
        "secret: my-database-secret",
        "tokenizer = Tokenizer::new()",
        "expected token `=` found `;`",
        "Bearer authentication is needed, see AuthenticationMiddleware",
        "Authorization: Bearer <token>",
        "Authorization: Bearer $TOKEN",
        "git@github.com:org/repo.git",
        "https://user@host/path and https://host:8080/a@b",
        "http://user:${PASSWORD}@host",
        "icon@2x.png return@forEach.it this@MainActivity.finish",
        "import x from '@scope/pkg'; #[test] @Override",
        "4111 1111 1111 1112 is no card, nor 0.4111111111111111",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit e9c8039cf77402adfa4a6ae94bd7b3416f77c0a4",
        "id 550e8400-e29b-41d4-a716-446655440000 at 1414948052166",
        "assert key.startswith('-----BEGIN PRIVATE KEY-----')",
        "password = os.environ[\"DB_PASSWORD\"]",
        "password: \"vault:secret/db#password\"",
        "error.password = \"Password is required\"",
        "AccessToken: WBEM_128BITS,",
        "let raw_private_key: Curve25519SeedBin<'_> = key",
        "token=token2 secret=secret1",
        "private_key: PathBuf::from(\"k.pem\")",
        "credentials: 'include', csrf_token: csrfToken",
        "__slots__ = ('user', 'password', 'host')",
        "PWD=/home/ada1 OLDPWD=/tmp/x1",
        "config.Certificates[0].PrivateKey = testRSA2048PrivateKey",
        "FS_IOC_REMOVE_ENCRYPTION_KEY = 0xc0406618",
        "fields: [\"token\", \"secret\", \"api_key\", \"note\"]",
    ] {
        assert_eq!(masked_text(text), text);
    }
}

#[test]
fn a_draft_is_masked_everywhere_and_counted() {
    let mut draft = Draft::new(
        ArtifactType::new("bug").unwrap(),
        "from a.b@example.org",
        "password=hunter2",
    );
    draft.author = "Ada <ada@example.org>".into();
    draft.tags = vec!["bob@example.org".into()];
    draft.links = vec![Link::new("url", "https://u:s3a-shell@host/")];
    draft.record_id = Some(RecordId::new("test:login[eve@example.org]").unwrap());
    draft.attributes = vec![
        Attribute::new("db.password", "x y z"),
        Attribute::new("token_count", "12"),
        Attribute::new("note", "c@example.org"),
    ];
    let mut receipts = Receipts::new();
    redactor()
        .draft(&mut draft, &mut receipts, &Cancel::default())
        .unwrap();
    assert_eq!(draft.title, "from [redacted:email]@example.org");
    assert_eq!(draft.author, "Ada <[redacted:email]@example.org>");
    assert_eq!(draft.tags, ["[redacted:email]@example.org"]);
    assert_eq!(
        draft.links[0].target,
        "https://u:[redacted:url_password]@host/"
    );
    assert_eq!(
        draft.record_id.as_ref().unwrap().as_str(),
        "test:login[[redacted:email]@example.org]"
    );
    let values: Vec<&str> = draft
        .attributes
        .iter()
        .map(|attribute| attribute.value.as_str())
        .collect();
    assert_eq!(
        values,
        ["[redacted:field]", "12", "[redacted:email]@example.org"]
    );
    assert_eq!(
        receipts.into_iter().collect::<Vec<_>>(),
        [
            ("assignment".into(), 1),
            ("email".into(), 5),
            ("field".into(), 1),
            ("url_password".into(), 1)
        ]
    );
    let before = draft.clone();
    redactor()
        .draft(&mut draft, &mut Receipts::new(), &Cancel::default())
        .unwrap();
    assert_eq!(draft, before);
}

#[test]
fn masks_that_grow_a_field_stay_within_its_bound() {
    let mut draft = Draft::new(
        ArtifactType::new("bug").unwrap(),
        "a@b.cd ".repeat(146),
        "a@b.cd ".repeat(149_000),
    );
    draft.tags = vec!["a@b.cd ".repeat(18)];
    draft.record_id = Some(RecordId::new("x:".to_owned() + &"a@b.cd ".repeat(72)).unwrap());
    redactor()
        .draft(&mut draft, &mut Receipts::new(), &Cancel::default())
        .unwrap();
    assert!(draft.text.len() <= limits::TEXT_BYTES && draft.text.contains("bytes cut"));
    assert!(
        !draft.text.contains("a@b") && !draft.record_id.as_ref().unwrap().as_str().contains("a@b")
    );
    assert!(draft.checked().is_ok());
}

#[test]
fn rules_can_be_left_out_and_added() {
    let options = RedactionOptions {
        disabled_rules: vec!["email".into()],
        patterns: vec![Pattern {
            name: "ticket".into(),
            expression: r"TICKET-(?P<secret>\d+)".into(),
        }],
    };
    let redactor = Redactor::new(&options).unwrap();
    let text = redactor
        .text("a@example.org TICKET-123", &mut Receipts::new())
        .into_owned();
    assert_eq!(text, "a@example.org TICKET-[redacted:ticket]");
    assert!(redactor.rules().contains(&"field") && !redactor.rules().contains(&"email"));
    let check = |options: RedactionOptions, field: &str, problem: &str| {
        let error = Redactor::new(&options).unwrap_err();
        assert_eq!(error.field, field);
        assert!(error.problem.contains(problem), "{error}");
    };
    let disabled = |name: &str| RedactionOptions {
        disabled_rules: vec![name.into()],
        patterns: vec![],
    };
    check(
        disabled("emails"),
        "redaction.disabled_rules",
        "found `emails`",
    );
    let pattern = |name: &str, expression: &str| RedactionOptions {
        disabled_rules: vec![],
        patterns: vec![Pattern {
            name: name.into(),
            expression: expression.into(),
        }],
    };
    check(
        pattern("a", "("),
        "redaction.patterns[0].expression",
        "unclosed group",
    );
    check(
        pattern("a", "x*"),
        "redaction.patterns[0].expression",
        "empty text",
    );
    check(
        pattern("a", "redacted"),
        "redaction.patterns[0].expression",
        "its own mask",
    );
    check(pattern("A b", "x"), "redaction.patterns[0].name", "a word");
}

#[test]
fn hostile_texts_take_linear_time() {
    let begin = join(&["-----BEGIN PRIVATE", " KEY-----"]);
    for piece in [
        "token=",
        "password=\"",
        "password: ",
        "a@b.",
        "eyJaaaaaaaa.",
        "://a:",
        begin.as_str(),
        "4111111111111111",
        "Bearer ",
        "secret",
        "\"token\": \"x",
        "[redacted:",
        "=-----END PRIVATE KEY-----",
    ] {
        let text = piece.repeat((512 << 10) / piece.len());
        let start = std::time::Instant::now();
        masked_text(&text);
        println!(
            "{:>8.1} ms for 512 KiB of `{piece}`",
            start.elapsed().as_secs_f64() * 1e3
        );
        // Not a measurement: quadratic work would take hours here.
        assert!(start.elapsed().as_secs() < 60, "{piece}");
    }
}

#[test]
fn looking_for_keys_takes_linear_steps() {
    let begin = join(&["-----BEGIN PRIVATE", " KEY-----"]);
    let end = join(&["-----END PRIVATE", " KEY-----"]);
    let finder = Regex::new(pem::MARKER).unwrap();
    for unit in [
        format!("Version{begin}\n"),
        format!("Version: 1\n{begin}\n"),
        format!("{begin}\nA\n"),
        format!("12: {begin}\n13: QUJD\n"),
        format!("{begin}{begin}"),
        format!("AAAA\n{end}\n"),
        format!("{}\n{end}", "A".repeat(40)),
        format!("{begin}\n{}\n", "A".repeat(64)),
        "Private-Lines: 1\nHash\n".into(),
        join(&["LS0tLS1CRUdJTi", "BQUklWQVRFIEtFWQ==\n"]),
    ] {
        let steps = |bytes: usize| {
            let text = unit.repeat(bytes / unit.len());
            pem::counted(&finder, &text).1
        };
        let (small, large) = (steps(16 << 10), steps(256 << 10));
        assert!(
            large <= 17 * small + 4_096,
            "{unit:?}: {small} steps, then {large}"
        );
        assert!(large <= 64 * (256 << 10), "{unit:?}: {large} steps");
    }
}

#[test]
fn masking_ends_when_its_call_has_ended() {
    let cancel = Cancel::default();
    let mut draft = Draft::new(ArtifactType::new("bug").unwrap(), "t", "x");
    let mut receipts = Receipts::new();
    assert!(
        redactor_once()
            .draft(&mut draft, &mut receipts, &cancel)
            .is_ok()
    );
    drop(cancel.on_drop());
    assert!(
        redactor_once()
            .draft(&mut draft, &mut receipts, &cancel)
            .is_err()
    );
}

#[test]
fn keys_in_logs_are_masked_whatever_their_lines_begin_with() {
    let begin = join(&["-----BEGIN RSA PRIVATE", " KEY-----"]);
    let end = join(&["-----END RSA PRIVATE", " KEY-----"]);
    let lines = [
        "MIIEpAIBAAKCAQEAx2v8sYkq3l9Zb7cW",
        "Q1p0fJm4T6uR5nXeVhGdLkOaSyBiCwDz",
        "ab==",
    ];
    let log = |line: &dyn Fn(usize, &str) -> String, opens: bool| {
        let whole = [&[&*begin][..], &lines[..], &[&*end][..]].concat();
        let kept = if opens { &whole[..] } else { &whole[1..] };
        let text: String = kept.iter().enumerate().map(|(n, l)| line(n, l)).collect();
        format!("before\n{text}after")
    };
    type Shape<'a> = &'a dyn Fn(usize, &str) -> String;
    let shapes: [Shape<'_>; 8] = [
        &|n, l| format!("2026-01-01T00:00:0{n}.0000000Z {l}\n"),
        &|n, l| format!("[2026-01-01T00:00:0{n}.000Z] {l}\n"),
        &|n, l| format!("{:>4}: {l}\n", n + 8),
        &|n, l| format!("{n}| {l}\n"),
        &|n, l| format!("build-{n} | 12:0{n} {l}\n"),
        &|_, l| format!("{l}<br>\n"),
        &|_, l| format!("\t\"{l}\\n\" +\n"),
        &|_, l| format!("{l}\r\n"),
    ];
    for (number, shape) in shapes.iter().enumerate() {
        for opens in [true, false] {
            // What is put behind each line is learned from the line that opens the key.
            if matches!(number, 5 | 6) && !opens {
                continue;
            }
            let masked = masked_text(&log(shape, opens));
            let leaks = lines[..2].iter().any(|line| masked.contains(line));
            assert!(!leaks, "shape {number}, opens {opens}: {masked}");
            assert!(
                masked.starts_with("before\n") && masked.ends_with("after"),
                "{masked}"
            );
        }
    }
    let putty =
        "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\nMIIEpAIBAAKCAQEAx2v8sYkq3l9Zb7cW\n";
    assert!(!masked_text(putty).contains("MIIE"));
    let encoded = join(&[
        "LS0tLS1CRUdJTi",
        "BSU0EgUFJJVkFURSBLRVktLS0tLQpNSUlFcEFJQkFBS0NBUUVB",
    ]);
    assert_eq!(
        masked_text(&format!("key: {encoded}")),
        "key: [redacted:private_key]"
    );
    let certificate = join(&[
        "LS0tLS1CRUdJTi",
        "BDRVJUSUZJQ0FURS0tLS0tCk1JSUVwQUlCQUFLQ0FRRUE=",
    ]);
    assert_eq!(masked_text(&certificate), certificate);
}

/// `§` stands for the secret.
#[test]
fn secrets_of_many_forms_are_masked() {
    let random = "hX7kQ2mZ9pLwT4vB8nR3";
    for (template, secret) in [
        ("DB_PASS=§", "S3cr3tPa55x"),
        ("SMTP_PASS=\"§\"", "S3cr3tPa55x"),
        ("pass = '§'", "S3cr3tPa55"),
        ("<password>§</password>", "S3cr3tPa55"),
        ("<add key=\"Password\" value=\"§\"/>", "S3cr3tPa55"),
        ("conn.setPassword(\"§\");", "S3cr3tPa55"),
        ("tool --password=§", "correcthorse"),
        ("tool --password §", "correcthorse"),
        ("sshpass -p '§' ssh x", "S3cr3tPa55"),
        ("docker login -u bob -p § x.io", "S3cr3tPa55"),
        ("mysql -u root -p§ db", "S3cr3tPa55"),
        ("curl -uadmin:§ https://x", "S3cr3tPa55"),
        ("password = \"§\"", "my secret pass phrase 9"),
        ("define('DB_PASSWORD', '§');", "correcthorse"),
        ("\"Server=x;Uid=sa;Pwd=§;\"", "abcdefghi"),
        ("CREATE USER x IDENTIFIED BY '§'", "wort"),
        ("ALTER USER x WITH PASSWORD '§'", "S3cr3tPa55"),
        ("Cookie: theme=dark; sessionid=§", random),
        ("Set-Cookie: SID=§; HttpOnly", random),
        ("{\"auth\":\"§\"}", "dXNlcjpTM2NyZXRQYXNzOTk="),
        ("_auth=§", "dXNlcjpTM2NyZXRQYXNzOTk="),
        ("machine github.com login bob password §", "hunter2ABC99"),
        (
            "kind: Secret\ndata:\n  tls.key: §\n",
            "bm90IGEga2V5IGJ1dCBzZWNyZXQ",
        ),
        ("data:\n  note: §\nkind: Secret\n", "bm90IGEga2V5"),
        ("GOCSPX-§", "hX7kQ2mZ9pLwT4vB8nR3abcd"),
        ("ya29.§", "hX7kQ2mZ9pLwT4vB8nR3abcd"),
        ("1//0§", "hX7kQ2mZ9pLwT4vB8nR3abcdhX7kQ2mZ9p"),
        (
            "?sv=2020&sig=§&se=1",
            "hX7kQ2mZ9pLwT4vB8nR3abcdhX7kQ2mZ9pL%3D",
        ),
        (
            "{\"private_key_id\":\"§\"}",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        ),
        ("whsec_§", "hX7kQ2mZ9pLwT4vB8nR3abcd"),
        ("xapp-1-A012-§", "hX7kQ2mZ9pLwT4vB8nR3abcd"),
        ("hvs.§", "hX7kQ2mZ9pLwT4vB8nR3abcd"),
        ("dapi§", "9f86d081884c7d659a2feaa0c55ad015"),
        ("shpat_§", "9f86d081884c7d659a2feaa0c55ad015"),
        ("lin_api_§", "hX7kQ2mZ9pLwT4vB8nR3abcdhX7kQ2mZ9pLw"),
        ("SK§", "9f86d081884c7d659a2feaa0c55ad015"),
        ("key-§", "9f86d081884c7d659a2feaa0c55ad015"),
        ("postgres://bob:§@db/x", "S3cr3t/Pa55"),
        ("postgres://bob:§@db/x", "$ecretPa55word"),
        ("postgres://bob:§@db/x", "S3cr3t@Pa55"),
        ("password = \"§\"", "[redacted:x]S3cr3tPa55"),
        ("password = \"§\"", "S3cr3t${x}Pa55"),
        ("password = \"§\"", "S3cr3t...Pa55"),
        ("HEROKU_API_KEY=§", "12345678-1234-1234-1234-1234567890ab"),
    ] {
        let masked = masked_text(&template.replace('§', secret));
        assert!(masked.contains(MASK_START), "{template} {secret}: {masked}");
        for part in secret.split("[redacted:x]").filter(|part| !part.is_empty()) {
            assert!(!masked.contains(part), "{template}: {masked}");
        }
        assert_eq!(masked_text(&masked), masked);
    }
}

#[test]
fn what_only_looks_like_a_secret_survives() {
    for text in [
        "token: 550e8400-e29b-41d4-a716-446655440000",
        "npm i package@2.0.io x@1.2.3 @scope/pkg@1.2.3",
        "commit 3b1c68d0a1b2c3d4e5f60718293a4b5c6d7e8f90",
        "GIT_COMMIT=3b1c68d0a1b2c3d4e5f60718293a4b5c6d7e8f90",
        "order 4111111111111111 of 4000000000000002",
        "bypass = true, compass='n1', tests passed: 12, pass: 3",
        "render_pass: RenderPass, first_pass = 1, --pass 2",
        "password: \"must be at least 8 characters\"",
        "{\"password\": \"Enter your new password\"}",
        "--password is required, --password=PASSWORD",
        "secret: my-database-secret",
        "kind: ConfigMap\ndata:\n  name: YmFzZTY0\n",
        "cookie = cookies.get(\"a1b2\"); Cookie: theme=dark",
        "password = \"${DB_PASSWORD}\" and \"${A}-${B}\"",
        "http://user:$PASSWORD@host http://$USER:$password@host",
        "getByLabel('Password').fill(name)",
    ] {
        assert_eq!(masked_text(text), text);
    }
}

/// Pieces that are near to secrets, masks and signs, to be strung together.
fn near_secret() -> impl Strategy<Value = String> {
    let pieces = [
        "password",
        "token",
        "api_key",
        "SECRET",
        "=",
        ": ",
        " = ",
        "\"",
        "'",
        "hunter2",
        "hX7kQ2mZ9pLw",
        "a@b.cd",
        "://u:p4ss@h",
        "[redacted:email]",
        "[redacted:",
        "]",
        "Bearer ",
        "Authorization: Basic ",
        "dXNlcjpwYXNzd29yZA==",
        "\n",
        " ",
        ",",
        ";",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "MIIEpAIBAAKCAQEAx2v8sYkq3l9Zb7cW",
        "\\n",
        "ä",
        "4111111111111111",
        "--",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJI.eyJzdWIiOiIx.dozjgNryP4J3",
        "x-key: ",
        "(",
        ")",
        "@",
        ".",
        "/",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..24)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn masking_twice_is_masking_once(text in near_secret()) {
        let once = masked_text(&text);
        let mut receipts = Receipts::new();
        let twice = redactor_once().text(&once, &mut receipts).into_owned();
        prop_assert_eq!(&once, &twice);
        prop_assert!(receipts.is_empty());
    }

    #[test]
    fn any_text_is_masked_without_a_panic(text in "\\PC{0,200}") {
        let once = masked_text(&text);
        prop_assert_eq!(masked_text(&once), once);
    }
}

/// Compiling the rules takes longer than applying them.
fn redactor_once() -> &'static Redactor {
    static SHARED: std::sync::LazyLock<Redactor> = std::sync::LazyLock::new(redactor);
    &SHARED
}
