//! What the contracts say about each method: whether repeating it is safe, which side streams, and what it asks
//! of its caller.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use commonplace_types::Right;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;

/// What the contracts say about one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`; empty for one that is not in the contracts.
    pub name: String,
    /// The contract marks it NO_SIDE_EFFECTS or IDEMPOTENT: sending it twice does what sending it once does.
    pub repeatable: bool,
    /// The contract marks it NO_SIDE_EFFECTS.
    pub reads_only: bool,
    /// The caller sends a stream.
    pub client_streaming: bool,
    /// The server answers with a stream.
    pub server_streaming: bool,
    /// What it asks of its caller; nobody may call one without.
    pub access: Option<Access>,
    /// How much it costs to serve.
    pub cost: Cost,
}

/// How much a method costs to serve: `commonplace.common.v1.Cost`. Ordered as calls are served when not all can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cost {
    /// Looks up a little.
    Cheap,
    /// Neither.
    Usual,
    /// Searches, ranks, reads or writes much.
    Expensive,
}

impl Method {
    /// Whether a call of it changes something of the tenant, by its contract: it asks for the right to write or
    /// to administer, and does not say that it has no effects.
    pub fn mutates(&self) -> bool {
        let right = self.access.as_ref().and_then(|access| access.right);
        right >= Some(Right::Write) && !self.reads_only
    }

    /// Whether services alone may call it.
    pub fn for_services(&self) -> bool {
        let access = self.access.as_ref();
        access.is_some_and(|access| access.right.is_none())
    }
}

/// What a method asks of its caller: `commonplace.common.v1.Access`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The right; none: services only.
    pub right: Option<Right>,
    /// Over what.
    pub over: Over,
    /// A caller with the right over parts of the project may call too.
    pub parts: bool,
}

/// Over what a right is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// All of the tenant.
    Tenant,
    /// The project that a field of the request names, by the numbers on the way to the field.
    Project(Vec<u32>),
    /// The service asks when it knows what the call is about.
    Service,
}

/// Nothing is known of a method that is not in the contracts: it is sent once, its answer may be a stream, and
/// nobody may call it.
static FOREIGN: Method = Method {
    name: String::new(),
    repeatable: false,
    reads_only: false,
    client_streaming: true,
    server_streaming: true,
    access: None,
    cost: Cost::Usual,
};

static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    // The descriptors are made by our own build; were they broken, every method would be foreign.
    let set = FileDescriptorSet::decode(commonplace_proto::DESCRIPTORS).unwrap_or_default();
    table(&set)
});

fn table(set: &FileDescriptorSet) -> BTreeMap<String, Method> {
    let mut methods = BTreeMap::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let service = format!("{}.{}", file.package(), service.name());
                let level = method
                    .options
                    .as_ref()
                    .map_or(0, |options| options.idempotency_level() as i32);
                let described = described(&service, method.name());
                let reads_only = level == IdempotencyLevel::NoSideEffects as i32;
                let facts = Method {
                    name: format!("{service}/{}", method.name()),
                    repeatable: level != IdempotencyLevel::IdempotencyUnknown as i32,
                    reads_only,
                    client_streaming: method.client_streaming(),
                    server_streaming: method.server_streaming(),
                    access: described.as_ref().and_then(access),
                    cost: described
                        .as_ref()
                        .and_then(stated_cost)
                        .unwrap_or(if reads_only { Cost::Cheap } else { Cost::Usual }),
                };
                methods.insert(format!("/{}", facts.name), facts);
            }
        }
    }
    methods
}

fn described(service: &str, method: &str) -> Option<MethodDescriptor> {
    let service = commonplace_proto::pool().get_service_by_name(service)?;
    service.methods().find(|found| found.name() == method)
}

/// Reads the access option. Nothing if it is absent, or names a field that is not there: nobody may call then.
fn access(method: &MethodDescriptor) -> Option<Access> {
    let extension =
        commonplace_proto::pool().get_extension_by_name("commonplace.common.v1.access")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let stated = options.get_extension(&extension).as_message()?.clone();
    let right = match stated.get_field_by_name("right")?.as_enum_number()? {
        1 => Some(Right::Member),
        2 => Some(Right::Read),
        3 => Some(Right::Write),
        4 => Some(Right::Admin),
        5 => None,
        _ => return None,
    };
    let flag = |name: &str| stated.get_field_by_name(name)?.as_bool();
    Some(Access {
        right,
        over: over(&stated, &method.input())?,
        parts: flag("parts")?,
    })
}

