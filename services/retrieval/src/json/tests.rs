use proptest::prelude::*;

use super::*;

fn text(text: &str) -> String {
    let mut writer = Writer::default();
    writer.text(text);
    String::from_utf8(writer.into_bytes()).unwrap()
}

#[test]
fn texts_are_escaped_as_the_standard_says() {
    assert_eq!(text("a\"b\\c/d"), r#""a\"b\\c/d""#);
    assert_eq!(text("\u{8}\t\n\u{c}\r"), r#""\b\t\n\f\r""#);
    assert_eq!(text("\u{0}\u{1f}\u{b}"), r#""\u0000\u001f\u000b""#);
    assert_eq!(text("\u{7f}ä€\u{2028}😀"), "\"\u{7f}ä€\u{2028}😀\"");
}

#[test]
fn numbers_are_whole_and_plain() {
    for (number, expected) in [
        (0, "0"),
        (7, "7"),
        (10, "10"),
        (u64::MAX, "18446744073709551615"),
    ] {
        let mut writer = Writer::default();
        writer.number(number);
        assert_eq!(String::from_utf8(writer.into_bytes()).unwrap(), expected);
    }
}

#[test]
fn objects_and_lists_have_no_spaces() {
    let mut writer = Writer::default();
    writer.object(|object| {
        object
            .key("a")
            .list([1_u64, 2], |writer, number| writer.number(number));
        object.object("b", |inner| inner.key("x").flag(true));
        object.texts("c", &["d"]);
        object.key("e").hex("ev_", &[0x0a, 0xff]);
    });
    let expected = r#"{"a":[1,2],"b":{"x":true},"c":["d"],"e":"ev_0aff"}"#;
    assert_eq!(String::from_utf8(writer.into_bytes()).unwrap(), expected);
}

#[test]
#[should_panic(expected = "before a")]
#[cfg(debug_assertions)]
fn unsorted_keys_are_found() {
    Writer::default().object(|object| {
        object.text("b", "");
        object.text("a", "");
    });
}

proptest! {
    #[test]
    fn any_text_comes_back(given in "\\PC*|[\\x00-\\x7f]*") {
        let written = text(&given);
        prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), given.clone());
        prop_assert_eq!(written, serde_json::to_string(&given).unwrap());
    }
}
