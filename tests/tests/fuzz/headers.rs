//! Headers of any kind, to a server that asks who calls: nobody gets in by them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use commonplace_proto::common::{Principal, PrincipalKind};
use commonplace_tests::dice::Dice;
use prost::Message;

use crate::server::Served;
use crate::{cases, spoil};

/// A principal as services tell each other: the most that anybody could claim to be.
fn principal(dice: &mut Dice) -> String {
    let kind = *dice.pick(&[
        PrincipalKind::User,
        PrincipalKind::Agent,
        PrincipalKind::Service,
    ]);
    let principal = Principal {
        tenant: "default".into(),
        kind: kind.into(),
        subject: (*dice.pick(&["operator", "gateway", "journal", "developer"])).into(),
        roles: vec!["admin".into()],
        credential: "mesh".into(),
        ..Principal::default()
    };
    STANDARD_NO_PAD.encode(principal.encode_to_vec())
}

fn token(dice: &mut Dice) -> String {
    let text = |json: String| URL_SAFE_NO_PAD.encode(json);
    let algorithm = *dice.pick(&["EdDSA", "ES256", "RS256", "none", "HS256", "None", ""]);
    let head = text(format!("{{\"alg\":\"{algorithm}\",\"kid\":\"k1\"}}"));
    let claims = text(
        "{\"iss\":\"https://issuer.example\",\"aud\":\"commonplace\",\"sub\":\"alice\",\"exp\":4000000000,\
         \"tenant\":\"default\",\"roles\":[\"admin\"]}"
            .to_owned(),
    );
    let count = dice.below(70);
    format!(
        "{head}.{claims}.{}",
        URL_SAFE_NO_PAD.encode(dice.bytes(count))
    )
}

/// The value of a header, right in itself or spoiled.
fn header(dice: &mut Dice) -> Vec<u8> {
    let key = format!("com_{}_{}", dice.word(), "a".repeat(52));
    let timeouts = [
        "1S",
        "99999999H",
        "0n",
        "-1S",
        "1",
        "S",
        "123456789m",
        "1 S",
        "\u{0661}S",
    ];
    let (name, value) = match dice.below(16) {
        0 => ("authorization", format!("Bearer {}", token(dice))),
        1 => ("authorization", format!("Bearer {key}")),
        2 => (
            "authorization",
            format!("Basic {}", STANDARD_NO_PAD.encode("admin:admin")),
        ),
        3 => ("authorization", "Bearer".into()),
        4 => ("x-api-key", key),
        5 => ("x-api-key", token(dice)),
        6 => ("grpc-timeout", (*dice.pick(&timeouts)).into()),
        7 => {
            let (trace, span) = (dice.hex(32), dice.hex(16));
            ("traceparent", format!("00-{trace}-{span}-01"))
        }
        8 => (
            "traceparent",
            "00-é0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01".into(),
        ),
        9 => ("tracestate", "a=".repeat(600)),
        10 => ("x-request-id", spoil::text(dice)),
        11 => ("te", (*dice.pick(&["trailers", "gzip;q=9", ""])).into()),
        12 => (
            "content-type",
            (*dice.pick(&[
                "application/json",
                "text/x",
                "application/grpc-web+proto",
                ";",
            ]))
            .into(),
        ),
        13 => ("x-commonplace-principal-bin", principal(dice)),
        14 => ("x-forwarded-for", "127.0.0.1".into()),
        _ => (
            "host",
            (*dice.pick(&["localhost", "evil.example", "[::1", "localhost:99999", ""])).into(),
        ),
    };
    // What would end the header is another request, which others try.
    let mut value: Vec<u8> = value.into_bytes();
    value.truncate(20_000);
    if dice.one_in(3) {
        value = spoil::bytes(value, dice);
    }
    value.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
    [name.as_bytes(), b": ", &value].concat()
}

/// What only somebody who is known may ask for.
const PATHS: [&str; 6] = [
    "GET /info",
    "GET /projects",
    "GET /keys",
    "POST /events",
    "POST /ingest/jsonl",
    "POST /commonplace.policy.v1.AccessService/GetAccess",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_header_lets_anybody_in() {
    let served = Served::asking().await;
    for (number, mut dice) in cases() {
        let line = *dice.pick(&PATHS);
        let headers: Vec<Vec<u8>> = (0..1 + dice.below(4)).map(|_| header(&mut dice)).collect();
        let (status, answer) = served.call(line, &headers, b"{}").await;
        let shown: Vec<_> = headers
            .iter()
            .map(|line| String::from_utf8_lossy(line))
            .collect();
        let text = String::from_utf8_lossy(&answer);
        let what = format!("case {number}: {line} {shown:?}: {text}");
        let status = status.unwrap_or_else(|| panic!("{what}"));
        // A gRPC call is refused within: 16 is UNAUTHENTICATED, 7 a web page or a name that is not ours.
        let within = ["grpc-status: 16", "grpc-status: 7", "grpc-status: 3"];
        let within = within.iter().any(|said| text.to_lowercase().contains(said));
        assert!(
            status == 200 && within || (400..500).contains(&status),
            "{what}"
        );
        served.did_not_panic(&what);
    }
    served.close("headers of any kind").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_any_kind_are_answered_or_refused() {
    let served = Served::asking().await;
    let good = b"POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for (number, mut dice) in cases() {
        let bytes = spoil::bytes(good.to_vec(), &mut dice);
        let patience = std::time::Duration::from_millis(60);
        let answer = served.raw(&bytes, patience).await;
        let shown = String::from_utf8_lossy(&bytes);
        let text = String::from_utf8_lossy(&answer);
        assert!(
            !text.starts_with("HTTP/1.1 200"),
            "case {number}: {shown}: {text}"
        );
        served.did_not_panic(&format!("case {number}: {shown}"));
    }
    served.close("heads of any kind").await;
}
