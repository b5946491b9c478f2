//! Words, names and texts of one line of SQL.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Token {
    /// Letters, digits, `_`, `$`, without quotes.
    Word(String),
    /// A name in double quotes, unquoted.
    Ident(String),
    /// A text in single quotes, unquoted.
    Text(String),
    /// Anything else.
    Sign(char),
}

pub(in super::super) fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => {
                let mut text = String::new();
                while let Some(next) = chars.next() {
                    if next != c {
                        text.push(next);
                    } else if chars.peek() == Some(&c) {
                        chars.next();
                        text.push(c);
                    } else {
                        break;
                    }
                }
                tokens.push(if c == '"' {
                    Token::Ident(text)
                } else {
                    Token::Text(text)
                });
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
