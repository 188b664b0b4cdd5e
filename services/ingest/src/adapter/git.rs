//! The history of a git repository: one event per commit, with its message and its diff.
//!
//! The format is what git prints for [`GIT_LOG_ARGUMENTS`]. Each commit starts with a line that begins with
//! a NUL byte; git ends messages at a NUL and starts every line of a diff with another character, so nothing
//! inside a commit can be taken for the start of one.

mod parts;

use std::borrow::Cow;
use std::fmt::Write as _;

use commonplace_types::{
    ArtifactType, Attribute, Draft, EventId, Importance, Invalid, Link, Timestamp, limits,
};

use super::text::place_of;
use super::{
    Found, Refusal, ReportError, Sink, TextLimits, cut_line, cut_middle, plain, record_id,
};

pub use parts::{Parts, parts};

/// What to call git with, in the repository: `git -C PATH` and these, then revisions if not all of HEAD.
/// Settings of the user that would change the output are overridden.
pub const GIT_LOG_ARGUMENTS: &[&str] = &[
    "-c",
    "core.quotePath=false",
    "-c",
    "log.showRoot=true",
    "-c",
    "diff.renameLimit=1000",
    "-c",
    "diff.suppressBlankEmpty=false",
    "log",
    "--reverse",
    "--topo-order",
    "--no-color",
    "--no-decorate",
    "--no-notes",
    "--no-show-signature",
    "--no-mailmap",
    "--encoding=UTF-8",
    "--diff-merges=off",
    "--raw",
    "--patch",
    "--unified=3",
    "--diff-algorithm=myers",
    "--find-renames=50%",
    "--submodule=short",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-ext-diff",
    "--no-textconv",
    "--format=tformat:%x00commit%x00%H%x00%P%x00%an%x00%ae%x00%aI%x00%cI%x00%s%x00%b%x00",
];

/// How each commit begins.
const START: &[u8] = b"\0commit\0";
/// Most top-level folders and languages that become tags.
const TAGS: usize = 12;
/// Most files that are named when their diffs are cut.
const NAMED_FILES: usize = 200;

/// Reads the output of git. A commit that does not have the form is refused, the others are taken.
/// Error: the text does not start with a commit.
pub(super) fn read(
    report: &[u8],
    limits: &TextLimits,
    sink: &mut Sink<'_>,
) -> Result<(), ReportError> {
    if report.is_empty() {
        return Ok(());
    }
    if !report.starts_with(START) {
        let problem = "expected the output of git with the arguments of GIT_LOG_ARGUMENTS; `com ingest --from git PATH` calls git that way";
        return Err(ReportError::at(place_of(report, 0), problem));
    }
    for (number, (offset, commit)) in commits(report).enumerate() {
        let found = match draft(commit, limits) {
            Ok(draft) => Found::Draft(Box::new(draft)),
            Err(invalid) => Found::Refused(Refusal {
                location: format!("commit {} (byte {offset})", number + 1),
                field: invalid.field,
                reason: invalid.problem,
            }),
        };
        sink(found)?;
    }
    Ok(())
}

/// The commits with the offset of each.
fn commits(report: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let end = next_start(report, from + START.len());
        start = end;
        Some((
            from,
            &report[from + START.len()..end.unwrap_or(report.len())],
        ))
    })
}

/// The next place where a line begins with [`START`].
fn next_start(report: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(line_end) = report[at..].iter().position(|byte| *byte == b'\n') {
        at += line_end + 1;
        if report[at..].starts_with(START) {
            return Some(at);
        }
    }
    None
}

/// What precedes the diff.
struct Header<'a> {
    hash: Cow<'a, str>,
    parents: Vec<String>,
    name: Cow<'a, str>,
    mail: Cow<'a, str>,
    written: Cow<'a, str>,
    committed: Cow<'a, str>,
    subject: Cow<'a, str>,
    body: Cow<'a, str>,
}

