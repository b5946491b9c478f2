//! What only the statements tell: roles that something is granted to, the options of the
//! database, and how what follows is to be read.

use super::super::names;
use super::ScriptReader;
use super::quoting::Characters;
use super::tokens::{Token, tokens};

impl ScriptReader {
    pub(super) fn statement(&mut self, line: &str) {
        if line.contains("standard_conforming_strings") {
            self.standard_strings(line);
        } else if let Some(value) = line.strip_prefix("SET client_encoding = ") {
            let value = value.trim_end_matches(';').trim_matches('\'');
            self.other_encoding = value != "UTF8";
            self.quoting.set_characters(Characters::of(value));
        } else if let Some(value) = line.strip_prefix("SET default_tablespace = ") {
            if let Some(Token::Ident(name) | Token::Text(name) | Token::Word(name)) =
                tokens(value).into_iter().next()
            {
                self.tablespace(&name);
            }
        } else if self.kind == "DATABASE" && line.starts_with("CREATE DATABASE ") {
            self.create(line);
        } else if self.is_of_database() {
            self.property(line);
        } else if line == "CREATE SCHEMA public;" {
            self.script.makes_public |= !self.is_left_out();
        } else if is_bare_drop(line) {
            if !self.is_left_out() {
                self.script.bare_drop.get_or_insert(self.number);
            }
        } else if matches!(
            self.kind.as_str(),
            "ACL" | "DEFAULT ACL" | "POLICY" | "USER MAPPING"
        ) && !self.is_database_acl()
        {
            let taken = line
                .strip_prefix("REVOKE ")
                .and_then(|rest| rest.strip_suffix(" ON SCHEMA public FROM PUBLIC;"));
            if let Some(taken) = taken.filter(|_| !self.is_left_out()) {
                for what in ["ALL", "USAGE", "CREATE"] {
                    if taken.split(',').any(|it| it.trim() == what) {
                        self.script.takes_of_public.insert(what.to_owned());
                    }
                }
            }
            self.grantees(line);
        }
    }

    /// What is a text from here on, and so where a command of psql's could hide, depends on this
    /// setting: only pg_dump's own two lines are understood.
    fn standard_strings(&mut self, line: &str) {
        match line {
            "SET standard_conforming_strings = on;" if self.begins_statement() => {
                self.quoting.set_standard_strings(true);
            }
            "SET standard_conforming_strings = off;" if self.begins_statement() => {
                self.quoting.set_standard_strings(false);
            }
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
                let named = matches!(self.kind.as_str(), "POLICY" | "USER MAPPING");
                let new = !self.script.roles.contains(name)
                    || (named && !self.script.named.contains(name));
                if !keyword && name != "public" && new && self.limits.keep(name.len()) {
                    self.script.roles.insert(name.clone());
                    if named {
                        self.script.named.insert(name.clone());
                    }
                }
                if tokens.get(next + 1) != Some(&Token::Sign(',')) {
                    break;
                }
                next += 2;
            }
        }
    }

    /// Whether what is read is about the database itself.
    pub(super) fn is_of_database(&self) -> bool {
        let comment = matches!(self.kind.as_str(), "COMMENT" | "SECURITY LABEL");
        matches!(self.kind.as_str(), "DATABASE" | "DATABASE PROPERTIES")
            || self.is_database_acl()
            || (comment && self.name.starts_with("DATABASE "))
    }

    /// A statement about the database, as pg_dump writes it with `--create`.
    fn property(&mut self, line: &str) {
        let tokens = tokens(line);
        let word = |at: usize, text: &str| matches!(tokens.get(at), Some(Token::Word(word)) if word == text);
        let role = |at: usize| match tokens.get(at) {
            Some(Token::Word(name) | Token::Ident(name)) => Some(name.clone()),
            _ => None,
        };
        let properties = &mut self.script.properties;
        if word(0, "SET") && word(1, "SESSION") && word(2, "AUTHORIZATION") {
            self.grantor = role(3).filter(|name| name != "DEFAULT");
            return;
        }
        if word(0, "RESET") && word(1, "SESSION") {
            self.grantor = None;
            return;
        }
        let Some((before, after)) = around_name(line) else {
            // Settings of the session that restores, or the rest of a value over several lines.
            return;
        };
        if !is_whole(line) {
            properties.unread = true;
        } else if before == "ALTER DATABASE " && word(3, "OWNER") {
            properties.owner = role(5);
        } else if before == "COMMENT ON DATABASE " {
            if let Some(Token::Text(text)) = tokens.get(5) {
                properties.comment = Some(text.clone());
            }
        } else if is_about_database(&before) && !is_about_it_alone(&before, &after) {
            properties.unread = true;
        } else if is_about_database(&before) && self.limits.keep(line.len()) {
            let after = after.trim_end().trim_end_matches(';').to_owned();
            let grantor = self.grantor.clone();
            properties.statements.push((grantor, before, after));
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
            if KEYS.contains(&key.as_str()) && self.limits.keep(value.len()) {
                self.script.create.push((key.clone(), value));
            }
        }
    }
}

/// Whether a statement drops something without IF EXISTS, as `pg_dump --clean` writes it.
fn is_bare_drop(line: &str) -> bool {
    let of_table = line.starts_with("ALTER TABLE ") && line.contains(" DROP CONSTRAINT ");
    let drop = line.starts_with("DROP ") && !line.starts_with("DROP DATABASE ");
    (drop && !line.contains(" IF EXISTS "))
        || (of_table && !line.contains(" DROP CONSTRAINT IF EXISTS "))
}

