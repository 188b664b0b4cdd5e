use std::fmt;

/// A value that may not be, with the field it came in and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The field as the caller knows it, for example `events[3].importance`.
    pub field: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Invalid {
    /// A problem with the named field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same problem, with the field seen from further out: `a` under `b[0]` is `b[0].a`.
    pub fn under(mut self, parent: &str) -> Self {
        self.field = if self.field.is_empty() {
            parent.into()
        } else {
            format!("{parent}.{}", self.field)
        };
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.field, self.problem)
    }
}

impl std::error::Error for Invalid {}
