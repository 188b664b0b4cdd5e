//! Prints what recording costs a call on this machine, and how fast records are kept.
//!
//! `cargo run --release -p commonplace-policy --example audit_bench -- [CALLS] [postgres]`
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use commonplace_access::audit::PolicySink;
use commonplace_access::{Access, Options as AccessOptions, PolicySource};
use commonplace_policy::{Options, Policies, start};
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::{ListKeysRequest, RevokeKeyRequest};
use commonplace_rpc::audit::{Answer, Options as AuditOptions, Recorder};
use commonplace_rpc::{Channel, Layered, Limits};
use commonplace_telemetry::Metrics;
use commonplace_testkit::{Backend, Site};
use commonplace_types::SystemClock;
use tonic::service::Routes;

const CLIENTS: usize = 32;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let calls = arguments.next().map_or(5_000, |text| text.parse().unwrap());
    let backend = match arguments.next().as_deref() {
        Some("postgres") => Backend::Postgres,
        _ => Backend::Sqlite,
    };
    println!("{backend:?}, {calls} calls; median and 99th percentile in microseconds");
    for (name, answer) in [
        ("without", None),
        ("queued", Some(Answer::Queued)),
        ("kept", Some(Answer::Kept)),
    ] {
        let site = Site::new(backend);
        let place = site.place("policy");
        let policies = start(Options::default(), place, Arc::new(SystemClock))
            .await
            .unwrap();
        let (channel, recorder) = channel(&policies, answer);
        for _ in 0..2 {
            // The first time warms up.
            let read = one(&channel, calls, false).await;
            let change = one(&channel, calls, true).await;
            println!("{name:8} read {read}  change {change}");
        }
        let began = Instant::now();
        let clients = (0..CLIENTS).map(|_| one(&channel, calls / CLIENTS, true));
        let clients: Vec<String> = futures::future::join_all(clients).await;
        let rate = calls as f64 / began.elapsed().as_secs_f64();
        println!(
            "{name:8} {CLIENTS} clients: change {} {rate:.0}/s",
            clients[0]
        );
        if let Some(recorder) = recorder {
            recorder.end().await;
        }
        policies.shutdown().await.unwrap();
    }
}

/// A channel to the service behind its layer, which records or not.
fn channel(policies: &Policies, answer: Option<Answer>) -> (Channel, Option<Recorder>) {
    let routes = || {
        Routes::new(policies.access_service())
            .add_service(policies.audit_service())
            .prepare()
    };
    let inner = Layered::new(routes(), Limits::default(), Metrics::new());
    let inner = Channel::in_process(inner).in_name_of("policy");
    let source = Arc::new(PolicySource::new(inner.clone()));
    let clock = Arc::new(SystemClock);
    let access = Access::new(&AccessOptions::default(), source, clock.clone()).unwrap();
    let layered = Layered::new(routes(), Limits::default(), Metrics::new());
    let layered = layered.authorized(Arc::new(access));
    let Some(answer) = answer else {
        return (Channel::in_process(layered), None);
    };
    let options = AuditOptions {
        answer,
        ..AuditOptions::default()
    };
    let sink = Arc::new(PolicySink::new(inner));
    let recorder = Recorder::start(&options, true, "policy".into(), clock, sink).unwrap();
    let channel = Channel::in_process(layered.audited(recorder.clone()));
    (channel, Some(recorder))
}

/// Calls one after the other: reads, or changes that come to nothing but are recorded.
async fn one(channel: &Channel, calls: usize, changes: bool) -> String {
    let mut client = AccessServiceClient::new(channel.clone());
    let mut spans = Vec::with_capacity(calls);
    for _ in 0..calls {
        let began = Instant::now();
        match changes {
            true => {
                let id = "aaaaaaaaaaaaaaaa".to_owned();
                client
                    .revoke_key(RevokeKeyRequest { id })
                    .await
                    .unwrap_err();
            }
            false => drop(client.list_keys(ListKeysRequest::default()).await.unwrap()),
        }
        spans.push(began.elapsed());
    }
    spans.sort();
    let at = |share: usize| -> Duration { spans[(spans.len() * share / 100).min(spans.len() - 1)] };
    format!("{:>6} {:>6}", at(50).as_micros(), at(99).as_micros())
}
