//! A position in a trace, as callers and services tell it to each other.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A position in a trace, as in the W3C `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl Trace {
    /// A new trace.
    pub fn start() -> Self {
        let trace_id = u128::from(new_id()) << 64 | u128::from(new_id());
        Self {
            trace_id,
            span_id: new_id(),
            sampled: true,
        }
    }

    /// A step further in the same trace.
    pub fn child(self) -> Self {
        Self {
            span_id: new_id(),
            ..self
        }
    }

    /// The same, not recorded.
    pub fn unsampled(self) -> Self {
        Self {
            sampled: false,
            ..self
        }
    }

    /// The same, recorded only if it falls into a share of all traces.
    pub(crate) fn within_share(self, share: f64) -> Self {
        // The last digits are the random ones, whoever made the id.
        let place = (self.trace_id as u64 >> 11) as f64 / (1_u64 << 53) as f64;
        Self {
            sampled: place < share,
            ..self
        }
    }

    /// Reads a `traceparent` header; anything malformed gives nothing. Versions to come may say more behind.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let mut part = || parts.next().filter(|part| is_hex(part));
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        if version.len() != 2
            || version == "ff"
            || version == "00" && parts.next().is_some()
            || trace.len() != 32
            || span.len() != 16
            || flags.len() != 2
        {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self {
            trace_id,
            span_id,
            sampled,
        })
    }

    /// 32 hex digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The same as a number.
    pub fn trace(&self) -> u128 {
        self.trace_id
    }

    /// Names the span in its trace.
    pub fn span(&self) -> u64 {
        self.span_id
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(
            formatter,
            "00-{:032x}-{:016x}-{flags:02x}",
            self.trace_id, self.span_id
        )
    }
}

/// Numbers that differ from each other and from those of other processes; never 0.
///
/// A counter from a random start, mixed by the finaliser of SplitMix64, which is a bijection, so that ids of one
/// process never meet. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
pub(crate) fn new_id() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        // The standard library seeds it from the system's randomness.
        AtomicU64::new(RandomState::new().build_hasher().finish())
    });
    let mut id = NEXT.fetch_add(STEP, Ordering::Relaxed);
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (id ^ (id >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_is_read_and_written() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Trace::parse(header).unwrap().to_string(), header);
        let child = Trace::parse(header).unwrap().child();
        assert_eq!(child.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(child.to_string(), header);
        for wrong in [
            "",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-0",
        ] {
            assert_eq!(Trace::parse(wrong), None, "{wrong}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(Trace::parse(later), Trace::parse(header));
    }

    #[test]
    fn a_share_of_traces_is_recorded() {
        let recorded = |share| {
            let traces = (0..2_000).map(|_| Trace::start().within_share(share));
            traces.filter(Trace::is_sampled).count()
        };
        assert_eq!((recorded(0.0), recorded(1.0)), (0, 2_000));
        assert!((800..1_200).contains(&recorded(0.5)));
    }
}
