//! What a secret looks like: by the name it goes under, by the shape of its value.

use std::borrow::Cow;

/// Endings of a name that make its value a secret. Compared without `_`, `-` and `.`, in lower case.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "secretkey",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "authkey",
    "accountkey",
    "sharedkey",
    "masterkey",
    "authorization",
    "credential",
    "credentials",
    "connectionstring",
    "sessionid",
    "sessid",
    "cookie",
    "passwort",
    "privatekeyid",
    "secretkeybase",
    "secretaccesskey",
    "accesskeyid",
    "clientsecret",
    "webhooksecret",
];

/// Names that end like a secret's but hold something else.
const HARMLESS_NAMES: &[&str] = &[
    "nexttoken",
    "pagetoken",
    "nextpagetoken",
    "continuationtoken",
    "synctoken",
    "cursortoken",
    "canceltoken",
    "cancellationtoken",
    "stoptoken",
    "eostoken",
    "padtoken",
    "unktoken",
    "bostoken",
    "septoken",
    "clstoken",
    "masktoken",
];

/// Values that stand for something to be filled in, or for a type.
const PLACEHOLDERS: &[&str] = &[
    "null",
    "none",
    "nil",
    "true",
    "false",
    "undefined",
    "string",
    "str",
    "text",
    "number",
    "integer",
    "boolean",
    "object",
    "bytes",
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "yourpassword",
    "your_password",
    "your-password",
    "changeme",
    "change_me",
    "example",
    "placeholder",
    "redacted",
    "masked",
    "hidden",
    "required",
    "optional",
    "todo",
    "empty",
    "unset",
    "default",
    "username",
    "input",
    "value",
    "pass",
    "pw",
    "passw0rd",
];

/// Whether a field of that name holds a secret: `db.password`, `api_key`, `GITHUB_TOKEN`, but not
/// `token_count` or `next_page_token`.
pub(super) fn names_a_secret(name: &str) -> bool {
    // The working directory of a shell.
    if matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let squeezed: String = name
        .chars()
        .filter(|c| !"_-. ".contains(*c))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let numbered = squeezed.trim_end_matches(|c: char| c.is_ascii_digit());
    is_short_password(name)
        || SECRET_NAMES.iter().any(|ending| numbered.ends_with(ending))
            && !HARMLESS_NAMES
                .iter()
                .any(|ending| numbered.ends_with(ending))
}

/// `pass`, `DB_PASS`, `db.pass`, `smtpPass`: the last word of the name, so not `bypass` or `compass`.
pub(super) fn is_short_password(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let Some(at) = name.len().checked_sub("pass".len()) else {
        return false;
    };
    let (Some(before), Some(word)) = (name.get(..at), name.get(at..)) else {
        return false;
    };
    let hump = word == "Pass" && before.ends_with(|c: char| c.is_ascii_lowercase());
    let alone = before.is_empty() || before.ends_with(['_', '-', '.', ' ']);
    word.eq_ignore_ascii_case("pass") && (hump || alone)
}

/// Whether a name is of the kind where even a plain word is worth masking.
pub(super) fn names_a_password(name: &str) -> bool {
    let squeezed: String = name
        .chars()
        .filter(|c| !"_-. ".contains(*c))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let numbered = squeezed.trim_end_matches(|c: char| c.is_ascii_digit());
    [
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "passcode",
        "passwort",
    ]
    .iter()
    .any(|ending| numbered.ends_with(ending))
}

/// Whether a value only stands for a secret: a variable, a template, stars, a type, a mask of ours. A value that
/// merely holds a template, dots or a mask is judged by what else there is.
pub(super) fn is_placeholder(value: &str) -> bool {
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    let first = value.chars().next();
    let repeated = first.is_some_and(|first| value.chars().all(|c| c == first));
    value.len() < 3
        || repeated
        || is_mostly_template(value)
        || is_variable(value)
        || (value.starts_with('<') && value.ends_with('>'))
        || (value.starts_with('{') && value.ends_with('}'))
        || (value.starts_with('[') && value.ends_with(']') && !value.contains(super::MASK_START))
        || (value.starts_with('%') && value.ends_with('%'))
        || lower.starts_with("your-")
        || lower.starts_with("your_")
        || is_my_thing(&lower)
        || PLACEHOLDERS.contains(&lower.as_str())
}

