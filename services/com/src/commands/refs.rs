//! `com branch`, `com tag`.

use commonplace_proto::common::{Reference, reference::Point};
use commonplace_proto::journal::journal_service_client::JournalServiceClient;
use commonplace_proto::journal::{
    CreateBranchRequest, CreateTagRequest, ListRefsRequest, ListRefsResponse, RefKind,
};
use commonplace_rpc::Channel;

use crate::cli::{Branch, Global, Tag};
use crate::{output, session};

/// Fewest digits of a commit's hash.
const HASH_DIGITS: usize = 8;

type Journal = JournalServiceClient<Channel>;

/// `com branch`
pub async fn branch(global: &Global, arguments: Branch) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut journal = JournalServiceClient::new(session.channels.journal.clone());
        if let Some(branch) = arguments.name {
            let request = CreateBranchRequest {
                project: global.project.clone(),
                branch,
                from: Some(point(global, &mut journal, arguments.at).await?),
                ..Default::default()
            };
            journal.create_branch(request).await?;
        }
        print(global, &mut journal).await
    })
    .await
}

/// `com tag`
pub async fn tag(global: &Global, arguments: Tag) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut journal = JournalServiceClient::new(session.channels.journal.clone());
        let request = CreateTagRequest {
            project: global.project.clone(),
            tag: arguments.name,
            at: Some(point(global, &mut journal, arguments.at).await?),
            ..Default::default()
        };
        journal.create_tag(request).await?;
        print(global, &mut journal).await
    })
    .await
}

/// What a word names: a branch, else a tag, else a commit by its hash. What is none of them is taken for a
/// branch, and the journal says that there is none.
async fn point(
    global: &Global,
    journal: &mut Journal,
    word: String,
) -> Result<Reference, tonic::Status> {
    let refs = list(global, journal).await?.refs;
    let is = |kind| {
        refs.iter()
            .any(|known| known.kind() == kind && known.name == word)
    };
    let is_hash = word.len() >= HASH_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let point = if is(RefKind::Branch) {
        Point::Branch(word)
    } else if is(RefKind::Tag) {
        Point::Tag(word)
    } else if is_hash {
        Point::Commit(word)
    } else {
        Point::Branch(word)
    };
    Ok(Reference { point: Some(point) })
}

async fn list(global: &Global, journal: &mut Journal) -> Result<ListRefsResponse, tonic::Status> {
    let request = ListRefsRequest {
        project: global.project.clone(),
    };
    Ok(journal.list_refs(request).await?.into_inner())
}

async fn print(global: &Global, journal: &mut Journal) -> anyhow::Result<()> {
    let refs = list(global, journal).await?;
    if global.json {
        return output::message(&refs);
    }
    let mut rows = vec![
        ["kind", "name", "commit", "time"]
            .map(String::from)
            .to_vec(),
    ];
    for entry in &refs.refs {
        let commit = entry.commit.clone().unwrap_or_default();
        let kind = match entry.kind() {
            RefKind::Tag => "tag",
            _ => "branch",
        };
        rows.push(vec![
            kind.into(),
            entry.name.clone(),
            output::hash(&commit.hash),
            output::time(commit.time.as_ref()),
        ]);
    }
    output::table(&rows);
    Ok(())
}
