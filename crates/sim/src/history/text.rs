//! The text form of a history, for people, for files and for golden tests.
//!
//! ```text
//! T4  s2  7..12  committed  read_ts=5 commit_ts=9 : append x 3; read x [1 2 3]; read "a key" nil
//! |   |   |      |          |                     | |
//! |   |   |      |          optional, any order   | operations, separated by `;`
//! |   |   |      committed, aborted or unknown    the colon closes the head
//! |   |   invoke..complete, `?` if no answer came
//! |   session: `s` and a number
//! label
//!
//! append KEY ELEMENT     write KEY VALUE     read KEY [E E E]     read KEY VALUE     read KEY nil
//! add KEY AMOUNT         cas KEY EXPECTED NEW ok              (or `failed`, or `?`: no answer)
//! ```
//!
//! Labels and keys of letters, digits and `_./@-` stand bare; others are quoted with the escapes
//! of Rust strings. A `#` begins a comment, blank lines mean nothing.

use std::fmt;
use std::iter::Peekable;
use std::str::{Chars, FromStr};

use super::{History, Op, Outcome, Transaction};

/// Why a text is not a history: the line, counted from 1, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was expected and what stood there.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transactions.iter().try_for_each(|txn| writeln!(f, "{txn}"))
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s{} {}..", Name(&self.label), self.session, self.invoke)?;
        match self.complete {
            Some(complete) => write!(f, "{complete}")?,
            None => f.write_str("?")?,
        }
        write!(f, " {}", self.outcome)?;
        if let Some(ts) = self.read_ts {
            write!(f, " read_ts={ts}")?;
        }
        if let Some(ts) = self.commit_ts {
            write!(f, " commit_ts={ts}")?;
        }
        f.write_str(":")?;
        for (i, op) in self.ops.iter().enumerate() {
            write!(f, "{} {op}", if i == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Committed => "committed",
            Outcome::Aborted => "aborted",
            Outcome::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Append { key, element } => write!(f, "append {} {element}", Name(key)),
            Op::ReadList { key, observed } => write!(f, "read {} {}", Name(key), List(observed)),
            Op::Write { key, value } => write!(f, "write {} {value}", Name(key)),
            Op::Read { key, value: Some(value) } => write!(f, "read {} {value}", Name(key)),
            Op::Read { key, value: None } => write!(f, "read {} nil", Name(key)),
            Op::Add { key, amount } => write!(f, "add {} {amount}", Name(key)),
            Op::Cas { key, expected, new, swapped } => {
                write!(f, "cas {} ", Name(key))?;
                match expected {
                    Some(expected) => write!(f, "{expected} {new} ")?,
                    None => write!(f, "nil {new} ")?,
                }
                f.write_str(match swapped {
                    Some(true) => "ok",
                    Some(false) => "failed",
                    None => "?",
                })
            }
        }
    }
}

/// Prints a label or a key, quoted if it could be mistaken for something else.
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(is_bare) {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", self.0.escape_default())
        }
    }
}

/// Prints a list as `[1 2 3]`.
pub(crate) struct List<'a>(pub(crate) &'a [u64]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, element) in self.0.iter().enumerate() {
            write!(f, "{}{element}", if i == 0 { "" } else { " " })?;
        }
        f.write_str("]")
    }
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./@-".contains(c)
}

impl FromStr for History {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<History, ParseError> {
        let mut transactions = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let error = |message| ParseError { line: i + 1, message };
            let words = split(line).map_err(error)?;
            if !words.is_empty() {
                transactions
                    .push(Words(words.into_iter().peekable()).transaction().map_err(error)?);
            }
        }
        Ok(History { transactions })
    }
}

/// A unit of a line. Quotes decide that a word is a name even where it looks like something else.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
    Mark(char),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Bare(word) => write!(f, "`{word}`"),
            Word::Quoted(word) => write!(f, "{word:?}"),
            Word::Mark(mark) => write!(f, "`{mark}`"),
        }
    }
}

fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c == '#' {
            break;
        } else if is_bare(c) {
            let mut word = String::new();
            while let Some(c) = chars.next_if(|c| is_bare(*c)) {
                word.push(c);
            }
            words.push(Word::Bare(word));
            continue;
        }
        chars.next();
        match c {
            '"' => words.push(Word::Quoted(unquote(&mut chars)?)),
            ':' | ';' | '[' | ']' | '=' | '?' => words.push(Word::Mark(c)),
            c if c.is_whitespace() => {}
            c => return Err(format!("unexpected `{c}`")),
        }
    }
    Ok(words)
}

/// Reads the rest of a quoted string: the escapes that `char::escape_default` writes.
fn unquote(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut string = String::new();
    loop {
        match chars.next().ok_or("a quote is not closed")? {
            '"' => return Ok(string),
            '\\' => string.push(match chars.next().ok_or("a quote is not closed")? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    chars.next_if_eq(&'{').ok_or("expected `{` after `\\u`")?;
                    let mut digits = String::new();
                    while let Some(c) = chars.next_if(char::is_ascii_hexdigit) {
                        digits.push(c);
                    }
                    chars.next_if_eq(&'}').ok_or("expected `}` to close `\\u{`")?;
                    u32::from_str_radix(&digits, 16)
                        .ok()
                        .and_then(char::from_u32)
                        .ok_or_else(|| format!("no character has the number `{digits}`"))?
                }
                c @ ('"' | '\'' | '\\') => c,
                c => return Err(format!("unknown escape `\\{c}`")),
            }),
            c => string.push(c),
        }
    }
}

/// The words of one line, read from left to right.
struct Words(Peekable<std::vec::IntoIter<Word>>);

impl Words {
    fn transaction(mut self) -> Result<Transaction, String> {
        let label = self.name("a label")?;
        let session = self.bare("a session, such as `s1`")?;
        let session = session.strip_prefix('s').ok_or("a session is `s` and a number")?;
        let session = number(session, "a session number")?;
        let span = self.bare("a span, such as `3..7`")?;
        let (invoke, complete) =
            span.split_once("..").ok_or_else(|| format!("expected `3..7`, found `{span}`"))?;
        let invoke = number(invoke, "a position")?;
        let complete = match complete {
            "" => self.mark('?').map(|()| None)?,
            complete => Some(number(complete, "a position")?),
        };
        if complete.is_some_and(|complete| complete < invoke) {
            return Err(format!("the span `{span}` ends before it begins"));
        }
        let outcome = match self.bare("an outcome")?.as_str() {
            "committed" => Outcome::Committed,
            "aborted" => Outcome::Aborted,
            "unknown" => Outcome::Unknown,
            word => return Err(format!("expected committed, aborted or unknown, found `{word}`")),
        };
        let (mut read_ts, mut commit_ts) = (None, None);
        while self.0.peek() != Some(&Word::Mark(':')) {
            let name = self.bare("a timestamp or `:`")?;
            self.mark('=')?;
            let ts = Some(number(&self.bare("a timestamp")?, "a timestamp")?);
            match name.as_str() {
                "read_ts" => read_ts = ts,
                "commit_ts" => commit_ts = ts,
                _ => return Err(format!("expected read_ts or commit_ts, found `{name}`")),
            }
        }
        self.mark(':')?;
        let mut ops = Vec::new();
        while self.0.peek().is_some() {
            ops.push(self.op()?);
            if self.0.peek().is_some() {
                self.mark(';')?;
            }
        }
        Ok(Transaction { label, session, invoke, complete, outcome, read_ts, commit_ts, ops })
    }

