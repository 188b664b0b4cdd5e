//! From a request and a policy to the question put to the index.

use std::time::Duration;

use commonplace_rpc::View;
use commonplace_rpc::convert::Filter;
use commonplace_types::{ArtifactType, Importance, Invalid, ProjectName, Reference, Timestamp};

use crate::candidate::{Dense, PassageKey};
use crate::pack::Listed;
use crate::rules::Rules;

/// The most the index lists by one signal.
pub const MOST_CANDIDATES: u32 = 1_000;

/// How many candidates that are superseded or fail the filter a pack lists. Not a setting: packs made with
/// one number could not be made again with another.
pub const LISTED_INELIGIBLE: u32 = 20;

/// Which vectors to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenseWish {
    /// All there are; `wait`: first until the newest are there.
    Newest {
        /// Wait for them.
        wait: bool,
    },
    /// Those an earlier search saw.
    Recorded {
        /// Its state.
        dense: Dense,
        /// Its candidates, of use when they cannot be found again.
        candidates: Recorded,
    },
}

/// The candidates of an earlier search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Those among the best by meaning.
    pub dense: Vec<PassageKey>,
    /// Those that no signal ranked.
    pub unranked: Vec<PassageKey>,
}

impl Recorded {
    /// The candidates that a pack lists.
    pub fn of(listed: &[Listed]) -> Self {
        let keys = |takes: fn(&Listed) -> bool| {
            let taken = listed.iter().filter(|listed| takes(listed));
            taken.map(|listed| listed.key).collect()
        };
        Self {
            dense: keys(|listed| listed.dense_rank > 0),
            unranked: keys(|listed| listed.dense_rank == 0 && listed.lexical_rank == 0),
        }
    }
}

/// The question put to the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whose memory.
    pub project: ProjectName,
    /// What of it may be seen.
    pub view: View,
    /// As of when.
    pub as_of: Reference,
    /// The question.
    pub query: String,
    /// How many of the best by words.
    pub lexical_limit: u32,
    /// How many of the best by meaning.
    pub dense_limit: u32,
    /// Which events.
    pub filter: Filter,
    /// Candidates with none of these tags fail the policy: what one filter cannot say besides the request's own
    /// tags. Empty lets all pass.
    pub post_filter_tags: Vec<String>,
    /// Candidates whatever their score.
    pub always_pinned: bool,
    /// Candidates whatever their score.
    pub always_records: Vec<String>,
    /// Candidates whatever their score.
    pub always_tags: Vec<String>,
    /// How many that may not be packed to list.
    pub ineligible_limit: u32,
    /// Which vectors.
    pub dense: DenseWish,
    /// The policy gives meaning no weight: the answer then says that it was off for that.
    pub dense_weightless: bool,
    /// Records and tags are wanted of each candidate. They take longer to get than all else that is known of it.
    pub named: bool,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Whose memory.
    pub project: &'a ProjectName,
    /// What of it may be seen.
    pub view: &'a View,
    /// As of when.
    pub as_of: &'a Reference,
    /// The question.
    pub query: &'a str,
    /// Narrows the policy's filters.
    pub filter: &'a Filter,
    /// Ages are counted from here.
    pub clock: Timestamp,
    /// At least so many candidates by each signal, even if the policy takes fewer.
    pub at_least: u32,
    /// How many that may not be packed to list.
    pub ineligible_limit: u32,
    /// The caller wants to know the record of each.
    pub named: bool,
}

impl Plan {
    /// Plans a search by a policy. Error: the request's filter leaves nothing of the policy's types.
    pub fn new(wish: &Wish<'_>, rules: &Rules, dense: DenseWish) -> Result<Self, Invalid> {
        let wanted = rules.candidates.max(wish.at_least).min(MOST_CANDIDATES);
        let by_meaning = rules.weights.dense > 0;
        // Some signal must list candidates, even for a policy that weighs neither.
        let by_words = rules.weights.lexical > 0 || !by_meaning;
        let (filter, post_filter_tags) = narrow(wish, rules)?;
        let named = wish.named || !post_filter_tags.is_empty();
        Ok(Self {
            project: wish.project.clone(),
            view: wish.view.clone(),
            as_of: wish.as_of.clone(),
            query: wish.query.to_owned(),
            lexical_limit: if by_words { wanted } else { 0 },
            dense_limit: if by_meaning { wanted } else { 0 },
            filter,
            post_filter_tags,
            always_pinned: rules.always_pinned,
            always_records: rules.always_records.clone(),
            always_tags: rules.always_tags.clone(),
            ineligible_limit: wish.ineligible_limit,
            dense,
            dense_weightless: !by_meaning,
            named,
        })
    }

    /// A question for the commit and the state of its vectors alone, whatever may be seen. `wait`: for the newest
    /// vectors.
    pub fn probe(project: &ProjectName, as_of: &Reference, wait: bool) -> Self {
        Self {
            project: project.clone(),
            view: View::Whole,
            as_of: as_of.clone(),
            query: String::new(),
            lexical_limit: 0,
            dense_limit: 0,
            filter: Filter::default(),
            post_filter_tags: Vec::new(),
            always_pinned: false,
            always_records: Vec::new(),
            always_tags: Vec::new(),
            ineligible_limit: 0,
            dense: DenseWish::Newest { wait },
            dense_weightless: false,
            named: false,
        }
    }
}

