//! What is known of one database as a whole, and how another is given the same properties.

use serde::{Deserialize, Serialize};

use super::client::{Session, column};
use super::names::{ident, literal};
use crate::model::Result;

/// A database's own properties: everything that a dump's content does not bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Database {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) owner: String,
    encoding: String,
    collate: String,
    ctype: String,
    provider: Option<String>,
    locale: Option<String>,
    icu_rules: Option<String>,
    pub(super) tablespace: String,
    pub(super) allow_connections: bool,
    #[serde(default)]
    template: bool,
    pub(super) connection_limit: i32,
    pub(super) comment: Option<String>,
    /// `None`: never granted or revoked, which means PostgreSQL's defaults.
    acl: Option<Vec<Grant>>,
    /// Never written down: they may hold secrets, and no undo needs them.
    #[serde(skip)]
    settings: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Grant {
    /// `None` for PUBLIC.
    grantee: Option<String>,
    privilege: String,
    grantable: bool,
    /// `None`: by its owner.
    #[serde(default)]
    grantor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// `None` for all roles.
    role: Option<String>,
    name: String,
    value: String,
}

/// Settings whose value is a list of quoted names: each element is a text of its own in `SET`.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

impl Database {
    /// The database of exactly this name, where there is one.
    pub(super) async fn find(session: &Session, name: &str) -> Result<Option<Self>> {
        // Through JSON, because the columns differ between versions of the server.
        let rows = session
            .rows(
                "SELECT d.oid, pg_get_userbyid(d.datdba)::text, \
                        pg_encoding_to_char(d.encoding)::text, d.datcollate::text, \
                        d.datctype::text, j.j->>'datlocprovider', \
                        coalesce(j.j->>'datlocale', j.j->>'daticulocale'), \
                        j.j->>'daticurules', t.spcname::text, d.datallowconn, d.datconnlimit, \
                        shobj_description(d.oid, 'pg_database'), d.datacl IS NULL, \
                        d.datistemplate \
                 FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace, \
                      LATERAL (SELECT to_jsonb(d) AS j) j \
                 WHERE d.datname = $1",
                &[&name],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let oid: u32 = column(row, 0)?;
        let no_acl: bool = column(row, 12)?;
        let acl = if no_acl {
            None
        } else {
            Some(Self::grants(session, oid).await?)
        };
        Ok(Some(Self {
            oid,
            name: name.to_owned(),
            owner: column(row, 1)?,
            encoding: column(row, 2)?,
            collate: column(row, 3)?,
            ctype: column(row, 4)?,
            provider: column(row, 5)?,
            locale: column(row, 6)?,
            icu_rules: column(row, 7)?,
            tablespace: column(row, 8)?,
            allow_connections: column(row, 9)?,
            template: column(row, 13)?,
            connection_limit: column(row, 10)?,
            comment: column(row, 11)?,
            acl,
            settings: Self::settings(session, oid).await?,
        }))
    }

    async fn grants(session: &Session, oid: u32) -> Result<Vec<Grant>> {
        let rows = session
            .rows(
                "SELECT r.rolname::text, a.privilege_type, a.is_grantable, \
                 CASE WHEN a.grantor <> d.datdba THEN g.rolname::text END \
                 FROM pg_database d, aclexplode(d.datacl) a \
                 LEFT JOIN pg_roles r ON r.oid = a.grantee \
                 LEFT JOIN pg_roles g ON g.oid = a.grantor WHERE d.oid = $1",
                &[&oid],
            )
            .await?;
        let mut grants = rows
            .iter()
            .map(|row| {
                Ok(Grant {
                    grantee: column(row, 0)?,
                    privilege: column(row, 1)?,
                    grantable: column(row, 2)?,
                    grantor: column(row, 3)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        grants.sort();
        grants.dedup();
        Ok(grants)
    }

    async fn settings(session: &Session, oid: u32) -> Result<Vec<Setting>> {
        let rows = session
            .rows(
                // In the order in which they were made, so that they are made again in it.
                "SELECT r.rolname::text, c.entry FROM pg_db_role_setting s \
                 LEFT JOIN pg_roles r ON r.oid = s.setrole, \
                 unnest(s.setconfig) WITH ORDINALITY AS c(entry, position) \
                 WHERE s.setdatabase = $1 AND (s.setrole = 0 OR r.oid IS NOT NULL) \
                 ORDER BY s.setrole, c.position",
                &[&oid],
            )
            .await?;
        let mut settings = Vec::new();
        for row in &rows {
            let entry: String = column(row, 1)?;
            if let Some((name, value)) = entry.split_once('=') {
                settings.push(Setting {
                    role: column(row, 0)?,
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
        Ok(settings)
    }

    /// Its security labels: for each provider, the label.
    pub(super) async fn labels(&self, session: &Session) -> Result<Vec<(String, String)>> {
        let rows = session
            .rows(
                "SELECT provider::text, label::text FROM pg_shseclabel \
                 WHERE classoid = 'pg_database'::regclass AND objoid = $1 ORDER BY 1",
                &[&self.oid],
            )
            .await?;
        rows.iter()
            .map(|row| Ok((column(row, 0)?, column(row, 1)?)))
            .collect()
    }

    /// Whether dropping it was begun and broken off: it can only be dropped.
    pub(super) fn is_invalid(&self) -> bool {
        self.connection_limit == -2
    }

    /// The options with which `CREATE DATABASE` makes another of the same kind.
    pub(super) fn create_options(&self) -> Vec<(String, String)> {
        let mut options = vec![
            ("OWNER".to_owned(), ident(&self.owner)),
            ("ENCODING".to_owned(), literal(&self.encoding)),
            ("LC_COLLATE".to_owned(), literal(&self.collate)),
            ("LC_CTYPE".to_owned(), literal(&self.ctype)),
        ];
        // To name the default one takes a privilege that only superusers have.
        if self.tablespace != "pg_default" {
            options.push(("TABLESPACE".to_owned(), ident(&self.tablespace)));
        }
        let provider = match self.provider.as_deref() {
            Some("i") => Some(("icu", "ICU_LOCALE")),
            Some("b") => Some(("builtin", "BUILTIN_LOCALE")),
            // libc is what older servers have and newer ones take from LC_COLLATE.
            _ => None,
        };
        if let Some((provider, key)) = provider {
            options.push(("LOCALE_PROVIDER".to_owned(), provider.to_owned()));
            if let Some(locale) = &self.locale {
                options.push((key.to_owned(), literal(locale)));
            }
            if let Some(rules) = &self.icu_rules {
                options.push(("ICU_RULES".to_owned(), literal(rules)));
            }
        }
        options
    }

    /// The statements that give `target` this database's owner, connection limit, settings and
    /// privileges, and take from it what this one does not have. Empty where both agree
    /// already. All of them may run in a transaction.
    pub(super) fn carry_over(&self, target: &Self) -> Vec<String> {
        let name = ident(&target.name);
        let mut sql = Vec::new();
        if self.owner != target.owner {
            sql.push(format!(
                "ALTER DATABASE {name} OWNER TO {}",
                ident(&self.owner)
            ));
        }
        // The limit of one that was half dropped is a mark, and none.
        if self.connection_limit != target.connection_limit && !self.is_invalid() {
            sql.push(format!(
                "ALTER DATABASE {name} WITH CONNECTION LIMIT {}",
                self.connection_limit
            ));
        }
        if self.template != target.template {
            sql.push(format!(
                "ALTER DATABASE {name} WITH IS_TEMPLATE {}",
                self.template
            ));
        }
        let on = |setting: &Setting| match &setting.role {
            None => format!("ALTER DATABASE {name}"),
            Some(role) => format!("ALTER ROLE {} IN DATABASE {name}", ident(role)),
        };
        for old in &target.settings {
            let kept = self
                .settings
                .iter()
                .any(|new| new.role == old.role && new.name == old.name);
            if !kept {
                sql.push(format!("{} RESET {}", on(old), ident(&old.name)));
            }
        }
        for setting in &self.settings {
            if !target.settings.contains(setting) {
                sql.push(format!(
                    "{} SET {} TO {}",
                    on(setting),
                    ident(&setting.name),
                    setting.sql_value()
                ));
            }
        }
        if self.acl != target.acl {
            sql.extend(self.acl_statements(target));
        }
        sql
    }

    fn acl_statements(&self, target: &Self) -> Vec<String> {
        let name = ident(&target.name);
        let who = |grantee: &Option<String>| match grantee {
            None => "PUBLIC".to_owned(),
            Some(role) => ident(role),
        };
        let mut losers = vec![None, Some(self.owner.clone())];
        for grant in target.acl.iter().flatten() {
            if !losers.contains(&grant.grantee) {
                losers.push(grant.grantee.clone());
            }
        }
        let mut sql: Vec<String> = losers
            .iter()
            .map(|loser| format!("REVOKE ALL ON DATABASE {name} FROM {} CASCADE", who(loser)))
            .collect();
        match &self.acl {
            Some(grants) => {
                for grant in in_order(grants) {
                    let given = format!(
                        "GRANT {} ON DATABASE {name} TO {}{}",
                        grant.privilege,
                        who(&grant.grantee),
                        if grant.grantable {
                            " WITH GRANT OPTION"
                        } else {
                            ""
                        }
                    );
                    match &grant.grantor {
                        None => sql.push(given),
                        Some(grantor) => {
                            sql.push(format!("SET LOCAL ROLE {}", ident(grantor)));
                            sql.push(given);
                            sql.push("RESET ROLE".to_owned());
                        }
                    }
                }
            }
            // What an untouched database means.
            None => {
                sql.push(format!(
                    "GRANT ALL ON DATABASE {name} TO {}",
                    ident(&self.owner)
                ));
                sql.push(format!(
                    "GRANT CONNECT, TEMPORARY ON DATABASE {name} TO PUBLIC"
                ));
            }
        }
        sql
    }

    /// This database with the settings of another one.
    pub(super) fn with_settings_of(mut self, other: &Self) -> Self {
        self.settings.clone_from(&other.settings);
        self
    }

    /// The names of its settings.
    pub(super) fn setting_names(&self) -> Vec<&str> {
        let names = self.settings.iter().map(|setting| setting.name.as_str());
        names.collect()
    }

    /// Its own `search_path` for all roles, as `SET` takes it.
    pub(super) fn search_path(&self) -> Option<String> {
        self.settings
            .iter()
            .find(|setting| setting.role.is_none() && setting.name == "search_path")
            .map(Setting::sql_value)
    }

    /// Roles for which it has settings of their own.
    pub(super) fn roles_with_settings(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = self
            .settings
            .iter()
            .filter_map(|setting| setting.role.as_deref())
            .collect();
        roles.dedup();
        roles
    }
}

/// The grants, each after the one that lets its grantor give it.
fn in_order(grants: &[Grant]) -> Vec<&Grant> {
    let (mut done, mut left): (Vec<&Grant>, Vec<&Grant>) =
        grants.iter().partition(|grant| grant.grantor.is_none());
    while !left.is_empty() {
        let may = |grant: &&Grant| {
            done.iter().any(|given| {
                given.grantable
                    && given.grantee == grant.grantor
                    && given.privilege == grant.privilege
            })
        };
        let (next, rest): (Vec<&Grant>, Vec<&Grant>) = left.into_iter().partition(may);
        left = rest;
        if next.is_empty() {
            // Whatever lets them is not to be seen: the server says whether they may.
            done.append(&mut left);
        }
        done.extend(next);
    }
    done
}

impl Setting {
    fn sql_value(&self) -> String {
        if !LISTS.contains(&self.name.to_ascii_lowercase().as_str()) {
            return literal(&self.value);
        }
        let elements = split_list(&self.value);
        if elements.is_empty() {
            return literal("");
        }
        let elements: Vec<String> = elements.iter().map(|e| literal(e)).collect();
        elements.join(", ")
    }
}

/// The elements of a list as PostgreSQL keeps it: `"$user", public`.
fn split_list(value: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut element = String::new();
    let mut seen = false;
    let mut quoted = false;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                element.push('"');
            }
            '"' => {
                quoted = !quoted;
                seen = true;
            }
            ',' if !quoted => {
                elements.push(std::mem::take(&mut element));
                seen = false;
            }
            c if c.is_whitespace() && !quoted => {}
            c => {
                element.push(c);
                seen = true;
            }
        }
    }
    if seen {
        elements.push(element);
    }
    elements
}

/// `COMMENT ON DATABASE`.
pub(super) fn comment_sql(name: &str, comment: Option<&str>) -> String {
    format!(
        "COMMENT ON DATABASE {} IS {}",
        ident(name),
        comment.map_or_else(|| "NULL".to_owned(), literal)
    )
}

/// `SECURITY LABEL … ON DATABASE`.
pub(super) fn label_sql(name: &str, provider: &str, label: &str) -> String {
    format!(
        "SECURITY LABEL FOR {} ON DATABASE {} IS {}",
        ident(provider),
        ident(name),
        literal(label)
    )
}

/// `ALTER DATABASE … ALLOW_CONNECTIONS`.
pub(super) fn allow_sql(name: &str, allow: bool) -> String {
    format!(
        "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {allow}",
        ident(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_follow_what_allows_them() {
        let grant = |grantee: &str, grantor: Option<&str>| Grant {
            grantee: Some(grantee.to_owned()),
            privilege: "CONNECT".to_owned(),
            grantable: true,
            grantor: grantor.map(str::to_owned),
        };
        let grants = [
            grant("a", Some("b")),
            grant("b", Some("c")),
            grant("c", None),
            grant("d", Some("lost")),
        ];
        let order: Vec<_> = in_order(&grants)
            .iter()
            .map(|grant| grant.grantee.as_deref().unwrap())
            .collect();
        assert_eq!(order, ["c", "b", "a", "d"]);
    }

    #[test]
    fn lists_split_as_the_server_joins_them() {
        assert_eq!(split_list("\"$user\", public"), ["$user", "public"]);
        assert_eq!(split_list("\"a\"\"b\", \"c, d\""), ["a\"b", "c, d"]);
        assert_eq!(split_list("\"\""), [""]);
        assert!(split_list("").is_empty());
    }
}
