//! Readers of other tools' reports: bytes in, drafts and refusals out.
//!
//! An adapter states what a report says and nothing else: no clock, no file name and no order of files
//! reaches a draft, so equal bytes give equal drafts. A report that cannot be read at all is an error with
//! line and column, found before anything is written; a piece of it that cannot be taken is a refusal with
//! its place, and the rest is taken. Adapters neither mask secrets nor make ids; [`crate::intake`] does.

mod encoding;
pub mod git;
pub mod jenkins;
pub mod jsonl;
pub mod junit;
mod text;
mod verdict;
mod when;

use std::fmt;

use commonplace_types::Draft;
use serde::{Deserialize, Serialize};

pub(crate) use text::{cut_line, cut_middle, plain, record_id};

/// Where in a text something is, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// A piece of the input that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where: `events[3]`, `line 12`, `testcase 4 (line 80)`.
    pub location: String,
    /// The wrong field; may be empty.
    pub field: String,
    /// What is wrong and what was expected.
    pub reason: String,
}

/// What an adapter found.
#[derive(Debug)]
pub enum Found {
    /// An observation: its time, number or content names it, so that it is the same one whenever it is sent.
    /// Its id is given only where the tool's own name for it is as good as content.
    Draft(Box<Draft>),
    /// How its record stands now, without a time of its own: it may return after something else was said.
    State(Box<Draft>),
    /// A piece that cannot be taken.
    Refused(Refusal),
}

/// Nobody wants further findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Takes findings one by one, in the order of the report.
pub type Sink<'a> = dyn FnMut(Found) -> Result<(), Stopped> + 'a;

/// A report as a whole cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportError {
    /// It is not what its format says.
    Unreadable {
        /// Where reading ended, where that can be said.
        place: Option<Place>,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// The sink wanted no more.
    Stopped,
}

impl ReportError {
    fn at(place: Place, problem: impl Into<String>) -> Self {
        Self::Unreadable {
            place: Some(place),
            problem: problem.into(),
        }
    }

    fn whole(problem: impl Into<String>) -> Self {
        Self::Unreadable {
            place: None,
            problem: problem.into(),
        }
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable {
                place: Some(place),
                problem,
            } => write!(formatter, "{place}: {problem}"),
            Self::Unreadable { problem, .. } => formatter.write_str(problem),
            Self::Stopped => formatter.write_str("reading was stopped"),
        }
    }
}

impl std::error::Error for ReportError {}

impl From<Stopped> for ReportError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// How much text of a report is kept; what is longer is cut in the middle, with a marker. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextLimits {
    /// Of a failure's trace or of a build's text.
    pub trace_bytes: usize,
    /// Of each of a test's or suite's standard output and standard error.
    pub output_bytes: usize,
    /// Of one file's part of a commit's diff.
    pub file_diff_bytes: usize,
    /// Of a commit's diff; files beyond it are only named.
    pub commit_diff_bytes: usize,
    /// Largest JSON document that is read, because it is held in memory as a tree.
    pub json_bytes: usize,
}

impl Default for TextLimits {
    fn default() -> Self {
        Self {
            trace_bytes: 32 << 10,
            output_bytes: 8 << 10,
            file_diff_bytes: 32 << 10,
            commit_diff_bytes: 512 << 10,
            json_bytes: 32 << 20,
        }
    }
}

type Read = fn(&[u8], &TextLimits, &mut Sink<'_>) -> Result<(), ReportError>;

/// A kind of report that can be read.
pub struct Format {
    /// Its name on the wire and on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// Whether each draft states its own source and author, so that both count as content.
    pub states_origin: bool,
    /// Whether an id that is given names what the tool itself keeps under it, in whatever words.
    pub names_commits: bool,
    read: Read,
}

impl fmt::Debug for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Format({})", self.name)
    }
}

/// Every kind of report that can be read, by name.
pub const FORMATS: &[Format] = &[
    Format {
        name: "git",
        description: "history of a git repository: the output of `git` with GIT_LOG_ARGUMENTS",
        states_origin: false,
        names_commits: true,
        read: git::read,
    },
    Format {
        name: "jenkins",
        description: "Jenkins JSON API document: build, test report, job, view, queue or node",
        states_origin: false,
        names_commits: false,
        read: jenkins::read,
    },
    Format {
        name: "jsonl",
        description: "one event draft per line, as JSON with the field names of EventDraft",
        states_origin: true,
        names_commits: false,
        read: jsonl::read,
    },
    Format {
        name: "junit",
        description: "JUnit XML test report, in the dialects of Maven, Jest, pytest, PHPUnit and others",
        states_origin: false,
        names_commits: false,
        read: junit::read,
    },
];

impl Format {
    /// The format of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// Reads a whole report and gives what it says to `sink`, in order.
    ///
    /// Equal bytes give equal findings. Error: the report cannot be read; what was given before does not
    /// count then.
    pub fn read(
        &self,
        report: &[u8],
        limits: &TextLimits,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReportError> {
        (self.read)(report, limits, sink)
    }
}

#[cfg(test)]
pub(crate) mod tests;
