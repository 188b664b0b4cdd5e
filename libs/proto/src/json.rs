//! Messages as JSON, by their descriptors: proto3 JSON with field names as in the contracts.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

/// A message could not be turned into JSON or back.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The message type is in no contract of ours.
    #[error("message type `{0}` is not part of the contracts")]
    UnknownMessage(String),
    /// The bytes of the message do not decode as its type.
    #[error("message does not decode")]
    Decode(#[from] prost::DecodeError),
    /// The JSON does not fit the message.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// All contracts, ready to be looked up by name.
pub fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(super::DESCRIPTORS).unwrap_or_else(|error| {
            unreachable!("the descriptors were compiled into this program: {error}")
        })
    });
    &POOL
}

/// Gives a message as a JSON value: contract field names, defaults left out, 64-bit integers as strings.
///
/// Errors: the type is in no contract, or holds something JSON cannot say.
pub fn to_json<M: Message + Name>(message: &M) -> Result<serde_json::Value, JsonError> {
    let descriptor = pool()
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| JsonError::UnknownMessage(M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Reads a message from a JSON value. Errors: an unknown field, or a value of the wrong kind.
pub fn from_json<M: Message + Name + Default>(value: serde_json::Value) -> Result<M, JsonError> {
    let descriptor = pool()
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| JsonError::UnknownMessage(M::full_name()))?;
    let dynamic = DynamicMessage::deserialize(descriptor, value)?;
    Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
}
