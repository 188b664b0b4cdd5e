//! A call of any rpc, filled in from its contract. A field of requests that no case says how to fill fails the test,
//! so that a new one gets a case.

use bytes::Bytes;
use commonplace_rpc::methods::{self, Method};
use commonplace_tests::dice::Dice;
use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage,
    Value,
};
use serde_json::Value as Json;

use super::world::{COMMON, Ids, Tenant};

/// What a text of a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Names {
    Project,
    Branch,
    Tag,
    Commit,
    Event,
    Record,
    Pack,
    Policy,
    AccessPolicy,
    Key,
    Grant,
    Request,
    Token,
    Cursor,
}

impl Names {
    pub const ALL: [Self; 14] = [
        Self::Project,
        Self::Branch,
        Self::Tag,
        Self::Commit,
        Self::Event,
        Self::Record,
        Self::Pack,
        Self::Policy,
        Self::AccessPolicy,
        Self::Key,
        Self::Grant,
        Self::Request,
        Self::Token,
        Self::Cursor,
    ];

    pub fn of(self, ids: &Ids) -> &[String] {
        match self {
            Self::Project => &[],
            Self::Branch => &ids.branches,
            Self::Tag => &ids.tags,
            Self::Commit => &ids.commits,
            Self::Event => &ids.events,
            Self::Record => &ids.records,
            Self::Pack => &ids.packs,
            Self::Policy => &ids.policies,
            Self::AccessPolicy => &ids.access_policies,
            Self::Key => &ids.keys,
            Self::Grant => &ids.grants,
            Self::Request => &ids.requests,
            Self::Token => &ids.tokens,
            Self::Cursor => &ids.cursors,
        }
    }

    /// A name of that form that nothing has.
    pub fn nowhere(self, dice: &mut Dice) -> String {
        match self {
            Self::Project => format!("p{}", dice.word()),
            Self::Branch => format!("line/{}", dice.word()),
            Self::Tag => format!("tag-{}", dice.word()),
            Self::Commit => dice.hex(64),
            Self::Event => format!("ev_{}", dice.hex(32)),
            Self::Record => format!("record:{}", dice.word()),
            Self::Pack => format!("blake3:{}", dice.hex(64)),
            Self::Policy => format!("own_{}", dice.word()),
            Self::AccessPolicy => format!("rule_{}", dice.word()),
            // Words are of the same letters and length as keys' ids.
            Self::Key => dice.word(),
            Self::Grant => format!("gr_{}", dice.hex(32)),
            Self::Request => {
                let hex = dice.hex(12);
                format!("0f8fad5b-d9cb-469f-a165-{hex}")
            }
            Self::Token | Self::Cursor => dice.hex(160),
        }
    }
}

/// An rpc: its path, what its contract says of it, and its messages.
pub type Rpc = (&'static str, &'static Method, MethodDescriptor);

/// Every rpc of ours, by path. What telemetry tells, and whom, is decided by that service and shown in `operators`.
pub fn rpcs() -> Vec<Rpc> {
    let ours = methods::all().filter(|(path, _)| {
        path.starts_with("/commonplace.") && !path.starts_with("/commonplace.telemetry.")
    });
    ours.map(|(path, method)| {
        let (service, name) = method.name.split_once('/').unwrap();
        let service = commonplace_proto::pool()
            .get_service_by_name(service)
            .unwrap();
        let descriptor = service
            .methods()
            .find(|found| found.name() == name)
            .unwrap();
        (path, method, descriptor)
    })
    .collect()
}

/// What a call is about, and where names are taken from.
pub struct Target<'a> {
    pub tenant: &'a Tenant,
    pub project: String,
    /// The caller belongs to the tenant: nothing is named that the test needs.
    pub own: bool,
    /// Names of others, of nothing and of what is no more may be given too.
    pub wild: bool,
    /// In place of whatever of that kind is named.
    pub instead: Option<(Names, String)>,
}

/// A request that is being filled in.
pub struct Filling<'a> {
    pub target: Target<'a>,
    pub others: &'a [Tenant],
    pub dice: Dice,
    /// The kinds of names that were given.
    pub named: Vec<Names>,
    rpc: String,
}

