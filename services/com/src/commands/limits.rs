//! `com limits …`

use std::path::Path;

use commonplace_limits::{Limits as Rules, limits_from_proto, limits_to_proto};
use commonplace_proto::policy::limits_service_client::LimitsServiceClient;
use commonplace_proto::policy::{
    GetLimitsRequest, ListLimitsRequest, PutLimitsRequest, TenantLimits,
};
use commonplace_rpc::Channel;

use super::policy::read;
use crate::cli::Global;
use crate::cli::limits::Limits;
use crate::failure::Refused;
use crate::output::{self, Listing};
use crate::session;

type Client = LimitsServiceClient<Channel>;

/// Does one of the commands about limits.
pub async fn run(global: &Global, command: Limits) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = LimitsServiceClient::new(session.channels.policy.clone());
        match command {
            Limits::Get => get(global, &mut client).await,
            Limits::Put { file, expected } => {
                let rules = rules(&file)?;
                put(global, &mut client, Some(rules), expected).await
            }
            Limits::Reset => put(global, &mut client, None, None).await,
            Limits::List => list(global, &mut client).await,
        }
    })
    .await
}

fn rules(file: &Path) -> anyhow::Result<Rules> {
    let text = read(file)?;
    let rules: Rules = toml::from_str(&text)
        .map_err(|error| Refused(format!("the limits cannot be read: {error}")))?;
    Ok(rules.checked()?)
}

async fn get(global: &Global, client: &mut Client) -> anyhow::Result<()> {
    let answer = client
        .get_limits(GetLimitsRequest::default())
        .await?
        .into_inner();
    if global.json {
        return output::message(&answer);
    }
    let from = match answer.own {
        true => format!(
            "its own, since {}",
            output::time(answer.update_time.as_ref())
        ),
        false => "those of the settings `policy.limits`".into(),
    };
    output::line(&format!("# {from}; etag {}", answer.etag));
    let rules = limits_from_proto(answer.limits.unwrap_or_default())?;
    output::line(toml::to_string_pretty(&rules)?.trim_end());
    Ok(())
}

async fn put(
    global: &Global,
    client: &mut Client,
    rules: Option<Rules>,
    expected: Option<String>,
) -> anyhow::Result<()> {
    let request = PutLimitsRequest {
        limits: rules.as_ref().map(limits_to_proto),
        expected_etag: expected.unwrap_or_default(),
    };
    let answer = client.put_limits(request).await?.into_inner();
    if global.json {
        return output::message(&answer);
    }
    let what = if rules.is_some() { "stored" } else { "reset" };
    output::line(&format!("{what}: etag {}", answer.etag));
    Ok(())
}

async fn list(global: &Global, client: &mut Client) -> anyhow::Result<()> {
    let head = ["tenant", "rates", "quotas", "since"];
    let mut listing = Listing::new(global.json, &head);
    let mut request = ListLimitsRequest::default();
    loop {
        let page = client.list_limits(request.clone()).await?.into_inner();
        for tenant in &page.tenants {
            listing.add(tenant, row)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    listing.end();
    Ok(())
}

fn row(tenant: &TenantLimits) -> Vec<String> {
    let limits = tenant.limits.clone().unwrap_or_default();
    vec![
        tenant.tenant.clone(),
        limits.rates.len().to_string(),
        limits.quotas.len().to_string(),
        output::time(tenant.update_time.as_ref()),
    ]
}
