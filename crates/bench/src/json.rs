//! JSON, as much of it as a results file needs, without a library.

use std::fmt;

use crate::store::Result;

/// A JSON value. Objects keep the order of their fields.
#[derive(Clone, Debug, PartialEq)]
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

    /// Reads a value that takes up the whole text. Of numbers, words and escapes it knows those
    /// that [`Json`] writes, and of the rest what a results file cannot hold is an error.
    pub(crate) fn parse(text: &str) -> Result<Json> {
        let mut reader = Reader { rest: text };
        let value = reader.value()?;
        reader.skip_space();
        if reader.rest.is_empty() { Ok(value) } else { Err(reader.error("the end")) }
    }

    /// Returns a field of an object.
    pub(crate) fn field(&self, name: &str) -> Option<&Json> {
        let Json::Object(fields) = self else { return None };
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    pub(crate) fn number(&self) -> Option<f64> {
        if let Json::Number(number) = self { Some(*number) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the elements of a list; none for anything else.
    pub(crate) fn list(&self) -> &[Json] {
        if let Json::List(values) = self { values } else { &[] }
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

/// What is left of a text that is being read.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Json> {
        self.skip_space();
        if self.take("null") {
            return Ok(Json::Null);
        }
        if self.take("{") {
            let mut fields = Vec::new();
            while !self.ends("}", fields.is_empty())? {
                self.skip_space();
                let name = self.string()?;
                self.skip_space();
                if !self.take(":") {
                    return Err(self.error("a colon"));
                }
                fields.push((name, self.value()?));
            }
            return Ok(Json::Object(fields));
        }
        if self.take("[") {
            let mut values = Vec::new();
            while !self.ends("]", values.is_empty())? {
                values.push(self.value()?);
            }
            return Ok(Json::List(values));
        }
        if self.rest.starts_with('"') {
            return Ok(Json::Text(self.string()?));
        }
        let is_of_number =
            |character: char| character.is_ascii_digit() || "+-.eE".contains(character);
        let end = self.rest.find(|character| !is_of_number(character)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let number = number.parse().map_err(|_| self.error("a value"))?;
        self.rest = rest;
        Ok(Json::Number(number))
    }

    /// Takes the end of a list or an object, or else the comma before the next element.
    fn ends(&mut self, end: &str, is_first: bool) -> Result<bool> {
        self.skip_space();
        if self.take(end) {
            return Ok(true);
        }
        if is_first || self.take(",") { Ok(false) } else { Err(self.error("a comma")) }
    }

    fn string(&mut self) -> Result<String> {
        if !self.take("\"") {
            return Err(self.error("a name"));
        }
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &self.rest[index + 1..];
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, 'u')) => {
                        let digits: String = characters.by_ref().take(4).map(|it| it.1).collect();
                        let code = u32::from_str_radix(&digits, 16).ok();
                        text.extend(code.and_then(char::from_u32));
                    }
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                other => text.push(other),
            }
        }
        Err(self.error("the end of a text"))
    }

    fn take(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn error(&self, wanted: &str) -> crate::store::Error {
        let found: String = self.rest.chars().take(20).collect();
        format!("not a results file: {wanted} is missing before {found:?}").into()
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

    fn example() -> Json {
        let list = Json::List(vec![Json::from(1.5), Json::Null, Json::List(Vec::new())]);
        Json::object([("a\"b", Json::from("x\ny\\")), ("list", list), ("none", Json::Null)])
    }

    #[test]
    fn written_as_json() {
        let list = Json::List(vec![Json::from(1.5), Json::from(f64::NAN), Json::from(None)]);
        let object = Json::object([("a\"b", Json::from("x\ny")), ("list", list)]);
        let expected = "{\"a\\\"b\": \"x\\u000ay\", \"list\": [\n  1.5,\n  null,\n  null]}";
        assert_eq!(object.to_string(), expected);
    }

    #[test]
    fn what_is_written_can_be_read() {
        assert_eq!(Json::parse(&example().to_string()).unwrap(), example());
        assert_eq!(Json::parse(" [-1.5e3, {} ] ").unwrap().list()[0].number(), Some(-1500.0));
    }

    #[test]
    fn no_part_of_it_can() {
        let text = example().to_string();
        for end in 0..text.len() {
            assert!(Json::parse(&text[..end]).is_err(), "{}", &text[..end]);
        }
        for bad in ["[1 2]", "{\"a\" 1}", "{1: 2}", "nul", "1 1", "truth"] {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
    }
}
