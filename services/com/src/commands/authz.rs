//! `com authz …`

use commonplace_proto::common::{Actor, Principal, PrincipalKind};
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::{
    AccessDecision, AccessPolicy, DeleteAccessPolicyRequest, ExplainAccessRequest,
    ExplainAccessResponse, ListAccessPoliciesRequest, ListAccessPoliciesResponse,
    PutAccessPolicyRequest,
};
use commonplace_rpc::{Channel, server::MESSAGE_BYTES};

use super::grants::right;
use super::keys::{kind_name, scopes};
use super::policy::read;
use crate::cli::Global;
use crate::cli::access::{Authz, Explain, Policies};
use crate::failure::Refused;
use crate::{output, session};

type Client = AccessServiceClient<Channel>;

/// Does one of the commands about authorization.
pub async fn run(global: &Global, command: Authz) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let client = AccessServiceClient::new(session.channels.policy.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_BYTES);
        match command {
            Authz::Explain(arguments) => explain(global, &mut client, arguments).await,
            Authz::Policies(command) => policies(global, &mut client, command).await,
        }
    })
    .await
}

async fn explain(global: &Global, client: &mut Client, arguments: Explain) -> anyhow::Result<()> {
    let request = ExplainAccessRequest {
        method: arguments.method.clone(),
        project: global.project.clone(),
        principal: asked_about(arguments)?,
    };
    let answer = client.explain_access(request).await?.into_inner();
    if global.json {
        return output::message(&answer);
    }
    let (colour, word) = match answer.decision() {
        AccessDecision::Allowed => (output::GREEN, "allowed"),
        AccessDecision::PartlyAllowed => (output::YELLOW, "allowed for parts"),
        AccessDecision::Denied | AccessDecision::Unspecified => (output::RED, "denied"),
    };
    let who = answer.principal.clone().unwrap_or_default();
    output::line(&format!(
        "{} to {}: {} {} of {}",
        output::paint(colour, word),
        right(answer.right()),
        kind_name(who.kind()),
        who.subject,
        who.tenant,
    ));
    told(&answer);
    Ok(())
}

fn told(answer: &ExplainAccessResponse) {
    for reason in &answer.reasons {
        output::line(&format!("  {}", output::short(reason, 400)));
    }
    let rules = format!("  by the rules {}", answer.policy_hash);
    output::line(&output::paint(output::DIM, &rules));
}

/// Nobody named: whoever calls.
fn asked_about(arguments: Explain) -> anyhow::Result<Option<Principal>> {
    let (kind, subject) = match (arguments.user, arguments.agent) {
        (Some(name), _) => (PrincipalKind::User, name),
        (None, Some(name)) => (PrincipalKind::Agent, name),
        (None, None) => {
            let alone = arguments.roles.is_empty()
                && arguments.scopes.is_empty()
                && arguments.through.is_empty();
            if alone {
                return Ok(None);
            }
            let text =
                "--role, --scope and --through are somebody's: add --user NAME or --agent NAME";
            return Err(Refused(text.into()).into());
        }
    };
    let actor = |subject| Actor {
        kind: PrincipalKind::Agent.into(),
        subject,
    };
    Ok(Some(Principal {
        kind: kind.into(),
        subject,
        roles: arguments.roles,
        scopes: scopes(arguments.scopes),
        actors: arguments.through.into_iter().map(actor).collect(),
        ..Default::default()
    }))
}

async fn policies(global: &Global, client: &mut Client, command: Policies) -> anyhow::Result<()> {
    match command {
        Policies::List => list(global, &fetch(client).await?),
        Policies::Get { id } => {
            let listed = fetch(client).await?.policies;
            let found = listed.into_iter().find(|policy| policy.id == id);
            let found = found.ok_or_else(|| {
                Refused(format!(
                    "authorization policy `{id}` not found; `com authz policies list` shows all"
                ))
            })?;
            if global.json {
                return output::message(&found);
            }
            output::line(found.source.trim_end());
            Ok(())
        }
        Policies::Schema => {
            let schema = fetch(client).await?.schema;
            if global.json {
                output::json(&serde_json::json!({ "schema": schema }));
            } else {
                output::line(schema.trim_end());
            }
            Ok(())
        }
        Policies::Put { id, file } => put(global, client, id, read(&file)?, false).await,
        Policies::Check { id, file } => put(global, client, id, read(&file)?, true).await,
        Policies::Delete { id } => {
            let request = DeleteAccessPolicyRequest { id: id.clone() };
            let deleted = client.delete_access_policy(request).await?.into_inner();
            if global.json {
                return output::message(&deleted);
            }
            output::line(&format!("removed: {id}"));
            Ok(())
        }
    }
}

async fn fetch(client: &mut Client) -> Result<ListAccessPoliciesResponse, tonic::Status> {
    let listed = client
        .list_access_policies(ListAccessPoliciesRequest {})
        .await?;
    Ok(listed.into_inner())
}

async fn put(
    global: &Global,
    client: &mut Client,
    id: String,
    source: String,
    validate_only: bool,
) -> anyhow::Result<()> {
    let request = PutAccessPolicyRequest {
        id,
        source,
        validate_only,
    };
    let policy = client
        .put_access_policy(request)
        .await?
        .into_inner()
        .policy
        .unwrap_or_default();
    if global.json {
        return output::message(&policy);
    }
    let what = if validate_only { "fits" } else { "stored" };
    output::line(&format!("{what}: {}", policy.id));
    Ok(())
}

fn list(global: &Global, listed: &ListAccessPoliciesResponse) -> anyhow::Result<()> {
    if global.json {
        return listed.policies.iter().try_for_each(output::message);
    }
    let head = ["policy", "from", "since", "statement"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(listed.policies.iter().map(row));
    output::table(&rows);
    Ok(())
}

fn row(policy: &AccessPolicy) -> Vec<String> {
    let from = if policy.builtin { "shipped" } else { "own" };
    vec![
        policy.id.clone(),
        from.into(),
        output::time(policy.update_time.as_ref()),
        output::short(&policy.source.replace('\n', " "), 100),
    ]
}
