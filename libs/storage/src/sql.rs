//! One text for each statement, whichever database runs it.
//!
//! Statements are written once, with `?` for values. Where the dialects differ, the text holds both in
//! braces, SQLite's first: `{json_each(?)|unnest(?::text[])}`. Only the chosen side counts its `?`.
//! Quoted texts, quoted names and comments are left alone. Outside of braces `|` is the operator, and `||`
//! joins everywhere.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sea_orm::sea_query::ArrayType;
use sea_orm::{DbBackend, Value};

/// Texts kept translated; statements that are put together from parts are not endless, but many.
const KEPT: usize = 1_024;

/// Which SQL a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

impl Dialect {
    pub(crate) fn backend(self) -> DbBackend {
        match self {
            Self::Sqlite => DbBackend::Sqlite,
            Self::Postgres => DbBackend::Postgres,
        }
    }

    /// A list of byte strings as one value: for SQLite a JSON list in hex (`json_each`, `unhex`), for
    /// PostgreSQL `bytea[]`.
    pub fn list_of_bytes<'a>(self, items: impl IntoIterator<Item = &'a [u8]>) -> Value {
        match self {
            Self::Sqlite => {
                let quoted = items
                    .into_iter()
                    .map(|item| format!("\"{}\"", hex::encode(item)));
                json_list(quoted)
            }
            Self::Postgres => {
                let items = items.into_iter().map(|item| Value::from(item.to_vec()));
                array(ArrayType::Bytes, items)
            }
        }
    }

    /// A list of numbers as one value: for SQLite a JSON list, for PostgreSQL `bigint[]`.
    pub fn list_of_numbers(self, items: impl IntoIterator<Item = i64>) -> Value {
        match self {
            Self::Sqlite => json_list(items.into_iter().map(|item| item.to_string())),
            Self::Postgres => array(ArrayType::BigInt, items.into_iter().map(Value::from)),
        }
    }

    /// A list of texts as one value: for SQLite a JSON list, for PostgreSQL `text[]`.
    pub fn list_of_texts<'a>(self, items: impl IntoIterator<Item = &'a str>) -> Value {
        match self {
            Self::Sqlite => {
                let quoted = |text| serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into());
                json_list(items.into_iter().map(quoted))
            }
            Self::Postgres => array(ArrayType::String, items.into_iter().map(Value::from)),
        }
    }
}

fn json_list(items: impl Iterator<Item = String>) -> Value {
    let items: Vec<String> = items.collect();
    format!("[{}]", items.join(",")).into()
}

fn array(kind: ArrayType, items: impl Iterator<Item = Value>) -> Value {
    Value::Array(kind, Some(Box::new(items.collect())))
}

/// Translates texts and keeps what it translated.
#[derive(Debug)]
pub(crate) struct Translator {
    dialect: Dialect,
    kept: RwLock<HashMap<String, Arc<str>>>,
}

impl Translator {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            kept: RwLock::default(),
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn translate(&self, text: &str) -> Arc<str> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(text) {
            return found.clone();
        }
        let full = kept.len() >= KEPT;
        drop(kept);
        let translated: Arc<str> = translate(text, self.dialect).into();
        if !full {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.insert(text.to_owned(), translated.clone());
        }
        translated
    }
}

/// A statement's text in one dialect.
pub(crate) fn translate(text: &str, dialect: Dialect) -> String {
    let mut reader = Reader {
        rest: text,
        dialect,
        values: 0,
        out: String::with_capacity(text.len() + 16),
    };
    reader.run(false, true);
    reader.out
}

struct Reader<'a> {
    rest: &'a str,
    dialect: Dialect,
    values: usize,
    out: String,
}

