//! `com grants …`

use commonplace_proto::common::Right as RightMessage;
use commonplace_proto::policy::access_service_client::AccessServiceClient;
use commonplace_proto::policy::grantee::Who;
use commonplace_proto::policy::{
    CreateGrantRequest, DeleteGrantRequest, Grant, GrantResource, Grantee, ListGrantsRequest,
};
use commonplace_rpc::Channel;

use crate::cli::Global;
use crate::cli::access::{Grants, GrantsCreate, Right};
use crate::output::{self, Listing};
use crate::session;

type Client = AccessServiceClient<Channel>;

/// Does one of the commands about grants.
pub async fn run(global: &Global, command: Grants) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = AccessServiceClient::new(session.channels.policy.clone());
        match command {
            Grants::Create(arguments) => {
                let made = client.create_grant(request(arguments)).await?.into_inner();
                if global.json {
                    return output::message(&made);
                }
                let [id, to, right, over, ..] = words(&made.grant.unwrap_or_default());
                output::line(&format!("granted: {to} may {right} {over} ({id})"));
                Ok(())
            }
            Grants::Delete { id } => {
                let request = DeleteGrantRequest { id: id.clone() };
                let deleted = client.delete_grant(request).await?.into_inner();
                if global.json {
                    return output::message(&deleted);
                }
                output::line(&format!("taken back: {id}"));
                Ok(())
            }
            Grants::List => list(global, &mut client).await,
        }
    })
    .await
}

fn request(arguments: GrantsCreate) -> CreateGrantRequest {
    let to = arguments.to;
    let who = to.user.map(Who::User);
    let who = who.or_else(|| to.agent.map(Who::Agent));
    let who = who.or_else(|| to.role.map(Who::Role));
    let right = match arguments.right {
        Right::Read => RightMessage::Read,
        Right::Write => RightMessage::Write,
        Right::Admin => RightMessage::Admin,
    };
    let resource = arguments.over.in_project.map(|project| GrantResource {
        project,
        artifact_type: arguments.artifact_type.unwrap_or_default(),
        author: arguments.author.unwrap_or_default(),
    });
    CreateGrantRequest {
        grantee: Some(Grantee { who }),
        right: right.into(),
        resource,
    }
}

async fn list(global: &Global, client: &mut Client) -> anyhow::Result<()> {
    let head = ["grant", "to", "right", "over", "since", "by"];
    let mut listing = Listing::new(global.json, &head);
    let mut request = ListGrantsRequest::default();
    loop {
        let page = client.list_grants(request.clone()).await?.into_inner();
        for grant in &page.grants {
            listing.add(grant, |grant| words(grant).to_vec())?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    listing.end();
    Ok(())
}

/// Id, to whom, which right, over what, since when, by whom.
fn words(grant: &Grant) -> [String; 6] {
    let to = match grant
        .grantee
        .as_ref()
        .and_then(|grantee| grantee.who.as_ref())
    {
        Some(Who::User(name)) => format!("user {name}"),
        Some(Who::Agent(name)) => format!("agent {name}"),
        Some(Who::Role(name)) => format!("everybody with the role {name}"),
        None => String::new(),
    };
    let resource = grant.resource.clone().unwrap_or_default();
    let over = match (
        &*resource.project,
        &*resource.artifact_type,
        &*resource.author,
    ) {
        ("", _, _) => "the whole tenant".to_owned(),
        (project, "", "") => format!("project {project}"),
        (project, "", author) => format!("project {project}, events of {author}"),
        (project, artifact_type, _) => format!("project {project}, events of type {artifact_type}"),
    };
    [
        grant.id.clone(),
        output::short(&to, 60),
        right(grant.right()).to_owned(),
        output::short(&over, 80),
        output::time(grant.create_time.as_ref()),
        output::short(&grant.author, 40),
    ]
}

/// A right for people.
pub(super) fn right(right: RightMessage) -> &'static str {
    match right {
        RightMessage::Unspecified => "",
        RightMessage::Member => "belong",
        RightMessage::Read => "read",
        RightMessage::Write => "write",
        RightMessage::Admin => "admin",
        RightMessage::Service => "be a service",
    }
}
