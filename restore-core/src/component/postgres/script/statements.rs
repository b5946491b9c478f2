//! What only the statements tell: roles that something is granted to, the options of the
//! database, and how what follows is to be read.

use super::super::names;
use super::ScriptReader;
use super::tokens::{Token, tokens};

impl ScriptReader {
    pub(super) fn statement(&mut self, line: &str) {
        if line.contains("standard_conforming_strings") {
            self.standard_strings(line);
        } else if let Some(value) = line.strip_prefix("SET client_encoding = ") {
            let value = value.trim_end_matches(';').trim_matches('\'');
            self.other_encoding = value != "UTF8";
        } else if let Some(value) = line.strip_prefix("SET default_tablespace = ") {
            if let Some(Token::Ident(name) | Token::Text(name) | Token::Word(name)) =
                tokens(value).into_iter().next()
            {
                self.tablespace(&name);
            }
        } else if self.kind == "DATABASE" && line.starts_with("CREATE DATABASE ") {
            self.create(line);
        } else if matches!(
            self.kind.as_str(),
            "ACL" | "DEFAULT ACL" | "POLICY" | "USER MAPPING"
        ) && !self.is_database_acl()
        {
            self.grantees(line);
        }
    }

    /// What is a text from here on, and so where a command of psql's could hide, depends on this
    /// setting: only pg_dump's own two lines are understood.
    fn standard_strings(&mut self, line: &str) {
        match line {
            "SET standard_conforming_strings = on;" => self.quoting.set_standard_strings(true),
            "SET standard_conforming_strings = off;" => self.quoting.set_standard_strings(false),
            _ => {
                let what = "SET standard_conforming_strings".to_owned();
                self.script.command.get_or_insert((what, self.number));
            }
        }
    }

    /// Roles after TO, FROM, FOR ROLE, FOR, and after SESSION AUTHORIZATION. Keywords are in
    /// capitals and names that are not lower case are quoted, so a word alone tells.
    fn grantees(&mut self, line: &str) {
        let tokens = tokens(line);
        let word = |at: usize, text: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word == text);
        for at in 0..tokens.len() {
            let lists = word(at, "TO")
                || word(at, "FROM")
                || word(at, "ROLE")
                || word(at, "AUTHORIZATION")
                || (self.kind == "USER MAPPING" && word(at, "FOR"));
            if !lists {
                continue;
            }
            let mut next = at + 1;
            while let Some(Token::Word(name) | Token::Ident(name)) = tokens.get(next) {
                let keyword = matches!(tokens.get(next), Some(Token::Word(word))
                    if word.chars().any(char::is_uppercase));
                if !keyword && name != "public" {
                    self.script.roles.insert(name.clone());
                }
                if tokens.get(next + 1) != Some(&Token::Sign(',')) {
                    break;
                }
                next += 2;
            }
        }
    }

    fn create(&mut self, line: &str) {
        const KEYS: [&str; 8] = [
            "ENCODING",
            "LOCALE_PROVIDER",
            "LOCALE",
            "LC_COLLATE",
            "LC_CTYPE",
            "ICU_LOCALE",
            "ICU_RULES",
            "BUILTIN_LOCALE",
        ];
        let tokens = tokens(line);
        for three in tokens.windows(3) {
            let [Token::Word(key), Token::Sign('='), value] = three else {
                continue;
            };
            let value = match value {
                Token::Text(text) => names::literal(text),
                Token::Word(word) => word.clone(),
                _ => continue,
            };
            if KEYS.contains(&key.as_str()) {
                self.script.create.push((key.clone(), value));
            }
        }
    }
}
