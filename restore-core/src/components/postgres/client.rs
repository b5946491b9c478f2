//! Connections to the server: bounded in time, closed when done, and errors without secrets.

use std::borrow::Cow;
use std::error::Error as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;

use super::names::ident;
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::connect::{ConnectError, Tls, asked_in_the_clear, connect_postgres};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a short statement may take on the server, and how long it may wait for a lock.
const STATEMENT: Duration = Duration::from_secs(60);
const LOCK: Duration = Duration::from_secs(10);
/// How much longer than the statements may take we wait for what the server says of them. It ends them
/// itself, unless it hangs or is none.
const GRACE: Duration = Duration::from_secs(30);
/// How much longer we wait while services are down: whoever stops one of the server's processes must not keep them so.
const BRISK_GRACE: Duration = Duration::from_secs(10);
/// How long an answer is waited for there once the run is to stop: it is a moment away, or never comes.
const HEARD: Duration = Duration::from_secs(2);
/// For how many statements in one text, of which each may take so long.
const STATEMENTS: usize = 10;

/// What of a database without an encoding (SQL_ASCII) can be told in UTF-8: each byte is a character to it.
pub(super) const TOLD: &str = r"E'^([\\x01-\\x7f]|[\\xc2-\\xdf][\\x80-\\xbf]|[\\xe0-\\xef][\\x80-\\xbf]{2}|[\\xf0-\\xf4][\\x80-\\xbf]{3})*$'";

/// Files of a database are damaged or gone.
const BROKEN: &str = "postgres.broken";
/// A name cannot be told in UTF-8.
const NOT_UTF8: &str = "postgres.not_utf8";

/// Why a server lets nobody in, or does not do what it is asked: the reason of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionError {
    /// It does not know the user or the password.
    Auth,
    /// It has no such database.
    NoDatabase,
    /// It answers, and is going down or coming up.
    NotReady,
    /// Files of the database are damaged or gone.
    Broken,
    /// It does not let this user into this database.
    Refused,
    /// Nobody answers.
    Unreachable,
    Other,
}

/// Where and as whom to connect.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) service: String,
    pub(super) endpoint: Endpoint,
    /// Where programs connect that run in the service's context.
    pub(super) inside: Endpoint,
    pub(super) user: String,
    pub(super) password: Option<SecretString>,
    pub(super) tls: Tls,
    /// What the server calls the session in `pg_stat_activity`.
    pub(super) application: String,
}

/// One connection to one database. Dropping it closes it; [`Session::close`] also waits until
/// the server is told.
pub(super) struct Session {
    client: Client,
    task: JoinHandle<()>,
    database: String,
    service: String,
    version: u32,
    /// How long a statement may take until we leave; `None`: for ever.
    answers_within: Option<Duration>,
    /// All statements of one text have so long together.
    brisk: bool,
    /// What else ends a wait.
    stop: Option<CancellationToken>,
    /// We left, as no answer came.
    silent: AtomicBool,
    /// The database has no encoding.
    any_bytes: bool,
}

