//! All that a server holds, as text that can be compared.

use super::Cluster;

impl Cluster {
    /// Every database but the server's own.
    pub fn databases(&self) -> Vec<String> {
        self.sql(
            "template1",
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1",
        )
        .lines()
        .map(str::to_owned)
        .collect()
    }

    /// Rows, definitions, owners, privileges, large objects: all that a dump brings.
    pub fn content(&self, database: &str) -> String {
        let tables = self.sql(
            database,
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information)' ORDER BY 1",
        );
        let rows: Vec<String> = tables
            .lines()
            .map(|table| {
                format!(
                    "SELECT '{}', count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t",
                    table.replace('\'', "''")
                )
            })
            .collect();
        let rows = self.sql(database, &rows.join(" UNION ALL "));
        let definitions = self.sql(
            database,
            "SELECT 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated
               FROM pg_constraint WHERE connamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY conrelid::regclass::text, conname;
             SELECT 'index', indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid
               FROM pg_index JOIN pg_class c ON c.oid = indexrelid
               WHERE c.relnamespace::regnamespace::text !~ '^pg_' ORDER BY 3;
             SELECT 'trigger', tgrelid::regclass, pg_get_triggerdef(oid) FROM pg_trigger
               WHERE NOT tgisinternal ORDER BY 3;
             SELECT 'view', viewname, definition FROM pg_views
               WHERE schemaname !~ '^(pg_|information)' ORDER BY 2;
             SELECT 'function', p.oid::regprocedure, pg_get_userbyid(proowner), md5(prosrc) FROM pg_proc p
               WHERE pronamespace::regnamespace::text !~ '^(pg_|information)' AND NOT EXISTS
                 (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
               ORDER BY p.oid::regprocedure::text;
             SELECT 'relation', oid::regclass, relkind, pg_get_userbyid(relowner), relacl FROM pg_class
               WHERE relnamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY oid::regclass::text;
             SELECT 'sequence', schemaname, sequencename, last_value FROM pg_sequences ORDER BY 2, 3;
             SELECT 'large object', m.oid, pg_get_userbyid(lomowner), md5(lo_get(m.oid))
               FROM pg_largeobject_metadata m ORDER BY 2;
             SELECT 'extension', extname FROM pg_extension ORDER BY 2",
        );
        format!("{rows}\n{definitions}")
    }

    /// What belongs to the database itself and not to a dump's content.
    pub fn properties(&self, database: &str) -> String {
        let name = database.replace('\'', "''");
        self.sql(
            "template1",
            &format!(
                "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,
                   datlocprovider, daticulocale, datallowconn, datconnlimit, dattablespace,
                   shobj_description(oid, 'pg_database'),
                   (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a)
                 FROM pg_database WHERE datname = '{name}';
                 SELECT setrole::regrole, setconfig FROM pg_db_role_setting s
                   JOIN pg_database d ON d.oid = setdatabase WHERE datname = '{name}' ORDER BY 1"
            ),
        )
    }
}
