//! gzip and zstd.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::HeaderValue;

/// Quick rather than small: a message is waited for.
const ZSTD_LEVEL: i32 = 1;
/// The window that a peer may ask for is 8 MiB, as over HTTP: it is memory that one header can claim.
/// Source: RFC 9659.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

/// Why a message was not opened.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// It would be larger than it may be.
    TooLarge,
    /// It is damaged, or something else.
    Damaged(io::Error),
}

impl Encoding {
    /// Its name in headers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Those of ours that a header names.
    pub(crate) fn all_in(names: &HeaderValue) -> impl Iterator<Item = Self> {
        let names = names.as_bytes().split(|byte| *byte == b',');
        names.filter_map(|name| Self::parse(name.trim_ascii()))
    }

    /// What to send to a peer that names what it reads: the quicker one if it may be.
    pub(crate) fn preferred(names: &HeaderValue) -> Option<Self> {
        let zstd = Self::all_in(names).find(|encoding| *encoding == Self::Zstd);
        zstd.or_else(|| Self::all_in(names).next())
    }

    /// Error: none in practice, as it is done in memory.
    pub(crate) fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
            Self::Gzip => {
                let smaller = Vec::with_capacity(bytes.len() / 4);
                let mut encoder = GzEncoder::new(smaller, flate2::Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }

    /// Gives at most `most` bytes, however many the message claims to hold.
    pub(crate) fn decompress(self, bytes: &[u8], most: usize) -> Result<Vec<u8>, Unopened> {
        let opened = match self {
            Self::Gzip => read(GzDecoder::new(bytes), most),
            Self::Zstd => {
                zstd::stream::read::Decoder::with_buffer(bytes).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                    read(decoder, most)
                })
            }
        };
        let opened = opened.map_err(Unopened::Damaged)?;
        match opened.len() > most {
            true => Err(Unopened::TooLarge),
            false => Ok(opened),
        }
    }
}

/// Reads one byte more than `most`, to know that there is more.
fn read(source: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut opened = Vec::new();
    source.take(most as u64 + 1).read_to_end(&mut opened)?;
    Ok(opened)
}
