//! How many files, connections among them, this process may have open.

use rlimit::Resource;

/// Raises the number of files that this process may have open as far as it may, and gives it; nothing: the
/// system does not say.
pub fn raise() -> Option<u64> {
    let (current, maximum) = rlimit::getrlimit(Resource::NOFILE).ok()?;
    match rlimit::setrlimit(Resource::NOFILE, maximum, maximum) {
        Ok(()) => Some(maximum),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            Some(current)
        }
    }
}

/// Three quarters of the files at most are for connections: the stores need theirs.
pub fn connections(wanted: usize, files: Option<u64>) -> usize {
    let most = files.map_or(usize::MAX, |files| {
        usize::try_from(files / 4 * 3).unwrap_or(usize::MAX)
    });
    if most < wanted {
        tracing::warn!(wanted, most, "fewer connections: too few files may be open");
    }
    wanted.min(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_stores() {
        assert_eq!(connections(10_000, None), 10_000);
        assert_eq!(connections(10_000, Some(1 << 20)), 10_000);
        assert_eq!(connections(10_000, Some(1_024)), 768);
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_its_maximum() {
        let raised = raise();
        let (current, maximum) = rlimit::getrlimit(Resource::NOFILE).unwrap();
        assert_eq!((Some(current), Some(maximum)), (raised, raised));
    }
}