impl Session {
    /// Connects; the session neither waits for locks for ever nor runs a statement for ever.
    pub(super) async fn open(login: &Login, database: &str) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&login.user)
            .dbname(database)
            .application_name(&login.application)
            // Not by SET: behind a pooler that would stay with a connection of others.
            .options(format!(
                "-c statement_timeout={} -c lock_timeout={} -c default_transaction_read_only=off \
                 -c client_min_messages=warning",
                STATEMENT.as_millis(),
                LOCK.as_millis(),
            ));
        if let Some(password) = &login.password {
            config.password(password.expose_secret());
        }
        let connecting = connect_postgres(&config, &login.endpoint, &login.tls);
        let (client, connection) = match tokio::time::timeout(CONNECT + CONNECT, connecting).await {
            Ok(Ok(Ok(both))) => both,
            Ok(Ok(Err(ConnectError::Driver(error)))) => {
                return Err(refused(login, database, &error));
            }
            Ok(Ok(Err(ConnectError::Io(error)))) => return Err(unreachable(login, &error)),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "postgres.unreachable",
                    format!(
                        "PostgreSQL ({}, at {}:{}) did not answer within {} s",
                        login.service,
                        login.endpoint.host,
                        login.endpoint.port,
                        (CONNECT + CONNECT).as_secs()
                    ),
                )
                .because(SessionError::Unreachable)
                .hint("see whether the service runs and the endpoint is right")
                .retryable());
            }
        };
        let task = tokio::spawn(async move {
            // How a connection ended is told by the statement that met its end.
            let _ended = connection.await;
        });
        let mut session = Self {
            client,
            task,
            database: database.to_owned(),
            service: login.service.clone(),
            version: 0,
            // A server that lets somebody in answers these at once.
            answers_within: Some(CONNECT + CONNECT),
            brisk: false,
            stop: None,
            silent: AtomicBool::new(false),
            any_bytes: false,
        };
        // Before the path is set, names could be anybody's.
        let row = session
            .one(
                "SELECT pg_catalog.current_setting('server_version_num'), \
                 pg_catalog.current_setting('lock_timeout'), \
                 pg_catalog.current_setting('server_encoding')",
                &[],
            )
            .await?;
        let version: u32 = column::<String>(&row, 0)?.parse().unwrap_or(0);
        if column::<String>(&row, 1)? != format!("{}s", LOCK.as_secs()) {
            return Err(pooler(
                login,
                "it does not pass the options of a connection on",
            ));
        }
        session.run(&settings(version)).await?;
        session.version = version;
        session.any_bytes = column::<String>(&row, 2)? == "SQL_ASCII";
        session.answers_within = Some(STATEMENT + GRACE);
        Ok(session)
    }

    /// The same session without a limit on the time that a statement takes: for work that grows
    /// with the data.
    pub(super) async fn patient(mut self) -> Result<Self> {
        self.run("SET statement_timeout = 0").await?;
        self.answers_within = None;
        Ok(self)
    }

    /// The same session for what is done while services are down, and takes moments: it waits no longer for
    /// several statements than for one, and hardly at all once `stop` says so.
    pub(super) fn brisk(mut self, stop: Option<&CancellationToken>) -> Self {
        self.answers_within = Some(STATEMENT + BRISK_GRACE);
        self.brisk = true;
        self.stop = stop.cloned();
        self
    }

    /// Whether names in the database may be any bytes.
    pub(super) fn any_bytes(&self) -> bool {
        self.any_bytes
    }

    /// A query for what can be told. One name that is no UTF-8, and the server would send none at all.
    fn told<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        let is_query = ["SELECT", "WITH"]
            .iter()
            .any(|word| sql.trim_start().starts_with(word));
        match self.any_bytes && is_query {
            true => format!("SELECT * FROM ({sql}) AS told WHERE told::text ~ {TOLD}").into(),
            false => sql.into(),
        }
    }

    /// What the server answers to `count` statements. One that says nothing, or says anything but that, is
    /// left: its answer would be waited for as long as it likes.
    async fn answer<T>(
        &self,
        count: usize,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let Some(within) = self.answers_within else {
            return asked.await;
        };
        let count = match self.brisk {
            true => 1,
            false => u32::try_from(count.clamp(1, STATEMENTS)).unwrap_or(1),
        };
        let stopped = async {
            match &self.stop {
                Some(stop) => stop.cancelled().await,
                None => std::future::pending().await,
            }
            tokio::time::sleep(HEARD).await;
        };
        let mut asked = pin!(asked);
        tokio::select! {
            biased;
            answer = &mut asked => return answer,
            () = tokio::time::sleep(within * count) => {}
            () = stopped => {}
        }
        self.silent.store(true, Ordering::Relaxed);
        // What is asked ends with the connection.
        self.task.abort();
        asked.await
    }

    /// The server's version as a number, 150004 for 15.4.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Runs statements; several in one text go to the server in one message.
    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        self.attempt(sql).await.map_err(|e| self.failed(&e))
    }

    /// As `run`, with the server's own error for whoever decides by its SQLSTATE.
    pub(super) async fn attempt(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        let count = sql.split(';').count();
        self.answer(count, self.client.batch_execute(sql)).await
    }

    /// All rows of a query.
    pub(super) async fn rows(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.try_rows(sql, args).await.map_err(|e| self.failed(&e))
    }

    /// The rows, with the server's own error.
    pub(super) async fn try_rows(
        &self,
        sql: &str,
        args: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let sql = self.told(sql);
        self.answer(1, self.client.query(&*sql, args)).await
    }

    /// The only row of a query.
    pub(super) async fn one(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.answer(1, self.client.query_one(sql, args))
            .await
            .map_err(|e| self.failed(&e))
    }

    /// How many rows a `COPY … TO STDOUT` in the text format sends: each is a line, and none has a line end in it.
    pub(super) async fn copied(&self, sql: &str) -> Result<u64, tokio_postgres::Error> {
        let counted = async {
            let mut pieces = pin!(self.client.copy_out(sql).await?);
            let mut rows = 0_u64;
            while let Some(piece) = pieces.next().await {
                let lines = piece?.iter().filter(|byte| **byte == b'\n').count();
                rows = rows.saturating_add(u64::try_from(lines).unwrap_or(u64::MAX));
            }
            Ok::<u64, tokio_postgres::Error>(rows)
        };
        self.answer(1, counted).await
    }

    /// An error of this session as ours.
    pub(super) fn failed(&self, error: &tokio_postgres::Error) -> Error {
        let text = describe(error);
        let is_silent = self.silent.load(Ordering::Relaxed);
        let stop = self.stop.as_ref();
        if is_silent && stop.is_some_and(CancellationToken::is_cancelled) {
            return Error::interrupted();
        }
        if is_silent {
            return Error::new(
                ErrorKind::Failed,
                "postgres.silent",
                format!(
                    "PostgreSQL ({}) lets us into database {}, and then does not answer",
                    self.service, self.database
                ),
            )
            .hint("see the server's log and its disk for what it waits for, and whether PostgreSQL is what listens at the service's endpoint; then try again")
            .retryable();
        }
        if error.is_closed() || error.code().is_some_and(is_shutdown) {
            return Error::new(
                ErrorKind::Failed,
                "postgres.gone",
                format!(
                    "the connection to PostgreSQL ({}) was lost while working on database {}: {text}",
                    self.service, self.database
                ),
            )
            .hint("see the server's log for why it ended the connection, start it where it stopped, and try again")
            .retryable();
        }
        let code = match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => "postgres.disk_full",
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => "postgres.not_permitted",
            Some(code) if is_damage(code) => BROKEN,
            Some(code) if *code == SqlState::CHARACTER_NOT_IN_REPERTOIRE => NOT_UTF8,
            _ => "postgres.failed",
        };
        let hint = match code {
            BROKEN => "files of the database are damaged or gone: the server's own log says more",
            NOT_UTF8 => {
                "a name in the database is no UTF-8, which only one in SQL_ASCII can have: rename what has it (ALTER TABLE … RENAME TO …; with PGCLIENTENCODING=SQL_ASCII psql shows it), and try again"
            }
            "postgres.disk_full" => {
                "free some space where PostgreSQL keeps its data, and try again"
            }
            "postgres.not_permitted" => {
                "name a superuser as the component's user, or grant what is missing"
            }
            _ => "the server's own log says more",
        };
        Error::new(
            ErrorKind::Failed,
            code,
            format!("PostgreSQL ({}) says: {text}", self.service),
        )
        .because(match code {
            BROKEN => SessionError::Broken,
            _ => SessionError::Other,
        })
        .hint(hint)
    }

    /// Closes the connection and waits until that has reached the server, so that a rename
    /// does not meet it.
    pub(super) async fn close(self) {
        let Self { client, task, .. } = self;
        drop(client);
        let _closed = tokio::time::timeout(Duration::from_secs(5), task).await;
    }
}

