use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A moment in UTC, to the microsecond, from 1970-01-01 to the end of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first moment.
    pub const MIN: Self = Self(0);
    /// The last moment, 9999-12-30T21:59:59.999999Z: the last that every offset can show.
    pub const MAX: Self = Self(253_402_207_199_999_999);

    /// From microseconds since 1970. Error: outside the years 1970 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self, Invalid> {
        if (Self::MIN.0..=Self::MAX.0).contains(&micros) {
            return Ok(Self(micros));
        }
        Err(Invalid::new(
            "",
            "expected a time in the years 1970 to 9999",
        ))
    }

    /// From seconds and nanoseconds since 1970; finer than microseconds is cut off.
    pub fn from_seconds(seconds: i64, nanos: i32) -> Result<Self, Invalid> {
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(Invalid::new("nanos", "expected 0 to 999,999,999"));
        }
        let micros = seconds
            .checked_mul(1_000_000)
            .and_then(|m| m.checked_add(nanos as i64 / 1_000));
        Self::from_micros(micros.unwrap_or(i64::MAX))
    }

    /// Reads RFC 3339, for example `2026-11-21T08:00:00Z`. An offset is needed.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let moment: jiff::Timestamp = text.trim().parse().map_err(|_| {
            Invalid::new(
                "",
                format!("expected a time like 2026-11-21T08:00:00Z, found `{text}`"),
            )
        })?;
        Self::from_micros(moment.as_microsecond())
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Seconds since 1970 and the nanoseconds beyond them.
    pub fn as_seconds(self) -> (i64, i32) {
        (self.0 / 1_000_000, (self.0 % 1_000_000) as i32 * 1_000)
    }

    /// How long ago `earlier` was; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// The moment that long before, not before [`Timestamp::MIN`].
    pub fn minus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(0))
    }

    /// The last whole minute.
    pub fn floor_to_minute(self) -> Self {
        Self(self.0 - self.0 % 60_000_000)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => moment.fmt(formatter),
            Err(_) => write!(formatter, "{}us", self.0),
        }
    }
}

/// Tells the time. Injected, so that tests and replays decide what now is.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp((since.as_micros() as i64).min(Timestamp::MAX.0))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.0))
    }

    /// Moves forward.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(span.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst).min(Timestamp::MAX.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_rfc_3339() {
        let moment = Timestamp::parse("2026-11-21T10:00:00.000001+02:00").unwrap();
        assert_eq!(moment.to_string(), "2026-11-21T08:00:00.000001Z");
        assert_eq!(Timestamp::parse(&moment.to_string()).unwrap(), moment);
    }

    #[test]
    fn refuses_what_lies_outside() {
        for text in [
            "30000-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "yesterday",
            "",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        assert!(Timestamp::from_seconds(i64::MAX, 0).is_err());
        assert!(Timestamp::from_seconds(0, -1).is_err());
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T21:59:59.999999Z");
    }

    #[test]
    fn spans_never_go_below_zero() {
        let (early, late) = (Timestamp(1_000_000), Timestamp(3_000_000));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.minus(Duration::from_secs(9)), Timestamp::MIN);
    }
}
