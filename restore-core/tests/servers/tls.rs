//! TLS to PostgreSQL and Redis, and passwords that go to nobody else.

use restore_core::component::{Inspection, SharedComponent};
use restore_testing::pg::{Cluster, Rig};
use restore_testing::redis::{Case, Form, Server, back_up};
use restore_testing::tls::{Certificates, address_elsewhere};
use restore_testing::write_secret;

const PASSWORD: &str = "s3cret-on-the-way";

/// A database to restore, on a server that has TLS.
fn rig(cluster: Cluster) -> Rig {
    cluster.sql("template1", "CREATE DATABASE gold");
    cluster.sql(
        "gold",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)",
    );
    let rig = Rig::new(cluster);
    rig.back_up("gold");
    rig.list();
    rig.cluster.sql("template1", "CREATE DATABASE shop");
    rig.cluster.sql("shop", "CREATE TABLE t (id int)");
    write_secret(rig.backups.path().join("password"), PASSWORD);
    rig
}

fn codes(inspection: &Inspection) -> Vec<&str> {
    inspection
        .findings
        .iter()
        .map(|it| it.code.as_str())
        .collect()
}

async fn found(rig: &Rig, lines: &str) -> Vec<String> {
    let component = rig.component(&format!("database = 'shop'\n{lines}"));
    let inspection = component.inspect(&rig.cx().await).await.unwrap();
    codes(&inspection).into_iter().map(str::to_owned).collect()
}