/// The request's filter within the policy's, and the policy's tags if both name some.
fn narrow(wish: &Wish<'_>, rules: &Rules) -> Result<(Filter, Vec<String>), Invalid> {
    let mut filter = wish.filter.clone();
    if !rules.artifact_types.is_empty() {
        filter.artifact_types = types_within(&filter.artifact_types, &rules.artifact_types)?;
    }
    let mut post_filter = Vec::new();
    if filter.tags_any.is_empty() {
        filter.tags_any = rules.tags_any.clone();
    } else {
        post_filter = rules.tags_any.clone();
    }
    if rules.time_window_days > 0 {
        let window = Duration::from_secs(u64::from(rules.time_window_days) * 86_400);
        let from = wish.clock.minus(window);
        filter.from_time = Some(filter.from_time.map_or(from, |asked| asked.max(from)));
    }
    if rules.min_importance > 0 {
        let least = Importance::new(f64::from(rules.min_importance) / 1e6)?;
        filter.min_importance = Some(
            filter
                .min_importance
                .map_or(least, |asked| asked.max(least)),
        );
    }
    Ok((filter, post_filter))
}

fn types_within(asked: &[ArtifactType], policy: &[String]) -> Result<Vec<ArtifactType>, Invalid> {
    if asked.is_empty() {
        return policy.iter().map(ArtifactType::new).collect();
    }
    let both: Vec<ArtifactType> = asked
        .iter()
        .filter(|kind| policy.iter().any(|p| p == kind.as_str()))
        .cloned()
        .collect();
    if both.is_empty() {
        let problem = format!("expected some of the policy's types: {}", policy.join(", "));
        return Err(Invalid::new("filter.artifact_types", problem));
    }
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert;
    use crate::testing::rules;

    fn plan(filter: Filter, rules: &Rules) -> Result<Plan, Invalid> {
        let wish = Wish {
            project: &ProjectName::default_project(),
            view: &View::Whole,
            as_of: &Reference::main(),
            query: "q",
            filter: &filter,
            clock: Timestamp::parse("2026-01-31T00:00:00Z").unwrap(),
            at_least: 0,
            ineligible_limit: 7,
            named: false,
        };
        Plan::new(&wish, rules, DenseWish::Newest { wait: false })
    }

    fn kind(name: &str) -> ArtifactType {
        ArtifactType::new(name).unwrap()
    }

    #[test]
    fn a_request_narrows_the_policy_and_never_widens_it() {
        let mut policy = rules();
        policy.artifact_types = vec!["bug".into(), "diff".into()];
        policy.tags_any = vec!["a".into()];
        policy.time_window_days = 10;
        policy.min_importance = 500_000;
        let open = plan(Filter::default(), &policy).unwrap();
        assert_eq!(open.filter.artifact_types, [kind("bug"), kind("diff")]);
        assert_eq!(
            (open.filter.tags_any.len(), open.post_filter_tags.len()),
            (1, 0)
        );
        // Ranking reads no names, so columns are enough.
        assert!(!open.named && convert::index_search(&open).as_columns);
        assert_eq!(
            open.filter.from_time,
            Some(Timestamp::parse("2026-01-21T00:00:00Z").unwrap())
        );
        let asked = Filter {
            artifact_types: vec![kind("diff"), kind("test")],
            tags_any: vec!["b".into()],
            from_time: Some(Timestamp::parse("2020-01-01T00:00:00Z").unwrap()),
            min_importance: Some(Importance::new(0.7).unwrap()),
            ..Filter::default()
        };
        let narrowed = plan(asked, &policy).unwrap();
        assert_eq!(narrowed.filter.artifact_types, [kind("diff")]);
        assert_eq!(narrowed.filter.tags_any, ["b"]);
        assert_eq!(narrowed.post_filter_tags, ["a"]);
        // They are compared here, so they are asked for.
        assert!(narrowed.named && !convert::index_search(&narrowed).as_columns);
        assert_eq!(narrowed.filter.from_time, open.filter.from_time);
        assert_eq!(
            narrowed.filter.min_importance,
            Some(Importance::new(0.7).unwrap())
        );
        let nothing = Filter {
            artifact_types: vec![kind("test")],
            ..Filter::default()
        };
        assert_eq!(
            plan(nothing, &policy).unwrap_err().field,
            "filter.artifact_types"
        );
    }

    #[test]
    fn a_signal_without_weight_is_not_asked_for() {
        let mut policy = rules();
        let limits = |policy: &Rules| {
            let plan = plan(Filter::default(), policy).unwrap();
            (plan.lexical_limit, plan.dense_limit)
        };
        assert_eq!(limits(&policy), (100, 100));
        policy.weights.dense = 0;
        assert_eq!(limits(&policy), (100, 0));
        policy.weights.lexical = 0;
        assert_eq!(limits(&policy), (100, 0));
        policy.weights.dense = 1;
        assert_eq!(limits(&policy), (0, 100));
    }
}
