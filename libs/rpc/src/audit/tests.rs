use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use commonplace_telemetry::Metrics;
use commonplace_types::{
    Principal, PrincipalKind, ProjectName, Subject, SystemClock, TenantName, Timestamp,
};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tonic::body::Body;
use tower::ServiceExt;

use super::denials::Denials;
use super::entry::new_id;
use super::*;
use crate::access::{Action, Authorize, Decision};
use crate::view::View;
use crate::{Code, Failure, Layered, Limits, PeerIdentity};

const COMMIT: &str = "/commonplace.policy.v1.AccessService/CreateKey";
const PUT_LIMITS: &str = "/commonplace.policy.v1.LimitsService/PutLimits";
const LIST_LIMITS: &str = "/commonplace.policy.v1.LimitsService/ListLimits";
const TAIL: &str = "/commonplace.journal.v1.JournalService/Tail";
const LIST: &str = "/commonplace.policy.v1.AccessService/ListKeys";

/// Keeps in memory, and fails as often as it is told to.
#[derive(Debug, Default)]
struct Memory {
    kept: Mutex<Vec<Entry>>,
    failures: AtomicUsize,
    deliveries: AtomicUsize,
    refuses: Option<&'static str>,
}

#[async_trait]
impl Sink for Memory {
    async fn keep(&self, entries: Vec<Entry>) -> Result<(), Failure> {
        self.deliveries.fetch_add(1, Ordering::SeqCst);
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if failing.is_ok() {
            return Err(Failure::new(Code::Unavailable, "PEER_UNREACHABLE"));
        }
        if entries
            .iter()
            .any(|entry| Some(entry.reason.as_str()) == self.refuses)
        {
            return Err(Failure::new(Code::InvalidArgument, "FIELD_INVALID"));
        }
        self.kept.lock().unwrap().extend(entries);
        Ok(())
    }
}

impl Memory {
    fn failing(times: usize) -> Arc<Self> {
        Arc::new(Self {
            failures: AtomicUsize::new(times),
            ..Self::default()
        })
    }

    fn kept(&self) -> Vec<Entry> {
        self.kept.lock().unwrap().clone()
    }
}

fn recorder(options: &Options, sink: &Arc<Memory>) -> Recorder {
    let clock = Arc::new(SystemClock);
    Recorder::start(options, true, "test".into(), clock, sink.clone()).unwrap()
}

fn entry(subject: &str, method: &str, reason: &str) -> Entry {
    let time = Timestamp::from_micros(1).unwrap();
    Entry {
        id: new_id(),
        tenant: TenantName::new("acme").unwrap(),
        time,
        last_time: time,
        count: 1,
        request_id: new_id(),
        trace_id: String::new(),
        who: Some(Who {
            kind: PrincipalKind::User,
            subject: Subject::new(subject).unwrap(),
            credential: "key:a".into(),
            actors: Vec::new(),
        }),
        method: method.into(),
        right: None,
        project: None,
        verdict: Verdict::Denied,
        policies: Vec::new(),
        rules: None,
        code: "PERMISSION_DENIED".into(),
        reason: reason.into(),
        peer: String::new(),
        service: "test".into(),
    }
}

#[test]
fn a_flood_of_denials_takes_a_windows_share_and_loses_no_count() {
    let denials = Denials::new(Duration::from_secs(60), 10);
    let start = Instant::now();
    let mut told = Vec::new();
    // One who knocks at every door, and many who knock once.
    for number in 0..10_000_u32 {
        let subject = format!("s{}", number % 500);
        told.extend(denials.note(entry(&subject, "m", "ACCESS_DENIED"), start));
        told.extend(denials.note(entry("eve", "m", "ACCESS_DENIED"), start));
    }
    assert_eq!(told.len(), 10, "the first of each kind that is told apart");
    assert!(
        denials
            .due(start + Duration::from_secs(59), 1_000, false)
            .is_empty()
    );
    let late = denials.due(start + Duration::from_secs(60), 1_000, false);
    assert_eq!(late.len(), 11, "ten kinds, and the others together");
    let together: Vec<&Entry> = late.iter().filter(|entry| entry.who.is_none()).collect();
    assert_eq!(together.len(), 1);
    told.extend(late.clone());
    assert_eq!(told.iter().map(|entry| entry.count).sum::<u64>(), 20_000);
    assert!(
        denials
            .due(start + Duration::from_secs(600), 1_000, true)
            .is_empty()
    );
    // Other tenants and other reasons are not kept out.
    let mut other = entry("bob", "m", "ACCESS_DENIED");
    other.tenant = TenantName::new("rival").unwrap();
    assert!(denials.note(other, start).is_some());
}