impl Reader<'_> {
    /// Reads to the end or, `inside` braces, to the `|` or `}` that ends a side, which it gives. `wanted`:
    /// whether what is read is put out.
    fn run(&mut self, inside: bool, wanted: bool) -> Option<char> {
        while let Some(next) = self.rest.chars().next() {
            match next {
                '\'' => self.until("'", wanted),
                '"' => self.until("\"", wanted),
                '-' if self.rest.starts_with("--") => self.until("\n", wanted),
                '/' if self.rest.starts_with("/*") => self.until("*/", wanted),
                '|' if self.rest.starts_with("||") => self.take(2, wanted),
                '?' => self.value(wanted),
                '{' => {
                    self.rest = &self.rest[1..];
                    let sqlite = self.dialect == Dialect::Sqlite;
                    if self.run(true, wanted && sqlite) == Some('|') {
                        self.run(true, wanted && !sqlite);
                    }
                }
                '|' | '}' if inside => {
                    self.rest = &self.rest[1..];
                    return Some(next);
                }
                _ => self.take(next.len_utf8(), wanted),
            }
        }
        None
    }

    fn take(&mut self, bytes: usize, wanted: bool) {
        let (taken, rest) = self.rest.split_at(bytes);
        if wanted {
            self.out.push_str(taken);
        }
        self.rest = rest;
    }

    /// A quoted text, a quoted name or a comment, whole. A doubled quote reads as two of them.
    fn until(&mut self, end: &str, wanted: bool) {
        let from = end.len().max(1);
        let length = match self.rest.get(from..).and_then(|rest| rest.find(end)) {
            Some(at) => from + at + end.len(),
            None => self.rest.len(),
        };
        self.take(length, wanted);
    }

    /// `?` takes the next value, `?2` the second.
    fn value(&mut self, wanted: bool) {
        let digits = self.rest[1..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        if !wanted || self.dialect == Dialect::Sqlite {
            return self.take(1 + digits, wanted);
        }
        self.out.push('$');
        self.rest = &self.rest[1..];
        if digits > 0 {
            return self.take(digits, true);
        }
        self.values += 1;
        self.out.push_str(&self.values.to_string());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, sqlite: &str, postgres: &str) {
        assert_eq!(translate(text, Dialect::Sqlite), sqlite);
        assert_eq!(translate(text, Dialect::Postgres), postgres);
    }

    #[test]
    fn values_are_numbered() {
        check("a = ? AND b = ?", "a = ? AND b = ?", "a = $1 AND b = $2");
        check("?1 + ?1 + ?2", "?1 + ?1 + ?2", "$1 + $1 + $2");
    }

    #[test]
    fn only_the_chosen_side_counts() {
        check(
            "FROM {json_each(?, ?) j CROSS JOIN|unnest(?::bigint[]) j(value) JOIN} e {INDEXED BY i|}ON x = ?",
            "FROM json_each(?, ?) j CROSS JOIN e INDEXED BY iON x = ?",
            "FROM unnest($1::bigint[]) j(value) JOIN e ON x = $2",
        );
        check("a{ b}c", "a bc", "ac");
    }

    #[test]
    fn quotes_and_comments_are_left_alone() {
        let text = "SELECT '?{a|b}', 'it''s ?', \"co?l{\" -- ?{\n, ? /* ?| */, '{x|y}'";
        check(text, text, &text.replace(", ? /", ", $1 /"));
        check("'open ?", "'open ?", "'open ?");
        check("é ?", "é ?", "é $1");
    }

    #[test]
    fn operators_are_not_alternatives() {
        check("a << 32 | b || c", "a << 32 | b || c", "a << 32 | b || c");
        check("{a || ?|b}", "a || ?", "b");
    }

    #[test]
    fn lists_are_one_value() {
        let texts = ["a\"", "b"];
        assert_eq!(
            Dialect::Sqlite.list_of_texts(texts),
            Value::from(r#"["a\"","b"]"#)
        );
        assert_eq!(
            Dialect::Sqlite.list_of_numbers([1, -2]),
            Value::from("[1,-2]")
        );
        let bytes: [&[u8]; 1] = [&[0xab, 1]];
        assert_eq!(
            Dialect::Sqlite.list_of_bytes(bytes),
            Value::from(r#"["ab01"]"#)
        );
        let Value::Array(ArrayType::Bytes, Some(items)) = Dialect::Postgres.list_of_bytes(bytes)
        else {
            panic!("not an array");
        };
        assert_eq!(*items, [Value::from(vec![0xab_u8, 1])]);
    }

    #[test]
    fn what_was_translated_is_kept_up_to_a_bound() {
        let translator = Translator::new(Dialect::Postgres);
        for number in 0..KEPT + 10 {
            let text = format!("SELECT {number} + ?");
            assert_eq!(
                &*translator.translate(&text),
                format!("SELECT {number} + $1")
            );
            assert_eq!(
                &*translator.translate(&text),
                format!("SELECT {number} + $1")
            );
        }
        assert_eq!(translator.kept.read().unwrap().len(), KEPT);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[a?1'\"{}|/*\n -]{0,40}") {
            for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                translate(&text, dialect);
            }
        }
    }
}
