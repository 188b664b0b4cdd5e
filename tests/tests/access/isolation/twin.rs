//! A tenant is answered as if it were alone: the same calls to a server of its own and to one that it shares with
//! others are answered the same, counts, statistics and scores included.

use commonplace_rpc::Channel;
use commonplace_tests::dice::Dice;
use tonic::Code;

use super::calls::{Filling, Rpc, Target, encoded, rpcs};
use super::wire::grpc;
use super::world::{COMMON, Tenant, World};
use super::{dice, seed, told};

/// Keys' ids are made by chance; here each gets the number under which it was made.
fn chance(tenant: &Tenant) -> Vec<(String, String)> {
    let ids = tenant.ids["shared"].keys.iter().chain(&tenant.spare.keys);
    let numbered = ids.enumerate();
    numbered
        .map(|(number, id)| (id.clone(), format!("<key {number}>")))
        .collect()
}

/// One call of an rpc in a world, filled in by dice that fall the same in each.
async fn ask(
    tenant: &Tenant,
    channel: &Channel,
    rpc: &Rpc,
    project: &str,
    dice: Dice,
) -> (Code, String) {
    let (path, method, descriptor) = rpc;
    let target = Target {
        tenant,
        project: project.to_owned(),
        own: true,
        wild: false,
        instead: None,
    };
    let sent = encoded(&Filling::new(path, target, &[], dice).messages(descriptor));
    let answer = grpc(channel, path, sent, method.server_streaming).await;
    (answer.code, told(descriptor, &answer, &chance(tenant)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_answered_as_if_it_were_alone() {
    let (shared, alone) =
        tokio::join!(World::build(seed(), &[1, 0, 2]), World::build(seed(), &[0]));
    let (here, there) = (&shared.tenants[1], &alone.tenants[0]);
    assert_eq!((&here.name, &here.projects), (&there.name, &there.projects));
    let mut dice = dice(5);
    let (mut compared, mut answered) = (0, 0);
    // What is in a log depends on the moment too; `audit` shows whose it is.
    let log = |rpc: &Rpc| rpc.0.contains(".AuditService/");
    let reads = |rpc: &Rpc| rpc.1.reads_only && !log(rpc) || rpc.0.ends_with("/Retrieve");
    for rpc in rpcs().into_iter().filter(reads) {
        for (place, (caller, _, channel)) in here.callers.iter().enumerate() {
            // The others are not idle meanwhile.
            if dice.one_in(10) {
                let text = format!("{} {}", COMMON.join(" "), dice.word());
                let other = dice.pick(&["shared", "release"]);
                shared
                    .house
                    .write(&shared.tenants[0].name, other, "note", &text)
                    .await;
            }
            for project in &here.projects {
                let fork = Dice::new(dice.roll());
                let alone = ask(there, &there.callers[place].2, &rpc, project, fork.clone()).await;
                let shared = ask(here, channel, &rpc, project, fork).await;
                let (who, path) = (caller.name(), rpc.0);
                assert_eq!(
                    shared,
                    alone,
                    "seed {}: {who} calls {path} about {project}",
                    seed()
                );
                compared += 1;
                answered += usize::from(alone.0 == Code::Ok);
            }
        }
    }
    println!("{compared} calls compared, of which {answered} were answered well");
    assert!(answered * 3 > compared, "{answered} of {compared}");
    shared.house.close().await;
    alone.house.close().await;
}
