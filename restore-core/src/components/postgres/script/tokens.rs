//! Words, names and texts of one line of SQL.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Token {
    /// Letters, digits, `_`, `$`, without quotes.
    Word(String),
    /// A name in double quotes, unquoted.
    Ident(String),
    /// A text in single quotes, unquoted; of `E'…'` with its escapes undone.
    Text(String),
    /// Anything else. A backslash stands for an `E'…'` that could not be read.
    Sign(char),
}

pub(in super::super) fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => tokens.push(Token::Ident(quoted(&mut chars, c))),
            '\'' => tokens.push(Token::Text(quoted(&mut chars, c))),
            'e' | 'E' if chars.peek() == Some(&'\'') => {
                chars.next();
                tokens.push(escaped(&mut chars).map_or(Token::Sign('\\'), Token::Text));
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) =
                    chars.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '$'))
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => tokens.push(Token::Sign(c)),
        }
    }
    tokens
}

/// What follows an opening quote, to its end.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> String {
    let mut text = String::new();
    while let Some(next) = chars.next() {
        if next != quote {
            text.push(next);
        } else if chars.next_if_eq(&quote).is_some() {
            text.push(quote);
        } else {
            break;
        }
    }
    text
}

/// What follows `E'`, to its end. `None`: it has escapes for bytes or code points, which pg_dump never writes.
fn escaped(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let (mut text, mut known) = (String::new(), true);
    while let Some(next) = chars.next() {
        match next {
            '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
            '\'' => break,
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('b') => text.push('\u{8}'),
                Some('f') => text.push('\u{c}'),
                Some('0'..='7' | 'x' | 'u' | 'U') | None => known = false,
                Some(other) => text.push(other),
            },
            c => text.push(c),
        }
    }
    known.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_escapes_are_one_token() {
        let text = |text: &str| Token::Text(text.to_owned());
        let word = |text: &str| Token::Word(text.to_owned());
        assert_eq!(
            tokens(r"SET a TO E'it''s \\ a \'day\'', E '\', NAME'x'"),
            [
                word("SET"),
                word("a"),
                word("TO"),
                text(r"it's \ a 'day'"),
                Token::Sign(','),
                word("E"),
                text("\\"),
                Token::Sign(','),
                word("NAME"),
                text("x"),
            ]
        );
        assert_eq!(
            tokens(r"E'\x41' E'a\nb'"),
            [Token::Sign('\\'), text("a\nb")]
        );
    }
}
