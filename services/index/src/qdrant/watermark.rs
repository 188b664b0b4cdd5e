//! How far the store has followed a project, kept beside the project's rows.
//!
//! Losing it costs time only: everything is written again. It counts for one collection and one history.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::Snapshot;

const FILE: &str = "qdrant.json";

#[derive(Debug, Serialize, Deserialize)]
struct Watermark {
    collection: String,
    commits: u64,
    /// Of the last of these commits.
    hash: String,
}

/// Commits that the collection was known to hold; 0 if that is not known.
pub(crate) fn read(folder: &Path, collection: &str, snapshot: &Snapshot) -> u64 {
    let text = std::fs::read(folder.join(FILE)).unwrap_or_default();
    let Ok(found) = serde_json::from_slice::<Watermark>(&text) else {
        return 0;
    };
    let known = found.commits <= snapshot.progress.dense && found.commits > 0;
    let fits =
        known && found.collection == collection && found.hash == hash(snapshot, found.commits);
    if fits { found.commits } else { 0 }
}

/// Notes that the collection holds the commits below a number, which is above 0.
pub(crate) fn write(
    folder: &Path,
    collection: &str,
    snapshot: &Snapshot,
    commits: u64,
) -> std::io::Result<()> {
    let watermark = Watermark {
        collection: collection.to_owned(),
        commits,
        hash: hash(snapshot, commits),
    };
    let fresh = folder.join("qdrant.json.new");
    std::fs::write(&fresh, serde_json::to_vec(&watermark)?)?;
    std::fs::rename(fresh, folder.join(FILE))
}

fn hash(snapshot: &Snapshot, commits: u64) -> String {
    let last = snapshot.state.commits.at(commits as usize - 1);
    last.hash.to_string()
}
