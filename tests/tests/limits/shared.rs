//! Two gateways, one bucket: together they let in what it allows, whichever of them is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use commonplace_node::Role;
use commonplace_proto::gateway::GetServerInfoRequest;
use commonplace_proto::gateway::gateway_service_client::GatewayServiceClient;
use commonplace_rpc::{Bearer, Channel, Failure, RemoteOptions, Tls, TransportOptions, context};
use commonplace_tests::mesh::{Form, Mesh};

use super::common::{Person, make_key};
use super::put;

const PER_SECOND: f64 = 50.0;
const BURST: f64 = 40.0;
/// A tenth of the burst, for each of two gateways, and a call each.
const ADVANCE: f64 = 2.0 * (BURST / 10.0 + 1.0);

fn gateway(mesh: &Mesh, replica: usize, key: &str) -> Channel {
    let certificates = mesh.certificates().unwrap();
    let options = RemoteOptions {
        tls: Some(Tls::start(&certificates.options("operator"), None).unwrap()),
        bearer: Some(Bearer::new(key).unwrap()),
        ..TransportOptions::default().remote()
    };
    Channel::remote(&[mesh.address(Role::Gateway, replica)], &options).unwrap()
}

/// Calls from several sides at once for a while; how many calls were let in.
async fn calls(channel: &Channel, clients: usize, until: Instant) -> usize {
    let let_in = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (channel, let_in) = (channel.clone(), let_in.clone());
        tasks.spawn(async move {
            let mut client = GatewayServiceClient::new(channel);
            while Instant::now() < until {
                let call = client.get_server_info(GetServerInfoRequest {});
                match context::with_deadline(Duration::from_secs(5), call).await {
                    Ok(_) => {
                        let_in.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(status) => {
                        let failure = Failure::from_status(&status);
                        assert_eq!(failure.reason, "RATE_LIMITED", "{failure:?}");
                        assert!(failure.retry_after.is_some());
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let_in.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_a_bucket() {
    let mesh = Mesh::builder(Form::PerRole)
        .tls()
        .set("access.mode", "required")
        .set("access.refresh_ms", "200")
        .replicas(Role::Gateway, 2)
        .start()
        .await;
    let policy = mesh.replica(Role::Policy, 0).in_name_of("operator");
    let person = Person {
        name: "busy",
        roles: &["reader"],
        scopes: None,
    };
    let (_, key) = make_key(&policy, "acme", &person).await;
    let limits = r#"{"rates": [
        {"per": "principal", "unit": "requests", "per_second": 50, "burst": 40}
    ]}"#;
    put(&policy, "acme", limits).await;
    tokio::time::sleep(Duration::from_millis(400)).await;

    let (one, other) = (gateway(&mesh, 0, &key), gateway(&mesh, 1, &key));
    let began = Instant::now();
    let until = began + Duration::from_secs(4);
    let (at_one, at_other) = tokio::join!(calls(&one, 4, until), calls(&other, 4, until));
    let all = (at_one + at_other) as f64;
    let span = began.elapsed().as_secs_f64();
    let most = BURST + PER_SECOND * span + ADVANCE;
    println!("{at_one} at one gateway, {at_other} at the other, at most {most:.0} in {span:.1} s");
    assert!(all <= most, "{all} of at most {most}");
    assert!(all >= 0.7 * PER_SECOND * 4.0, "{all}: the bucket is used");
    assert!(
        at_one.min(at_other) as f64 > 0.15 * all,
        "both get something"
    );

    // One alone gets what both had: nothing is kept for whoever does not call.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    let alone = calls(&one, 4, began + Duration::from_secs(3)).await as f64;
    let most = BURST + PER_SECOND * began.elapsed().as_secs_f64() + ADVANCE;
    println!("{alone} alone, at most {most:.0}");
    assert!(
        alone <= most && alone >= 0.7 * PER_SECOND * 3.0,
        "{alone} of {most}"
    );
    mesh.shutdown().await;
}
