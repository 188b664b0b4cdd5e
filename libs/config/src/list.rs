//! Lists that may also be given as one text, parts joined by commas: what an environment variable or a flag can hold.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor, value::StringDeserializer};

/// Reads a list, or a text with commas; blanks around parts are left out, and so are empty parts.
pub fn list<'de, D, C, T>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: FromIterator<T>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(Parts(PhantomData))
}

struct Parts<C, T>(PhantomData<(C, T)>);

impl<'de, C, T> Visitor<'de> for Parts<C, T>
where
    C: FromIterator<T>,
    T: Deserialize<'de>,
{
    type Value = C;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list, or a text with commas")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<C, E> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts
            .map(|part| T::deserialize(StringDeserializer::<E>::new(part.to_owned())))
            .collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<C, A::Error> {
        std::iter::from_fn(|| entries.next_element().transpose()).collect()
    }
}
