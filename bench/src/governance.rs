//! What it costs to know who calls and what they may do: the same call to a service as it is, and through the gateway
//! with everything around it.

use std::sync::Arc;
use std::time::Instant;

use commonplace_access::Mode;
use commonplace_node::{Node, NodeOptions};
use commonplace_proto::common::PrincipalKind;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::policy::{CreateKeyRequest, GetPolicyRequest};
use commonplace_rpc::server::Server;
use commonplace_rpc::{Bearer, Channel, RemoteOptions};
use commonplace_types::SystemClock;

use crate::report::{Report, Times};

const GROUP: &str = "governance";
/// What all of it together may add to a call, in milliseconds.
const BUDGET: f64 = 0.150;
/// Timed calls of each kind.
const ROUNDS: usize = 4_000;

/// Times the two forms of a cheap call in turn, so that both see the same machine.
pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(SystemClock);
    std::fs::create_dir(folder.path().join("bare"))?;
    let bare = commonplace_policy::start(
        commonplace_policy::Options::default(),
        folder.path().join("bare"),
        clock.clone(),
    )
    .await?;
    let bare_server = Server::bind("127.0.0.1:0").await?;
    bare_server.open(tonic::service::Routes::new(bare.service()));

    let mut options = NodeOptions {
        data_dir: folder.path().join("governed"),
        model_dir: folder.path().join("no model"),
        ..NodeOptions::default()
    };
    options.access.mode = Mode::Required;
    let node = Node::start(&options, clock).await?;
    let server = Server::bind("127.0.0.1:0").await?;
    node.open(&server);
    let key = key(&node).await?;

    let mut without = client(&bare_server, None)?;
    let mut with = client(&server, Some(&key))?;
    let (mut as_it_is, mut governed) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + ROUNDS / 10 {
        let (first, second) = (timed(&mut without).await?, timed(&mut with).await?);
        // The first tenth warms up connections and decisions.
        if round >= ROUNDS / 10 {
            as_it_is.push(first);
            governed.push(second);
        }
    }
    let (as_it_is, governed) = (Times::new(as_it_is), Times::new(governed));
    for (name, times) in [
        ("service as it is", &as_it_is),
        ("with a key, through the gateway", &governed),
    ] {
        for (place, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("a cheap call, {name}, {place}");
            report.less(GROUP, &what, times.milliseconds(quantile), "ms", None);
        }
    }
    let added = governed.milliseconds(0.5) - as_it_is.milliseconds(0.5);
    report.less(GROUP, "added to a call, p50", added, "ms", Some(BUDGET));
    bare.shutdown().await?;
    node.shutdown().await;
    Ok(())
}

fn client(server: &Server, key: Option<&str>) -> anyhow::Result<PolicyServiceClient<Channel>> {
    let options = RemoteOptions {
        bearer: key.map(Bearer::new).transpose()?,
        ..RemoteOptions::default()
    };
    let address = format!("http://{}", server.address());
    Ok(PolicyServiceClient::new(Channel::remote(
        &[address],
        &options,
    )?))
}

async fn key(node: &Node) -> anyhow::Result<String> {
    let channel = node.channels().in_name_of("operator").policy;
    let request = CreateKeyRequest {
        kind: PrincipalKind::Agent.into(),
        subject: "bench".into(),
        roles: vec!["reader".into()],
        ..CreateKeyRequest::default()
    };
    let answer = AccessServiceClient::new(channel)
        .create_key(request)
        .await?;
    Ok(answer.into_inner().secret)
}

/// Seconds that a call takes.
async fn timed(client: &mut PolicyServiceClient<Channel>) -> anyhow::Result<f64> {
    let request = GetPolicyRequest {
        id: "general".into(),
        ..GetPolicyRequest::default()
    };
    let started = Instant::now();
    client.get_policy(request).await?;
    Ok(started.elapsed().as_secs_f64())
}