#[test]
fn one_who_is_refused_everything_does_not_hide_whom_else_is_refused() {
    let denials = Denials::new(Duration::from_secs(60), 100);
    let start = Instant::now();
    let stranger = |number: u32| Entry {
        who: None,
        ..entry("x", &format!("m{number}"), "CREDENTIALS_MISSING")
    };
    for number in 0..1_000 {
        denials.note(stranger(number), start);
        denials.note(entry("eve", &format!("m{number}"), "ACCESS_DENIED"), start);
    }
    let told = denials.note(entry("bob", "m", "ACCESS_DENIED"), start);
    assert!(told.is_some_and(|entry| entry.who.is_some()));
    let end = start + Duration::from_secs(60);
    let told = denials.due(end, 1_000, false);
    assert_eq!(told.iter().map(|entry| entry.count).sum::<u64>(), 1_950);
    // In the next window each has as much room as before.
    assert!((0..25).all(|number| denials.note(stranger(number), end).is_some()));
    assert!(denials.note(stranger(25), end).is_none());
}

#[test]
fn windows_are_told_as_far_as_there_is_room_and_the_rest_is_kept() {
    let denials = Denials::new(Duration::from_secs(1), 100);
    let start = Instant::now();
    for number in 0..20 {
        for _ in 0..3 {
            denials.note(entry(&format!("s{number}"), "m", "r"), start);
        }
    }
    let end = start + Duration::from_secs(2);
    let first = denials.due(end, 8, false);
    let rest = denials.due(end, 100, false);
    assert_eq!((first.len(), rest.len()), (8, 12));
    assert!(first.iter().chain(&rest).all(|entry| entry.count == 2));
}

/// Lets `alice` do everything, and nobody else anything.
#[derive(Debug)]
struct AliceOnly;

#[async_trait]
impl Authorize for AliceOnly {
    fn nobody(&self) -> Result<Arc<Principal>, Failure> {
        Err(Failure::new(Code::Unauthenticated, "CREDENTIALS_MISSING"))
    }

    async fn decide(
        &self,
        principal: &Arc<Principal>,
        _: Action,
        _: Option<&ProjectName>,
    ) -> Result<Decision, Failure> {
        let answer = match principal.subject.as_str() {
            "alice" => Ok(View::Whole),
            _ => Err(Failure::new(Code::PermissionDenied, "ACCESS_DENIED")),
        };
        Ok(Decision {
            answer,
            because: crate::Because {
                policies: ["rule".to_owned()].into(),
                rules: None,
            },
        })
    }
}

fn somebody(subject: &str) -> Arc<Principal> {
    Arc::new(Principal {
        tenant: TenantName::new("acme").unwrap(),
        subject: Subject::new(subject).unwrap(),
        ..Principal::developer()
    })
}

/// Calls a service that takes some time and answers with a status.
async fn call(
    recorder: &Recorder,
    path: &str,
    who: Option<&str>,
    hop: Hop,
    answer: Option<Failure>,
) -> Reason {
    call_as(recorder, path, who.map(somebody), hop, answer).await
}

async fn call_as(
    recorder: &Recorder,
    path: &str,
    who: Option<Arc<Principal>>,
    hop: Hop,
    answer: Option<Failure>,
) -> Reason {
    let service = tower::service_fn(move |_: Request<Body>| {
        let answer = answer.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok::<_, std::convert::Infallible>(match answer {
                Some(failure) => failure.into_status().into_http(),
                None => Response::new(Body::empty()),
            })
        }
    });
    let layered = Layered::new(service, Limits::default(), Metrics::new())
        .authorized(Arc::new(AliceOnly))
        .audited(recorder.clone());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap();
    request.extensions_mut().insert(hop);
    if let Some(who) = who {
        request.extensions_mut().insert(who);
    }
    let answer = layered.oneshot(request).await.unwrap();
    let status = tonic::Status::from_header_map(answer.headers());
    status.map(|status| Failure::from_status(&status).reason)
}

/// The reason of a failure; none: well.
type Reason = Option<String>;

