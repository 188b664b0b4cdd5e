//! A rolling restart of every role under load: no call fails, nothing acknowledged is lost or doubled.
//!
//! The clients are the program's own: each has channels over both gateways, which spread calls over those that
//! serve and send again what no server began with. So a client sees what a user of `com --server` sees. Roles
//! without data of their own have two replicas; with SQLite the journal and the policies have one, whose callers
//! wait for it within their deadlines. Over PostgreSQL every role has two, of which one journal stands by.

#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod stores;

use std::time::Duration;

use commonplace_node::Role;
use commonplace_testkit::Server;
use commonplace_tests::load::{Audit, Load, MIXED, audit, open};
use commonplace_tests::mesh::{Form, Mesh, MeshBuilder};

/// Calls a second, unless this machine is too slow for them.
const PER_SECOND: u32 = 200;

fn load(per_second: u32, label: &str) -> Load {
    Load {
        per_second,
        clients: 4,
        deadline: Duration::from_secs(30),
        mix: MIXED,
        label: label.into(),
    }
}

/// Calls a second that half of the mesh bears on this machine, as it is now: what is shown is that restarts fail no
/// call, not that overload does not. `COM_LOAD_PER_SECOND` sets another number.
async fn bearable(mesh: &Mesh) -> u32 {
    let set = std::env::var("COM_LOAD_PER_SECOND").ok();
    if let Some(set) = set.and_then(|text| text.parse().ok()) {
        return set;
    }
    let running = load(20, "before").start(|| mesh.channels());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let account = running.stop().await;
    assert_eq!(account.failures(), Vec::<String>::new());
    let per_second = 2.0 / account.quantile(0.5).as_secs_f64();
    (per_second as u32).clamp(20, PER_SECOND)
}

fn twice(builder: MeshBuilder, roles: &[Role]) -> MeshBuilder {
    let twice = |builder: MeshBuilder, role: &Role| builder.replicas(*role, 2);
    roles.iter().fold(builder, twice)
}

async fn roll(builder: MeshBuilder) {
    let mut mesh = builder.start().await;
    open(&mesh.channels()).await;
    let per_second = bearable(&mesh).await;
    println!("{per_second} calls a second");
    let running = load(per_second, "rolling").start(|| mesh.channels());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (role, replica) in mesh.members() {
        let took = mesh.restart(role, replica).await;
        println!("{role}-{replica} was back after {took:.2?}");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let account = running.stop().await;
    println!(
        "{} calls, {} failed; p50 {:.1?}, p99 {:.1?}, longest {:.1?}; this machine lagged {:.1?}",
        account.done.len(),
        account.failed(),
        account.quantile(0.5),
        account.quantile(0.99),
        account.quantile(1.0),
        account.lag,
    );
    assert_eq!(account.failures(), Vec::<String>::new());
    assert!(account.written().len() > 50, "there was load");
    assert_eq!(account.left_out, 0, "every call was begun");
    assert_eq!(
        audit(&mesh.channels(), &account, 20).await,
        Audit::default()
    );
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_restarts_without_a_failed_call() {
    let stateless = [Role::Ingest, Role::Index, Role::Retrieval, Role::Gateway];
    roll(twice(Mesh::builder(Form::PerRole), &stateless)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_restarts_over_postgres_without_a_failed_call() {
    let database = stores::database(Server::shared()).await;
    let builder = Mesh::builder(Form::PerRole).postgres(&database);
    roll(twice(builder, &Role::ALL)).await;
}
