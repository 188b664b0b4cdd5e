//! The characters of an XML document, by its byte order mark or its declaration.

use std::borrow::Cow;

use encoding_rs::Encoding;

use super::{ReportError, text::place_of};

/// Decodes an XML document.
///
/// A byte order mark decides, else the encoding its declaration names, else UTF-8. Errors: an encoding that
/// is not known, or bytes that are not of the encoding, with their place.
pub(crate) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ReportError> {
    let (encoding, start) = match Encoding::for_bom(bytes) {
        Some((encoding, length)) => (encoding, length),
        None => (declared(bytes)?, 0),
    };
    let body = &bytes[start..];
    if encoding == encoding_rs::UTF_8 {
        let text = std::str::from_utf8(body).map_err(|error| {
            ReportError::at(
                place_of(body, error.valid_up_to()),
                "expected UTF-8; save the report as UTF-8 or name its encoding in the XML declaration",
            )
        })?;
        return Ok(Cow::Borrowed(text));
    }
    let decoded = encoding.decode_without_bom_handling_and_without_replacement(body);
    decoded.ok_or_else(|| {
        ReportError::whole(format!(
            "expected {} as the report declares",
            encoding.name()
        ))
    })
}

/// The encoding that `<?xml … encoding="…"?>` names; UTF-8 when it names none.
fn declared(bytes: &[u8]) -> Result<&'static Encoding, ReportError> {
    let head = &bytes[..bytes.len().min(256)];
    let head: String = head.iter().map(|byte| char::from(*byte)).collect();
    let label = head
        .strip_prefix("<?xml")
        .and_then(|rest| rest.split_once("?>"))
        .and_then(|(declaration, _)| declaration.split_once("encoding"))
        .and_then(|(_, rest)| rest.trim_start().strip_prefix('='))
        .and_then(|rest| {
            let quote = rest
                .trim_start()
                .chars()
                .next()
                .filter(|c| "\"'".contains(*c))?;
            rest.trim_start()[1..].split(quote).next()
        });
    let Some(label) = label else {
        return Ok(encoding_rs::UTF_8);
    };
    let unknown = || {
        let shown: String = label.escape_debug().take(40).collect();
        ReportError::whole(format!(
            "the XML declaration names the encoding `{shown}`, expected one of the WHATWG encodings, for example UTF-8"
        ))
    };
    let found = Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(unknown)?;
    // Without a byte order mark, a document whose declaration could be read as ASCII is not UTF-16.
    let wide = found == encoding_rs::UTF_16LE || found == encoding_rs::UTF_16BE;
    Ok(if wide { encoding_rs::UTF_8 } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_decides() {
        assert_eq!(decode("<a>ä</a>".as_bytes()).unwrap(), "<a>ä</a>");
        assert_eq!(decode(b"\xef\xbb\xbf<a/>").unwrap(), "<a/>");
        let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe4</a>";
        assert!(decode(latin).unwrap().ends_with("<a>ä</a>"));
        assert_eq!(decode(b"\xff\xfe<\0a\0/\0>\0").unwrap(), "<a/>");
    }

    #[test]
    fn bytes_of_another_encoding_are_refused_with_their_place() {
        let error = decode(b"<a>\n \xe4</a>").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("line 2, column 2: expected UTF-8"),
            "{error}"
        );
        let error = decode(b"<?xml version='1.0' encoding='klingon'?><a/>").unwrap_err();
        assert!(error.to_string().contains("`klingon`"), "{error}");
    }
}
