//! What can go wrong when a model is loaded. Embedding a text never fails.

use std::io;
use std::path::PathBuf;

use crate::Isa;

/// Why a model could not be loaded; each text names the file and the next step.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The folder holds neither the quantized file nor this source file.
    #[error("model file `{}` not found; run `com model pull`", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file exists and reading it failed.
    #[error("model file `{}` cannot be read; check its permissions and disk", path.display())]
    Unreadable {
        /// The file that was read.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not the one that this crate was built for: cut short, damaged or another model.
    #[error(
        "model file `{}` has SHA-256 {found}, expected {expected}; delete it and run `com model pull`",
        path.display()
    )]
    WrongDigest {
        /// The file that was hashed.
        path: PathBuf,
        /// Lower-case hexadecimal SHA-256 of its bytes.
        found: String,
        /// Lower-case hexadecimal SHA-256 that was wanted.
        expected: &'static str,
    },
    /// The file does not hold what its format promises.
    #[error(
        "model file `{}` is malformed: {reason}; delete it and run `com model pull`",
        path.display()
    )]
    Malformed {
        /// The file that was parsed.
        path: PathBuf,
        /// What was expected and not found.
        reason: String,
    },
    /// Quantizing the right source gave other bytes than this release fixed: a defect of this
    /// build, because every stored vector would silently change.
    #[error("quantized model has BLAKE3 {found}, expected {expected}; report this build of `com`")]
    QuantizerChanged {
        /// Lower-case hexadecimal BLAKE3 of the bytes that this build made.
        found: String,
        /// Lower-case hexadecimal BLAKE3 that this release fixed.
        expected: &'static str,
    },
    /// The CPU lacks the instruction set that was asked for.
    #[error("instruction set `{isa}` is not supported by this CPU; use `Isa::best()`")]
    UnsupportedIsa {
        /// What was asked for.
        isa: Isa,
    },
}
