//! Connections to the server: bounded in time, closed when done, and errors without secrets.

use std::error::Error as _;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::connect::{ConnectError, Tls, asked_in_the_clear, connect_postgres};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a short statement may take on the server, and how long it may wait for a lock.
const STATEMENT: Duration = Duration::from_secs(60);
const LOCK: Duration = Duration::from_secs(10);

/// The server answers, and is going down or coming up.
pub(super) const NOT_READY: &str = "postgres.not_ready";
/// Files of a database are damaged or gone.
pub(super) const BROKEN: &str = "postgres.broken";

/// Where and as whom to connect.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) service: String,
    pub(super) endpoint: Endpoint,
    /// The same for programs that run in the service's context.
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
        };
        // Before the path is set, names could be anybody's.
        let row = session
            .one(
                "SELECT pg_catalog.current_setting('server_version_num'), \
                 pg_catalog.current_setting('lock_timeout')",
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
        session.run("SET search_path = pg_catalog").await?;
        session.version = version;
        Ok(session)
    }

    /// The same session without a limit on the time that a statement takes: for work that grows
    /// with the data.
    pub(super) async fn patient(self) -> Result<Self> {
        self.run("SET statement_timeout = 0").await?;
        Ok(self)
    }

    /// The server's version as a number, 150004 for 15.4.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Runs statements; several in one text go to the server in one message.
    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|e| self.failed(&e))
    }

    /// The same, with the server's own error for whoever decides by its SQLSTATE.
    pub(super) async fn attempt(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// All rows of a query.
    pub(super) async fn rows(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.client
            .query(sql, args)
            .await
            .map_err(|e| self.failed(&e))
    }

    /// The rows, with the server's own error.
    pub(super) async fn try_rows(
        &self,
        sql: &str,
        args: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.client.query(sql, args).await
    }

    /// The only row of a query.
    pub(super) async fn one(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.client
            .query_one(sql, args)
            .await
            .map_err(|e| self.failed(&e))
    }

    /// An error of this session as ours.
    pub(super) fn failed(&self, error: &tokio_postgres::Error) -> Error {
        let text = describe(error);
        if error.is_closed() || error.code().is_some_and(is_shutdown) {
            return Error::new(
                ErrorKind::Failed,
                "postgres.gone",
                format!(
                    "the connection to PostgreSQL ({}) was lost while working on database {}: {text}",
                    self.service, self.database
                ),
            )
            .hint("see the server's log for why it stopped, start it, and try again")
            .retryable();
        }
        let code = match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => "postgres.disk_full",
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => "postgres.not_permitted",
            Some(code) if is_damage(code) => BROKEN,
            _ => "postgres.failed",
        };
        let hint = match code {
            BROKEN => "files of the database are damaged or gone: the server's own log says more",
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
        .hint("let pg_hba.conf ask by scram-sha-256, or set tls = \"verify-full\"; tls = \"disable\" where the way there is safe without");
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
        } else {
            new(
                "postgres.unreachable",
                "see whether the service runs and its endpoint in the configuration is right",
            )
            .retryable()
        };
    };
    let message =
        format!("PostgreSQL ({service}) does not let {user} into database {database}: {text}");
    let new = |code| Error::new(ErrorKind::Failed, code, message.clone());
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        new("postgres.auth").hint(
            "check user, password_file or password_env of this component, and the server's pg_hba.conf",
        )
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        new("postgres.no_database")
            .hint("name a database that exists there as maintenance_database")
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        new("postgres.full")
            .hint("wait until the server has a connection to spare, then try again")
            .retryable()
    } else if is_shutdown(code) {
        new(NOT_READY)
            .hint("wait until the server is up, then try again")
            .retryable()
    } else if code.code().starts_with("58") || code.code().starts_with("XX") {
        new(BROKEN)
            .hint(match code.code() {
                // What a library's name in a setting leads to as well.
                "58P01" => "files of the database are damaged or gone, or a setting of the role or database names a library that is not there (PGOPTIONS='-c session_preload_libraries=' psql gets in, ALTER … RESET session_preload_libraries takes it away): the server's own log says more",
                _ => "files of the database are damaged or gone: the server's own log says more",
            })
    } else {
        new("postgres.refused")
            .hint("check user and database of this component; the server's own log says more")
    }
}
