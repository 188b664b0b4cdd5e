//! `com retrieve`, `com pack`, `com search`, `com verify`.

use std::path::Path;

use anyhow::Context;
use commonplace_proto::retrieval::retrieval_service_client::RetrievalServiceClient;
use commonplace_proto::retrieval::{
    ContextPack, ExclusionCount, Item, PackView, PreviewPackRequest, RetrieveRequest,
    SearchRequest, Verdict, VerifyPackRequest, VerifyPackResponse,
};
use commonplace_retrieval::pack;
use commonplace_rpc::convert::timestamp_to_proto;
use commonplace_types::{Invalid, Timestamp};

use super::reference;
use crate::cli::{Global, Pack, PackRequest, Retrieve, Search, Verify};
use crate::failure::{self, Known, Refused};
use crate::hint;
use crate::output::{self, BOLD, CYAN, DIM, GREEN, RED, YELLOW, paint};
use crate::session::{self, Session};

/// `com retrieve`
pub async fn retrieve(global: &Global, arguments: Retrieve) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut request = request(global, &arguments.request, true)?;
        if arguments.output.is_some() || global.json {
            request.view = PackView::Full.into();
        }
        let made = make(session, request).await?;
        if let Some(file) = &arguments.output {
            write(file, &made.pack)?;
        }
        tell(global, &made)?;
        if let Some(file) = arguments.output.as_ref().filter(|_| !global.json) {
            let file = hint::quoted(&file.display().to_string());
            let check = hint::command(global, &format!("verify {file}"));
            output::line(&format!("written to {file}; check it any time: {check}"));
        }
        Ok(())
    })
    .await
}

/// A pack, and why its policy was taken.
pub struct Made {
    /// The pack.
    pub pack: ContextPack,
    /// For people.
    pub policy_reason: String,
}

/// Makes a pack and keeps it.
pub async fn make(session: &Session, request: RetrieveRequest) -> anyhow::Result<Made> {
    let mut client = RetrievalServiceClient::new(session.channels.retrieval.clone())
        .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES);
    let answer = client.retrieve(request).await?.into_inner();
    Ok(Made {
        pack: answer.pack.unwrap_or_default(),
        policy_reason: answer.policy_reason,
    })
}

/// Prints a pack for people, or as JSON with the reason of its policy beside its fields.
fn tell(global: &Global, made: &Made) -> anyhow::Result<()> {
    if global.json {
        let mut pack = commonplace_proto::to_json(&made.pack)?;
        pack["policy_reason"] = made.policy_reason.clone().into();
        output::json(&pack);
        return Ok(());
    }
    print_pack(made);
    Ok(())
}

/// Writes a pack as the file that `com verify` reads.
pub fn write(file: &Path, made: &ContextPack) -> anyhow::Result<()> {
    std::fs::write(file, pack::to_file(&made.id, &made.content))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// `com pack --preview`
pub async fn preview(global: &Global, arguments: Pack) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut request = request(global, &arguments.request, false)?;
        if !global.json {
            request.view = PackView::Basic.into();
        }
        let mut client = RetrievalServiceClient::new(session.channels.retrieval.clone())
            .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES);
        let answer = client
            .preview_pack(PreviewPackRequest {
                request: Some(request),
            })
            .await?;
        let answer = answer.into_inner();
        let made = Made {
            pack: answer.pack.unwrap_or_default(),
            policy_reason: answer.policy_reason,
        };
        tell(global, &made)
    })
    .await
}