fn draft(commit: &[u8], text_limits: &TextLimits) -> Result<Draft, Invalid> {
    let (header, changes) = split(commit)?;
    let files = changed_files(changes);
    let time = Timestamp::parse(&header.committed).map_err(|error| error.under("commit date"))?;
    let title = match cut_line(&header.subject, limits::TITLE_BYTES) {
        empty if empty.is_empty() => format!("commit {}", &header.hash[..12]),
        subject => subject,
    };
    let text = text_of(&header, &files, changes, text_limits);
    let mut draft = Draft::new(ArtifactType::new("diff")?, title, text);
    // The hash is git's own digest of the content, so it is the better name: another version of git may
    // print the same change differently.
    draft.id = Some(EventId::derive(&[b"git commit", header.hash.as_bytes()]));
    draft.record_id = Some(record_id("commit", &[&header.hash]));
    draft.author = author(&header);
    draft.event_time = Some(time);
    let merge = header.parents.len() > 1;
    let importance = if merge { 300_000 } else { 500_000 };
    draft.importance = Importance::from_millionths(importance)?;
    draft.tags = tags(&files, merge);
    draft.links = links(&header, &files);
    let counted = [
        ("commit", header.hash.to_string()),
        ("files", files.len().to_string()),
    ];
    draft.attributes = counted
        .iter()
        .map(|(key, value)| Attribute::new(*key, value))
        .collect();
    if header.written != header.committed {
        draft
            .attributes
            .push(Attribute::new("author_date", header.written.as_ref()));
    }
    Ok(draft)
}

fn author(header: &Header<'_>) -> String {
    let name = cut_line(&header.name, 120);
    let mail = cut_line(&header.mail, 120);
    if mail.is_empty() {
        name
    } else {
        format!("{name} <{mail}>")
    }
}

/// Takes a commit apart into its header and what git printed after it.
fn split(commit: &[u8]) -> Result<(Header<'_>, &[u8]), Invalid> {
    let mut fields = commit.splitn(9, |byte| *byte == 0);
    let mut next = |field: &str| {
        let found = fields.next().map(String::from_utf8_lossy);
        found.ok_or_else(|| {
            Invalid::new(
                field,
                "expected a NUL after it, found the end of the commit",
            )
        })
    };
    let header = Header {
        hash: next("hash")?,
        parents: next("parents")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        name: next("author name")?,
        mail: next("author mail")?,
        written: next("author date")?,
        committed: next("commit date")?,
        subject: next("subject")?,
        body: next("body")?,
    };
    let is_hash =
        |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    for hash in header
        .parents
        .iter()
        .map(String::as_str)
        .chain([&*header.hash])
    {
        if !is_hash(hash) {
            let shown: String = hash.escape_debug().take(80).collect();
            return Err(Invalid::new(
                "hash",
                format!("expected 40 or 64 hex digits, found `{shown}`"),
            ));
        }
    }
    let changes = fields.next();
    Ok((
        header,
        changes.ok_or_else(|| Invalid::new("body", "expected a NUL after it"))?,
    ))
}

/// A file that a commit changes.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    /// `A`, `M`, `D`, `R`, `C`, `T`.
    status: char,
    path: String,
    /// Where a rename or copy comes from.
    from: Option<String>,
}

/// The lines of `--raw`: modes, blobs, status, then one path or two, each after a tab.
fn changed_files(changes: &[u8]) -> Vec<Changed> {
    let lines = changes
        .split(|byte| *byte == b'\n')
        .skip_while(|line| line.is_empty());
    let mut files = Vec::new();
    for line in lines.take_while(|line| line.first() == Some(&b':')) {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.split('\t');
        let status = parts
            .next()
            .and_then(|head| head.rsplit(' ').next()?.chars().next());
        let (Some(status), Some(first)) = (status, parts.next()) else {
            continue;
        };
        let (path, from) = match parts.next() {
            Some(second) => (unquoted(second), Some(unquoted(first))),
            None => (unquoted(first), None),
        };
        files.push(Changed { status, path, from });
    }
    files
}

/// Undoes git's quoting of unusual paths: `"a\tb\303\244"`.
fn unquoted(path: &str) -> String {
    let Some(inner) = path
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return path.to_owned();
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'a') => bytes.push(7),
            Some(b'b') => bytes.push(8),
            Some(b't') => bytes.push(b'\t'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'v') => bytes.push(11),
            Some(b'f') => bytes.push(12),
            Some(b'r') => bytes.push(b'\r'),
            Some(digit @ b'0'..=b'7') => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|b| (b'0'..=b'7').contains(b)) else {
                        break;
                    };
                    value = value * 8 + u32::from(digit - b'0');
                }
                bytes.push(value as u8);
            }
            Some(other) => bytes.push(other),
            None => bytes.push(b'\\'),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The message, then the diff file by file, each within its limit.