/// Reads the cost option. Nothing if it is absent.
fn stated_cost(method: &MethodDescriptor) -> Option<Cost> {
    let extension =
        commonplace_proto::pool().get_extension_by_name("commonplace.common.v1.cost")?;
    match method
        .options()
        .get_extension(&extension)
        .as_enum_number()?
    {
        1 => Some(Cost::Cheap),
        2 => Some(Cost::Usual),
        3 => Some(Cost::Expensive),
        _ => None,
    }
}

fn over(stated: &DynamicMessage, input: &MessageDescriptor) -> Option<Over> {
    if stated.get_field_by_name("by_service")?.as_bool()? {
        return Some(Over::Service);
    }
    let path = stated.get_field_by_name("project")?.as_str()?.to_owned();
    if path.is_empty() {
        return Some(Over::Tenant);
    }
    let (mut message, mut numbers) = (Some(input.clone()), Vec::new());
    for name in path.split('.') {
        let field = message.take()?.get_field_by_name(name)?;
        numbers.push(field.number());
        message = field.kind().as_message().cloned();
    }
    Some(Over::Project(numbers))
}

/// What is known of the method at a path like `/package.Service/Method`.
pub fn method(path: &str) -> &'static Method {
    METHODS.get(path).unwrap_or(&FOREIGN)
}

/// Every method of the contracts, by path.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Method)> {
    METHODS.iter().map(|(path, method)| (path.as_str(), method))
}

/// `package.Service/Method` as the contracts have it, or `_OTHER`: callers make names up, and labels stay few.
pub fn name(path: &str) -> &'static str {
    let known = METHODS.get(path);
    known.map_or("_OTHER", |method| method.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_say_which_methods_may_be_repeated() {
        let tail = method("/commonplace.journal.v1.JournalService/Tail");
        assert_eq!(
            (
                tail.repeatable,
                tail.server_streaming,
                tail.client_streaming
            ),
            (true, true, false)
        );
        let report = method("/commonplace.ingest.v1.IngestService/IngestReport");
        assert!(report.client_streaming);
        assert_eq!(*method("/other.Service/Method"), FOREIGN);
    }

    #[test]
    fn every_method_of_ours_says_what_it_asks_of_its_caller() {
        let silent: Vec<&str> = all()
            .filter(|(path, method)| path.starts_with("/commonplace.") && method.access.is_none())
            .map(|(path, _)| path)
            .collect();
        assert!(silent.is_empty(), "nobody may call {silent:?}");
    }

    #[test]
    fn what_a_method_costs_is_stated_or_follows_from_what_it_does() {
        for (path, expected) in [
            (
                "/commonplace.journal.v1.JournalService/ListRefs",
                Cost::Cheap,
            ),
            (
                "/commonplace.gateway.v1.GatewayService/GetServerInfo",
                Cost::Cheap,
            ),
            (
                "/commonplace.journal.v1.JournalService/QueryEvents",
                Cost::Usual,
            ),
            (
                "/commonplace.journal.v1.JournalService/CreateTag",
                Cost::Usual,
            ),
            (
                "/commonplace.retrieval.v1.RetrievalService/Search",
                Cost::Expensive,
            ),
            (
                "/commonplace.ingest.v1.IngestService/Commit",
                Cost::Expensive,
            ),
        ] {
            assert_eq!(method(path).cost, expected, "{path}");
        }
    }

    #[test]
    fn what_changes_something_is_known_by_its_contract() {
        let mutates = |path: &str| method(&format!("/commonplace.{path}")).mutates();
        for path in [
            "ingest.v1.IngestService/Commit",
            "journal.v1.JournalService/CreateBranch",
            "policy.v1.AccessService/CreateKey",
            "index.v1.IndexService/Rebuild",
        ] {
            assert!(mutates(path), "{path}");
        }
        for path in [
            "policy.v1.AccessService/ListKeys",
            "policy.v1.AuditService/RecordCalls",
            "retrieval.v1.RetrievalService/Retrieve",
            "made.up/Method",
        ] {
            assert!(!mutates(path), "{path}");
        }
    }

    #[test]
    fn the_field_that_names_the_project_is_found() {
        let over = |path: &str| method(path).access.clone().unwrap().over;
        let report = over("/commonplace.ingest.v1.IngestService/IngestReport");
        assert_eq!(report, Over::Project(vec![1, 1]));
        let append = over("/commonplace.journal.v1.JournalService/Append");
        assert_eq!(append, Over::Project(vec![2]));
        let pack = over("/commonplace.retrieval.v1.RetrievalService/GetPack");
        assert_eq!(pack, Over::Service);
    }

    #[test]
    fn labels_are_of_the_contracts_only() {
        let names = [
            "/commonplace.journal.v1.JournalService/Tail",
            "/made.up/Name",
        ];
        assert_eq!(
            names.map(name),
            ["commonplace.journal.v1.JournalService/Tail", "_OTHER"]
        );
    }
}
