//! The text form of bytes: one rule for arguments, the shell, text output and error messages.
//!
//! Printable UTF-8 stands for itself, and a backslash escapes: `\\` is a backslash, `\n` a line
//! feed, `\t` a tab, `\xNN` the byte with that hexadecimal number. Everything that is not printable
//! is written as `\xNN` byte by byte. Each byte string has one text form, and reading it back gives
//! the same bytes.
//!
//! ```
//! use base::text;
//!
//! assert_eq!(text::escape(b"caf\xc3\xa9\n\xff\\"), r"café\n\xff\\");
//! assert_eq!(text::unescape(r"café\n\xff\\").unwrap(), b"caf\xc3\xa9\n\xff\\");
//! ```

use thiserror::Error;

/// A backslash in a text is not followed by one of the known escapes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(r"column {column}: {found} is not an escape: write \\ for a backslash, or \n, \t, \xNN")]
pub struct BadEscape {
    /// Where the backslash stands, in characters, counted from 1.
    pub column: usize,
    /// The backslash and what follows it.
    pub found: String,
}

/// Returns the text form of the bytes.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str(r"\\"),
                '\n' => out.push_str(r"\n"),
                '\t' => out.push_str(r"\t"),
                c if is_printable(c) => out.push(c),
                c => push_hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

/// Returns the text form of the bytes, cut to about `chars_max` characters, for error messages.
pub fn escape_short(bytes: &[u8], chars_max: usize) -> String {
    let text = escape(&bytes[..bytes.len().min(chars_max * 4)]);
    if text.chars().count() <= chars_max && bytes.len() <= chars_max * 4 {
        return text;
    }
    let head: String = text.chars().take(chars_max).collect();
    format!("{head}… ({} bytes)", bytes.len())
}

/// Returns the bytes that a text stands for.
///
/// # Errors
/// [`BadEscape`] names the first backslash that is not an escape.
pub fn unescape(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars().enumerate();
    while let Some((index, c)) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let rest: Vec<char> = chars.clone().take(3).map(|(_, c)| c).collect();
        let (byte, used) = match rest[..] {
            ['\\', ..] => (b'\\', 1),
            ['n', ..] => (b'\n', 1),
            ['t', ..] => (b'\t', 1),
            ['x', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |c: char| c.to_digit(16).map_or(0, |digit| digit as u8);
                (digit(high) * 16 + digit(low), 3)
            }
            _ => {
                let found = std::iter::once('\\').chain(rest).collect();
                return Err(BadEscape { column: index + 1, found });
            }
        };
        out.push(byte);
        chars.nth(used - 1);
    }
    Ok(out)
}

/// Returns true for what a terminal shows as itself: no control characters, and none of the
/// invisible or direction-changing ones that could make two keys look alike.
fn is_printable(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'))
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push_str(r"\x");
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], text: &str) {
        assert_eq!(escape(bytes), text);
        assert_eq!(unescape(text).unwrap(), bytes);
    }

    #[test]
    fn every_byte_string_has_a_text_form() {
        check(b"", "");
        check(b"plain \"quoted\" 'text'", "plain \"quoted\" 'text'");
        check("grün ☂ 🚀".as_bytes(), "grün ☂ 🚀");
        check(b"\\n", r"\\n");
        check(b"\r\0\x7f", r"\x0d\x00\x7f");
        check(b"\xc3\x28 \xf0\x9f\x9a", r"\xc3( \xf0\x9f\x9a");
        check("a\u{200b}b\u{202e}".as_bytes(), r"a\xe2\x80\x8bb\xe2\x80\xae");
        for byte in 0..=255u8 {
            let bytes = [b'a', byte, b'z'];
            assert_eq!(unescape(&escape(&bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn a_bad_escape_names_its_column() {
        let check = |text: &str, column, found: &str| {
            let bad = unescape(text).unwrap_err();
            assert_eq!((bad.column, &bad.found[..]), (column, found));
        };
        check(r"ab\q", 3, r"\q");
        check(r"ab\", 3, r"\");
        check(r"é\x4", 2, r"\x4");
        check(r"\xzz rest", 1, r"\xzz");
    }

    #[test]
    fn long_keys_are_cut_in_messages() {
        assert_eq!(escape_short(b"short", 8), "short");
        assert_eq!(escape_short(&[b'k'; 100], 4), "kkkk… (100 bytes)");
    }
}
