//! What a caller may see of a project: all of it, or the events of some types and authors.

use std::collections::BTreeSet;
use std::sync::Arc;

use commonplace_proto::common as proto;
use commonplace_types::{ArtifactType, Invalid};

/// Most types and authors together.
const MOST: usize = 1_000;
/// Longest author, in bytes.
const AUTHOR_BYTES: usize = 256;

/// What a caller may see of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum View {
    /// All of it.
    #[default]
    Whole,
    /// Some parts.
    Parts(Arc<Parts>),
}

/// The parts of a project that a caller may see: an event belongs to one if its type or its author is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Parts {
    /// Every event of these types.
    pub artifact_types: BTreeSet<ArtifactType>,
    /// Every event of these authors.
    pub authors: BTreeSet<String>,
}

impl Parts {
    /// Whether an event belongs to one of them.
    pub fn hold(&self, artifact_type: &str, author: &str) -> bool {
        let named = |kind: &ArtifactType| kind.as_str() == artifact_type;
        self.artifact_types.iter().any(named) || self.authors.contains(author)
    }
}

impl View {
    /// Whether an event belongs to what may be seen.
    pub fn shows(&self, artifact_type: &str, author: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Parts(parts) => parts.hold(artifact_type, author),
        }
    }

    /// Whether everything that the other shows is shown here too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole, _) => true,
            (Self::Parts(_), Self::Whole) => false,
            (Self::Parts(own), Self::Parts(other)) => {
                own.artifact_types.is_superset(&other.artifact_types)
                    && own.authors.is_superset(&other.authors)
            }
        }
    }

    /// The parts, if it is not all.
    pub fn parts(&self) -> Option<&Arc<Parts>> {
        match self {
            Self::Whole => None,
            Self::Parts(parts) => Some(parts),
        }
    }
}

/// Reads a view; absent means all. Error: a type that is none, or more than anybody is granted.
pub fn view_from_proto(parts: Option<proto::Parts>) -> Result<View, Invalid> {
    let Some(parts) = parts else {
        return Ok(View::Whole);
    };
    let found = parts.artifact_types.len() + parts.authors.len();
    if found > MOST {
        let problem = format!("expected at most {MOST} types and authors, found {found}");
        return Err(Invalid::new("within", problem));
    }
    if parts.authors.iter().any(|name| name.len() > AUTHOR_BYTES) {
        let problem = format!("expected names of at most {AUTHOR_BYTES} bytes");
        return Err(Invalid::new("within.authors", problem));
    }
    let types = parts.artifact_types.into_iter().map(ArtifactType::new);
    let artifact_types: Result<_, Invalid> = types.collect();
    Ok(View::Parts(Arc::new(Parts {
        artifact_types: artifact_types.map_err(|error| error.under("within"))?,
        authors: parts.authors.into_iter().collect(),
    })))
}

/// Writes a view; all is left out.
pub fn view_to_proto(view: &View) -> Option<proto::Parts> {
    view.parts().map(|parts| proto::Parts {
        artifact_types: parts
            .artifact_types
            .iter()
            .map(ToString::to_string)
            .collect(),
        authors: parts.authors.iter().cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(types: &[&str], authors: &[&str]) -> View {
        View::Parts(Arc::new(Parts {
            artifact_types: types
                .iter()
                .map(|name| ArtifactType::new(*name).unwrap())
                .collect(),
            authors: authors.iter().map(|name| (*name).to_owned()).collect(),
        }))
    }

    #[test]
    fn a_view_shows_what_it_names_and_covers_what_is_within() {
        let some = parts(&["test", "bug"], &["alice"]);
        assert!(some.shows("test", "bob") && some.shows("diff", "alice"));
        assert!(!some.shows("diff", "bob") && View::Whole.shows("diff", "bob"));
        for (view, covered) in [
            (parts(&["test"], &[]), true),
            (parts(&[], &["alice"]), true),
            (parts(&["diff"], &[]), false),
            (parts(&["test"], &["bob"]), false),
            (View::Whole, false),
        ] {
            assert_eq!(some.covers(&view), covered, "{view:?}");
            assert!(View::Whole.covers(&view));
        }
    }

    #[test]
    fn a_view_is_read_as_it_was_written() {
        for view in [View::Whole, parts(&["bug", "test"], &["alice"])] {
            assert_eq!(view_from_proto(view_to_proto(&view)), Ok(view));
        }
        let wrong = proto::Parts {
            artifact_types: vec!["not a type!".into()],
            ..Default::default()
        };
        assert!(view_from_proto(Some(wrong)).is_err());
    }
}
