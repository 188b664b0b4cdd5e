//! Moments and durations as test tools write them.

use std::sync::LazyLock;

use commonplace_types::Timestamp;
use regex::Regex;

static MOMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(\d{4}-\d\d-\d\d)(?:[T ]\s*(\d\d:\d\d)(:\d\d)?([.,]\d{1,9})?)?\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$",
    )
    .ok()
});

/// Reads a date and time such as `2021-03-07T10:36:56 UTC`, `2024-01-03 12:27:54Z`, `2024-01-03` or
/// `2025-11-15T11:51:49.5-05:00`. Without an offset it is taken as UTC. The very start of 1970, which some
/// tools write for "unknown", and anything else give nothing.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let found = MOMENT.as_ref()?.captures(text.trim())?;
    let part = |n: usize| found.get(n).map_or("", |m| m.as_str());
    let clock = if part(2).is_empty() { "00:00" } else { part(2) };
    let seconds = if part(3).is_empty() { ":00" } else { part(3) };
    let offset = match part(5) {
        "" | "Z" | "UTC" | "GMT" => "Z".to_owned(),
        short if short.len() == 3 => format!("{short}:00"),
        bare if !bare.contains(':') => format!("{}:{}", &bare[..3], &bare[3..]),
        full => full.to_owned(),
    };
    let fraction = part(4).replace(',', ".");
    let written = format!("{}T{clock}{seconds}{fraction}{offset}", part(1));
    Timestamp::parse(&written)
        .ok()
        .filter(|moment| *moment != Timestamp::MIN)
}

/// Milliseconds since 1970; zero, negative or far away give nothing.
pub(crate) fn from_millis(millis: i64) -> Option<Timestamp> {
    let moment = Timestamp::from_micros(millis.checked_mul(1_000)?).ok()?;
    Some(moment).filter(|moment| *moment != Timestamp::MIN)
}

/// Reads a duration in seconds and writes it in one form: no exponent, no trailing zeros, at most nine
/// decimals. `1,234.50` and `1.5s` are understood; negative or other text gives nothing.
pub(crate) fn duration(text: &str) -> Option<String> {
    let text = text.trim();
    let (number, scale) = match text.strip_suffix("ms") {
        Some(millis) => (millis, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number = number.trim().replace(',', "");
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    seconds(value * scale)
}

/// A number of seconds in one form, as [`duration`] writes it. Not finite, negative or beyond some 30,000
/// years gives nothing.
pub(crate) fn seconds(value: f64) -> Option<String> {
    if !(0.0..1e12).contains(&value) {
        return None;
    }
    let text = format!("{value:.9}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_many_tools_are_read() {
        for (text, expected) in [
            ("2021-03-07T10:36:56 UTC", "2021-03-07T10:36:56Z"),
            ("2020-10-27T21:39:41", "2020-10-27T21:39:41Z"),
            (
                "2025-11-15T11:51:49.548396-05:00",
                "2025-11-15T16:51:49.548396Z",
            ),
            ("2024-01-03T 12:40:13", "2024-01-03T12:40:13Z"),
            ("2024-01-03 12:27:54Z", "2024-01-03T12:27:54Z"),
            ("2024-01-03", "2024-01-03T00:00:00Z"),
            ("2024-01-03T11:23:00.00", "2024-01-03T11:23:00Z"),
            ("2024-01-03T12:27:15+0100", "2024-01-03T11:27:15Z"),
            ("2024-01-03T12:27:15,5+01", "2024-01-03T11:27:15.5Z"),
        ] {
            let found = moment(text).map(|moment| moment.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "1970-01-01T00:00:00",
            "2024-13-01",
            "30000-01-01T00:00:00Z",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_one_form() {
        for (text, expected) in [
            ("0.116", Some("0.116")),
            ("0.000", Some("0")),
            ("2126.5310000000004", Some("2126.531")),
            ("0.036386333", Some("0.036386333")),
            ("1,234.50", Some("1234.5")),
            ("12ms", Some("0.012")),
            (" 3s ", Some("3")),
            (".5", Some("0.5")),
            ("1e3", Some("1000")),
            ("-345345", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(duration(text).as_deref(), expected, "{text}");
        }
    }
}