/// Whether what stands before a database's name is the beginning of a statement about that database
/// alone: it is run where other databases and roles are within reach.
fn is_about_database(before: &str) -> bool {
    const PRIVILEGES: [&str; 9] = [
        "ALL",
        "PRIVILEGES",
        "CREATE",
        "CONNECT",
        "TEMPORARY",
        "TEMP",
        "GRANT",
        "OPTION",
        "FOR",
    ];
    let tokens = tokens(before);
    let word = |token: &Token, text: &str| matches!(token, Token::Word(word) if word == text);
    match tokens.as_slice() {
        [alter, database] => word(alter, "ALTER") && word(database, "DATABASE"),
        [
            alter,
            role,
            Token::Word(_) | Token::Ident(_),
            within,
            database,
        ] if word(alter, "ALTER") => {
            word(role, "ROLE") && word(within, "IN") && word(database, "DATABASE")
        }
        [
            security,
            label,
            whose,
            Token::Word(_) | Token::Ident(_),
            on,
            database,
        ] if word(security, "SECURITY") => {
            word(label, "LABEL")
                && word(whose, "FOR")
                && word(on, "ON")
                && word(database, "DATABASE")
        }
        [verb, what @ .., on, database] => {
            let privilege = |token: &Token| match token {
                Token::Word(word) => PRIVILEGES.contains(&word.as_str()),
                Token::Sign(sign) => *sign == ',',
                _ => false,
            };
            (word(verb, "GRANT") || word(verb, "REVOKE"))
                && word(on, "ON")
                && word(database, "DATABASE")
                && what.iter().all(privilege)
        }
        _ => false,
    }
}

/// Whether what stands after the database's name says nothing of another one, and does not take the
/// staged one's name, owner or place away.
fn is_about_it_alone(before: &str, after: &str) -> bool {
    let after = after.trim_start();
    let alters = before.starts_with("ALTER DATABASE ");
    let taken = ["RENAME ", "SET TABLESPACE "];
    let takes = alters && taken.iter().any(|start| after.starts_with(start));
    !takes && !after.starts_with(',')
}

/// Whether a line is one whole statement: it ends with the only `;` outside of quotes, and holds
/// neither comments nor texts between dollars.
pub(super) fn is_whole(line: &str) -> bool {
    let (mut quote, mut ends) = (None, 0);
    let mut before = ' ';
    for c in line.chars() {
        let last = std::mem::replace(&mut before, c);
        match (quote, c) {
            (None, '$') => return false,
            (None, '-') if last == '-' => return false,
            (None, '*') if last == '/' => return false,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ';') => ends += 1,
            (Some(_), '\\') => return false,
            _ => {}
        }
    }
    quote.is_none() && ends == 1 && line.trim_end().ends_with(';')
}

/// What stands before and after the name of the database in `… DATABASE name …`.
fn around_name(line: &str) -> Option<(String, String)> {
    // Roles before it may be quoted, and hold anything.
    let mut quoted = false;
    let at = line.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        let rest = line.get(at..)?;
        (!quoted && rest.starts_with("DATABASE ")).then_some(at + "DATABASE ".len())
    })?;
    let (before, rest) = line.split_at(at);
    let mut chars = rest.char_indices();
    let end = match chars.next()? {
        (_, '"') => {
            let mut chars = chars.peekable();
            loop {
                match chars.next()? {
                    (_, '"') if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                    }
                    (at, '"') => break at + 1,
                    _ => {}
                }
            }
        }
        _ => rest.find([' ', ';'])?,
    };
    Some((before.to_owned(), rest.get(end..)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_database_is_said_of_it() {
        for line in [
            "ALTER DATABASE shop SET a TO 'b';",
            "ALTER ROLE \"DATABASE x\" IN DATABASE shop SET a TO 'b';",
            "REVOKE GRANT OPTION FOR CONNECT,TEMPORARY ON DATABASE shop FROM PUBLIC;",
            "GRANT ALL ON DATABASE \"we \"\"ird\" TO app WITH GRANT OPTION;",
            "SECURITY LABEL FOR selinux ON DATABASE shop IS 'system_u:object_r:sepgsql_db_t:s0';",
        ] {
            let (before, _) = around_name(line).unwrap();
            assert!(is_about_database(&before) && is_whole(line), "{line}");
        }
        for line in [
            "ALTER ROLE app SUPERUSER -- DATABASE shop;",
            "ALTER ROLE app SUPERUSER; -- IN DATABASE shop;",
            "GRANT pg_execute_server_program TO app -- ON DATABASE shop;",
            "GRANT pg_execute_server_program TO app /* ON DATABASE shop*/;",
            "GRANT app, other ON DATABASE shop TO me;",
            "ALTER SYSTEM SET DATABASE shop;",
            "ALTER DATABASE shop SET a TO $$'$$; GRANT a TO b; SELECT $$'$$;",
            "ALTER DATABASE shop SET a TO 'x'; DROP ROLE b;",
            "ALTER DATABASE shop SET a TO 'x' -- ;",
            "GRANT ALL ON DATABASE \"shop\", billing TO x;",
            "GRANT ALL ON DATABASE shop ,billing TO x;",
            "ALTER DATABASE shop RENAME TO billing;",
            "ALTER DATABASE shop SET TABLESPACE slow;",
            "SECURITY LABEL ON ROLE x IS 'a'; SELECT 1 FROM DATABASE shop;",
        ] {
            let about = around_name(line).is_some_and(|(before, after)| {
                is_about_database(&before) && is_about_it_alone(&before, &after)
            });
            assert!(!(about && is_whole(line)), "{line}");
        }
    }
}
