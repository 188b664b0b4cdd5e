//! Judges of what an expression found.

use regex::Regex;

use super::rules::Span;
use super::shape;

/// Keys that say by their start whose they are.
pub(super) const PROVIDER_KEY: &str = concat!(
    r"(?-u:\b)(?:AIza(?P<google>[0-9A-Za-z_-]{35})",
    r"|[spr]k_(?:live|test)_(?P<stripe>[A-Za-z0-9]{16,})",
    r"|npm_(?P<npm>[A-Za-z0-9]{36})",
    r"|pypi-(?P<pypi>[A-Za-z0-9_-]{50,})",
    r"|sk-(?P<model>[A-Za-z0-9_-]{20,})",
    r"|hf_(?P<hub>[A-Za-z0-9]{30,})",
    r"|SG\.(?P<mail>[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})",
    r"|dop_v1_(?P<cloud>[a-f0-9]{64})",
    r"|sq0(?:atp|csp)-(?P<till>[A-Za-z0-9_-]{22,}))",
);

/// Keys of services that cannot be taken for anything else.
pub(super) const SERVICE_TOKEN: &str = concat!(
    r"GOCSPX-[A-Za-z0-9_-]{20,}",
    r"|(?-u:\b)ya29\.[A-Za-z0-9_-]{20,}",
    r"|(?-u:\b)1//0[A-Za-z0-9_-]{30,}",
    r"|(?-u:\b)[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}",
    r"|[?&]sig=(?P<secret>[A-Za-z0-9%+/=]{30,})",
    r"|(?-u:\b)whsec_[A-Za-z0-9+/=]{24,}",
    r"|(?-u:\b)xapp-[A-Za-z0-9-]{20,}",
    r"|(?-u:\b)[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}",
    r"|\d{8,10}:AA[A-Za-z0-9_-]{33}",
    r"|(?-u:\b)hv[sbr]\.[A-Za-z0-9_-]{24,}",
    r"|(?-u:\b)dapi[0-9a-f]{32}",
    r"|(?-u:\b)shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
    r"|(?-u:\b)ATATT3[A-Za-z0-9_=-]{50,}",
    r"|(?-u:\b)lin_api_[A-Za-z0-9]{30,}",
    r"|(?-u:\b)AGE-SECRET-KEY-1[A-Z0-9]{50,}",
    r"|(?-u:\bSK[0-9a-f]{32}\b)",
    r"|(?-u:\bkey-[0-9a-f]{32}\b)",
);

/// What package registries and `.netrc` log in with.
pub(super) const REGISTRY_LOGIN: &str = concat!(
    r#""auth"[ \t]{0,4}:[ \t]{0,4}"(?P<secret>[A-Za-z0-9+/]{8,}={0,2})""#,
    r#"|_auth[ \t]{0,4}=[ \t]{0,4}"?(?P<npm>[A-Za-z0-9+/]{8,}={0,2})"#,
    r"|(?-u:\b)machine\s+\S+\s+login\s+\S+\s+password\s+(?P<netrc>\S+)",
);

/// Passwords that commands take after a letter.
pub(super) const COMMAND_PASSWORD: &str = concat!(
    r#"(?-u:\b)sshpass[ \t]{1,4}-p[ \t]{0,4}["']?(?P<secret>[^\s"']{3,})"#,
    r#"|(?-u:\b)(?:docker|podman|nerdctl|helm|oras|skopeo|buildah)[ \t][^\n]{0,40}login[ \t][^\n]{0,120}?[ \t]?-p[ \t=]{1,4}["']?(?P<login>[^\s"']{3,})"#,
    r#"|(?-u:\b)(?:mysql|mysqldump|mysqladmin|mariadb)[ \t](?:[^\n|;]{0,120}?[ \t])?-p["']?(?P<mysql>[^\s"']{3,})"#,
);

/// `IDENTIFIED BY '…'`, `WITH PASSWORD '…'`.
pub(super) const SQL_PASSWORD: &str = concat!(
    r"(?i)(?-u:\b)(?:identified[ \t]{1,4}(?:with[ \t]{1,4}[^\s']+[ \t]{1,4})?by[ \t]{1,4}(?:password[ \t]{1,4})?",
    r"|(?:with|role|user)[ \t]{1,4}(?:[^\s']+[ \t]{1,4}){0,2}(?:encrypted[ \t]{1,4})?password[ \t]{1,4})",
    r"'(?P<secret>[^'\r\n]+)'",
);

