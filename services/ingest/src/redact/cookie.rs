//! Cookies in the headers of requests and answers.

use regex::Regex;

use super::rules::Span;
use super::shape;

/// `Cookie: a=b; c=d`, `Set-Cookie: a=b; Path=/`.
pub(super) const HEADER: &str = r#"(?i-u:\b(?:set-)?cookie["']?[ \t]{0,4}:[ \t]{0,4}["']?)(?P<cookies>[A-Za-z0-9_.-]{1,64}=[^\r\n"']+)"#;

/// What a cookie is sent with; none of it is secret.
const ATTRIBUTES: &[&str] = &[
    "path", "domain", "expires", "max-age", "samesite", "version", "priority",
];

/// The values of cookies, but for short and plain ones.
pub(super) fn values(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in finder.captures_iter(text) {
        let Some(cookies) = found.name("cookies") else {
            continue;
        };
        let mut at = cookies.start();
        for cookie in cookies.as_str().split(';') {
            let start = at;
            at += cookie.len() + 1;
            let Some((name, value)) = cookie.split_once('=') else {
                continue;
            };
            let value = value.trim_end();
            let from = start + name.len() + 1;
            let harmless = ATTRIBUTES.contains(&name.trim().to_ascii_lowercase().as_str());
            if !harmless && is_telling(value) {
                spans.push(from..from + value.len());
            }
        }
    }
    spans
}

fn is_telling(value: &str) -> bool {
    let rest = shape::without_masks(value);
    rest.len() >= 8
        && !rest.contains(char::is_whitespace)
        && !shape::is_placeholder(&rest)
        && (rest.len() >= 24 || shape::looks_random(&rest))
}