impl<'a> Filling<'a> {
    pub fn new(rpc: &str, target: Target<'a>, others: &'a [Tenant], dice: Dice) -> Self {
        Self {
            target,
            others,
            dice,
            named: Vec::new(),
            rpc: rpc.to_owned(),
        }
    }

    /// The messages of a call.
    pub fn messages(&mut self, method: &MethodDescriptor) -> Vec<DynamicMessage> {
        let first = self.message(&method.input());
        if !method.is_client_streaming() {
            return vec![first];
        }
        let mut second = DynamicMessage::new(method.input());
        let line = format!(
            "{{\"artifact_type\":\"note\",\"title\":\"line {}\"}}\n",
            self.dice.word()
        );
        second.set_field_by_name("chunk", Value::Bytes(line.into()));
        vec![first, second]
    }

    fn message(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if descriptor.name() == "Reference" {
            self.reference(&mut message);
            return message;
        }
        let mut alternatives = std::collections::BTreeSet::new();
        for field in descriptor.fields() {
            let alternative = field
                .containing_oneof()
                .filter(|_| !field.field_descriptor_proto().proto3_optional());
            if alternative.is_some_and(|one| !alternatives.insert(one.name().to_owned())) {
                continue;
            }
            if let Some(value) = self.value(&field) {
                let value = match field.is_list() {
                    true => Value::List(vec![value]),
                    false => value,
                };
                message.set_field(&field, value);
            }
        }
        message
    }

    /// Where in the history, or nothing, which is the head of `main`.
    fn reference(&mut self, message: &mut DynamicMessage) {
        let (name, kind) = match self.dice.below(6) {
            0 => ("branch", Names::Branch),
            1 => ("tag", Names::Tag),
            2 => ("commit", Names::Commit),
            _ if self.wants(Names::Branch) => ("branch", Names::Branch),
            _ if self.wants(Names::Tag) => ("tag", Names::Tag),
            _ if self.wants(Names::Commit) => ("commit", Names::Commit),
            _ => return,
        };
        if let Some(text) = self.name(kind) {
            message.set_field_by_name(name, Value::String(text));
        }
    }

    fn wants(&self, kind: Names) -> bool {
        self.target
            .instead
            .as_ref()
            .is_some_and(|(wanted, _)| *wanted == kind)
    }

    /// A name of a kind, of the target or, now and then, of another or of nothing.
    fn name(&mut self, kind: Names) -> Option<String> {
        self.named.push(kind);
        if let Some((_, instead)) = self.target.instead.clone().filter(|(of, _)| *of == kind) {
            return Some(instead);
        }
        let (roll, wild) = (self.dice.below(6), self.target.wild);
        if wild && roll == 0 {
            return Some(kind.nowhere(&mut self.dice));
        }
        let tenant = match wild && roll == 1 && !self.others.is_empty() {
            true => self.dice.pick(self.others),
            false => self.target.tenant,
        };
        let own = self.target.own && tenant.name == self.target.tenant.name;
        let spares = own && self.mutates();
        let pool = match kind {
            Names::Key if spares => &tenant.spare.keys,
            Names::Grant if spares => &tenant.spare.grants,
            Names::AccessPolicy if spares => {
                return Some(format!("spare_{}", self.dice.below(4)));
            }
            _ => {
                let ids = tenant.ids.get(&self.target.project);
                let ids = ids.or_else(|| tenant.ids.values().next())?;
                kind.of(ids)
            }
        };
        match pool.is_empty() {
            true => None,
            false => Some(self.dice.pick(pool).clone()),
        }
    }

    fn mutates(&self) -> bool {
        !methods::method(&self.rpc).reads_only
    }

    fn sometimes(&mut self, kind: Names) -> Option<String> {
        let rarely = self.dice.one_in(4) && self.target.wild;
        match rarely || self.wants(kind) {
            true => self.name(kind),
            false => None,
        }
    }

