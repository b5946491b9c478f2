"""The databases' part of fingerprint.py."""

import base64
import hashlib
import hmac

import psycopg2

from resp import Redis

# A catalog is compared by what it says, never by numbers that another database gives anew.
# Privileges that were never changed and such that were spelled out are the same.
NOT_SYSTEM = "n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'"


def grants(acl, kind, owner):
    return f"""(SELECT string_agg(format('%s:%s%s', coalesce(r.rolname, 'public'), a.privilege_type,
                CASE WHEN a.is_grantable THEN '*' ELSE '' END), ',' ORDER BY r.rolname, a.privilege_type)
                FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) a
                LEFT JOIN pg_roles r ON r.oid = a.grantee)"""


CATALOG = [
    f"""SELECT format('schema %s owner %s grants %s', n.nspname, pg_get_userbyid(n.nspowner),
               {grants('n.nspacl', 'n', 'n.nspowner')})
        FROM pg_namespace n WHERE {NOT_SYSTEM} ORDER BY 1""",
    "SELECT format('extension %s %s', extname, extversion) FROM pg_extension ORDER BY 1",
    f"""SELECT format('type %s.%s %s owner %s %s', n.nspname, t.typname, t.typtype,
               pg_get_userbyid(t.typowner),
               (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype IN ('e', 'd') AND {NOT_SYSTEM} ORDER BY 1""",
    f"""SELECT format('relation %s.%s %s owner %s grants %s options %s comment %s', n.nspname, c.relname,
               c.relkind, pg_get_userbyid(c.relowner),
               CASE WHEN c.relkind NOT IN ('i', 'I') THEN
                 {grants('c.relacl', 'r', 'c.relowner')} END,
               c.reloptions, obj_description(c.oid, 'pg_class'))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {NOT_SYSTEM} AND c.relkind <> 'S' ORDER BY 1""",
    f"""SELECT format('column %s.%s.%s %s %s notnull=%s identity=%s default %s grants %s', n.nspname, c.relname,
               a.attname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum),
               format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               pg_get_expr(d.adbin, d.adrelid), a.attacl)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE {NOT_SYSTEM} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm')
        ORDER BY n.nspname, c.relname, a.attnum""",
    f"""SELECT format('constraint %s on %s %s validated=%s', k.conname, k.conrelid::regclass,
               pg_get_constraintdef(k.oid), k.convalidated)
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE {NOT_SYSTEM} ORDER BY 1""",
    f"""SELECT format('index %s valid=%s', pg_get_indexdef(i.indexrelid), i.indisvalid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {NOT_SYSTEM} ORDER BY 1""",
    f"""SELECT format('view %s.%s populated=%s %s', n.nspname, c.relname, c.relispopulated,
               md5(pg_get_viewdef(c.oid)))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {NOT_SYSTEM} AND c.relkind IN ('v', 'm') ORDER BY 1""",
    f"""SELECT format('function %s owner %s %s', p.oid::regprocedure, pg_get_userbyid(p.proowner),
               md5(pg_get_functiondef(p.oid)))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {NOT_SYSTEM} AND p.prokind <> 'a' ORDER BY 1""",
    """SELECT format('trigger %s enabled=%s', pg_get_triggerdef(oid), tgenabled)
        FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1""",
    """SELECT format('default privileges %s %s %s', pg_get_userbyid(defaclrole), defaclnamespace::regnamespace, defaclacl)
        FROM pg_default_acl ORDER BY 1""",
    """SELECT format('sequence %s.%s %s %s..%s by %s at %s', schemaname, sequencename, data_type, min_value,
               max_value, increment_by, last_value) FROM pg_sequences ORDER BY 1""",
    """SELECT format('large object %s owner %s %s %s', m.oid, pg_get_userbyid(m.lomowner), md5(lo_get(m.oid)),
               obj_description(m.oid, 'pg_largeobject'))
        FROM pg_largeobject_metadata m ORDER BY m.oid""",
]

# What belongs to the database and not to its content.
DATABASE = f"""SELECT format('database %s owner %s %s %s %s limit %s allows connections %s grants %s comment %s',
               d.datname, pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
               d.datconnlimit, d.datallowconn, {grants('d.datacl', 'd', 'd.datdba')},
               shobj_description(d.oid, 'pg_database'))
        FROM pg_database d WHERE d.datname = current_database()"""
SETTINGS = """SELECT format('setting %s %s', coalesce(pg_get_userbyid(nullif(setrole, 0)), '(all)'), unnest(setconfig))
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        WHERE d.datname = current_database() ORDER BY 1"""

TABLES = f"""SELECT format('%%I.%%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {NOT_SYSTEM} AND c.relkind IN ('r', 'm') ORDER BY 1""".replace("%%", "%")


