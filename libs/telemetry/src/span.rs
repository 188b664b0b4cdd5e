//! A finished span.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::Trace;

/// On which side of a call a span stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A step inside a service.
    #[default]
    Internal,
    /// A call being served.
    Server,
    /// A call being made.
    Client,
    /// Work on what was received from a queue.
    Consumer,
}

impl Kind {
    /// As the conventions name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Consumer => "consumer",
        }
    }

    pub(crate) fn of(name: &str) -> Self {
        match name {
            "server" => Self::Server,
            "client" => Self::Client,
            "consumer" => Self::Consumer,
            _ => Self::Internal,
        }
    }
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(Box<str>),
    /// A count or size.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A share or the like.
    Real(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Number(number) => number.fmt(formatter),
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Real(real) => real.fmt(formatter),
        }
    }
}

/// A name of [`crate::names::ATTRIBUTES`] and what it says.
pub type Attribute = (&'static str, Value);

/// Another trace that a span follows from, across a queue: trace and span.
pub type Link = (u128, u64);

/// A finished span.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Where it stands.
    pub trace: Trace,
    /// The span it is part of; 0 for none.
    pub parent: u64,
    /// Nothing in this process contains it.
    pub is_local_root: bool,
    /// The role whose span it is, or empty.
    pub service: &'static str,
    /// Whose data it was about; none where that is of nobody, or of several.
    pub tenant: Option<Arc<str>>,
    /// What was done.
    pub name: Cow<'static, str>,
    /// On which side of a call.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// It has an `error.type`.
    pub failed: bool,
    /// In the order in which they were recorded; each name once.
    pub attributes: Vec<Attribute>,
    /// Traces that it follows from.
    pub links: Vec<Link>,
}

impl Span {
    /// What an attribute says.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }

    /// Whether it is of a tenant; without one, whether it is of anybody.
    pub(crate) fn is_of(&self, tenant: Option<&str>) -> bool {
        tenant.is_none() || self.tenant.as_deref() == tenant
    }

    /// Bytes that it takes in memory. The tenant's name is shared by the spans of a call.
    pub(crate) fn bytes(&self) -> usize {
        let text = |(_, value): &Attribute| match value {
            Value::Text(text) => text.len(),
            _ => 0,
        };
        let name = match &self.name {
            Cow::Owned(name) => name.capacity(),
            Cow::Borrowed(_) => 0,
        };
        size_of::<Self>()
            + name
            + self.attributes.capacity() * size_of::<Attribute>()
            + self.attributes.iter().map(text).sum::<usize>()
            + self.links.capacity() * size_of::<Link>()
    }
}