    fn value(&mut self, field: &FieldDescriptor) -> Option<Value> {
        match field.kind() {
            Kind::String => self.text(field).map(Value::String),
            Kind::Message(message) => match message.name() {
                "EventFilter" | "Timestamp" | "Duration" | "RecordedCandidates"
                | "AlwaysInclude" | "Attribute" | "Link" | "EventOrigin" | "KeyUse" | "Scopes"
                | "Actor" | "Parts" | "AuditRecord" => None,
                "Principal" if self.dice.one_in(2) => None,
                _ => Some(Value::Message(self.message(&message))),
            },
            Kind::Enum(values) => match values.name() {
                "Right" => Some(Value::EnumNumber(2)),
                "PrincipalKind" => Some(Value::EnumNumber(2)),
                "LimitPer" | "LimitMethods" | "LimitUnit" => Some(Value::EnumNumber(1)),
                "AuditDecision" => Some(Value::EnumNumber(self.dice.below(3) as i32)),
                "FusionMethod" | "Operation" | "Scope" => None,
                // Whole: what could leak from less is in it.
                "PackView" => Some(Value::EnumNumber(2)),
                other => panic!("no case for the enum {other}: add one"),
            },
            // Where a page ends depends on ids that are made by chance.
            Kind::Int32 => {
                let size = self.dice.below(4) as i32;
                Some(Value::I32(size)).filter(|_| self.target.wild)
            }
            Kind::Uint32 => match field.name() {
                "lexical_limit" => Some(Value::U32(10)),
                "limit" => Some(Value::U32(5)),
                "passage" | "budget_tokens" | "dense_limit" | "ineligible_limit" => None,
                other => panic!("no case for the number {other}: add one"),
            },
            Kind::Uint64 => match field.name() {
                "version" => Some(Value::U64(u64::from(self.rpc.contains("Activate")))),
                "per_second" | "burst" | "most" | "wanted" => Some(Value::U64(1_000_000)),
                "policy_version" | "known_revision" | "dense_through" | "returned" | "sequence" => {
                    None
                }
                other => panic!("no case for the number {other}: add one"),
            },
            Kind::Bool => match field.name() {
                "include_superseded" => Some(Value::Bool(self.dice.one_in(2))),
                "validate_only" => Some(Value::Bool(self.dice.one_in(4))),
                _ => None,
            },
            Kind::Bytes | Kind::Double => None,
            other => panic!("no case for {other:?}: add one"),
        }
    }

    fn text(&mut self, field: &FieldDescriptor) -> Option<String> {
        let message = field.parent_message();
        match (message.name(), field.name()) {
            (_, "project") => {
                self.named.push(Names::Project);
                match self.target.instead.clone() {
                    Some((Names::Project, instead)) => Some(instead),
                    _ => Some(self.target.project.clone()),
                }
            }
            ("CreateBranchRequest", "branch") => self.new_name(Names::Branch, "line"),
            ("CreateTagRequest", "tag") => self.new_name(Names::Tag, "tag"),
            (_, "branch") => self.sometimes(Names::Branch),
            (_, "request_id") => self.sometimes(Names::Request),
            (_, "expected_head") => self.sometimes(Names::Commit),
            ("EventDraft", "id") => self.sometimes(Names::Event),
            ("EventDraft", "record_id") => self.sometimes(Names::Record),
            ("EventDraft", "supersedes") => self.sometimes(Names::Event),
            (_, "page_token") => self.sometimes(Names::Token),
            (_, "cursor") => self.sometimes(Names::Cursor),
            (_, "ids" | "event_id") => self.name(Names::Event),
            ("GetPackRequest" | "VerifyPackRequest", "id") => self.name(Names::Pack),
            (_, "id") => match self.rpc.rsplit('/').next()? {
                "GetPolicy" | "PutPolicy" | "ActivatePolicy" => self.name(Names::Policy),
                "PutAccessPolicy" | "DeleteAccessPolicy" => self.name(Names::AccessPolicy),
                "RotateKey" | "RevokeKey" | "FindKey" => self.name(Names::Key),
                "DeleteGrant" => self.name(Names::Grant),
                other => panic!("no case for the id of {other}: add one"),
            },
            (_, "policy") => self.sometimes(Names::Policy),
            (_, "query") => Some((*self.dice.pick(&COMMON)).to_owned()),
            ("PutPolicyRequest", "source") => Some("weights: {lexical: 1, dense: 0}".into()),
            ("PutAccessPolicyRequest", "source") => {
                Some("forbid (principal == User::\"x/nobody\", action, resource);".into())
            }
            ("EventDraft", "artifact_type") => Some("note".into()),
            ("EventDraft", "title") => Some(format!("title {}", self.dice.word())),
            ("EventDraft", "text") => {
                Some(format!("{} {}", self.dice.pick(&COMMON), self.dice.word()))
            }
            ("EventDraft", _)
            | (_, "author" | "message" | "description" | "task" | "credential") => None,
            // Whoever looks for a name that was given before finds its own calls.
            ("ListAuditRecordsRequest", "subject" | "method") if self.target.instead.is_none() => {
                None
            }
            (_, "subject" | "user" | "agent" | "role") => {
                Some(format!("somebody{}", self.dice.below(9)))
            }
            (_, "roles") => Some("reader".into()),
            ("Principal", "tenant") => {
                let tenant = self.target.tenant.name.clone();
                Some(tenant).filter(|_| self.dice.one_in(2))
            }
            (_, "method") => Some("JournalService/QueryEvents".into()),
            (_, "format") => Some("jsonl".into()),
            ("ReportHeader", "name") => Some("report".into()),
            (_, "artifact_type") => None,
            (_, "known_etag" | "expected_etag") | ("RateLimit" | "StorageQuota", "name") => None,
            ("LeaseTokensRequest", "gateway") => Some("of-nobody".into()),
            ("LeaseAsk", "tenant") => Some(self.target.tenant.name.clone()),
            ("LeaseAsk", "bucket") => Some("requests/all/tenant".into()),
            (message, other) => panic!("no case for the field {message}.{other}: add one"),
        }
    }

