//! What the audit log holds of all this: every change once, every denial, nothing of others, and no secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_access::audit::{Checker, head_from_proto, record_from_proto};
use commonplace_proto::common::EventDraft;
use commonplace_proto::ingest::CommitRequest;
use commonplace_proto::ingest::ingest_service_client::IngestServiceClient;
use commonplace_proto::policy::audit_service_client::AuditServiceClient;
use commonplace_proto::policy::{
    AuditDecision, AuditRecord, ExportAuditRecordsRequest, ListAuditRecordsRequest,
};
use commonplace_rpc::Channel;
use commonplace_rpc::context::{self, Call};
use commonplace_rpc::methods::{self, Method};
use commonplace_tests::raw;
use commonplace_types::{SystemClock, TenantName};
use tonic::Code;

use super::common::{House, Person, people};
use super::doors::{self, PROJECT, request};

const FORGED: &str = "com_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A house whose log tells many denials apart.
async fn house() -> House {
    House::with(Arc::new(SystemClock), |options| {
        options.audit.distinct_denials = 10_000;
        options.audit.window_seconds = 1;
    })
    .await
}

/// Everything in the log of whoever a channel calls for, checked.
async fn log(channel: &Channel) -> Vec<AuditRecord> {
    let mut client = AuditServiceClient::new(channel.clone());
    let messages = client.export_audit_records(ExportAuditRecordsRequest {});
    let mut messages = messages.await.unwrap().into_inner();
    let (mut checker, mut head, mut records) = (None, None, Vec::new());
    while let Some(message) = messages.message().await.unwrap() {
        if let Some(start) = &message.start {
            let (tenant, start) = head_from_proto(start).unwrap();
            checker = Some(Checker::new(tenant, start, None).unwrap());
        }
        head = message.head.or(head);
        for record in message.records {
            let checker = checker.as_mut().unwrap();
            checker
                .take(&record_from_proto(record.clone()).unwrap())
                .unwrap();
            records.push(record);
        }
    }
    let (_, head) = head_from_proto(&head.unwrap()).unwrap();
    assert_eq!(checker.unwrap().end(&head).unwrap(), records.len() as u64);
    records
}

