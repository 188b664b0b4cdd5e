//! How a test ended, in the one set of words that every adapter uses.

use commonplace_types::Importance;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Passed,
    Skipped,
    Flaky,
    Failed,
    Error,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Flaky => "flaky",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }

    /// What went wrong matters more than what went well.
    pub(crate) fn importance(self) -> Importance {
        let millionths = match self {
            Self::Passed => 200_000,
            Self::Skipped => 300_000,
            Self::Flaky => 700_000,
            Self::Failed => 800_000,
            Self::Error => 850_000,
        };
        Importance::from_millionths(millionths).unwrap_or_default()
    }
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts([u64; 5]);

impl Counts {
    pub(crate) fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    pub(crate) fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The worst verdict there is; nothing when no test ran.
    pub(crate) fn worst(&self) -> Option<Verdict> {
        use Verdict::*;
        let failing = [Error, Failed, Flaky].into_iter().find(|v| self.of(*v) > 0);
        failing
            .or_else(|| (self.of(Passed) > 0).then_some(Passed))
            .or_else(|| (self.of(Skipped) > 0).then_some(Skipped))
    }

    /// `3 passed, 1 failed`; the words that do not occur are left out.
    pub(crate) fn sentence(&self) -> String {
        use Verdict::*;
        let parts: Vec<String> = [Error, Failed, Flaky, Passed, Skipped]
            .into_iter()
            .filter(|verdict| self.of(*verdict) > 0)
            .map(|verdict| format!("{} {}", self.of(verdict), verdict.word()))
            .collect();
        if parts.is_empty() {
            "no tests".to_owned()
        } else {
            parts.join(", ")
        }
    }
}
