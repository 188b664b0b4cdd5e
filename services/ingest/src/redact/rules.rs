//! The built-in rules: an expression that finds candidates, and code that judges them.

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;

use super::{assignment, cookie, find, kubernetes, pem};

/// A piece of a text, in bytes.
pub(super) type Span = Range<usize>;

/// Finds what to mask in a text, given the rule's expression.
type Judge = fn(&Regex, &str) -> Vec<Span>;

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Cow<'static, str>,
    /// Finds candidates; a text it does not match holds none.
    pub(super) finder: Regex,
    judge: Judge,
}

impl Rule {
    /// A rule that masks whatever its expression finds.
    pub(super) fn pattern(name: String, finder: Regex) -> Self {
        Self {
            name: Cow::Owned(name),
            finder,
            judge: find::every,
        }
    }

    /// What to mask, in order, without overlap.
    pub(super) fn spans(&self, text: &str) -> Vec<Span> {
        (self.judge)(&self.finder, text)
    }
}

/// Every built-in rule in the order in which they apply: the most telling first.
pub(super) fn built_in() -> Result<Vec<Rule>, regex::Error> {
    let list: [(&'static str, &str, Judge); 19] = [
        ("private_key", pem::MARKER, pem::spans),
        (
            "aws_key",
            r"(?-u:\b)(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{16}(?-u:\b)",
            find::every,
        ),
        (
            "github_token",
            r"(?-u:\b)(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
            find::every,
        ),
        (
            "gitlab_token",
            r"(?-u:\b)gl(?:pat|dt|rt|cbt|ptt|ft|oas|soat|agent|imt|ffct)-[A-Za-z0-9_-]{20,}",
            find::every,
        ),
        (
            "slack_token",
            r"(?-u:\b)xox[abeoprs]-[A-Za-z0-9-]{10,}|(?-u:\b)hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9/]{20,})",
            find::every,
        ),
        (
            "jwt",
            r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
            find::every,
        ),
        ("service_token", find::SERVICE_TOKEN, find::every),
        ("provider_key", find::PROVIDER_KEY, find::random_tail),
        ("authorization", find::AUTHORIZATION, find::credentials),
        ("cookie", cookie::HEADER, cookie::values),
        ("registry_login", find::REGISTRY_LOGIN, find::secret_value),
        ("kubernetes_secret", kubernetes::KIND, kubernetes::values),
        ("url_password", find::URL_PASSWORD, find::url_password),
        ("assignment", assignment::KEYWORD, assignment::spans),
        (
            "command_user",
            r#"(?:[ \t]-u[ =]?|--user[ =])["']?[^\s:"'@/=-][^\s:"'@/]{0,63}:(?P<secret>[^\s"']{3,})"#,
            find::command_user,
        ),
        (
            "command_password",
            find::COMMAND_PASSWORD,
            find::secret_value,
        ),
        ("sql_password", find::SQL_PASSWORD, find::secret_value),
        ("email", find::EMAIL, find::mail_local_part),
        (
            "card_number",
            r"(?-u:\b[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}\b|\b3[47]\d{2}[ -]?\d{6}[ -]?\d{5}\b)",
            find::card_number,
        ),
    ];
    let compile = |(name, expression, judge): (&'static str, &str, Judge)| {
        Ok(Rule {
            name: Cow::Borrowed(name),
            finder: Regex::new(expression)?,
            judge,
        })
    };
    list.into_iter().map(compile).collect()
}