    fn op(&mut self) -> Result<Op, String> {
        let verb = self.bare("append, read, write, cas or add")?;
        let key = self.name("a key")?;
        match verb.as_str() {
            "append" => {
                Ok(Op::Append { key, element: number(&self.bare("an element")?, "an element")? })
            }
            "write" => Ok(Op::Write { key, value: number(&self.bare("a value")?, "a value")? }),
            "read" if self.0.next_if_eq(&Word::Mark('[')).is_some() => {
                let mut observed = Vec::new();
                while self.0.next_if_eq(&Word::Mark(']')).is_none() {
                    observed.push(number(&self.bare("an element or `]`")?, "an element")?);
                }
                Ok(Op::ReadList { key, observed })
            }
            "read" => match self.bare("a value, `nil` or a list")?.as_str() {
                "nil" => Ok(Op::Read { key, value: None }),
                value => Ok(Op::Read { key, value: Some(number(value, "a value")?) }),
            },
            "add" => Ok(Op::Add { key, amount: number(&self.bare("an amount")?, "an amount")? }),
            "cas" => {
                let expected = match self.bare("a value or `nil`")?.as_str() {
                    "nil" => None,
                    value => Some(number(value, "a value")?),
                };
                let new = number(&self.bare("a value")?, "a value")?;
                let swapped = match self.next("`ok`, `failed` or `?`")? {
                    Word::Mark('?') => None,
                    Word::Bare(word) if word == "ok" => Some(true),
                    Word::Bare(word) if word == "failed" => Some(false),
                    word => return Err(format!("expected `ok`, `failed` or `?`, found {word}")),
                };
                Ok(Op::Cas { key, expected, new, swapped })
            }
            _ => Err(format!("expected append, read, write, cas or add, found `{verb}`")),
        }
    }

    fn next(&mut self, wanted: &str) -> Result<Word, String> {
        self.0.next().ok_or_else(|| format!("expected {wanted}, found the end of the line"))
    }

    fn bare(&mut self, wanted: &str) -> Result<String, String> {
        match self.next(wanted)? {
            Word::Bare(word) => Ok(word),
            word => Err(format!("expected {wanted}, found {word}")),
        }
    }

    fn name(&mut self, wanted: &str) -> Result<String, String> {
        match self.next(wanted)? {
            Word::Bare(word) | Word::Quoted(word) => Ok(word),
            word => Err(format!("expected {wanted}, found {word}")),
        }
    }

    fn mark(&mut self, mark: char) -> Result<(), String> {
        match self.next(&format!("`{mark}`"))? {
            Word::Mark(found) if found == mark => Ok(()),
            word => Err(format!("expected `{mark}`, found {word}")),
        }
    }
}

fn number(word: &str, wanted: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("expected {wanted}, found `{word}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let text = "\
T1 s1 1..4 committed read_ts=10 commit_ts=11: append x 1; read y []; read y [1 2]
T2 s2 2..? unknown: write a/b@c-d_e.f 7; read \"a \\\"key\\\"\\n\\u{e9}\" nil
\"\" s3 5..5 aborted:
T4 s4 6..7 committed: cas x nil 2 ok; cas x 2 3 failed; add n 7
T5 s4 8..? unknown: cas x 2 3 ?
";
        let history: History = text.parse().unwrap();
        assert_eq!(history.to_string(), text);
        assert_eq!(history.transactions[1].ops[1].key(), "a \"key\"\né");
    }

    #[test]
    fn layout_and_comments_mean_nothing() {
        let history: History =
            "# story\n\n  T1  s1 1..2   committed :append x 1 ; # why".parse().unwrap();
        assert_eq!(history.to_string(), "T1 s1 1..2 committed: append x 1\n");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(text.parse::<History>().unwrap_err().to_string(), expected);
    }

    #[test]
    fn errors_name_the_line_and_the_wish() {
        check_error("\nT1", "line 2: expected a session, such as `s1`, found the end of the line");
        check_error("T1 7 1..2 committed:", "line 1: a session is `s` and a number");
        check_error("T1 s7 3..2 committed:", "line 1: the span `3..2` ends before it begins");
        check_error(
            "T1 s7 1..2 maybe:",
            "line 1: expected committed, aborted or unknown, found `maybe`",
        );
        check_error(
            "T1 s7 1..2 aborted: pop x",
            "line 1: expected append, read, write, cas or add, found `pop`",
        );
        check_error(
            "T1 s7 1..2 aborted: cas x 1 2 maybe",
            "line 1: expected `ok`, `failed` or `?`, found `maybe`",
        );
        check_error(
            "T1 s7 1..2 aborted: read x [1",
            "line 1: expected an element or `]`, found the end of the line",
        );
        check_error("T1 s7 1..2 aborted: read x 1 read", "line 1: expected `;`, found `read`");
        check_error("T1 s7 1..2 aborted: read \"x 1", "line 1: a quote is not closed");
    }
}