/// `my-password`, `my-database-secret`: a name that says what would stand there.
fn is_my_thing(lower: &str) -> bool {
    let things = [
        "password",
        "secret",
        "token",
        "key",
        "name",
        "pass",
        "credentials",
        "creds",
    ];
    lower.starts_with("my-") && things.iter().any(|thing| lower.ends_with(thing))
}

/// `$NAME`, `$name`: a variable of a shell, told from a password that begins with a `$`.
pub(super) fn is_variable(value: &str) -> bool {
    let Some(name) = value.strip_prefix('$') else {
        return false;
    };
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let capitals = name.bytes().all(|b| !b.is_ascii_lowercase());
    is_name && (capitals || is_numbered_word(name))
}

/// Whether templates, dots or masks leave nothing that could be a secret.
fn is_mostly_template(value: &str) -> bool {
    let rest = without_templates(value);
    if rest.len() == value.len() {
        return false;
    }
    let elided = (value.ends_with("...") || value.ends_with('…')) && rest.len() <= 16;
    let digits = rest.bytes().any(|b| b.is_ascii_digit());
    let letters = rest.bytes().any(|b| b.is_ascii_alphabetic());
    elided || rest.len() < 6 || !(digits && letters) || is_numbered_word(&rest)
}

/// A value without our masks.
pub(super) fn without_masks(value: &str) -> Cow<'_, str> {
    if !value.contains(super::MASK_START) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(super::MASK_START) {
        out.push_str(before);
        let name = after.bytes().take(40);
        let name = name
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        rest = after[name..].strip_prefix(']').unwrap_or(&after[name..]);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A value without masks, `${…}`, `{{…}}`, `$(…)`, `%(…)` and dots; what is not closed goes to the end.
fn without_templates(value: &str) -> String {
    const TEMPLATES: &[(&str, &str)] = &[
        ("${{", "}}"),
        ("${", "}"),
        ("{{", "}}"),
        ("$(", ")"),
        ("%(", ")"),
    ];
    let value = without_masks(value);
    let mut out = String::with_capacity(value.len());
    let mut rest = &*value;
    while let Some(first) = rest.chars().next() {
        let template = TEMPLATES.iter().find(|(open, _)| rest.starts_with(open));
        if let Some((_, close)) = template {
            rest = rest
                .find(close)
                .map_or("", |end| &rest[end + close.len()..]);
        } else if rest.starts_with("...") || first == '…' {
            rest = rest.trim_start_matches(['.', '…']);
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// `550e8400-e29b-41d4-a716-446655440000`.
pub(super) fn is_uuid(value: &str) -> bool {
    let parts: Vec<usize> = value.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Whether a value looks random: long enough, of letters and digits mixed or of both cases within, and with
/// many different characters for its length.
pub(super) fn looks_random(value: &str) -> bool {
    if value.len() < 8 || is_placeholder(value) || value.chars().any(char::is_whitespace) {
        return false;
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let lower = value.bytes().any(|b| b.is_ascii_lowercase());
    let upper = value.bytes().any(|b| b.is_ascii_uppercase());
    if is_wordy(value) {
        return false;
    }
    if digits > 0 && letters > 0 && !is_numbered_word(value) {
        return !is_number(value) && entropy(value) >= 2.5;
    }
    value.len() >= 24 && lower && upper && !is_path_of_names(value) && entropy(value) >= 4.0
}

/// A word, or several joined by `_`, `-`, `.`, `:` or `/`, where digits come once, before or after the letters
/// of a part: `token2`, `sha256`, `test-user-1`, `v1.2`, `WBEM_128BITS`.
pub(super) fn is_numbered_word(value: &str) -> bool {
    let part_fits = |part: &str| {
        let is_digit = |c: char| c.is_ascii_digit();
        let word = part.trim_matches(is_digit);
        let digits = part.len() - word.len();
        let once = word.len() == part.len() || part.starts_with(word) || part.ends_with(word);
        word.bytes().all(|b| b.is_ascii_alphabetic()) && once && digits <= 4 && is_one_case(word)
    };
    value.len() <= 64 && value.split(['_', '-', '.', ':', '/']).all(part_fits)
}

/// Made of long runs of one kind of character, as names are (`testRSA2048PrivateKey`) and random text is not.
/// A capital belongs to the lower-case letters after it.
fn is_wordy(value: &str) -> bool {
    let kind = |byte: u8| match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        _ => 3,
    };
    let (mut runs, mut letters, mut last) = (0, 0, 3);
    for byte in value.bytes() {
        let now = kind(byte);
        if now != last && now != 3 && !(last == 2 && now == 1) {
            runs += 1;
        }
        letters += usize::from(now != 3);
        last = now;
    }
    2 * letters >= 7 * runs
}

/// `0xc0406618`, `1e10`, `12u64`: a number as code writes it.
fn is_number(value: &str) -> bool {
    let hex = value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"));
    hex.is_some_and(|digits| {
        digits.len() <= 20 && digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_')
    }) || value.parse::<f64>().is_ok()
}

/// `lower`, `UPPER` or `Capital`, or a camelCase name of words of three letters and more.
fn is_one_case(word: &str) -> bool {
    let mut run = 0;
    for (at, byte) in word.bytes().enumerate() {
        let starts_word =
            byte.is_ascii_uppercase() && at > 0 && word.as_bytes()[at - 1].is_ascii_lowercase();
        if starts_word && run < 3 {
            return false;
        }
        run = if starts_word { 1 } else { run + 1 };
    }
    true
}

/// `a.b.c`, `A::b`, `self.token`: names as code writes them.
pub(super) fn is_path_of_names(value: &str) -> bool {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    value
        .split(['.', ':', '-', '/'])
        .filter(|part| !part.is_empty())
        .all(is_name)
        && value
            .split(|c: char| !c.is_ascii_alphabetic())
            .all(|part| part.len() <= 20)
}

/// Bits per character, by how often each byte occurs. Source: Shannon, 1948.
pub(super) fn entropy(value: &str) -> f64 {
    let mut seen = [0_u32; 256];
    for byte in value.bytes() {
        seen[usize::from(byte)] += 1;
    }
    let length = value.len() as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / length;
        -share * share.log2()
    };
    seen.iter().filter(|count| **count > 0).map(bits).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_their_like() {
        for name in [
            "password",
            "DB_PASSWORD",
            "db.password",
            "api_key",
            "X-Api-Key",
            "githubToken",
            "aws_secret_access_key",
            "client_secret",
            "Authorization",
            "password1",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in [
            "token_count",
            "max_tokens",
            "tokenizer",
            "next_page_token",
            "secretary",
            "password_policy",
            "keyboard",
            "key",
            "duration",
        ] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn random_values_are_told_from_names() {
        for value in [
            "s3cr3tpass9w",
            "hX7kQ2mZ9pLw",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz",
            "550e8400e29b41d4a716446655440000",
        ] {
            assert!(looks_random(value), "{value}");
        }
        for value in [
            "lexer.next",
            "token2",
            "sha256",
            "my-database-secret",
            "test-user-1",
            "${TOKEN}",
            "xxxxxxxxxxxx",
            "<your-token>",
            "TokenStreamBuilderFactoryBean",
            "WBEM_128BITS",
            "testRSA2048PrivateKey",
            "0xc0406618",
            "short1",
        ] {
            assert!(!looks_random(value), "{value}");
        }
    }
}