async fn restores(rig: &Rig, component: &SharedComponent) {
    let cx = rig.cx().await;
    let inspection = component.inspect(&cx).await.unwrap();
    let wrong = inspection
        .findings
        .iter()
        .filter(|it| it.severity == restore_core::Severity::Error);
    assert_eq!(wrong.count(), 0, "{:?}", inspection.findings);
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let outcomes = component.check(&cx).await.unwrap();
    assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_restored_over_a_verified_connection() {
    let certificates = Certificates::new("IP:127.0.0.1", "site_owner");
    let others = Certificates::new("IP:127.0.0.1", "site_owner");
    let elsewhere = Certificates::new("DNS:db.example", "site_owner");
    let rig = rig(Cluster::with_password("site_owner", PASSWORD));
    let ca = format!("ca_file = '{}'", certificates.path("ca.pem").display());
    let password = "password_file = 'password'";

    // Without TLS there is no verified connection.
    let lines = format!("{password}\n{ca}");
    assert_eq!(found(&rig, &lines).await, ["postgres.no_tls"]);

    rig.cluster.secure(&certificates);
    // Only with TLS, and by the password itself.
    rig.cluster.let_in("hostssl all all 127.0.0.1/32 password");
    assert_eq!(found(&rig, password).await, ["postgres.auth"]);
    let wrong = format!(
        "{password}\nca_file = '{}'",
        others.path("ca.pem").display()
    );
    assert_eq!(found(&rig, &wrong).await, ["tls.refused"]);
    // Nobody says whose the server is: it is not told the password.
    let prefer = format!("{password}\ntls = 'prefer'");
    assert_eq!(
        found(&rig, &prefer).await,
        ["postgres.password_in_the_clear"]
    );

    let component = rig.component(&format!("database = 'shop'\n{lines}"));
    restores(&rig, &component).await;
    assert_eq!(
        rig.cluster.by_socket("shop", "SELECT count(*) FROM t"),
        "50"
    );
    let ran = rig.ran.lock().unwrap().clone();
    let secured = ran.iter().filter(|it| {
        it.env.get("PGSSLMODE").map(String::as_str) == Some("verify-full")
            && it.env.contains_key("PGSSLROOTCERT")
    });
    assert!(secured.count() > 1, "{ran:?}");
    for command in &ran {
        let shown = format!("{:?} {:?}", command.argv, command.env);
        assert!(!shown.contains(PASSWORD), "{shown}");
    }

    // A certificate of another name.
    rig.cluster.secure(&elsewhere);
    let ca = format!("ca_file = '{}'", elsewhere.path("ca.pem").display());
    let lines = format!("{password}\n{ca}");
    assert_eq!(found(&rig, &lines).await, ["tls.refused"]);
    let lines = format!("{password}\ntls = 'require'");
    assert!(
        !found(&rig, &lines)
            .await
            .contains(&"tls.refused".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_by_its_certificate() {
    let certificates = Certificates::new("IP:127.0.0.1", "site_owner");
    let rig = rig(Cluster::with_password("site_owner", PASSWORD));
    rig.cluster.secure(&certificates);
    rig.cluster.let_in("hostssl all all 127.0.0.1/32 cert");
    let file = |name: &str| certificates.path(name).display().to_string();
    let ca = format!("ca_file = '{}'", file("ca.pem"));
    let own = format!(
        "cert_file = '{}'\nkey_file = '{}'",
        file("client.pem"),
        file("client.key")
    );
    assert_eq!(found(&rig, &ca).await, ["postgres.auth"]);
    let component = rig.component(&format!("database = 'shop'\n{ca}\n{own}"));
    restores(&rig, &component).await;
    let key = std::fs::read_to_string(file("client.key")).unwrap();
    let secret = key.lines().nth(1).unwrap().to_owned();
    for command in rig.ran.lock().unwrap().iter() {
        let shown = format!("{:?} {:?}", command.argv, command.env);
        assert!(
            !shown.contains(&secret) && !shown.contains("client.key"),
            "{shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_gets_no_password_in_the_clear() {
    let rig = rig(Cluster::with_password("site_owner", PASSWORD));
    let password = "password_file = 'password'";
    rig.cluster.let_in("host all all 127.0.0.1/32 password");
    assert_eq!(
        found(&rig, password).await,
        ["postgres.password_in_the_clear"]
    );
    // The site says so.
    let lines = format!("database = 'shop'\n{password}\ntls = 'disable'");
    restores(&rig, &rig.component(&lines)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_network_only_what_tells_nothing_is_answered() {
    let rig = rig(Cluster::at(address_elsewhere(), "site_owner", PASSWORD));
    let password = "password_file = 'password'";
    rig.cluster
        .let_in("host all all 10.99.0.1/32 scram-sha-256");
    assert!(
        !found(&rig, password)
            .await
            .contains(&"postgres.auth".to_owned())
    );
    restores(
        &rig,
        &rig.component(&format!("database = 'shop'\n{password}")),
    )
    .await;

    let weak =
        format!("SET password_encryption = 'md5'; ALTER ROLE site_owner PASSWORD '{PASSWORD}'");
    rig.cluster.by_socket("template1", &weak);
    rig.cluster.let_in("host all all 10.99.0.1/32 md5");
    assert_eq!(
        found(&rig, password).await,
        ["postgres.password_in_the_clear"]
    );
    let disable = format!("{password}\ntls = 'disable'");
    assert!(
        !found(&rig, &disable)
            .await
            .contains(&"postgres.password_in_the_clear".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_restored_over_a_verified_connection() {
    let certificates = Certificates::new("IP:127.0.0.1", "restore");
    let others = Certificates::new("IP:127.0.0.1", "restore");
    let file = |name: &str| certificates.path(name).display().to_string();
    let server = || {
        Server::new(&["appendonly yes"])
            .with_password(PASSWORD)
            .with_tls(&certificates)
    };
    let own = format!(
        "cert_file = '{}'\nkey_file = '{}'",
        file("client.pem"),
        file("client.key")
    );
    let ca = format!("ca_file = '{}'\n{own}", file("ca.pem"));
    let case = Case::new(server(), &ca);
    let content = back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.restore().await;
    assert_eq!(case.server().content(), content);

    // The wrong authority, and none that asks for our certificate.
    for (lines, code) in [
        (
            format!("ca_file = '{}'\n{own}", others.path("ca.pem").display()),
            "tls.refused",
        ),
        (format!("tls = 'require'\n{own}"), ""),
    ] {
        let case = Case::new(server(), &lines);
        back_up(&case, Form::Rdb);
        case.server().start().unwrap();
        let inspected = case.component.inspect(&case.cx().await).await;
        let found = match &inspected {
            Ok(inspection) => codes(inspection).join(" "),
            Err(error) => error.code().to_owned(),
        };
        let is_refused = found.contains("tls.") || found.contains("redis.unreachable");
        assert_eq!(
            (is_refused, found.contains(code)),
            (!code.is_empty(), true),
            "{found}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_elsewhere_gets_no_password_without_tls() {
    let host = address_elsewhere();
    for (lines, refused) in [("", true), ("tls = 'disable'", false)] {
        let case = Case::new(Server::new(&[]).with_password(PASSWORD).at(host), lines);
        back_up(&case, Form::Rdb);
        case.server().start().unwrap();
        let inspected = case.component.inspect(&case.cx().await).await;
        let code = inspected.as_ref().err().map(restore_core::Error::code);
        assert_eq!(
            code == Some("redis.password_in_the_clear"),
            refused,
            "{inspected:?}"
        );
    }
}
