//! The file a user keeps: `{"id":"blake3:…","pack":{…}}`, one line, canonical as a whole.
//!
//! Editors and tools lay JSON out anew. That loses nothing, so such a file is brought back into canonical
//! form; what was changed with it shows when the pack is verified.

const HEAD: &[u8] = b"{\"id\":\"";
const MIDDLE: &[u8] = b"\",\"pack\":";
const TAIL: &[u8] = b"}";
const ID_BYTES: usize = "blake3:".len() + 64;

/// Why bytes are not a pack's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The envelope is not as written.
    #[error("not a pack file: at byte {offset}, expected `{expected}`, found `{found}`")]
    Envelope {
        /// Where it differs.
        offset: usize,
        /// What should be there.
        expected: String,
        /// What is there, at most a few bytes of it.
        found: String,
    },
    /// The file was not copied whole.
    #[error("the file ends early, after {bytes} bytes: take another copy of it")]
    Truncated {
        /// Its length.
        bytes: usize,
    },
    /// The id is no id.
    #[error("not a pack file: `id`: expected `blake3:` and 64 hex digits, found `{found}`")]
    Id {
        /// What is there.
        found: String,
    },
}

/// A pack as a file: its id and its bytes in one line of canonical JSON, without a line feed.
pub fn to_file(id: &str, content: &[u8]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(HEAD.len() + ID_BYTES + MIDDLE.len() + content.len() + TAIL.len());
    for part in [HEAD, id.as_bytes(), MIDDLE, content, TAIL] {
        out.extend_from_slice(part);
    }
    out
}

/// The claimed id and the pack's bytes, exactly as they stand in the file; white space at the end is let pass.
/// From a file that was laid out anew, the pack's bytes in canonical form.
///
/// Whether the id is that of the bytes is not checked here: verifying tells what differs.
/// Errors: the file ends early, or holds anything else.
pub fn from_file(bytes: &[u8]) -> Result<(String, Vec<u8>), PackError> {
    let bytes = bytes.trim_ascii_end();
    match from_line(bytes) {
        Ok((_, content)) if ends_early(&content) => {
            Err(PackError::Truncated { bytes: bytes.len() })
        }
        Ok(found) => Ok(found),
        Err(error) => laid_out_anew(bytes).unwrap_or(Err(error)),
    }
}

fn ends_early(content: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(content).is_err_and(|error| error.is_eof())
}

/// Reads any layout of the file's JSON. None: it is no JSON of this form.
fn laid_out_anew(bytes: &[u8]) -> Option<Result<(String, Vec<u8>), PackError>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope {
        id: String,
        // Its map is sorted by key and holds whole numbers and texts only: printed, it is canonical.
        pack: serde_json::Map<String, serde_json::Value>,
    }
    match serde_json::from_slice::<Envelope>(bytes) {
        Ok(file) if is_id(&file.id) => Some(Ok((
            file.id,
            serde_json::Value::Object(file.pack)
                .to_string()
                .into_bytes(),
        ))),
        Ok(file) => Some(Err(PackError::Id {
            found: file.id.escape_debug().take(80).collect(),
        })),
        Err(error) if error.is_eof() && !bytes.is_empty() => {
            Some(Err(PackError::Truncated { bytes: bytes.len() }))
        }
        Err(_) => None,
    }
}

fn from_line(bytes: &[u8]) -> Result<(String, Vec<u8>), PackError> {
    expect(bytes, 0, HEAD)?;
    let id_end = HEAD.len() + ID_BYTES;
    let found_id = bytes
        .get(HEAD.len()..id_end)
        .unwrap_or(&bytes[HEAD.len()..]);
    let found_id = String::from_utf8_lossy(found_id).into_owned();
    if !is_id(&found_id) {
        return Err(PackError::Id { found: found_id });
    }
    expect(bytes, id_end, MIDDLE)?;
    let start = id_end + MIDDLE.len();
    let end = bytes.len().saturating_sub(TAIL.len()).max(start);
    expect(bytes, end, TAIL)?;
    Ok((found_id, bytes[start..end].to_vec()))
}

/// Whether a text has the form of a pack's id.
pub fn is_id(text: &str) -> bool {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_BYTES
        && text
            .strip_prefix("blake3:")
            .is_some_and(|digits| digits.bytes().all(lower_hex))
}

fn expect(bytes: &[u8], offset: usize, expected: &[u8]) -> Result<(), PackError> {
    let found = bytes.get(offset..).unwrap_or_default();
    if found.starts_with(expected) {
        return Ok(());
    }
    let same = found
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    let part = |bytes: &[u8]| String::from_utf8_lossy(&bytes[same.min(bytes.len())..]).into_owned();
    Err(PackError::Envelope {
        offset: offset + same,
        expected: part(expected),
        found: part(&found[..found.len().min(expected.len())]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::id;
    use super::*;

    #[test]
    fn a_file_gives_back_id_and_bytes() {
        let content = br#"{"a":1}"#;
        let file = to_file(&id(content), content);
        assert_eq!(from_file(&file).unwrap(), (id(content), content.to_vec()));
        for space in ["\n", "\r\n", " \n\n"] {
            let file = [&file[..], space.as_bytes()].concat();
            assert_eq!(from_file(&file).unwrap().1, content);
        }
    }

    #[test]
    fn a_file_that_was_laid_out_anew_is_the_same_pack() {
        let content = br#"{"a":1,"b":["\n",{"c":"\u001fx"}]}"#;
        let file = to_file(&id(content), content);
        let value: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        assert_eq!(from_file(&pretty).unwrap(), (id(content), content.to_vec()));
    }

    #[test]
    fn what_is_not_a_file_is_told_by_place() {
        let content = br#"{"a":1}"#;
        let file = to_file(&id(content), content);
        for cut in 1..file.len() {
            let error = from_file(&file[..cut]).unwrap_err();
            assert_eq!(error, PackError::Truncated { bytes: cut });
        }
        let error = from_file(b"{\"id\": 3}").unwrap_err().to_string();
        assert_eq!(
            error,
            "not a pack file: at byte 6, expected `\"`, found ` `"
        );
        assert!(
            from_file(b"")
                .unwrap_err()
                .to_string()
                .contains("at byte 0")
        );
    }
}
