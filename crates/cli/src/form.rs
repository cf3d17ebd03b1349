//! The two forms in which bytes are shown and taken: text ([`base::text`]) and JSON.
//!
//! In JSON a field `key` or `value` holds text. Bytes that are not UTF-8 stand in `key_b64` or
//! `value_b64` instead, so any byte string survives the round trip.

use std::str::FromStr;

use base::text::{self, BadEscape};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Bytes given in text form as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl FromStr for Text {
    type Err = BadEscape;

    fn from_str(text: &str) -> Result<Text, BadEscape> {
        text::unescape(text).map(Text)
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Appends a JSON string.
pub(crate) fn push_json_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// Appends `"name":"…"`, or `"name_b64":"…"` for bytes that are not UTF-8.
pub(crate) fn push_json_bytes(out: &mut String, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            push_json_string(out, name);
            out.push(':');
            push_json_string(out, text);
        }
        Err(_) => {
            push_json_string(out, &format!("{name}_b64"));
            out.push_str(":\"");
            BASE64.encode_string(bytes, out);
            out.push('"');
        }
    }
}

/// Returns a row as a JSON object.
pub(crate) fn json_row(key: &[u8], value: Option<&[u8]>) -> String {
    let mut out = String::with_capacity(key.len() + value.map_or(0, <[u8]>::len) + 24);
    out.push('{');
    push_json_bytes(&mut out, "key", key);
    if let Some(value) = value {
        out.push(',');
        push_json_bytes(&mut out, "value", value);
    }
    out.push('}');
    out
}

/// Adds a field that holds bytes to a JSON object.
pub(crate) fn insert_bytes(
    object: &mut serde_json::Map<String, serde_json::Value>,
    name: &str,
    bytes: &[u8],
) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_string(), text.into()),
        Err(_) => object.insert(format!("{name}_b64"), to_base64(bytes).into()),
    };
}

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Returns the bytes, or a sentence that says why they are none.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|error| format!("this is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_which_form_it_holds() {
        assert_eq!(json_row(b"a\"\n", Some("é".as_bytes())), r#"{"key":"a\"\n","value":"é"}"#);
        assert_eq!(json_row(b"", None), r#"{"key":""}"#);
        assert_eq!(json_row(b"\xff\0", Some(b"")), r#"{"key_b64":"/wA=","value":""}"#);
        assert_eq!(from_base64("/wA=").unwrap(), b"\xff\0");
        assert!(from_base64("/wA").is_err());
    }
}
