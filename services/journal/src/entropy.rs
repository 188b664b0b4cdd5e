//! Where salts and keys come from. Injected, so that tests can repeat themselves.

use std::sync::Mutex;

/// Gives bytes that nobody can guess.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, bytes: &mut [u8]);
}

/// A stream keyed by the operating system's generator, once per process.
/// Source: BLAKE3 in keyed extendable-output mode.
pub struct SystemEntropy {
    stream: Mutex<blake3::OutputReader>,
}

impl SystemEntropy {
    /// Takes 32 bytes from the operating system. Error: it has none.
    pub fn new() -> std::io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::from)?;
        Ok(Self::from_key(key))
    }

    /// A stream that depends on the key alone: for tests that must repeat.
    pub fn from_key(key: [u8; 32]) -> Self {
        let stream = Mutex::new(blake3::Hasher::new_keyed(&key).finalize_xof());
        Self { stream }
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.stream
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .fill(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_key_and_never_repeat() {
        let take = |source: &SystemEntropy| {
            let mut bytes = [0; 16];
            source.fill(&mut bytes);
            bytes
        };
        let (one, same) = (
            SystemEntropy::from_key([1; 32]),
            SystemEntropy::from_key([1; 32]),
        );
        let first = take(&one);
        assert_eq!(first, take(&same));
        assert_ne!(first, take(&one));
        assert_ne!(first, take(&SystemEntropy::new().unwrap()));
    }
}