#[tokio::test]
async fn a_mutation_is_answered_when_its_record_is_kept() {
    let sink = Memory::failing(3);
    let recorder = recorder(&Options::default(), &sink);
    let done = call(&recorder, COMMIT, Some("alice"), Hop::default(), None).await;
    assert_eq!(done, None);
    let kept = sink.kept();
    assert_eq!(kept.len(), 1, "kept by now, after three failures, and once");
    assert_eq!(
        (kept[0].verdict, kept[0].code.as_str(), &kept[0].method[..]),
        (Verdict::Allowed, "OK", &COMMIT[1..])
    );
    assert_eq!(kept[0].policies, ["rule"]);
    assert!(sink.deliveries.load(Ordering::SeqCst) >= 4);
    // A failure of the call itself is its outcome; what only reads leaves nothing.
    let failure = Failure::new(Code::NotFound, "KEY_NOT_FOUND");
    call(
        &recorder,
        COMMIT,
        Some("alice"),
        Hop::default(),
        Some(failure),
    )
    .await;
    call(&recorder, LIST, Some("alice"), Hop::default(), None).await;
    let kept = sink.kept();
    assert_eq!(kept.len(), 2);
    assert_eq!(
        (kept[1].code.as_str(), kept[1].reason.as_str()),
        ("NOT_FOUND", "KEY_NOT_FOUND")
    );
    recorder.end().await;
}

#[tokio::test]
async fn every_denial_is_recorded_wherever_it_comes_from() {
    let sink = Memory::failing(0);
    let recorder = recorder(&Options::default(), &sink);
    call(&recorder, LIST, None, Hop::default(), None).await;
    call(&recorder, LIST, Some("eve"), Hop::default(), None).await;
    // The handler itself refuses.
    let failure = Failure::new(Code::PermissionDenied, "SCOPE_EXCEEDED");
    call(
        &recorder,
        COMMIT,
        Some("alice"),
        Hop::default(),
        Some(failure),
    )
    .await;
    // The gateway does, before any service is asked.
    let failure = Failure::new(Code::Unauthenticated, "CREDENTIALS_INVALID");
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer com_secret".parse().unwrap());
    let mut extensions = http::Extensions::new();
    extensions.insert(PeerAddress("192.0.2.7".parse().unwrap()));
    recorder.refused(&headers, LIST, &extensions, &failure);
    recorder.end().await;
    let kept = sink.kept();
    let told: Vec<(&str, &str, &str)> = kept
        .iter()
        .map(|entry| {
            let who = entry.who.as_ref();
            let subject = who.map_or("", |who| who.subject.as_str());
            (entry.tenant.as_str(), subject, entry.reason.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("default", "", "CREDENTIALS_MISSING"),
            ("acme", "eve", "ACCESS_DENIED"),
            ("acme", "alice", "SCOPE_EXCEEDED"),
            ("default", "", "CREDENTIALS_INVALID"),
        ]
    );
    assert!(kept.iter().all(|entry| entry.verdict == Verdict::Denied));
    assert_eq!(kept[3].peer, "192.0.2.7");
    assert!(!format!("{kept:?}").contains("secret"));
}

#[tokio::test]
async fn a_call_within_a_recorded_one_is_not_recorded_again_but_its_denial_is() {
    let sink = Memory::failing(0);
    let recorder = recorder(&Options::default(), &sink);
    let within = Hop {
        within: true,
        caller: None,
    };
    call(&recorder, COMMIT, Some("alice"), within, None).await;
    call(&recorder, COMMIT, Some("eve"), within, None).await;
    recorder.end().await;
    let kept = sink.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].reason, "ACCESS_DENIED");
}

#[test]
fn a_hop_is_believed_of_a_service_and_of_no_outer_role() {
    let hop = Hop {
        caller: Some("192.0.2.7".parse().unwrap()),
        within: true,
    };
    let mut headers = HeaderMap::new();
    hop.send_on(&mut headers);
    let peer = |role: &str| PeerIdentity {
        roles: [role.to_owned()].into(),
        ..PeerIdentity::default()
    };
    assert_eq!(Hop::receive(&headers, &peer("ingest")), hop);
    for role in ["gateway", "operator"] {
        assert!(!Hop::receive(&headers, &peer(role)).within, "{role}");
    }
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    request.extensions_mut().insert(hop);
    crate::principal::strip(&mut request);
    assert!(request.headers().is_empty());
    assert_eq!(Hop::of(request.extensions()), Hop::default());
}

