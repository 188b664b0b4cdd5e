//! What the contracts say about each method: whether repeating it is safe, and which side streams.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;

/// What the contracts say about one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The contract marks it NO_SIDE_EFFECTS or IDEMPOTENT: sending it twice does what sending it once does.
    pub repeatable: bool,
    /// The caller sends a stream.
    pub client_streaming: bool,
    /// The server answers with a stream.
    pub server_streaming: bool,
}

/// Nothing is known of a method that is not in the contracts: it is sent once, and its answer may be a stream.
const FOREIGN: Method = Method {
    repeatable: false,
    client_streaming: true,
    server_streaming: true,
};

static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    // The descriptors are made by our own build; were they broken, every method would be sent once.
    let set = FileDescriptorSet::decode(commonplace_proto::DESCRIPTORS).unwrap_or_default();
    table(&set)
});

fn table(set: &FileDescriptorSet) -> BTreeMap<String, Method> {
    let mut methods = BTreeMap::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let level = method
                    .options
                    .as_ref()
                    .map_or(0, |options| options.idempotency_level() as i32);
                let facts = Method {
                    repeatable: level != IdempotencyLevel::IdempotencyUnknown as i32,
                    client_streaming: method.client_streaming(),
                    server_streaming: method.server_streaming(),
                };
                methods.insert(path, facts);
            }
        }
    }
    methods
}

/// What is known of the method at a path like `/package.Service/Method`.
pub fn method(path: &str) -> Method {
    METHODS.get(path).copied().unwrap_or(FOREIGN)
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
        assert_eq!(method("/other.Service/Method"), FOREIGN);
    }
}
