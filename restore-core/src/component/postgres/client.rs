//! Connections to the server: bounded in time, closed when done, and errors without secrets.

use std::error::Error as _;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

use crate::error::{Error, ErrorKind, Result};
use crate::platform::Endpoint;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a short statement may take on the server, and how long it may wait for a lock.
const STATEMENT: Duration = Duration::from_secs(60);
const LOCK: Duration = Duration::from_secs(10);

/// Where and as whom to connect.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) service: String,
    pub(super) endpoint: Endpoint,
    /// The same for programs that run in the service's context.
    pub(super) inside: Endpoint,
    pub(super) user: String,
    pub(super) password: Option<SecretString>,
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
            .host(&login.endpoint.host)
            .port(login.endpoint.port)
            .user(&login.user)
            .dbname(database)
            .application_name(&login.application)
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(30));
        if let Some(password) = &login.password {
            config.password(password.expose_secret());
        }
        let connecting = tokio::time::timeout(CONNECT + CONNECT, config.connect(NoTls));
        let (client, connection) = match connecting.await {
            Ok(Ok(both)) => both,
            Ok(Err(error)) => return Err(refused(login, database, &error)),
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
        session
            .run(&format!(
                "SET statement_timeout = {}; SET lock_timeout = {}; \
                 SET default_transaction_read_only = off; SET client_min_messages = warning; \
                 SET search_path = pg_catalog",
                STATEMENT.as_millis(),
                LOCK.as_millis(),
            ))
            .await?;
        let version: i32 = session
            .one("SELECT current_setting('server_version_num')::int4", &[])
            .await?
            .try_get(0)
            .map_err(|e| session.failed(&e))?;
        session.version = u32::try_from(version).unwrap_or(0);
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
            _ => "postgres.failed",
        };
        let hint = match code {
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

fn refused(login: &Login, database: &str, error: &tokio_postgres::Error) -> Error {
    let Login {
        service,
        endpoint,
        user,
        ..
    } = login;
    let text = describe(error);
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
    } else if is_shutdown(code) || *code == SqlState::TOO_MANY_CONNECTIONS {
        new("postgres.not_ready")
            .hint("wait until the server is up and has a connection to spare, then try again")
            .retryable()
    } else {
        new("postgres.refused")
            .hint("check user and database of this component; the server's own log says more")
    }
}
