//! The quantized model as a file: written once, read at every start.
//!
//! Format, all numbers little-endian: the magic, the SHA-256 of both source files, the pieces of
//! the vocabulary (length byte, UTF-8), word codes and scales, positions, the first norm, then
//! each layer's parts in the order of [`Layer`]. Every count is a constant of this crate, so
//! nothing in a damaged file can ask for memory. The BLAKE3 of the whole file is fixed in
//! [`DIGEST`]: a file that differs in one bit is not used.

use std::io::{self, BufReader, BufWriter, Read, Write};

use crate::linear::Linear;
use crate::network::{Layer, Network};
use crate::normalize::Norm;
use crate::simd::{Line, Quad};
use crate::source::{Source, TOKENIZER_SHA256, WEIGHTS_SHA256};
use crate::{DIMENSION, LAYERS, MAX_TOKENS, VOCABULARY};

/// The file's name in the model's folder. The version changes with every change of its bytes.
pub(crate) const FILE_NAME: &str = "minilm-q8-v1.bin";

/// Lower-case hexadecimal BLAKE3 of the file's bytes.
pub(crate) const DIGEST: &str = "9d8dfd16ce39ecf137306c2f361d677000eee366cee1f5d9fefe6a24d3f0fb79";

const MAGIC: &[u8; 16] = b"commonplace-q8v1";

/// Bytes that are hashed and copied at a time.
const BUFFER: usize = 1 << 18;

/// Writes the file and gives the lower-case hexadecimal BLAKE3 of its bytes.
pub(crate) fn write(source: &Source, to: impl Write) -> io::Result<String> {
    let mut hashing = Hashing {
        inner: to,
        hasher: blake3::Hasher::new(),
    };
    let mut output = BufWriter::with_capacity(BUFFER, &mut hashing);
    output.write_all(MAGIC)?;
    output.write_all(&header())?;
    for piece in &source.vocabulary {
        let length = u8::try_from(piece.len()).map_err(io::Error::other)?;
        output.write_all(&[length])?;
        output.write_all(piece.as_bytes())?;
    }
    write_network(&source.network, &mut output)?;
    output.flush()?;
    drop(output);
    Ok(hashing.hasher.finalize().to_string())
}

/// Reads the file and gives it with the lower-case hexadecimal BLAKE3 of its bytes.
///
/// Errors: the reader's; `InvalidData` or `UnexpectedEof` where the bytes are not the format.
pub(crate) fn read(from: impl Read) -> io::Result<(Source, String)> {
    let mut hashing = Hashing {
        inner: from,
        hasher: blake3::Hasher::new(),
    };
    let mut input = BufReader::with_capacity(BUFFER, &mut hashing);
    if read_bytes(&mut input)? != *MAGIC || read_bytes(&mut input)? != header() {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let vocabulary = (0..VOCABULARY)
        .map(|_| read_piece(&mut input))
        .collect::<Result<_, _>>()?;
    let network = read_network(&mut input)?;
    // The digest covers what follows the format too.
    io::copy(&mut input, &mut io::sink())?;
    drop(input);
    Ok((
        Source {
            network,
            vocabulary,
        },
        hashing.hasher.finalize().to_string(),
    ))
}

/// Passes bytes on and hashes them.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn header() -> [u8; 128] {
    let mut header = [0; 128];
    header[..64].copy_from_slice(WEIGHTS_SHA256.as_bytes());
    header[64..].copy_from_slice(TOKENIZER_SHA256.as_bytes());
    header
}

fn write_network(network: &Network, to: &mut impl Write) -> io::Result<()> {
    for codes in &network.words {
        to.write_all(&codes.map(|code| code as u8))?;
    }
    for scale in &network.word_scales {
        to.write_all(&scale.to_le_bytes())?;
    }
    for row in &network.positions {
        write_lines(row, to)?;
    }
    write_norm(&network.norm, to)?;
    for layer in &network.layers {
        write_linear(&layer.query_key_value, to)?;
        write_linear(&layer.attention_output, to)?;
        write_norm(&layer.attention_norm, to)?;
        write_linear(&layer.widen, to)?;
        write_linear(&layer.narrow, to)?;
        write_norm(&layer.output_norm, to)?;
    }
    Ok(())
}