/// `Authorization: Basic …`, `Bearer …`, and headers that carry keys.
pub(super) const AUTHORIZATION: &str = concat!(
    r#"(?i-u:\bauthorization["']?[ \t]{0,4}[:=][ \t]{0,4}["']?(?:basic|bearer|token|apikey|digest)[ \t]{1,4}"#,
    r#"|\bbearer[ \t]{1,4}"#,
    r#"|\bx-[a-z-]{0,24}(?:key|token|secret)["']?[ \t]{0,4}:[ \t]{0,4}["']?)"#,
    r#"(?P<secret>[A-Za-z0-9._~+/=:-]{8,})"#,
);

/// `scheme://user:password@host`, or a long token in the place of the user.
pub(super) const URL_PASSWORD: &str = concat!(
    r#"[A-Za-z][A-Za-z0-9+.-]{1,20}://"#,
    r#"(?:[^\s/:@"'<>`]*:(?P<secret>[^\s@"'<>`]+)|(?P<token>[A-Za-z0-9_-]{20,}))@"#,
);

/// An address; its judge masks the part before the `@`.
pub(super) const EMAIL: &str = r"(?P<secret>[A-Za-z0-9][A-Za-z0-9._%+-]{0,63})@(?P<domain>(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,24})(?-u:\b)";

/// Everything found: the group `secret` where there is one, else all of it.
pub(super) fn every(finder: &Regex, text: &str) -> Vec<Span> {
    judged(finder, text, |_, _| true)
}

/// What was found, where the judge says so. The judge gets the whole match and the secret in it.
fn judged(
    finder: &Regex,
    text: &str,
    judge: impl Fn(&regex::Captures<'_>, &str) -> bool,
) -> Vec<Span> {
    let grouped = finder
        .capture_names()
        .flatten()
        .any(|name| name == "secret");
    if !grouped && finder.captures_len() == 1 {
        let found = finder.find_iter(text).map(|found| found.range());
        return found
            .filter(|span| !is_masked(&text[span.clone()]))
            .collect();
    }
    let mut spans = Vec::new();
    for found in finder.captures_iter(text) {
        let secret = found.name("secret").or_else(|| found.get(0));
        let Some(secret) = secret else { continue };
        if !is_masked(secret.as_str()) && !secret.is_empty() && judge(&found, secret.as_str()) {
            spans.push(secret.range());
        }
    }
    spans
}

fn is_masked(text: &str) -> bool {
    text.contains(super::MASK_START)
}

/// A key whose part after the prefix looks random.
pub(super) fn random_tail(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in finder.captures_iter(text) {
        let tail = (1..found.len()).find_map(|group| found.get(group));
        if let (Some(whole), Some(tail)) = (found.get(0), tail)
            && shape::looks_random(tail.as_str())
        {
            spans.push(whole.range());
        }
    }
    spans
}

/// Credentials in a header, told from prose (`bearer authentication`).
pub(super) fn credentials(finder: &Regex, text: &str) -> Vec<Span> {
    judged(finder, text, |found, secret| {
        let named = found.get(0).is_some_and(|all| {
            all.as_str().len() >= 13 && all.as_str()[..13].eq_ignore_ascii_case("authorization")
        });
        let basic = named && secret.len() >= 12 && !secret.bytes().all(|b| b.is_ascii_lowercase());
        shape::looks_random(secret)
            || (basic && !shape::is_placeholder(secret) && !shape::is_path_of_names(secret))
    })
}

/// A password or token within an address, told from ports and templates. A password may hold a `/` or an `@`.
pub(super) fn url_password(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for found in finder.captures_iter(text) {
        let password = found.name("secret").map(|password| {
            let end = password.end();
            let near = &text[end..text.floor_char_boundary(end + 128)];
            let host = near.find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c));
            let host = &near[..host.unwrap_or(near.len())];
            password.start()..end + host.rfind('@').unwrap_or(0)
        });
        let password = password.filter(|span| is_password(&text[span.clone()]));
        let token = found
            .name("token")
            .filter(|token| shape::looks_random(token.as_str()));
        spans.extend(password.or(token.map(|token| token.range())));
    }
    spans
}

fn is_password(given: &str) -> bool {
    let text = shape::without_masks(given);
    // `host:8080/a@b`: a port and a path.
    let port = given.split('/').next().unwrap_or_default();
    let is_port =
        given.contains('/') && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    !text.is_empty()
        && (text.len() == given.len() || text.len() >= 6)
        && !is_port
        && !stands_for_another(&text)
        && !shape::is_placeholder(&text)
}

