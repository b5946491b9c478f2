//! nginx's configuration language: words, blocks, and the files of `nginx -T`.

/// A directive with its words and, where it has one, its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) block: Option<Vec<Directive>>,
}

/// One file of `nginx -T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Splits what `nginx -T` prints into its files; the first is the main one.
pub(crate) fn files(dump: &str) -> Vec<ConfigFile> {
    let mut files: Vec<ConfigFile> = Vec::new();
    for line in dump.lines() {
        let path = line
            .strip_prefix("# configuration file ")
            .and_then(|rest| rest.strip_suffix(':'));
        match (path, files.last_mut()) {
            (Some(path), _) => files.push(ConfigFile {
                path: path.to_owned(),
                text: String::new(),
            }),
            (None, Some(file)) => {
                file.text.push_str(line);
                file.text.push('\n');
            }
            (None, None) => {}
        }
    }
    files
}

/// Blocks deeper than this are no configuration.
const DEEPEST: usize = 64;

/// Reads directives as nginx does. What nginx has accepted is understood; of anything else as
/// much as makes sense.
pub(crate) fn directives(text: &str) -> Vec<Directive> {
    Reader {
        rest: text.chars().peekable(),
    }
    .block(0)
}

/// A word as it is written in a file, whatever is in it.
pub(crate) fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Reader<'_> {
    fn block(&mut self, depth: usize) -> Vec<Directive> {
        let mut found = Vec::new();
        let mut words: Vec<String> = Vec::new();
        while let Some(token) = self.token() {
            let block = match token {
                Token::Word(word) => {
                    words.push(word);
                    continue;
                }
                Token::Close => break,
                Token::End => None,
                Token::Open if words.first().is_some_and(|n| n.ends_with("_by_lua_block")) => {
                    self.skip_lua();
                    Some(Vec::new())
                }
                Token::Open if depth < DEEPEST => Some(self.block(depth + 1)),
                Token::Open => Some(Vec::new()),
            };
            let mut words = std::mem::take(&mut words).into_iter();
            if let Some(name) = words.next() {
                found.push(Directive {
                    name,
                    args: words.collect(),
                    block,
                });
            }
        }
        found
    }

    fn token(&mut self) -> Option<Token> {
        loop {
            match *self.rest.peek()? {
                c if c.is_ascii_whitespace() => {
                    self.rest.next();
                }
                '#' => while self.rest.next().is_some_and(|c| c != '\n') {},
                ';' => {
                    self.rest.next();
                    return Some(Token::End);
                }
                '{' => {
                    self.rest.next();
                    return Some(Token::Open);
                }
                '}' => {
                    self.rest.next();
                    return Some(Token::Close);
                }
                quote @ ('"' | '\'') => {
                    self.rest.next();
                    return Some(Token::Word(self.word(Some(quote))));
                }
                _ => return Some(Token::Word(self.word(None))),
            }
        }
    }

    fn word(&mut self, quote: Option<char>) -> String {
        let mut word = String::new();
        let mut variable = false;
        while let Some(&c) = self.rest.peek() {
            let ends = match quote {
                Some(quote) => c == quote,
                None => c.is_ascii_whitespace() || c == ';' || (c == '{' && !variable),
            };
            if ends {
                if quote.is_some() {
                    self.rest.next();
                }
                break;
            }
            self.rest.next();
            variable = c == '$';
            if c != '\\' {
                word.push(c);
                continue;
            }
            match self.rest.next() {
                Some(c @ ('"' | '\'' | '\\')) => word.push(c),
                Some('t') => word.push('\t'),
                Some('r') => word.push('\r'),
                Some('n') => word.push('\n'),
                // A regular expression's own backslash.
                Some(c) => word.extend(['\\', c]),
                None => word.push('\\'),
            }
        }
        word
    }

    /// Lua code up to the brace that closes it.
    fn skip_lua(&mut self) {
        let mut depth = 1_usize;
        while let Some(c) = self.rest.next() {
            match c {
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                '-' if self.rest.peek() == Some(&'-') => {
                    while self.rest.next().is_some_and(|c| c != '\n') {}
                }
                '"' | '\'' => {
                    while let Some(inner) = self.rest.next() {
                        if inner == '\\' {
                            self.rest.next();
                        } else if inner == c {
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = files(&text);
    for directive in directives(&text) {
        for word in &directive.args {
            let again = directives(&format!("d {};", quoted(word)));
            assert_eq!(
                again.first().map(|it| it.args.as_slice()),
                Some(std::slice::from_ref(word))
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_nginx_reads_them() {
        let text = r#"
            # a comment; with { things
            server_name a.example "b c" 'd\'e' ~^www\.(?<x>.+)$ "~^\d{2}$" x#y;
            set $v "${host}{}";
            set $w ${host}end;
            if ($a) { return 404; }
            content_by_lua_block { local s = "}" -- it's }
              if s then ngx.say('{') end }
            after 1;
        "#;
        let found = directives(text);
        let names: Vec<&str> = found.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "server_name",
                "set",
                "set",
                "if",
                "content_by_lua_block",
                "after"
            ]
        );
        assert_eq!(
            found[0].args,
            [
                "a.example",
                "b c",
                "d'e",
                r"~^www\.(?<x>.+)$",
                r"~^\d{2}$",
                "x#y"
            ]
        );
        assert_eq!(found[1].args, ["$v", "${host}{}"]);
        assert_eq!(found[2].args, ["$w", "${host}end"]);
        assert_eq!(found[3].block.as_ref().unwrap()[0].args, ["404"]);
    }

    #[test]
    fn a_word_comes_back_through_its_quotes() {
        for word in [r"~^www\.a\\b$", "a\"b", "", "{;}", "$x y'z", "\\"] {
            let read = directives(&format!("d {};", quoted(word)));
            assert_eq!(read[0].args, [word]);
        }
    }

    #[test]
    fn nothing_makes_it_fall_over() {
        for text in [
            "}",
            "{",
            "a {",
            "a \"",
            "\\",
            ";;;",
            "a b\\",
            "x_by_lua_block {",
        ] {
            directives(text);
        }
        directives(&"a {".repeat(100_000));
        assert!(files("garbage\n").is_empty());
    }

    #[test]
    fn the_files_of_a_dump_are_told_apart() {
        let dump = "nginx: ok\n# configuration file /etc/nginx/nginx.conf:\nhttp {\n}\n\n\
                    # configuration file /etc/nginx/conf.d/a.conf:\nserver { }\n\n";
        let files = files(dump);
        assert_eq!(files.len(), 2);
        assert_eq!(files[1].path, "/etc/nginx/conf.d/a.conf");
        assert!(files[0].text.starts_with("http {"));
    }
}