/// What a session needs of a server of this version: however long a run takes between two statements,
/// nobody else ends it.
fn settings(version: u32) -> String {
    let mut sql = "SET search_path = pg_catalog".to_owned();
    for (since, setting) in [
        (90_600, "idle_in_transaction_session_timeout"),
        (140_000, "idle_session_timeout"),
        (170_000, "transaction_timeout"),
    ] {
        if version >= since {
            sql += &format!("; SET {setting} = 0");
        }
    }
    sql
}

/// A column of a row that our own query made; a mismatch is a fault of ours or of a server that
/// is not PostgreSQL.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T> {
    row.try_get(at).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "postgres.answer",
            format!("PostgreSQL gave an unexpected answer: {}", describe(&error)),
        )
    })
}

/// Whether a SQLSTATE says that the server is going down or coming up.
fn is_shutdown(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(code)
}

/// Whether a SQLSTATE says that what is on disk is damaged, or is not there.
fn is_damage(code: &SqlState) -> bool {
    code.code().starts_with("58")
        || [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code)
}

/// An error of the driver in one line, its causes included. It never has the password: neither
/// the driver nor the server repeats it.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut cause = error.source();
    // "error connecting to server" before why says nothing more.
    let mut text = match cause {
        Some(why) if error.to_string() == "error connecting to server" => {
            cause = why.source();
            why.to_string()
        }
        _ => error.to_string(),
    };
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Behind a pooler statements of one connection reach several sessions, and what one of them sets stays for others.
fn pooler(login: &Login, why: &str) -> Error {
    Error::new(
        ErrorKind::Preflight,
        "postgres.pooler",
        format!(
            "what answers at {}:{} ({}) is a connection pooler and no PostgreSQL server: {why}",
            login.endpoint.host, login.endpoint.port, login.service
        ),
    )
    .hint("name the server's own address as the service's endpoint")
}

