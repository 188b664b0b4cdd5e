//! Says where two packs differ.

use serde_json::Value;

/// Most differences listed.
pub const LISTED: usize = 32;
const SHOWN_CHARS: usize = 160;

/// One place where a pack is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// For example `items[2].text`, `id`, or `bytes`.
    pub path: String,
    /// What the given pack says.
    pub given: String,
    /// What making it anew says.
    pub expected: String,
}

impl Difference {
    /// A difference; long values are cut.
    pub fn new(path: impl Into<String>, given: impl AsRef<str>, expected: impl AsRef<str>) -> Self {
        Self {
            path: path.into(),
            given: shorten(given.as_ref()),
            expected: shorten(expected.as_ref()),
        }
    }
}

/// What a check of a pack found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The id of the bytes made anew; empty when they could not be made.
    pub id: String,
    /// Nothing differs when this is empty.
    pub differences: Vec<Difference>,
    /// The commit the pack names; empty when it cannot be read.
    pub commit: String,
    /// Commits since then, as far as known.
    pub commits_since: u64,
    /// What the pack was made from and is not here; none when it could be checked.
    pub missing: Option<String>,
}

/// What a check of a pack comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// The same bytes.
    Verified,
    /// Other bytes.
    Differs,
    /// Nothing can be said here.
    Unverifiable,
}

impl Verdict {
    /// What the check comes to.
    pub fn conclusion(&self) -> Conclusion {
        match (&self.missing, self.differences.is_empty()) {
            (Some(_), _) => Conclusion::Unverifiable,
            (None, true) => Conclusion::Verified,
            (None, false) => Conclusion::Differs,
        }
    }
}

/// Where `given` differs from `expected`, the first few of them in the order of the keys; nothing for equal bytes.
/// Bytes that say the same in another way, for example with spaces, differ at `bytes`.
pub fn compare(given: &[u8], expected: &[u8]) -> Vec<Difference> {
    if given == expected {
        return Vec::new();
    }
    let mut differences = Vec::new();
    if let (Ok(given), Ok(expected)) = (
        serde_json::from_slice(given),
        serde_json::from_slice(expected),
    ) {
        walk("", &given, &expected, &mut differences);
    }
    if differences.is_empty() {
        differences.push(first_byte(given, expected));
    }
    differences
}

/// The difference of bytes that are no pack, at the key that their reader complains of, if it names one.
pub fn unreadable(content: &[u8], complaint: &str) -> Difference {
    let named = complaint
        .strip_prefix('`')
        .and_then(|rest| rest.split_once("`: "));
    if let Some((path, problem)) = named {
        let problem = problem.strip_prefix("expected ").unwrap_or(problem);
        let (expected, given) = problem
            .split_once(", found ")
            .unwrap_or((problem, "as it stands"));
        return Difference::new(path, given, expected);
    }
    let shown = String::from_utf8_lossy(&content[..content.len().min(64)]).into_owned();
    Difference::new("bytes", shown, format!("the bytes of a pack: {complaint}"))
}

fn first_byte(given: &[u8], expected: &[u8]) -> Difference {
    let offset = given
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    let shown = |bytes: &[u8]| {
        let part = &bytes[offset.min(bytes.len())..bytes.len().min(offset + 24)];
        format!("at byte {offset}: `{}`", String::from_utf8_lossy(part))
    };
    Difference::new("bytes", shown(given), shown(expected))
}

fn walk(path: &str, given: &Value, expected: &Value, out: &mut Vec<Difference>) {
    if out.len() >= LISTED || given == expected {
        return;
    }
    match (given, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                step(&path, a.get(key), b.get(key), out);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for place in 0..a.len().max(b.len()) {
                step(&format!("{path}[{place}]"), a.get(place), b.get(place), out);
            }
        }
        (Value::String(a), Value::String(b)) => {
            let (a, b) = around_first_difference(a, b);
            out.push(Difference::new(path, a, b));
        }
        _ => out.push(Difference::new(
            path,
            show(Some(given)),
            show(Some(expected)),
        )),
    }
}

/// Both texts from a little before where they part, if that is far in.
fn around_first_difference(a: &str, b: &str) -> (String, String) {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let skip = same.saturating_sub(SHOWN_CHARS / 4);
    if same < SHOWN_CHARS / 2 {
        return (a.to_owned(), b.to_owned());
    }
    let from = |text: &str| format!("…{}", text.chars().skip(skip).collect::<String>());
    (from(a), from(b))
}

fn step(path: &str, given: Option<&Value>, expected: Option<&Value>, out: &mut Vec<Difference>) {
    match (given, expected) {
        (Some(given), Some(expected)) => walk(path, given, expected, out),
        (None, None) => {}
        _ if out.len() >= LISTED => {}
        _ => out.push(Difference::new(path, show(given), show(expected))),
    }
}

fn show(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN_CHARS).collect();
    format!("{start}… ({} bytes)", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(given: &str, expected: &str) -> Vec<String> {
        compare(given.as_bytes(), expected.as_bytes())
            .into_iter()
            .map(|d| d.path)
            .collect()
    }

    #[test]
    fn differences_are_told_by_path() {
        assert!(paths(r#"{"a":1}"#, r#"{"a":1}"#).is_empty());
        assert_eq!(
            paths(r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":3}]}"#),
            ["a[1].b"]
        );
        assert_eq!(paths(r#"{"a":[1]}"#, r#"{"a":[1,2],"c":0}"#), ["a[1]", "c"]);
        assert_eq!(paths(r#"{"a": 1}"#, r#"{"a":1}"#), ["bytes"]);
        assert_eq!(paths(r#"{"a":1"#, r#"{"a":1}"#), ["bytes"]);
    }

    #[test]
    fn bytes_that_are_no_pack_are_told_by_key_where_there_is_one() {
        let difference = unreadable(b"{}", "`items`: expected 3 as the candidates say, found 2");
        assert_eq!(
            difference,
            Difference::new("items", "2", "3 as the candidates say")
        );
        let difference = unreadable(b"{}", "missing field `items` at line 1 column 2");
        assert_eq!(difference.path, "bytes");
        assert!(difference.expected.contains("missing field `items`"));
    }

    #[test]
    fn long_texts_are_shown_where_they_part() {
        let (a, b) = ("x".repeat(500) + "a", "x".repeat(500) + "b");
        let differences = compare(format!("\"{a}\"").as_bytes(), format!("\"{b}\"").as_bytes());
        assert!(differences[0].given.ends_with('a') && differences[0].expected.ends_with('b'));
    }

    #[test]
    fn a_long_value_is_cut_between_letters() {
        let long = "ä".repeat(500);
        let difference = Difference::new("x", &long, "");
        assert!(difference.given.ends_with("… (1000 bytes)"));
    }
}