/// `com search`
pub async fn search(global: &Global, arguments: Search) -> anyhow::Result<()> {
    session::with(global, async |session| {
        let mut client = RetrievalServiceClient::new(session.channels.retrieval.clone())
            .max_decoding_message_size(commonplace_rpc::server::MESSAGE_BYTES);
        let request = SearchRequest {
            project: global.project.clone(),
            as_of: reference(&arguments.as_of),
            query: arguments.query,
            policy: arguments.policy,
            limit: arguments.limit,
            ..Default::default()
        };
        let answer = client.search(request).await?.into_inner();
        if global.json {
            return output::message(&answer);
        }
        for item in &answer.items {
            print_item(item);
        }
        if answer.items.is_empty() {
            output::line("nothing found");
        }
        if let Some(reason) = answer
            .manifest
            .map(|manifest| manifest.dense_off_reason)
            .filter(|r| !r.is_empty())
        {
            output::note(&format!("search by meaning is off: {reason}"));
        }
        Ok(())
    })
    .await
}

/// `com verify`
pub async fn verify(global: &Global, arguments: Verify) -> anyhow::Result<()> {
    let file = &arguments.file;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (id, content) =
        pack::from_file(&bytes).map_err(|error| Refused(format!("{}: {error}", file.display())))?;
    session::with(global, async |session| {
        let answer = check(session, id, content).await?;
        if global.json {
            output::message(&answer)?;
        } else {
            print_verdict(&answer);
        }
        match answer.verdict() {
            Verdict::Unverifiable => Err(unverifiable(global, file, &answer).into()),
            _ if answer.verified => Ok(()),
            _ => anyhow::bail!("{} is not what it claims to be", file.display()),
        }
    })
    .await
}

/// What is missing here, and where it may be.
fn unverifiable(global: &Global, file: &Path, answer: &VerifyPackResponse) -> Known {
    let (program, name) = (hint::program(), hint::quoted(&file.display().to_string()));
    let meaning = answer
        .differences
        .iter()
        .find(|difference| difference.path == "dense.embedder");
    let no_model = meaning.is_some_and(|found| found.expected.contains("no embedding model"));
    let off_now = meaning.is_some_and(|found| found.expected.starts_with("none:"));
    let next_step = match &global.server {
        Some(server) if no_model => {
            format!("give the server at {server} the model, then try again")
        }
        None if no_model => format!(
            "fetch the model, then try again: {}",
            hint::command(global, "model pull")
        ),
        _ if off_now => "try again when search by meaning is on".to_owned(),
        _ => format!(
            "check it where it was made: {program} --data-dir FOLDER verify {name}, or {program} --server ADDRESS verify {name}"
        ),
    };
    Known {
        code: failure::UNVERIFIABLE,
        problem: format!(
            "{} was not checked; that says nothing about the pack",
            file.display()
        ),
        next_step,
    }
}

/// Has a pack made anew and compared.
pub async fn check(
    session: &Session,
    id: String,
    content: Vec<u8>,
) -> anyhow::Result<VerifyPackResponse> {
    let mut client = RetrievalServiceClient::new(session.channels.retrieval.clone())
        .max_encoding_message_size(commonplace_rpc::server::MESSAGE_BYTES);
    let request = VerifyPackRequest {
        id,
        content: content.into(),
    };
    Ok(client.verify_pack(request).await?.into_inner())
}

/// Prints what a check found.
pub fn print_verdict(answer: &VerifyPackResponse) {
    if answer.verified {
        output::line(&format!(
            "{} {}: identical bytes, made anew at commit {} ({} commits since)",
            paint(GREEN, "verified"),
            answer.id,
            output::hash(&answer.commit),
            answer.commits_since
        ));
        return;
    }
    if answer.verdict() == Verdict::Unverifiable {
        output::line(&format!(
            "{} cannot be checked here: {}",
            paint(YELLOW, "unknown"),
            answer.unverifiable_reason
        ));
        return;
    }
    output::line(&format!("{} the pack differs:", paint(RED, "refused")));
    for difference in &answer.differences {
        output::line(&format!("  {}", paint(BOLD, &difference.path)));
        output::line(&format!(
            "    given     {}",
            output::short(&difference.given, 120)
        ));
        output::line(&format!(
            "    expected  {}",
            output::short(&difference.expected, 120)
        ));
    }
}