fn text_of(
    header: &Header<'_>,
    files: &[Changed],
    changes: &[u8],
    text_limits: &TextLimits,
) -> String {
    let mut text = cut_line(&header.subject, limits::TITLE_BYTES);
    let body = plain(header.body.trim());
    if !body.is_empty() {
        text.push_str("\n\n");
        text.push_str(&cut_middle(&body, text_limits.trace_bytes));
    }
    let most = text_limits.commit_diff_bytes.min(limits::TEXT_BYTES / 2);
    let end = text.len() + most;
    let mut unprinted = Vec::new();
    for (number, section) in sections(changes).enumerate() {
        // Over-long sections are cut as bytes first, so that a huge one is not copied.
        let room = 4 * text_limits.file_diff_bytes;
        let section = match section.len() > 2 * room {
            true => [&section[..room], b"\n", &section[section.len() - room..]].concat(),
            false => section.to_vec(),
        };
        let section = String::from_utf8_lossy(&section);
        let section = plain(section.trim_end_matches('\n'));
        let section = cut_middle(&section, text_limits.file_diff_bytes);
        if text.len() + section.len() > end {
            unprinted.push(number);
            continue;
        }
        text.push_str("\n\n");
        text.push_str(&section);
    }
    name_unprinted(&mut text, files, &unprinted);
    text
}

/// Names the files whose diffs had no room; sections come in the order of the files.
fn name_unprinted(text: &mut String, files: &[Changed], unprinted: &[usize]) {
    if unprinted.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "\n\n[… the diffs of {} of {} files cut …]",
        unprinted.len(),
        files.len()
    );
    for file in unprinted
        .iter()
        .take(NAMED_FILES)
        .filter_map(|number| files.get(*number))
    {
        let _ = write!(text, "\n{} {}", file.status, cut_line(&file.path, 512));
    }
}

/// The diff by file: each section starts with a line `diff --git`, which no line of content can be.
fn sections(changes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = |at: usize| changes[at..].starts_with(b"diff --git ");
    let mut at = (0..1).chain(newlines(changes)).find(|at| starts(*at));
    std::iter::from_fn(move || {
        let from = at?;
        at = newlines(&changes[from..])
            .map(|next| from + next)
            .find(|next| changes[*next..].starts_with(b"diff --git "));
        Some(&changes[from..at.unwrap_or(changes.len())])
    })
}

/// Where lines begin, but for the first.
fn newlines(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
}

fn links(header: &Header<'_>, files: &[Changed]) -> Vec<Link> {
    let mut links: Vec<Link> = header
        .parents
        .iter()
        .map(|hash| Link::new("commit", hash))
        .collect();
    for file in files {
        for path in [Some(&file.path), file.from.as_ref()].into_iter().flatten() {
            if links.len() < limits::LINKS {
                links.push(Link::new("file", cut_line(path, limits::LINK_TARGET_BYTES)));
            }
        }
    }
    links.retain(|link| !link.target.is_empty());
    links
}

/// Top-level folders and languages, sorted.
fn tags(files: &[Changed], merge: bool) -> Vec<String> {
    let mut tags = std::collections::BTreeSet::new();
    for file in files {
        if let Some((folder, _)) = file.path.split_once('/') {
            tags.insert(cut_line(folder, limits::TAG_BYTES));
        }
        tags.extend(language(&file.path).map(str::to_owned));
    }
    tags.remove("");
    let merge = merge.then(|| "merge".to_owned());
    merge
        .into_iter()
        .chain(tags.into_iter().take(TAGS))
        .collect()
}

fn language(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "rs" => "rust",
        "py" => "python",
        "go" => "go",
        "js" | "jsx" | "mjs" | "cjs" => "javascript",
        "ts" | "tsx" => "typescript",
        "java" => "java",
        "kt" => "kotlin",
        "c" | "h" => "c",
        "cc" | "cpp" | "cxx" | "hpp" => "cpp",
        "cs" => "csharp",
        "rb" => "ruby",
        "php" => "php",
        "swift" => "swift",
        "scala" => "scala",
        "sql" => "sql",
        "sh" | "bash" => "shell",
        "proto" => "protobuf",
        "md" => "markdown",
        "yml" | "yaml" => "yaml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