/// Lets everybody in, and takes it back at once.
#[derive(Debug, Default)]
struct TakenBack(AtomicUsize);

#[async_trait]
impl Authorize for TakenBack {
    fn nobody(&self) -> Result<Arc<Principal>, Failure> {
        Ok(somebody("eve"))
    }

    async fn decide(
        &self,
        _: &Arc<Principal>,
        _: Action,
        _: Option<&ProjectName>,
    ) -> Result<Decision, Failure> {
        let answer = match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(View::Whole),
            _ => Err(Failure::new(Code::PermissionDenied, "ACCESS_DENIED")),
        };
        Ok(Decision {
            answer,
            because: Default::default(),
        })
    }
}

#[tokio::test]
async fn a_stream_that_is_ended_by_a_denial_leaves_its_record() {
    const EMPTY: &[u8] = &[0; 5];
    let sink = Memory::failing(0);
    let recorder = recorder(&Options::default(), &sink);
    let service = tower::service_fn(|_: Request<Body>| async {
        let message = http_body_util::Full::new(bytes::Bytes::from_static(EMPTY));
        Ok::<_, std::convert::Infallible>(Response::new(Body::new(message)))
    });
    let layered = Layered::new(service, Limits::default(), Metrics::new())
        .authorized(Arc::new(TakenBack::default()))
        .audited(recorder.clone());
    let message = http_body_util::Full::new(bytes::Bytes::from_static(EMPTY));
    let mut request = Request::new(Body::new(message));
    *request.uri_mut() = TAIL.parse().unwrap();
    let answer = layered.oneshot(request).await.unwrap();
    let read = answer.into_body().collect().await.unwrap();
    assert_eq!(read.trailers().unwrap()["grpc-status"], "7");
    recorder.end().await;
    let kept = sink.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (
            kept[0].verdict,
            kept[0].reason.as_str(),
            &kept[0].method[..]
        ),
        (Verdict::Denied, "ACCESS_DENIED", &TAIL[1..])
    );
}

#[tokio::test]
async fn a_mutation_that_is_given_up_is_recorded() {
    let sink = Memory::failing(0);
    let recorder = recorder(&Options::default(), &sink);
    let given_up = call(&recorder, COMMIT, Some("alice"), Hop::default(), None);
    let given_up = tokio::time::timeout(Duration::from_millis(5), given_up).await;
    assert!(given_up.is_err());
    recorder.end().await;
    let kept = sink.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].code.as_str(), kept[0].reason.as_str()),
        ("CANCELLED", "GIVEN_UP")
    );
}

#[tokio::test]
async fn without_the_log_mutations_are_refused_before_they_begin() {
    let sink = Memory::failing(usize::MAX);
    let options = Options {
        patience_ms: 100,
        ..Options::default()
    };
    let recorder = recorder(&options, &sink);
    let first = call(&recorder, COMMIT, Some("alice"), Hop::default(), None).await;
    assert_eq!(
        first.as_deref(),
        Some("AUDIT_UNAVAILABLE"),
        "served, and not kept in time"
    );
    tokio::time::sleep(Duration::from_millis(120)).await;
    let refused = recorder.begin().unwrap_err();
    assert_eq!(refused.metadata["served"], "no");
    // What only reads goes on.
    assert_eq!(
        call(&recorder, LIST, Some("alice"), Hop::default(), None).await,
        None
    );
    // It is kept as soon as it can be.
    sink.failures.store(0, Ordering::SeqCst);
    recorder.end().await;
    assert_eq!(sink.kept().len(), 1);
}

#[tokio::test]
async fn where_it_may_records_are_dropped_and_counted() {
    let sink = Memory::failing(usize::MAX);
    let options = Options {
        answer: Answer::Queued,
        on_full: OnFull::DropAndCount,
        queue: 100,
        ..Options::default()
    };
    let recorder = recorder(&options, &sink);
    for _ in 0..150 {
        let slot = recorder.begin().unwrap();
        recorder.ended(slot, entry("alice", "m", ""));
    }
    let full = Options {
        on_full: OnFull::Refuse,
        ..options
    };
    let strict = self::recorder(&full, &sink);
    let slots: Vec<_> = (0..100).map(|_| strict.begin().unwrap()).collect();
    assert!(strict.begin().is_err(), "{} slots are taken", slots.len());
    sink.failures.store(0, Ordering::SeqCst);
    recorder.end().await;
    let kept = sink.kept();
    let lost: Vec<&Entry> = kept
        .iter()
        .filter(|entry| entry.verdict == Verdict::Lost)
        .collect();
    assert_eq!((kept.len(), lost.len()), (101, 1));
    assert_eq!((lost[0].count, lost[0].tenant.as_str()), (50, "acme"));
}

