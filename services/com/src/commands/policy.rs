//! `com policy …`

use std::path::Path;

use anyhow::Context;
use commonplace_proto::policy::policy_service_client::PolicyServiceClient;
use commonplace_proto::policy::{
    ActivatePolicyRequest, GetPolicyRequest, ListPoliciesRequest, Policy as Message,
    PutPolicyRequest,
};

use crate::cli::{Global, Policy};
use crate::output::{self, Listing};
use crate::session;

/// Does one of the policy commands.
pub async fn run(global: &Global, command: Policy) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = PolicyServiceClient::new(session.channels.policy.clone());
        match command {
            Policy::List => list(global, &mut client).await,
            Policy::Get { id, version } => {
                let policy = client
                    .get_policy(GetPolicyRequest {
                        id,
                        version,
                        ..Default::default()
                    })
                    .await?
                    .into_inner()
                    .policy;
                let policy = policy.unwrap_or_default();
                if global.json {
                    return output::message(&policy);
                }
                output::line(policy.source.trim_end());
                Ok(())
            }
            Policy::Put {
                id,
                file,
                dry_run,
                inactive,
            } => {
                let source = read(&file)?;
                let request = PutPolicyRequest {
                    id,
                    source,
                    validate_only: dry_run,
                    activate: !inactive,
                };
                let policy = client
                    .put_policy(request)
                    .await?
                    .into_inner()
                    .policy
                    .unwrap_or_default();
                stored(global, &policy, if dry_run { "fits" } else { "stored" })
            }
            Policy::Activate { id, version } => {
                let request = ActivatePolicyRequest { id, version };
                let policy = client
                    .activate_policy(request)
                    .await?
                    .into_inner()
                    .policy
                    .unwrap_or_default();
                stored(global, &policy, "active")
            }
        }
    })
    .await
}

async fn list(
    global: &Global,
    client: &mut PolicyServiceClient<commonplace_rpc::Channel>,
) -> anyhow::Result<()> {
    let mut request = ListPoliciesRequest {
        page_size: 100,
        page_token: String::new(),
    };
    let head = ["policy", "version", "hash", "tasks", "description"];
    let mut listing = Listing::new(global.json, &head);
    loop {
        let page = client.list_policies(request.clone()).await?.into_inner();
        for policy in &page.policies {
            listing.add(policy, row)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    listing.end();
    Ok(())
}

fn row(policy: &Message) -> Vec<String> {
    let rules = policy.rules.clone().unwrap_or_default();
    let hash = policy.hash.trim_start_matches("sha256:");
    let first_line = rules.description.lines().next().unwrap_or_default();
    vec![
        policy.id.clone(),
        policy.version.to_string(),
        output::hash(hash),
        rules.tasks.join(", "),
        output::short(first_line, 80),
    ]
}

fn stored(global: &Global, policy: &Message, what: &str) -> anyhow::Result<()> {
    if global.json {
        return output::message(policy);
    }
    let state = if policy.active {
        "active"
    } else {
        "not active"
    };
    output::line(&format!(
        "{what}: {} version {} ({state}), {}",
        policy.id, policy.version, policy.hash
    ));
    Ok(())
}

pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