/// The log, once it says what is waited for.
async fn log_with(channel: &Channel, enough: impl Fn(&[AuditRecord]) -> bool) -> Vec<AuditRecord> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let records = log(channel).await;
        if enough(&records) || Instant::now() > until {
            return records;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One call under an id of its own.
async fn call(channel: &Channel, id: &str, path: &str, method: &Method) -> Code {
    let call = Call {
        request_id: id.to_owned(),
        ..Call::root(Some(Duration::from_secs(10)))
    };
    let answer = context::scope(call, raw::call(channel, path, vec![request(method)])).await;
    answer.err().map_or(Code::Ok, |status| status.code())
}

fn ours() -> impl Iterator<Item = (&'static str, &'static Method)> {
    methods::all().filter(|(path, _)| path.starts_with("/commonplace."))
}

/// How a status is called in records.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for (place, letter) in format!("{code:?}").char_indices() {
        if letter.is_uppercase() && place > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_that_changes_something_leaves_one_record() {
    let house = house().await;
    house.write("acme", PROJECT, "note", "gold").await;
    let people = people(&house).await;
    let admin = house.channel(Some(&people["admin"]));
    let mut made = BTreeMap::new();
    for (path, method) in ours() {
        let id = format!("changes-{}", made.len());
        // Services call this one past the gateway, and this one operators.
        let past = [
            ("JournalService/Append", &house.operator.journal),
            ("LimitsService/PutLimits", &house.operator.policy),
        ];
        let past = past.iter().find(|(name, _)| path.ends_with(name));
        if !method.mutates() && past.is_none() {
            continue;
        }
        let code = if let Some((_, channel)) = past {
            let tenant = TenantName::new("acme").unwrap();
            let call = Call {
                request_id: id.clone(),
                tenant,
                ..Call::root(Some(Duration::from_secs(10)))
            };
            let sent = raw::call(channel, path, vec![request(method)]);
            let answer = context::scope(call, sent).await;
            answer.err().map_or(Code::Ok, |status| status.code())
        } else {
            call(&admin, &id, path, method).await
        };
        made.insert(id, (method, code));
    }
    assert!(made.len() >= 14, "{} rpcs", made.len());
    // Whoever is answered finds the record: nothing is waited for.
    let records = log(&admin).await;
    for (id, (method, code)) in made {
        let found: Vec<&AuditRecord> = records
            .iter()
            .filter(|record| record.request_id == id)
            .collect();
        assert_eq!(found.len(), 1, "{}: {found:?}", method.name);
        let record = found[0];
        assert_eq!(record.method, method.name);
        assert_eq!(record.decision(), AuditDecision::Allowed, "{record:?}");
        assert_eq!(record.code, code_name(code), "{record:?}");
        assert_eq!(record.reason.is_empty(), code == Code::Ok, "{record:?}");
        if record.subject == "admin" {
            assert!(record.credential.starts_with("key:"), "{record:?}");
            assert_eq!(record.policies, ["role_admin"], "{record:?}");
            assert!(record.policy_hash.starts_with("sha256:"), "{record:?}");
            assert_eq!(record.peer, "127.0.0.1", "{record:?}");
            assert_eq!(record.trace_id.len(), 32, "{record:?}");
        } else {
            assert_eq!(record.subject, "operator", "{record:?}");
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_services_make_together_is_one_record() {
    let house = house().await;
    let people = people(&house).await;
    let writer = house.channel(Some(&people["writer"]));
    let commit = CommitRequest {
        project: PROJECT.into(),
        events: vec![EventDraft {
            artifact_type: "note".into(),
            title: "one change".into(),
            text: "the words of an event are in no record".into(),
            ..EventDraft::default()
        }],
        ..CommitRequest::default()
    };
    let call = Call {
        request_id: "together".into(),
        ..Call::root(Some(Duration::from_secs(10)))
    };
    let mut client = IngestServiceClient::new(writer);
    let committed = context::scope(call, async { client.commit(commit).await }).await;
    committed.unwrap();
    let admin = house.channel(Some(&people["admin"]));
    let records = log(&admin).await;
    let found: Vec<&AuditRecord> = records
        .iter()
        .filter(|record| record.request_id == "together")
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (
            found[0].method.as_str(),
            found[0].project.as_str(),
            found[0].code.as_str()
        ),
        ("commonplace.ingest.v1.IngestService/Commit", PROJECT, "OK")
    );
    assert!(!format!("{records:?}").contains("the words of an event"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_denial_leaves_a_record_and_no_secret_does() {
    let house = house().await;
    house.write("acme", PROJECT, "note", "gold").await;
    let mut people = people(&house).await;
    let keeper = Person {
        name: "keeper",
        roles: &["admin"],
        scopes: None,
    };
    let (_, keeper) = house.key("default", &keeper).await;
    people.insert("forged", FORGED.to_owned());
    people.insert("nobody", String::new());
    let mut denied: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, method) in ours() {
        for (who, key) in &people {
            let channel = house.channel(Some(key.as_str()).filter(|key| !key.is_empty()));
            let id = format!("{who} {}", method.name);
            let code = call(&channel, &id, path, method).await;
            if !matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
                continue;
            }
            let tenant = match *who {
                "forged" | "nobody" => "default",
                "stranger" => "rival",
                _ => "acme",
            };
            denied.entry(tenant).or_default().insert(id);
            assert!(
                doors::closed(path) || !doors::expected(who, method),
                "{who} {path}"
            );
        }
    }
    let shown = |who: &str| house.channel(Some(&people[who]));
    let mut all = String::new();
    for (tenant, channel) in [
        ("default", house.channel(Some(&keeper))),
        ("rival", shown("stranger")),
        ("acme", shown("admin")),
    ] {
        let expected = &denied[tenant];
        let told = |records: &[AuditRecord]| -> BTreeSet<String> {
            let denied = records.iter();
            let denied = denied.filter(|record| record.decision() == AuditDecision::Denied);
            denied.map(|record| record.request_id.clone()).collect()
        };
        let whole = |records: &[AuditRecord]| expected.is_subset(&told(records));
        let records = log_with(&channel, whole).await;
        let missing: Vec<_> = expected.difference(&told(&records)).cloned().collect();
        assert!(
            missing.is_empty(),
            "{tenant}: {missing:?} of {}",
            expected.len()
        );
        assert!(expected.len() > 4, "{tenant}: {}", expected.len());
        for record in &records {
            assert_eq!(record.tenant, tenant, "{record:?}");
            let refused = record.decision() == AuditDecision::Denied;
            assert_eq!(
                refused,
                !record.reason.is_empty() && record.code != "OK" && denies(record)
            );
        }
        all.push_str(&format!("{records:?}"));
    }
    for key in people.values().filter(|key| !key.is_empty()) {
        let secret = key.rsplit('_').next().unwrap();
        assert!(!all.contains(secret), "a secret is in the log");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_at_a_json_path_is_recorded_under_its_rpc() {
    let house = house().await;
    let people = people(&house).await;
    let keeper = Person {
        name: "keeper",
        roles: &["admin"],
        scopes: None,
    };
    let (_, keeper) = house.key("default", &keeper).await;
    let refused = doors::http(&house, "GET", "/keys", None).await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let refused = doors::http(
        &house,
        "POST",
        "/keys/aaaaaaaaaaaaaaaa/revoke",
        Some(&people["reader"]),
    );
    assert!(refused.await.starts_with("HTTP/1.1 403"));
    for (channel, method, reason) in [
        (
            house.channel(Some(&keeper)),
            "ListKeys",
            "CREDENTIALS_MISSING",
        ),
        (
            house.channel(Some(&people["admin"])),
            "RevokeKey",
            "ACCESS_DENIED",
        ),
    ] {
        let there = |record: &&AuditRecord| record.method.ends_with(method) && denies(record);
        let found = |records: &[AuditRecord]| records.iter().any(|record| there(&record));
        let records = log_with(&channel, found).await;
        let record = records.iter().find(there).unwrap();
        assert_eq!(
            (record.reason.as_str(), record.peer.as_str()),
            (reason, "127.0.0.1")
        );
    }
    house.close().await;
}

/// What services tell each other of a call is worth nothing from outside.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_hides_a_change_or_where_it_comes_from() {
    let house = house().await;
    let people = people(&house).await;
    let key = Some(people["admin"].as_str());
    let claims = "x-commonplace-within: 1\r\nx-commonplace-caller: 192.0.2.9\r\n";
    let path = "/keys/aaaaaaaaaaaaaaaa/revoke";
    let answer = doors::http_with(&house, "POST", path, key, claims).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let records = log(&house.channel(key)).await;
    let mut revoked = records.iter();
    let revoked = revoked.find(|record| record.method.ends_with("/RevokeKey"));
    let revoked = revoked.expect("the change is recorded");
    assert_eq!(
        (revoked.code.as_str(), revoked.peer.as_str()),
        ("NOT_FOUND", "127.0.0.1")
    );
    house.close().await;
}

fn denies(record: &AuditRecord) -> bool {
    ["PERMISSION_DENIED", "UNAUTHENTICATED"].contains(&record.code.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_log_alone() {
    let house = house().await;
    let people = people(&house).await;
    for tenant in ["acme", "rival"] {
        house.write(tenant, "shared", "note", tenant).await;
    }
    for (who, tenant) in [("admin", "acme"), ("stranger", "rival")] {
        let channel = house.channel(Some(&people[who]));
        let records = log(&channel).await;
        assert!(!records.is_empty());
        assert!(records.iter().all(|record| record.tenant == tenant));
        let mut client = AuditServiceClient::new(channel);
        let listed = client.list_audit_records(ListAuditRecordsRequest::default());
        let listed = listed.await.unwrap().into_inner().records;
        assert!(listed.iter().all(|record| record.tenant == tenant));
        assert_eq!(listed.len(), records.len().min(100));
    }
    for path in ["/audit", "/audit/head"] {
        let shown = doors::http(&house, "GET", path, Some(&people["admin"])).await;
        assert!(shown.starts_with("HTTP/1.1 200"), "{path}: {shown}");
        assert!(shown.contains("acme") && !shown.contains("rival"), "{path}");
        let nobody = doors::http(&house, "GET", path, None).await;
        assert!(nobody.starts_with("HTTP/1.1 401"), "{path}: {nobody}");
    }
    // Those without the right see nothing of it.
    for who in ["member", "reader", "writer", "scoped"] {
        for path in ["/audit", "/audit/head"] {
            let refused = doors::http(&house, "GET", path, Some(&people[who])).await;
            assert!(refused.starts_with("HTTP/1.1 403"), "{path}: {refused}");
            assert!(!refused.contains("sequence"), "{path}: {refused}");
        }
        let mut client = AuditServiceClient::new(house.channel(Some(&people[who])));
        let listed = client.list_audit_records(ListAuditRecordsRequest::default());
        assert_eq!(
            listed.await.unwrap_err().code(),
            Code::PermissionDenied,
            "{who}"
        );
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_denials_is_counted_and_takes_little_room() {
    const CALLS: usize = 1_000;
    const CLIENTS: usize = 8;
    let house = House::with(Arc::new(SystemClock), |options| {
        options.audit.window_seconds = 2;
        options.audit.distinct_denials = 10;
    })
    .await;
    let people = people(&house).await;
    let keeper = Person {
        name: "keeper",
        roles: &["admin"],
        scopes: None,
    };
    let (_, keeper) = house.key("default", &keeper).await;
    let create = methods::method("/commonplace.policy.v1.AccessService/CreateKey");
    let started = Instant::now();
    for (who, count) in [("reader", CALLS), ("", CALLS)] {
        let key = people.get(who).map(String::as_str);
        let channel = house.channel(key);
        let path = "/commonplace.policy.v1.AccessService/CreateKey";
        let clients = (0..CLIENTS).map(|client| {
            let channel = channel.clone();
            async move {
                let mut codes = Vec::new();
                for number in (client..count).step_by(CLIENTS) {
                    codes.push(call(&channel, &format!("flood-{number}"), path, create).await);
                }
                codes
            }
        });
        let codes = futures::future::join_all(clients).await.concat();
        let denied = |code: &&Code| matches!(code, Code::PermissionDenied | Code::Unauthenticated);
        assert_eq!(codes.iter().filter(denied).count(), count);
    }
    let windows = started.elapsed().as_secs() / 2 + 1;
    for (channel, subject) in [
        (house.channel(Some(&people["admin"])), "reader"),
        (house.channel(Some(&keeper)), ""),
    ] {
        let counted = |records: &[AuditRecord]| -> u64 {
            let denied = records.iter();
            let denied = denied.filter(|record| record.decision() == AuditDecision::Denied);
            denied.map(|record| record.count).sum()
        };
        let records = log_with(&channel, |records| counted(records) >= CALLS as u64).await;
        assert_eq!(counted(&records), CALLS as u64, "of {subject}");
        let rows = records.iter().filter(|record| denies(record)).count() as u64;
        assert!(
            rows <= 2 * (windows + 1),
            "{rows} records in {windows} windows"
        );
    }
    house.close().await;
}