#[tokio::test]
async fn a_record_that_can_never_be_kept_holds_no_others_up() {
    let sink = Arc::new(Memory {
        refuses: Some("poison"),
        ..Memory::default()
    });
    let options = Options {
        answer: Answer::Queued,
        ..Options::default()
    };
    let recorder = recorder(&options, &sink);
    for reason in ["", "poison", "", ""] {
        recorder.ended(recorder.begin().unwrap(), entry("alice", "m", reason));
    }
    recorder.end().await;
    let kept = sink.kept();
    let lost: Vec<&Entry> = kept
        .iter()
        .filter(|entry| entry.verdict == Verdict::Lost)
        .collect();
    assert_eq!(
        (kept.len(), lost.len()),
        (4, 1),
        "the log says that one is missing"
    );
}

#[tokio::test]
async fn whoever_waits_for_a_record_that_can_never_be_kept_is_not_told_that_it_is() {
    let sink = Arc::new(Memory {
        refuses: Some("KEY_NOT_FOUND"),
        ..Memory::default()
    });
    let recorder = recorder(&Options::default(), &sink);
    let failure = Failure::new(Code::NotFound, "KEY_NOT_FOUND");
    let hop = Hop::default();
    let told = call(&recorder, COMMIT, Some("alice"), hop, Some(failure)).await;
    assert_eq!(told.as_deref(), Some("AUDIT_UNAVAILABLE"));
    recorder.end().await;
}

#[tokio::test]
async fn what_an_operator_changes_by_what_is_for_services_is_recorded() {
    let sink = Memory::failing(0);
    let recorder = recorder(&Options::default(), &sink);
    for (name, path) in [
        ("operator", PUT_LIMITS),
        ("operator", LIST_LIMITS),
        ("journal", PUT_LIMITS),
    ] {
        let service = Principal::service(name, TenantName::new("acme").unwrap());
        let done = call_as(
            &recorder,
            path,
            Some(Arc::new(service)),
            Hop::default(),
            None,
        )
        .await;
        assert_eq!(done, None);
    }
    recorder.end().await;
    let kept = sink.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].tenant.as_str(), &kept[0].method[..]),
        ("acme", &PUT_LIMITS[1..])
    );
}

#[tokio::test]
async fn a_record_names_no_more_policies_than_it_has_room_for() {
    let sink = Memory::failing(0);
    let recorder = recorder(&Options::default(), &sink);
    let service = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
    });
    let layered = Layered::new(service, Limits::default(), Metrics::new())
        .authorized(Arc::new(ManyGrants))
        .audited(recorder.clone());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = COMMIT.parse().unwrap();
    layered.oneshot(request).await.unwrap();
    recorder.end().await;
    assert_eq!(sink.kept()[0].policies.len(), 64);
}

/// Lets everybody in, by ten thousand grants.
#[derive(Debug)]
struct ManyGrants;

#[async_trait]
impl Authorize for ManyGrants {
    fn nobody(&self) -> Result<Arc<Principal>, Failure> {
        Ok(somebody("alice"))
    }

    async fn decide(
        &self,
        _: &Arc<Principal>,
        _: Action,
        _: Option<&ProjectName>,
    ) -> Result<Decision, Failure> {
        let policies = (0..10_000).map(|number| format!("gr_{number:032x}"));
        Ok(Decision {
            answer: Ok(View::Whole),
            because: crate::Because {
                policies: policies.collect(),
                rules: None,
            },
        })
    }
}

#[test]
fn settings_out_of_bounds_are_named() {
    let field = |options: Options| options.check().unwrap_err().field;
    let base = Options::default;
    assert!(base().check().is_ok());
    assert_eq!(field(Options { queue: 1, ..base() }), "audit.queue");
    let wrong = Options {
        strangers_tenant: "UPPER".into(),
        ..base()
    };
    assert_eq!(field(wrong), "audit.strangers_tenant");
}