fn request(
    global: &Global,
    arguments: &PackRequest,
    durable: bool,
) -> anyhow::Result<RetrieveRequest> {
    let clock = arguments.clock.as_deref().map(Timestamp::parse).transpose();
    let clock = clock.map_err(|error| Invalid::new("clock", error.problem))?;
    Ok(RetrieveRequest {
        project: global.project.clone(),
        as_of: reference(&arguments.as_of),
        task: arguments.task.clone(),
        query: arguments.query.clone(),
        budget_tokens: arguments.budget.unwrap_or(0),
        policy: arguments.policy.clone(),
        clock: clock.map(timestamp_to_proto),
        durable,
        ..Default::default()
    })
}

/// Prints a pack for people.
pub fn print_pack(made: &Made) {
    let pack = &made.pack;
    output::line(&format!("{} {}", paint(BOLD, "context pack"), pack.id));
    output::line(&paint(
        DIM,
        &format!(
            "commit {}  query “{}”",
            output::hash(&pack.commit),
            output::short(&pack.query, 100)
        ),
    ));
    let reason = match made.policy_reason.as_str() {
        // A server of an earlier version gives none.
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    output::line(&paint(
        DIM,
        &format!("policy {} v{}{reason}", pack.policy, pack.policy_version),
    ));
    output::line("");
    for item in &pack.items {
        print_item(item);
    }
    let share = f64::from(pack.used_tokens) / f64::from(pack.budget_tokens.max(1));
    output::line(&format!(
        "budget {} {} of {} tokens ({:.0}%), {} items in, {} candidates left out",
        output::bar(share),
        pack.used_tokens,
        pack.budget_tokens,
        share * 100.0,
        pack.items.len(),
        pack.exclusion_counts
            .iter()
            .map(|excluded| excluded.count)
            .sum::<u32>()
    ));
    output::line(&left_out(pack));
    if let Some(manifest) = pack
        .manifest
        .as_ref()
        .filter(|manifest| !manifest.dense_off_reason.is_empty())
    {
        output::note(&format!(
            "search by meaning was off: {}",
            manifest.dense_off_reason
        ));
    }
}

/// How many were left out for each reason.
fn left_out(pack: &ContextPack) -> String {
    let told = |excluded: &ExclusionCount| {
        let name = excluded.reason().as_str_name();
        let name = name.trim_start_matches("EXCLUSION_REASON_").to_lowercase();
        format!("{} {name}", excluded.count)
    };
    let counts: Vec<String> = pack.exclusion_counts.iter().map(told).collect();
    paint(
        DIM,
        &format!(
            "left out: {}",
            if counts.is_empty() {
                "none".into()
            } else {
                counts.join(", ")
            }
        ),
    )
}

fn print_item(item: &Item) {
    let scores = item.scores.unwrap_or_default();
    let share = |millionths: i64| millionths as f64 / 1e6;
    let tokens = if item.tokens > 0 {
        format!("  {} tokens", item.tokens)
    } else {
        String::new()
    };
    output::line(&format!(
        "{:>2}. {}",
        item.rank,
        paint(BOLD, &output::short(&item.title, 90))
    ));
    output::line(&format!(
        "    {} {:.3}  words {}  meaning {}  {}{tokens}",
        output::bar(share(scores.total)),
        share(scores.total),
        output::bar(share(scores.lexical)),
        output::bar(share(scores.dense)),
        paint(CYAN, &item.artifact_type),
    ));
    let excerpt = item
        .text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && *l != item.title)
        .take(2)
        .collect::<Vec<_>>();
    for text in excerpt {
        output::line(&format!("    {}", output::short(text, 100)));
    }
    if let Some(citation) = &item.citation {
        // An event without a text is cited by its title.
        let part = match citation.end {
            0 => "title".to_owned(),
            end => format!("bytes {}..{end}", citation.start),
        };
        output::line(&paint(
            DIM,
            &format!(
                "    ↳ {} {part}  {}  {}",
                citation.event_id,
                output::time(citation.event_time.as_ref()),
                output::short(&citation.source, 50)
            ),
        ));
    }
}
