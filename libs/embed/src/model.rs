//! A loaded model, shared by threads, and the memory that one embedding call works in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::kernels::Kernels;
use crate::network::{Activations, Network};
use crate::quantized::{self, DIGEST, FILE_NAME};
use crate::source::{self, Source, TOKENIZER_SHA256, WEIGHTS_SHA256};
use crate::tokenizer::Tokenizer;
use crate::{DIMENSION, EmbedError, Embedding, Isa, MAX_TOKENS};

/// all-MiniLM-L6-v2, ready to embed. Cheap to clone; clones share the weights.
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
    kernels: Kernels,
}

struct Shared {
    network: Network,
    tokenizer: Tokenizer,
    fingerprint: String,
    /// Workspaces between calls of [`Model::embed`]: as many as there were calls at once.
    idle: Mutex<Vec<Workspace>>,
}

/// The memory of one call at a time: about 16 KiB per token of the longest text seen.
#[derive(Default)]
pub struct Workspace {
    tokens: Vec<u32>,
    word: String,
    activations: Activations,
}

impl Workspace {
    /// Gives an empty workspace; it grows with use and is then reused without allocating.
    pub fn new() -> Self {
        Workspace::default()
    }
}

impl Model {
    /// Loads the model in `folder` for the fastest instruction set of this CPU.
    ///
    /// `folder` holds `model.safetensors` and `tokenizer.json` as published, or the file
    /// `minilm-q8-v1.bin` that the first load makes of them (23 MB, some 30 ms to read later).
    /// A quantized file that is damaged or cut short is made again. Where `folder` cannot be
    /// written, every load quantizes (about a second).
    ///
    /// Errors: [`EmbedError::Missing`], `Unreadable`, `WrongDigest` and `Malformed` for the
    /// published files, only when they are needed.
    pub fn load(folder: &Path) -> Result<Model, EmbedError> {
        let source = match read_quantized(&folder.join(FILE_NAME)) {
            Some(source) => source,
            None => quantize(folder)?,
        };
        let shared = Shared {
            network: source.network,
            tokenizer: Tokenizer::new(source.vocabulary.iter().map(String::as_str)),
            fingerprint: fingerprint(),
            idle: Mutex::default(),
        };
        Ok(Model {
            shared: Arc::new(shared),
            kernels: Kernels::new(Isa::best())?,
        })
    }

    /// Gives the same model, sharing the weights, on another instruction set.
    ///
    /// Errors: [`EmbedError::UnsupportedIsa`] where this CPU lacks it.
    pub fn on(&self, isa: Isa) -> Result<Model, EmbedError> {
        Ok(Model {
            shared: Arc::clone(&self.shared),
            kernels: Kernels::new(isa)?,
        })
    }

    /// Gives the instruction set in use; it does not change any result.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Names everything that an embedding's bits depend on besides the text: equal fingerprints,
    /// equal bits. One line of ASCII without white space.
    pub fn fingerprint(&self) -> &str {
        &self.shared.fingerprint
    }

    /// Embeds a text: WordPiece tokens (the first 254 of the text), the transformer, the mean of
    /// its token vectors, scaled to length one, as bytes. An empty text has an embedding too.
    pub fn embed(&self, text: &str) -> Embedding {
        let idle = &self.shared.idle;
        let workspace = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut workspace = workspace.unwrap_or_default();
        let embedding = self.embed_with(&mut workspace, text);
        idle.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(workspace);
        embedding
    }

    /// Embeds like [`Model::embed`] in the caller's memory, without locking.
    pub fn embed_with(&self, workspace: &mut Workspace, text: &str) -> Embedding {
        Embedding::new(&self.embed_f32(workspace, text))
    }

    /// Gives the unit vector before it is turned into bytes.
    pub fn embed_f32(&self, workspace: &mut Workspace, text: &str) -> [f32; DIMENSION] {
        let Workspace {
            tokens,
            word,
            activations,
        } = workspace;
        self.shared.tokenizer.encode(text, MAX_TOKENS, word, tokens);
        self.shared
            .network
            .forward(self.kernels, tokens, activations)
    }

    /// Gives the tokens that the model sees: ids with the start and end token, 2 to 256.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.shared
            .tokenizer
            .encode(text, MAX_TOKENS, &mut String::new(), &mut tokens);
        tokens
    }
}

fn fingerprint() -> String {
    format!(
        "all-minilm-l6-v2;weights=sha256:{WEIGHTS_SHA256};tokenizer=sha256:{TOKENIZER_SHA256};\
         dimension={DIMENSION};tokens={MAX_TOKENS};quantizer=q8-v1:blake3:{DIGEST}"
    )
}

/// Gives the quantized file's contents if it is there and intact.
fn read_quantized(path: &Path) -> Option<Source> {
    let (source, digest) = quantized::read(File::open(path).ok()?).ok()?;
    (digest == DIGEST).then_some(source)
}

/// Quantizes the published files and keeps the result beside them if the folder can be written.
fn quantize(folder: &Path) -> Result<Source, EmbedError> {
    let source = source::read(folder)?;
    let found = match write_quantized(&source, folder) {
        Ok(digest) => digest,
        Err(_) => digest_of(&source),
    };
    if found != DIGEST {
        return Err(EmbedError::QuantizerChanged {
            found,
            expected: DIGEST,
        });
    }
    Ok(source)
}

fn digest_of(source: &Source) -> String {
    quantized::write(source, io::sink()).unwrap_or_default()
}

/// Writes to a name of our own and renames, so that no reader sees half a file.
fn write_quantized(source: &Source, folder: &Path) -> io::Result<String> {
    let (file, path) = create_temporary(folder)?;
    let result = quantized::write(source, &file).and_then(|digest| {
        file.sync_all()?;
        if digest == DIGEST {
            fs::rename(&path, folder.join(FILE_NAME))?;
        }
        Ok(digest)
    });
    // Gone already after the rename; otherwise nobody wants it.
    let _ = fs::remove_file(&path);
    result
}

/// Creates a file that no other process or thread writes to.
fn create_temporary(folder: &Path) -> io::Result<(File, PathBuf)> {
    for attempt in 0.. {
        let name = format!(".{FILE_NAME}.{}.{attempt}", std::process::id());
        let path = folder.join(name);
        match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
            result => return result.map(|file| (file, path)),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}
