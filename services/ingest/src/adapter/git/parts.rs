//! A long history, cut between commits into reports of a bounded size.

use std::io::{self, BufRead, Read};

use super::START;

/// Longest piece of a line that is held while it is looked at.
const PIECE_BYTES: u64 = 1 << 20;
/// Put in the place of what was cut from the end of a commit that is larger than a report.
const CUT: &[u8] = b"\n[\xe2\x80\xa6 the rest of this commit's diff cut \xe2\x80\xa6]\n";

/// Cuts the output of git into reports of at most about `most` bytes, each of whole commits, in order, so that
/// a history of any length can be sent and is never held as a whole. The diff of a commit that is larger than
/// half of `most` is cut at its end, with a marker; it would not be kept in full anyway. Errors: those of the
/// reader; the iterator ends after one.
pub fn parts<R: BufRead>(output: R, most: usize) -> Parts<R> {
    Parts {
        output,
        most: most.max(4 * PIECE_BYTES as usize),
        held: Vec::new(),
        commit: 0,
        at_line_start: true,
        ended: false,
    }
}

/// See [`parts`].
#[derive(Debug)]
pub struct Parts<R> {
    output: R,
    most: usize,
    /// What the next part holds so far.
    held: Vec<u8>,
    /// Bytes of the last commit in it.
    commit: usize,
    at_line_start: bool,
    ended: bool,
}

impl<R: BufRead> Iterator for Parts<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let mut piece = Vec::new();
            match self
                .output
                .by_ref()
                .take(PIECE_BYTES)
                .read_until(b'\n', &mut piece)
            {
                Ok(0) => self.ended = true,
                Ok(_) => {
                    let begins = self.at_line_start && piece.starts_with(START);
                    self.at_line_start = piece.last() == Some(&b'\n');
                    // Half a part holds any commit, so a part that is half full ends before the next one.
                    let full = begins && self.held.len() >= self.most / 2;
                    let part = full.then(|| std::mem::take(&mut self.held));
                    self.keep(begins, &piece);
                    if part.is_some() {
                        return part.map(Ok);
                    }
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let rest = std::mem::take(&mut self.held);
        (!rest.is_empty()).then_some(Ok(rest))
    }
}

impl<R> Parts<R> {
    fn keep(&mut self, begins: bool, piece: &[u8]) {
        let room = self.most / 2 - CUT.len();
        if begins {
            self.commit = 0;
        }
        let before = self.commit;
        self.commit += piece.len();
        if self.commit <= room {
            self.held.extend_from_slice(piece);
        } else if before <= room {
            self.held.extend_from_slice(CUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::commit;
    use super::*;

    #[test]
    fn parts_are_whole_commits_within_the_bound() {
        let line = format!("+{}\n", "x".repeat(999));
        let small = format!("diff --git a/x b/x\n{}", line.repeat(300));
        let large = format!("diff --git a/x b/x\n{}", line.repeat(9_000));
        let endless = format!("diff --git a/x b/x\n+{}\n", "y".repeat(5_000_000));
        let mut whole = String::new();
        for (hash, changes) in ('a'..='f').cycle().zip(
            [&small; 30]
                .into_iter()
                .chain([&large, &small, &endless, &small]),
        ) {
            whole += &commit(hash, "", "subject", "", changes);
        }
        let most = 4 << 20;
        let parts: Vec<Vec<u8>> = parts(whole.as_bytes(), most).map(Result::unwrap).collect();
        assert!(parts.len() >= 3, "{}", parts.len());
        let mut commits = 0;
        for part in &parts {
            assert!(
                part.len() <= most && part.starts_with(START),
                "{}",
                part.len()
            );
            commits += part
                .windows(START.len())
                .filter(|window| *window == START)
                .count();
        }
        assert_eq!(commits, 34);
        let cut = parts
            .iter()
            .filter(|part| part.windows(CUT.len()).any(|window| window == CUT))
            .count();
        assert!(cut >= 1);
        assert_eq!(super::parts(&b""[..], most).count(), 0);
        let short = whole.len() - endless.len() - large.len();
        assert!(parts.iter().map(Vec::len).sum::<usize>() >= short);
    }
}