    fn new_name(&mut self, kind: Names, what: &str) -> Option<String> {
        let rarely = self.dice.one_in(3) && self.target.wild;
        match rarely || self.wants(kind) {
            true => self.name(kind),
            false => Some(format!("{what}-{}", self.dice.word())),
        }
    }
}

/// As they go over the wire.
pub fn encoded(messages: &[DynamicMessage]) -> Vec<Bytes> {
    let encode = |message: &DynamicMessage| message.encode_to_vec().into();
    messages.iter().map(encode).collect()
}

/// The HTTP path of an rpc: verb, path, whether the body is the message.
pub fn http_rule(method: &MethodDescriptor) -> Option<(&'static str, String, bool)> {
    let extension = commonplace_proto::pool().get_extension_by_name("google.api.http")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let rule = options.get_extension(&extension).as_message()?.clone();
    let has_body = rule.get_field_by_name("body")?.as_str() == Some("*");
    let verbs = [("get", "GET"), ("put", "PUT"), ("post", "POST")];
    verbs.into_iter().find_map(|(name, verb)| {
        let path = rule.get_field_by_name(name)?.as_str()?.to_owned();
        (!path.is_empty()).then_some((verb, path, has_body))
    })
}

/// A message as an HTTP call: its path with parameters, and its body.
pub fn as_http(path: &str, has_body: bool, message: &DynamicMessage) -> (String, String) {
    let mut json = serde_json::to_value(message).unwrap();
    let mut path = path.to_owned();
    if let Some(fields) = json.as_object_mut()
        && path.contains("{id}")
    {
        let id = fields
            .remove("id")
            .and_then(|id| id.as_str().map(str::to_owned));
        path = path.replace("{id}", &id.unwrap_or_else(|| "none".into()));
    }
    if has_body {
        return (path, json.to_string());
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    flatten(&message.descriptor(), "", &json, &mut query);
    let query = query.finish();
    match query.is_empty() {
        true => (path, String::new()),
        false => (format!("{path}?{query}"), String::new()),
    }
}

fn flatten(
    message: &MessageDescriptor,
    before: &str,
    json: &Json,
    query: &mut form_urlencoded::Serializer<'_, String>,
) {
    for (name, value) in json.as_object().into_iter().flatten() {
        let field = message.get_field_by_json_name(name).unwrap();
        let name = format!("{before}{}", field.name());
        let all = value
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![value.clone()]);
        for value in all {
            match (&value, field.kind()) {
                (Json::Object(_), Kind::Message(inner)) => {
                    flatten(&inner, &format!("{name}."), &value, query);
                }
                (Json::String(text), _) => {
                    query.append_pair(&name, text);
                }
                _ => {
                    query.append_pair(&name, &value.to_string());
                }
            }
        }
    }
}