/// Nobody is there, or no handshake came about.
fn unreachable(login: &Login, error: &std::io::Error) -> Error {
    let what = format!(
        "cannot connect to PostgreSQL ({}, at {}:{}) as {}: {error}",
        login.service, login.endpoint.host, login.endpoint.port, login.user
    );
    Error::new(ErrorKind::Failed, "postgres.unreachable", what)
        .because(SessionError::Unreachable)
        .hint("see whether the service runs and its endpoint in the configuration is right")
        .retryable()
}

fn refused(login: &Login, database: &str, error: &tokio_postgres::Error) -> Error {
    if asked_in_the_clear(error) {
        return Error::new(
            ErrorKind::Failed,
            "postgres.password_in_the_clear",
            format!(
                "PostgreSQL ({}, at {}:{}) asks for the password of {} in a way that others could read or guess it from, and gets none",
                login.service, login.endpoint.host, login.endpoint.port, login.user
            ),
        )
        .hint("let pg_hba.conf ask by scram-sha-256, or set tls = \"verify-full\" (of a socket: let its directory be the server's user's); tls = \"disable\" where the way there is safe without");
    }
    let Login {
        service,
        endpoint,
        user,
        ..
    } = login;
    let text = describe(error);
    if text.contains("unsupported startup parameter") {
        return pooler(login, &text);
    }
    let Some(code) = error.code() else {
        let new = |code, hint: &str| {
            Error::new(
                ErrorKind::Failed,
                code,
                format!(
                    "cannot connect to PostgreSQL ({service}, at {}:{}) as {user}: {text}",
                    endpoint.host, endpoint.port
                ),
            )
            .hint(hint)
        };
        return if text.contains("password missing") {
            new(
                "postgres.auth",
                "the server asks for a password: name it with password_file or password_env",
            )
            .because(SessionError::Auth)
        } else {
            new(
                "postgres.unreachable",
                "see whether the service runs and its endpoint in the configuration is right",
            )
            .because(SessionError::Unreachable)
            .retryable()
        };
    };
    let message =
        format!("PostgreSQL ({service}) does not let {user} into database {database}: {text}");
    let new = |code| Error::new(ErrorKind::Failed, code, message.clone());
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        new("postgres.auth").because(SessionError::Auth).hint(format!(
            "check user, password_file or password_env of this component, and the server's pg_hba.conf; where the role was dropped, make it again in psql as a superuser: CREATE ROLE {} LOGIN CREATEDB, then \\password {user}",
            ident(user)
        ))
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        new("postgres.no_database").because(SessionError::NoDatabase).hint(
            "where it was dropped, a restore of this component makes it again; else correct `database`, or name one that exists there as maintenance_database",
        )
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        new("postgres.full")
            .hint("wait until the server has a connection to spare, then try again")
            .retryable()
    } else if is_shutdown(code) {
        new("postgres.not_ready")
            .because(SessionError::NotReady)
            .hint("wait until the server is up, then try again")
            .retryable()
    } else if code.code().starts_with("58") || code.code().starts_with("XX") {
        new(BROKEN)
            .because(SessionError::Broken)
            .hint(match code.code() {
                // What a library's name in a setting leads to as well.
                "58P01" => "files of the database are damaged or gone, or a setting of the role or database names a library that is not there (PGOPTIONS='-c session_preload_libraries=' psql gets in, ALTER … RESET session_preload_libraries takes it away): the server's own log says more",
                _ => "files of the database are damaged or gone: the server's own log says more",
            })
    } else {
        new("postgres.refused")
            .because(SessionError::Refused)
            .hint("check user and database of this component; the server's own log says more")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A session of a server that lets us in, and from then on sends this again and again.
    async fn session(sends: &'static [u8], answers_within: Option<Duration>) -> Session {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let _ = theirs.read(&mut asked).await;
            let signed_in = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
            let _ = theirs.write_all(signed_in).await;
            while !sends.is_empty() && theirs.write_all(sends).await.is_ok() {}
            // Open as long as the other end is.
            while theirs.read(&mut asked).await.is_ok_and(|read| read > 0) {}
        });
        let mut config = tokio_postgres::Config::new();
        config.user("app").dbname("shop");
        let connecting = config.connect_raw(ours, tokio_postgres::NoTls);
        let (client, connection) = connecting.await.unwrap();
        let task = tokio::spawn(async move {
            let _ended = connection.await;
        });
        Session {
            client,
            task,
            database: "shop".to_owned(),
            service: "postgres".to_owned(),
            version: 150_000,
            answers_within,
            brisk: false,
            stop: None,
            silent: AtomicBool::new(false),
            any_bytes: false,
        }
    }

    /// A message of a server.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    /// What is behind a port that answers to the beginning of a connection with the first of these, and to each
    /// question with the next one; gives why there is no session, and all that was sent there.
    async fn answered(answers: Vec<Vec<u8>>) -> (Error, Vec<u8>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
            let mut answers = answers.into_iter();
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                let first = all.is_empty();
                all.extend_from_slice(&bytes[..read]);
                // Whatever is asked ends so.
                if first || all.ends_with(&message(b'S', b"")) {
                    let answer = answers.next().unwrap_or_else(|| message(b'Z', b"I"));
                    let _ = stream.write_all(&answer).await;
                }
            }
            all
        });
        let endpoint = Endpoint::new("127.0.0.1", port);
        let login = Login {
            service: "postgres".to_owned(),
            endpoint: endpoint.clone(),
            inside: endpoint,
            user: "app".to_owned(),
            password: None,
            tls: Tls::default(),
            application: "restore".to_owned(),
        };
        let error = Session::open(&login, "shop").await.err().unwrap();
        (error, asked.await.unwrap())
    }

    /// What is set there would stay with connections of others: nothing is.
    #[tokio::test]
    async fn a_pooler_is_told_before_anything_is_set() {
        let no_options = message(
            b'E',
            b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0",
        );
        let ready = message(b'Z', b"I");
        let names = ["version", "lock_timeout", "encoding"];
        let columns = names.map(|name| {
            let text: [u8; 12] = [0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0];
            [name.as_bytes(), &[0; 7], &text].concat()
        });
        let values = ["150000", "0", "UTF8"].map(|value| {
            let length = u32::try_from(value.len()).unwrap().to_be_bytes();
            [&length[..], value.as_bytes()].concat()
        });
        let three: &[u8] = &[0, 3];
        let ignores_options = vec![
            [message(b'R', &[0; 4]), ready.clone()].concat(),
            [
                message(b'1', b""),
                message(b't', &[0, 0]),
                message(b'T', &[three, &columns.concat()].concat()),
                ready.clone(),
            ]
            .concat(),
            [
                message(b'2', b""),
                message(b'D', &[three, &values.concat()].concat()),
                message(b'C', b"SELECT 1\0"),
                ready,
            ]
            .concat(),
        ];
        for (answers, why) in [
            (vec![no_options], "unsupported startup parameter: options"),
            (
                ignores_options,
                "it does not pass the options of a connection on",
            ),
        ] {
            let (error, sent) = answered(answers).await;
            assert_eq!(error.code(), "postgres.pooler", "{error}");
            assert_eq!(error.kind(), ErrorKind::Preflight);
            assert!(error.message().contains(why), "{error}");
            let sent = String::from_utf8_lossy(&sent);
            assert!(sent.contains("lock_timeout=10000"), "{sent}");
            assert!(!sent.contains("SET "), "{sent}");
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_nothing_or_without_end_is_left() {
        let notice = b"N\0\0\0\x1aSNOTICE\0C00000\0Mmore\0\0";
        assert_eq!(notice.len(), 0x1a + 1);
        for sends in [&b""[..], notice] {
            let soon = Some(Duration::from_millis(200));
            let asked = session(sends, soon).await;
            let error = asked.one("SELECT 1", &[]).await.unwrap_err();
            assert_eq!(error.code(), "postgres.silent", "{error}");
            let asked = session(sends, soon).await;
            let error = asked.run("SELECT 1").await.unwrap_err();
            assert_eq!(error.code(), "postgres.silent", "{error}");
            // Work that grows with the data takes as long as it takes.
            let patient = session(sends, None).await;
            let waiting = patient.run("SELECT 1");
            let waited = tokio::time::timeout(Duration::from_millis(500), waiting).await;
            assert!(waited.is_err());
            patient.task.abort();
        }
    }

    #[tokio::test]
    async fn while_services_are_down_nobody_waits_for_a_server_that_hangs() {
        let transaction = "BEGIN; SELECT 1; SELECT 2; SELECT 3; SELECT 4; COMMIT";
        let mut asked = session(b"", None).await.brisk(None);
        asked.answers_within = Some(Duration::from_millis(400));
        let waiting = asked.run(transaction);
        let waited = tokio::time::timeout(Duration::from_millis(1500), waiting).await;
        let error = waited.expect("one deadline for all").unwrap_err();
        assert_eq!(error.code(), "postgres.silent", "{error}");
        let stop = CancellationToken::new();
        let asked = session(b"", None).await.brisk(Some(&stop));
        stop.cancel();
        let waited = tokio::time::timeout(HEARD * 3, asked.run(transaction)).await;
        let error = waited.expect("the request to stop is heard").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    }

    #[test]
    fn a_server_is_told_only_of_settings_that_it_has() {
        assert_eq!(settings(90_500), "SET search_path = pg_catalog");
        assert!(settings(130_000).ends_with("; SET idle_in_transaction_session_timeout = 0"));
        assert!(settings(150_000).ends_with("; SET idle_session_timeout = 0"));
        assert!(settings(170_000).ends_with("; SET transaction_timeout = 0"));
    }
}
