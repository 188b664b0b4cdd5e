//! `com keys …`

use std::time::Duration;

use commonplace_proto::common::{PrincipalKind, Scopes};
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::{
    CreateKeyRequest, Key, ListKeysRequest, RevokeKeyRequest, RotateKeyRequest,
};
use commonplace_rpc::Channel;

use crate::cli::Global;
use crate::cli::access::{Keys, KeysCreate, Kind};
use crate::output::{self, Listing};
use crate::session;

type Client = AccessServiceClient<Channel>;

/// Does one of the commands about keys.
pub async fn run(global: &Global, command: Keys) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = AccessServiceClient::new(session.channels.policy.clone());
        match command {
            Keys::Create(arguments) => create(global, &mut client, arguments).await,
            Keys::Rotate {
                id,
                overlap,
                expires_in,
            } => {
                let request = RotateKeyRequest {
                    id,
                    overlap: Some(span(overlap)),
                    lifetime: expires_in.map(span),
                };
                let rotated = client.rotate_key(request).await?.into_inner();
                if global.json {
                    return output::message(&rotated);
                }
                tell(&rotated.secret, &rotated.key.unwrap_or_default());
                Ok(())
            }
            Keys::Revoke { id } => {
                let revoked = client
                    .revoke_key(RevokeKeyRequest { id })
                    .await?
                    .into_inner();
                if global.json {
                    return output::message(&revoked);
                }
                let key = revoked.key.unwrap_or_default();
                output::line(&format!("revoked: {} of {}", key.id, key.subject));
                Ok(())
            }
            Keys::List => list(global, &mut client).await,
        }
    })
    .await
}

async fn create(global: &Global, client: &mut Client, arguments: KeysCreate) -> anyhow::Result<()> {
    let request = CreateKeyRequest {
        description: arguments.description,
        kind: kind(arguments.kind).into(),
        subject: arguments.subject,
        roles: arguments.roles,
        scopes: scopes(arguments.scopes),
        lifetime: Some(span(arguments.expires_in)),
    };
    let made = client.create_key(request).await?.into_inner();
    if global.json {
        return output::message(&made);
    }
    let key = made.key.unwrap_or_default();
    tell(&made.secret, &key);
    if key.roles.is_empty() {
        output::note(
            "it gives no role, so it may do what grants say: see `com grants create --help`",
        );
    }
    Ok(())
}

/// The key alone on standard output, so that it can be put where it belongs; all else beside it.
fn tell(secret: &str, key: &Key) {
    output::line(secret);
    output::note(&format!(
        "key {} of {} {}, good until {}; it is shown this once and kept nowhere: store it now",
        key.id,
        kind_name(key.kind()),
        key.subject,
        output::time(key.expire_time.as_ref()),
    ));
    if let Some(end) = &key.overlap_end_time {
        let end = output::time(Some(end));
        output::note(&format!("the secret before is good until {end}"));
    }
    output::note("use it as COM_KEY, with --server; or in the header `authorization: Bearer …`");
}

async fn list(global: &Global, client: &mut Client) -> anyhow::Result<()> {
    let head = [
        "key",
        "kind",
        "subject",
        "roles",
        "scopes",
        "state",
        "until",
        "last used",
        "description",
    ];
    let mut listing = Listing::new(global.json, &head);
    let mut request = ListKeysRequest::default();
    loop {
        let page = client.list_keys(request.clone()).await?.into_inner();
        for key in &page.keys {
            listing.add(key, row)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    listing.end();
    Ok(())
}

fn row(key: &Key) -> Vec<String> {
    let scopes = key
        .scopes
        .as_ref()
        .map_or("any".into(), |scopes| scopes.scopes.join(" "));
    let now = jiff::Timestamp::now().as_second();
    let ended = key
        .expire_time
        .as_ref()
        .is_some_and(|end| end.seconds <= now);
    let state = match (&key.revoke_time, ended) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "good",
    };
    vec![
        key.id.clone(),
        kind_name(key.kind()).into(),
        output::short(&key.subject, 40),
        key.roles.join(" "),
        scopes,
        state.into(),
        output::time(key.expire_time.as_ref()),
        output::time(key.last_use_time.as_ref()),
        output::short(&key.description, 40),
    ]
}

/// What kind of somebody, as a message has it.
pub(super) fn kind(kind: Kind) -> PrincipalKind {
    match kind {
        Kind::User => PrincipalKind::User,
        Kind::Agent => PrincipalKind::Agent,
    }
}

/// The same for people.
pub(super) fn kind_name(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Agent => "agent",
        PrincipalKind::Service => "service",
        PrincipalKind::Unspecified => "",
    }
}

/// Scopes as a message has them; none named: no bound but the policies.
pub(super) fn scopes(scopes: Vec<String>) -> Option<Scopes> {
    (!scopes.is_empty()).then_some(Scopes { scopes })
}

fn span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    }
}
