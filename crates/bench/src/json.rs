//! JSON to write, never to read: enough for a results file without a library.

use std::fmt;

/// A JSON value. Objects keep the order of their fields.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn object<const N: usize>(fields: [(&str, Json); N]) -> Json {
        Json::Object(fields.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Writes one element of a list a line, so that a results file is fit for a diff.
    fn write(&self, out: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Json::Null => out.write_str("null"),
            Json::Number(number) if !number.is_finite() => out.write_str("null"),
            Json::Number(number) => write!(out, "{number}"),
            Json::Text(text) => write_text(out, text),
            Json::List(values) => {
                out.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(out, "{}\n{:depth$}", if index > 0 { "," } else { "" }, "")?;
                    value.write(out, depth + 1)?;
                }
                out.write_str("]")
            }
            Json::Object(fields) => {
                out.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.write_str(if index > 0 { ", " } else { "" })?;
                    write_text(out, name)?;
                    out.write_str(": ")?;
                    value.write(out, depth + 1)?;
                }
                out.write_str("}")
            }
        }
    }
}

fn write_text(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(out, "\\{character}")?,
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control))?,
            other => write!(out, "{other}")?,
        }
    }
    out.write_str("\"")
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(out, 1)
    }
}

impl From<f64> for Json {
    fn from(number: f64) -> Json {
        Json::Number(number)
    }
}

impl From<Option<f64>> for Json {
    fn from(number: Option<f64>) -> Json {
        number.map_or(Json::Null, Json::Number)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_json() {
        let list = Json::List(vec![Json::from(1.5), Json::from(f64::NAN), Json::from(None)]);
        let object = Json::object([("a\"b", Json::from("x\ny")), ("list", list)]);
        let expected = "{\"a\\\"b\": \"x\\u000ay\", \"list\": [\n  1.5,\n  null,\n  null]}";
        assert_eq!(object.to_string(), expected);
    }
}
