//! Splitting a line into words.

/// Splits a line at spaces and tabs. A word in double quotes may hold spaces; inside, `\"` is a
/// quote. Escapes stay as they are: each word is in text form.
///
/// What is quoted is data: a word that would be taken for an option gets its first character
/// escaped.
///
/// # Errors
/// A sentence that names the column of a quote that is not closed, or closed too early.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().enumerate().peekable();
    while let Some(&(index, c)) = chars.peek() {
        if is_space(c) {
            chars.next();
            continue;
        }
        let mut word = String::new();
        if c != '"' {
            while let Some((_, c)) = chars.next_if(|&(_, c)| !is_space(c)) {
                word.push(c);
            }
            words.push(word);
            continue;
        }
        chars.next();
        loop {
            match chars.next() {
                None => return Err(format!("column {}: this quote is not closed", index + 1)),
                Some((_, '"')) => break,
                Some((_, '\\')) => match chars.next() {
                    Some((_, '"')) => word.push('"'),
                    // Both together, so that the quote after `\\` is seen as one.
                    Some((_, other)) => word.extend(['\\', other]),
                    None => word.push('\\'),
                },
                Some((_, other)) => word.push(other),
            }
        }
        if let Some(&(index, c)) = chars.peek()
            && !is_space(c)
        {
            return Err(format!(
                r#"column {}: a space belongs after a closing quote; a quote inside is written \""#,
                index + 1
            ));
        }
        if let Some(rest) = word.strip_prefix('-') {
            word = format!(r"\x2d{rest}");
        }
        words.push(word);
    }
    Ok(words)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        assert_eq!(split(line).unwrap(), expected, "{line}");
    }

    #[test]
    fn words_are_quoted_in_one_way() {
        check("", &[]);
        check(" put  a\tb ", &["put", "a", "b"]);
        check(r#"put "" "a b""#, &["put", "", "a b"]);
        check(r#"put a"b 'c'"#, &["put", "a\"b", "'c'"]);
        check(r#"put "say \"hi\"" "\\" "\n""#, &["put", "say \"hi\"", r"\\", r"\n"]);
        check(r#"put "-5" -5"#, &["put", r"\x2d5", "-5"]);
    }

    #[test]
    fn a_bad_quote_is_named_by_its_column() {
        assert!(split(r#"put "a"#).unwrap_err().starts_with("column 5:"));
        assert!(split(r#"put "a\""#).unwrap_err().starts_with("column 5:"));
        assert!(split(r#"put "a"b"#).unwrap_err().starts_with("column 8:"));
    }
}
