//! Records in their places, and whether they are as they were.

use std::fmt;
use std::str::FromStr;

use commonplace_rpc::audit::Entry;
use commonplace_types::{Digest, Invalid, TenantName};

use super::canonical;

/// A record in its place in a tenant's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What was recorded.
    pub entry: Entry,
    /// The hash of the record before; zeros for the first.
    pub previous: Digest,
    /// The hash over that one and this record.
    pub hash: Digest,
}

impl Record {
    /// The record that follows a place.
    pub fn after(head: &Head, entry: Entry) -> Self {
        let sequence = head.sequence + 1;
        let hash = hash(&head.hash, &canonical::write(sequence, &entry));
        Self {
            sequence,
            entry,
            previous: head.hash,
            hash,
        }
    }

    /// Its place.
    pub fn head(&self) -> Head {
        Head {
            sequence: self.sequence,
            hash: self.hash,
        }
    }
}

/// SHA-256 over the hash before and the record's bytes.
fn hash(previous: &Digest, bytes: &[u8]) -> Digest {
    Digest::of(&[previous.as_bytes(), bytes])
}

/// A place in a chain: as a text, number and hash, as in `42:9f86…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The record's number; 0: before the first.
    pub sequence: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// Before the first record.
    pub const START: Self = Self {
        sequence: 0,
        hash: Digest::ZERO,
    };
}

impl fmt::Display for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.sequence, self.hash)
    }
}

impl FromStr for Head {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            let problem = "expected a number and a hash as `com audit head` prints them: 42:9f86…";
            Invalid::new("head", problem)
        };
        let (sequence, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            sequence: sequence.parse().map_err(|_| wrong())?,
            hash: hash.parse().map_err(|_| wrong())?,
        })
    }
}

/// Where a chain is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// A record is missing, came in between, or is in another's place.
    #[error("expected record {expected}, found {found}")]
    Order {
        /// The number that comes next.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// A record of another tenant.
    #[error("record {0} belongs to another tenant")]
    Tenant(u64),
    /// A record does not follow the one before it.
    #[error("record {0} does not follow the one before it: that one was changed, or this one")]
    Previous(u64),
    /// A record does not say what it said when its hash was made.
    #[error("record {0} was changed: its hash is another")]
    Hash(u64),
    /// It ends before its head, or beyond it.
    #[error(
        "the chain ends with record {found}, and its head is {head}: records were taken away or added"
    )]
    End {
        /// The last record's number.
        found: u64,
        /// The head's.
        head: u64,
    },
    /// The last record is not the head's.
    #[error("the head's hash is not that of record {0}")]
    Head(u64),
    /// It says something else than when the checkpoint was taken.
    #[error(
        "record {0} is not the one that the checkpoint was taken of: the log was made anew or changed up to there"
    )]
    Checkpoint(u64),
    /// It is shorter than when the checkpoint was taken.
    #[error(
        "the checkpoint is of record {checkpoint}, and the chain ends with {found}: its end was cut off"
    )]
    Short {
        /// The checkpoint's number.
        checkpoint: u64,
        /// The last record's.
        found: u64,
    },
    /// What the checkpoint was taken of is no longer kept.
    #[error(
        "the checkpoint is of record {checkpoint}, and records up to {start} are no longer kept; compare a later one"
    )]
    Pruned {
        /// The checkpoint's number.
        checkpoint: u64,
        /// The last one that is not kept.
        start: u64,
    },
    /// A line of a file is not as it was written.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Walks a chain, record by record.
#[derive(Debug)]
pub struct Checker {
    tenant: TenantName,
    start: Head,
    last: Head,
    checkpoint: Option<Head>,
}

impl Checker {
    /// From the last record on that is not kept. `checkpoint`: a head that was taken earlier.
    /// Error: the checkpoint cannot be compared, or another record was there.
    pub fn new(tenant: TenantName, start: Head, checkpoint: Option<Head>) -> Result<Self, Break> {
        let checker = Self {
            tenant,
            start,
            last: start,
            checkpoint,
        };
        match checkpoint {
            Some(checkpoint) if checkpoint.sequence < start.sequence => Err(Break::Pruned {
                checkpoint: checkpoint.sequence,
                start: start.sequence,
            }),
            _ => checker.compare().map(|()| checker),
        }
    }

    /// Takes the next record. Error: it is not the one that was there.
    pub fn take(&mut self, record: &Record) -> Result<(), Break> {
        let expected = self.last.sequence + 1;
        if record.sequence != expected {
            let found = record.sequence;
            return Err(Break::Order { expected, found });
        }
        if record.entry.tenant != self.tenant {
            return Err(Break::Tenant(expected));
        }
        if record.previous != self.last.hash {
            return Err(Break::Previous(expected));
        }
        let again = Record::after(&self.last, record.entry.clone());
        if again.hash != record.hash {
            return Err(Break::Hash(expected));
        }
        self.last = record.head();
        self.compare()
    }

    /// Ends with the head that is told of the chain. Gives how many records were checked.
    /// Error: the records do not end there, or before the checkpoint.
    pub fn end(self, head: &Head) -> Result<u64, Break> {
        let found = self.last.sequence;
        if found != head.sequence {
            let head = head.sequence;
            return Err(Break::End { found, head });
        }
        if self.last.hash != head.hash {
            return Err(Break::Head(found));
        }
        match self.checkpoint {
            Some(checkpoint) if checkpoint.sequence > found => Err(Break::Short {
                checkpoint: checkpoint.sequence,
                found,
            }),
            _ => Ok(found - self.start.sequence),
        }
    }

    /// Compares the last one with the checkpoint, if it is that one.
    fn compare(&self) -> Result<(), Break> {
        match self.checkpoint {
            Some(point) if point.sequence == self.last.sequence && point != self.last => {
                Err(Break::Checkpoint(point.sequence))
            }
            _ => Ok(()),
        }
    }
}