fn stands_for_another(text: &str) -> bool {
    text.starts_with(['{', '%', '<', '*', '[']) || shape::is_variable(text)
}

/// The first group that was found, where it is no placeholder.
pub(super) fn secret_value(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in finder.captures_iter(text) {
        let secret = (1..found.len()).find_map(|group| found.get(group));
        let Some(secret) = secret else { continue };
        let value = secret.as_str();
        if !is_masked(value) && !shape::is_placeholder(value) && !stands_for_another(value) {
            spans.push(secret.range());
        }
    }
    spans
}

/// The password of `-u user:password`, told from the image, version or mapping of another command.
pub(super) fn command_user(finder: &Regex, text: &str) -> Vec<Span> {
    judged(finder, text, |_, secret| {
        !shape::is_placeholder(secret) && !stands_for_another(secret)
    })
}

/// Local parts that are a system's, or words of a programming language before an `@`.
const NOT_PERSONS: &[&str] = &[
    "git", "hg", "svn", "this", "super", "return", "break", "continue",
];

/// Last parts of names that are files or versions, not domains.
const NOT_DOMAINS: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "mjs", "cjs", "ts", "tsx", "jsx",
    "css", "scss", "html", "json", "yaml", "yml", "toml", "xml", "md", "rs", "py", "go", "java",
    "kt", "rb", "php", "c", "h", "cpp", "hpp", "sh", "sql", "txt", "log", "lock", "tgz", "gz",
    "zip", "jar", "whl", "so", "dll", "exe", "service", "target", "timer", "socket", "conf",
    "patch", "diff",
];

/// The part of an e-mail address before the `@`.
pub(super) fn mail_local_part(finder: &Regex, text: &str) -> Vec<Span> {
    judged(finder, text, |found, local| {
        let domain = found.name("domain").map_or("", |domain| domain.as_str());
        let last = domain.rsplit('.').next().unwrap_or_default();
        let lower = last.to_ascii_lowercase();
        // A capital in the last part of a lower-case name is a method or a type, not a domain.
        let code = lower != last && last.to_ascii_uppercase() != last;
        // `package@2.0.io` is a version.
        let numbers = domain
            .rsplit('.')
            .skip(1)
            .all(|part| part.bytes().all(|b| b.is_ascii_digit()));
        !NOT_PERSONS.contains(&local) && !NOT_DOMAINS.contains(&lower.as_str()) && !code && !numbers
    })
}

/// A payment card's number: the lengths and starts that are issued, with a right check digit, and not a part
/// of a longer number. Source: the check digit of Luhn, ISO/IEC 7812-1.
pub(super) fn card_number(finder: &Regex, text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in finder.find_iter(text) {
        let digits: Vec<u32> = found
            .as_str()
            .chars()
            .filter_map(|c| c.to_digit(10))
            .collect();
        let before = text[..found.start()].chars().next_back();
        let after = text[found.end()..].chars().next();
        let alone = !before.is_some_and(|c| ".,-+_#/=".contains(c))
            && !after.is_some_and(|c| "-_/*^%".contains(c));
        let grouped = found.as_str().contains([' ', '-']);
        let likely = grouped || is_about_payment(text, found.start());
        if alone && likely && is_issued(&digits) && luhn(&digits) {
            spans.push(found.range());
        }
    }
    spans
}

/// Whether a word of payment stands shortly before: a long number with a right check digit may be anything's.
fn is_about_payment(text: &str, at: usize) -> bool {
    let before = &text[text.floor_char_boundary(at.saturating_sub(48))..at];
    let before = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let words = [
        "card",
        "visa",
        "amex",
        "credit",
        "debit",
        "payment",
        "pan",
        "mastercard",
        "maestro",
        "ccnum",
        "cc",
    ];
    before
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| words.contains(&word) || word.ends_with("card"))
}

fn is_issued(digits: &[u32]) -> bool {
    let start = digits
        .iter()
        .take(4)
        .fold(0, |number, digit| number * 10 + digit);
    match digits.len() {
        15 => matches!(start / 100, 34 | 37),
        16 => {
            matches!(start, 4000..=4999 | 5100..=5599 | 2221..=2720 | 6011 | 6440..=6599 | 3528..=3589)
        }
        _ => false,
    }
}

fn luhn(digits: &[u32]) -> bool {
    let weigh = |(place, digit): (usize, &u32)| match (place % 2 == 1, digit * 2) {
        (true, double) if double > 9 => double - 9,
        (true, double) => double,
        _ => *digit,
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>() % 10 == 0
}
