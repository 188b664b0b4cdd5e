//! Which records somebody looks for.

use commonplace_access::audit::Record;
use commonplace_rpc::audit::Verdict;
use commonplace_types::Timestamp;

/// Which records somebody looks for: those that fit all that is given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) sequence: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// Of whoever called, or acted.
    pub(crate) subject: Option<String>,
    /// `package.Service/Method`, or its end.
    pub(crate) method: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) request_id: Option<String>,
}

impl Filter {
    /// Whether a record fits.
    pub(crate) fn lets(&self, record: &Record) -> bool {
        let entry = &record.entry;
        let who = entry.who.as_ref();
        let named = |subject: &String| {
            who.is_some_and(|who| {
                let actors = who.actors.iter().map(|actor| &actor.subject);
                let mut all = actors.chain([&who.subject]);
                all.any(|name| name.as_str() == subject)
            })
        };
        let called = |method: &String| {
            let rest = entry.method.strip_suffix(method.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(['.', '/']))
        };
        let project = entry.project.as_ref();
        self.sequence.is_none_or(|only| only == record.sequence)
            && self.since.is_none_or(|since| since <= entry.last_time)
            && self.until.is_none_or(|until| entry.time < until)
            && self.subject.as_ref().is_none_or(named)
            && self.method.as_ref().is_none_or(called)
            && self
                .project
                .as_ref()
                .is_none_or(|name| project.is_some_and(|project| project.as_str() == name))
            && self.verdict.is_none_or(|verdict| verdict == entry.verdict)
            && self
                .request_id
                .as_ref()
                .is_none_or(|id| *id == entry.request_id)
    }
}