fn read_network(from: &mut impl Read) -> io::Result<Network> {
    let mut words = vec![[0; DIMENSION]; VOCABULARY];
    for codes in &mut words {
        *codes = read_bytes::<DIMENSION>(from)?.map(|byte| byte as i8);
    }
    let mut word_scales = vec![0.0; VOCABULARY];
    for scale in &mut word_scales {
        *scale = f32::from_le_bytes(read_bytes(from)?);
    }
    let mut positions = vec![[Line::ZERO; 24]; MAX_TOKENS];
    for row in &mut positions {
        read_lines(row, from)?;
    }
    let norm = read_norm(from)?;
    let layers = (0..LAYERS)
        .map(|_| read_layer(from))
        .collect::<Result<_, _>>()?;
    Ok(Network {
        words,
        word_scales,
        positions,
        norm,
        layers,
    })
}

fn read_layer(from: &mut impl Read) -> io::Result<Layer> {
    Ok(Layer {
        query_key_value: read_linear(from)?,
        attention_output: read_linear(from)?,
        attention_norm: read_norm(from)?,
        widen: read_linear(from)?,
        narrow: read_linear(from)?,
        output_norm: read_norm(from)?,
    })
}

fn write_linear<const QUADS: usize, const LINES: usize>(
    layer: &Linear<QUADS, LINES>,
    to: &mut impl Write,
) -> io::Result<()> {
    for Quad(codes) in layer.blocks.as_flattened() {
        to.write_all(&codes.map(|code| code as u8))?;
    }
    write_lines(&layer.scales, to)?;
    write_lines(&layer.totals, to)?;
    write_lines(&layer.bias, to)
}

fn read_linear<const QUADS: usize, const LINES: usize>(
    from: &mut impl Read,
) -> io::Result<Linear<QUADS, LINES>> {
    let mut layer = Linear::zeroed();
    for quad in layer.blocks.as_flattened_mut() {
        *quad = Quad(read_bytes(from)?.map(|byte| byte as i8));
    }
    read_lines(&mut layer.scales, from)?;
    read_lines(&mut layer.totals, from)?;
    read_lines(&mut layer.bias, from)?;
    Ok(layer)
}

fn write_norm<const LINES: usize>(norm: &Norm<LINES>, to: &mut impl Write) -> io::Result<()> {
    write_lines(&norm.weight, to)?;
    write_lines(&norm.bias, to)
}

fn read_norm<const LINES: usize>(from: &mut impl Read) -> io::Result<Norm<LINES>> {
    let mut norm = Norm::zeroed();
    read_lines(&mut norm.weight, from)?;
    read_lines(&mut norm.bias, from)?;
    Ok(norm)
}

fn write_lines(lines: &[Line], to: &mut impl Write) -> io::Result<()> {
    for Line(numbers) in lines {
        to.write_all(numbers.map(f32::to_le_bytes).as_flattened())?;
    }
    Ok(())
}

fn read_lines(lines: &mut [Line], from: &mut impl Read) -> io::Result<()> {
    for Line(numbers) in lines {
        for (number, bytes) in numbers
            .iter_mut()
            .zip(read_bytes::<64>(from)?.as_chunks().0)
        {
            *number = f32::from_le_bytes(*bytes);
        }
    }
    Ok(())
}

fn read_piece(from: &mut impl Read) -> io::Result<String> {
    let [length] = read_bytes(from)?;
    let mut piece = vec![0; usize::from(length)];
    from.read_exact(&mut piece)?;
    String::from_utf8(piece).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn read_bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