def postgres(settings, database):
    connection = connect(settings, database)
    try:
        # One snapshot for all of it.
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'; SET search_path = pg_catalog; SET work_mem = '64MB'")
            lines = []
            for query in [DATABASE, SETTINGS, *CATALOG]:
                cursor.execute(query.replace("%%", "%"))
                lines += [one_line(row[0]) for row in cursor]
            cursor.execute(TABLES)
            for (table,) in cursor.fetchall():
                cursor.execute(
                    f"""SELECT count(*), md5(string_agg(h, '' ORDER BY h))
                        FROM (SELECT md5(t::text) AS h FROM {table} t) rows"""
                )
                count, digest = cursor.fetchone()
                lines.append(f"rows of {table}: {count} {digest}")
        return lines
    finally:
        connection.close()


def cluster(settings):
    """What belongs to no database: the roles."""
    connection = connect(settings, "postgres")
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT r.rolname, r.rolpassword, format('super %s login %s limit %s member of %s', r.rolsuper,
                          r.rolcanlogin, r.rolconnlimit,
                          array(SELECT pg_get_userbyid(m.roleid) FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1))
                   FROM pg_authid r WHERE r.rolname NOT LIKE 'pg\\_%' ORDER BY 1"""
            )
            known = settings.secret("postgres")
            return [f"role {name} {facts} password {password(stored, known)}" for name, stored, facts in cursor]
    finally:
        connection.close()


def password(stored, known):
    """The same for the same password: a server salts it anew each time that it is set."""
    if stored is None:
        return "none"
    parts = stored.replace("$", ":").split(":")
    if len(parts) == 5 and parts[0] == "SCRAM-SHA-256":
        salted = hashlib.pbkdf2_hmac("sha256", known.encode(), base64.b64decode(parts[2]), int(parts[1]))
        client = hmac.digest(salted, b"Client Key", "sha256")
        if hashlib.sha256(client).digest() == base64.b64decode(parts[3]):
            return "of the platform"
    return hashlib.md5(stored.encode()).hexdigest()


def connect(settings, database):
    return psycopg2.connect(
        host=settings.PG_HOST,
        port=settings.PG_PORT,
        user=settings.PG_USER,
        password=settings.secret("postgres"),
        dbname=database,
        connect_timeout=5,
    )


def one_line(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n")


# --- Redis -------------------------------------------------------------------------------------

READ = {
    b"string": lambda key: ("GET", key),
    b"list": lambda key: ("LRANGE", key, 0, -1),
    b"set": lambda key: ("SMEMBERS", key),
    b"hash": lambda key: ("HGETALL", key),
    b"zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    b"stream": lambda key: ("XRANGE", key, "-", "+"),
}


def redis(settings):
    client = Redis(int(settings.REDIS_PORT), settings.secret("redis"), settings.REDIS_HOST)
    try:
        functions = client("FUNCTION", "LIST", "WITHCODE")
        lines = [f"function {digest(part)}" for part in sorted(functions, key=repr)]
        spaces = client("INFO", "keyspace").decode().splitlines()
        for number in [int(line[2:].split(":")[0]) for line in spaces if line.startswith("db")]:
            client("SELECT", number)
            lines += [f"db {number} {line}" for line in keys(client)]
        return lines
    finally:
        client.close()


def keys(client):
    names = sorted(client("KEYS", "*"))
    kinds = client.batch([("TYPE", name) for name in names])
    expiries = client.batch([("PEXPIRETIME", name) for name in names])
    values = client.batch([READ[kind](name) for name, kind in zip(names, kinds)])
    for name, kind, expires, value in zip(names, kinds, expires_text(expiries), values):
        if kind == b"set":
            value = sorted(value)
        elif kind == b"hash":
            value = sorted(zip(value[::2], value[1::2]))
        elif kind == b"stream":
            value = [value, *stream(client, name)]
        shown = name.decode("ascii", "backslashreplace").replace("\r", "\\r").replace("\n", "\\n")
        yield f"{shown} {kind.decode()} {digest(value)} {expires}"


def expires_text(expiries):
    return ["for good" if at == -1 else f"until {at}" for at in expiries]


def stream(client, name):
    """What a stream remembers besides its entries; without how long ago a consumer was seen."""
    info = client("XINFO", "STREAM", name)
    info = dict(zip(info[::2], info[1::2]))
    yield [info[key] for key in (b"last-generated-id", b"entries-added", b"max-deleted-entry-id")]
    for group in client("XINFO", "GROUPS", name):
        group = dict(zip(group[::2], group[1::2]))
        pending = client("XPENDING", name, group[b"name"], "-", "+", 10_000)
        yield [group[b"name"], group[b"last-delivered-id"], [(one[0], one[1], one[3]) for one in pending]]


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:24]
