//! The table of states: each way on works, or is refused with commands that work.

use restore_core::run::Outcome;
use restore_core::{ErrorKind, PlanRequest, Report, Result, RunId, Site};
use restore_testing::Ended as _;

use super::super::toy::Toy;
use super::super::{run, run_with};
use super::{options, stuck, unfinished};

/// What a person types, on the run of this id.
async fn perform(site: &Site, command: &str, id: &RunId) -> Result<Option<Report>> {
    let named = Some(id.clone());
    let over_unconfirmed = PlanRequest::all().over_unconfirmed(true);
    match command {
        "resume" => site.resume(named, options()).await.ended().map(Some),
        "rollback" => site.rollback(named, options()).await.ended().map(Some),
        "abandon" => site.abandon(named, options()).await.map(Some),
        "confirm" => site.confirm(named, options()).await.map(Some),
        "run" => run_with(site, PlanRequest::all(), options())
            .await
            .map(Some),
        "run over unconfirmed" => run_with(site, over_unconfirmed, options()).await.map(Some),
        "run over it" => {
            let request = PlanRequest::all().over(id.clone());
            run_with(site, request, options()).await.map(Some)
        }
        "page on, off" => {
            site.page(true).await?;
            site.page(false).await.map(|()| None)
        }
        "history" => site.history().await.map(|_| None),
        "report" => site.report(named).await.map(Some),
        "page" => site.page(false).await.map(|()| None),
        "list" => site.backups().await.map(|_| None),
        "plan" => {
            let backup = site.backup("latest").await?;
            let plan = site
                .plan_with(&backup, over_unconfirmed, &options())
                .await?;
            plan.refusal().map_or(Ok(None), Err)
        }
        other => panic!("nobody can type {other}"),
    }
}

/// The commands that a hint names: what is between backticks, and the options that let a run go on.
fn commands_in(hint: &str) -> Vec<String> {
    let typed = hint.split('`').skip(1).step_by(2);
    let typed = typed.filter_map(|text| text.strip_prefix("restore "));
    let mut commands: Vec<String> = typed
        .filter_map(|text| text.split(' ').next())
        .map(str::to_owned)
        .collect();
    for (option, command) in [
        ("--over-unconfirmed", "run over unconfirmed"),
        ("--over ", "run over it"),
    ] {
        if hint.contains(option) {
            commands.push(command.to_owned());
        }
    }
    commands
}

/// A run in this state, on a platform that does not keep it from any way on.
async fn in_state(state: &str) -> (Toy, Site, RunId) {
    let toy = Toy::new();
    let sound = toy.path().join("sound");
    let check = format!(
        "[checks.sound]\nkind = \"command\"\ncommand = [\"test\", \"-e\", {sound:?}]\ntimeout = \"700ms\""
    );
    let site = toy.site_ordered(&check).with_maintenance(toy.maintenance());
    if state != "restored, checks fail" {
        std::fs::write(&sound, "").unwrap();
    }
    let id = match state {
        "unfinished" => unfinished(&site).await,
        "restored" | "restored, checks fail" => {
            let report = run(&site).await;
            assert_eq!(report.is_failing(), state.contains("fail"));
            report.run
        }
        "rolled back" => {
            run(&site).await;
            site.rollback(None, options()).await.unwrap().run
        }
        "undone" => {
            toy.sabotage("b", "cut_over");
            let report = run(&site).await;
            toy.mend("b", "cut_over");
            report.run
        }
        "half confirmed" => {
            let id = run(&site).await.run;
            toy.sabotage("b", "discard");
            site.confirm(None, options()).await.unwrap_err();
            toy.mend("b", "discard");
            id
        }
        "stuck" => {
            let id = stuck(&toy, &site).await.run;
            toy.mend("a", "undo");
            id
        }
        "abandoned" => {
            let id = stuck(&toy, &site).await.run;
            site.abandon(None, options()).await.unwrap();
            toy.mend("a", "undo");
            id
        }
        other => panic!("{other} is no state"),
    };
    (toy, site, id)
}

/// The table of `docs/runs.md`: each way on works, or is refused with commands that work.
#[tokio::test]
async fn every_state_has_a_way_out() {
    let ways = [
        "resume",
        "rollback",
        "abandon",
        "confirm",
        "run",
        "run over unconfirmed",
        "run over it",
        "page on, off",
    ];
    // What the run is then; `-`: refused, and it stays what it was.
    for (state, expected) in [
        (
            "unfinished",
            "restored|rolled back|abandoned|-|-|-|abandoned|unfinished",
        ),
        (
            "restored",
            "-|rolled back|-|restored|-|restored|restored|restored",
        ),
        (
            "restored, checks fail",
            "-|rolled back|-|restored|-|restored|restored|restored",
        ),
        ("undone", "-|-|-|undone|undone|undone|undone|undone"),
        (
            "rolled back",
            "-|-|-|rolled back|-|rolled back|rolled back|rolled back",
        ),
        (
            "half confirmed",
            "-|-|-|restored|restored|restored|restored|restored",
        ),
        ("stuck", "undone|undone|abandoned|-|-|-|abandoned|stuck"),
        (
            "abandoned",
            "-|undone|-|abandoned|abandoned|abandoned|abandoned|abandoned",
        ),
    ] {
        let expected: Vec<&str> = expected.split('|').collect();
        assert_eq!(expected.len(), ways.len(), "{state}");
        for (way, expected) in ways.iter().zip(expected) {
            let cell = format!("{state}, {way}");
            let (toy, site, id) = in_state(state).await;
            let was = site.report(Some(id.clone())).await.unwrap();
            let ended = perform(&site, way, &id).await;
            let now = site.report(Some(id.clone())).await.unwrap();
            match (expected, ended) {
                ("-", Ok(_)) => panic!("{cell} is not refused"),
                ("-", Err(refused)) => {
                    assert_eq!(refused.kind(), ErrorKind::Preflight, "{cell}: {refused}");
                    assert!(!refused.code().is_empty(), "{cell}");
                    assert_eq!(now.outcome, was.outcome, "{cell}");
                    let hint = refused
                        .hint_text()
                        .unwrap_or_else(|| panic!("{cell}: no hint"));
                    let commands = commands_in(hint);
                    assert!(!commands.is_empty(), "{cell}: {hint}");
                    for command in commands {
                        let (_toy, site, id) = in_state(state).await;
                        let done = perform(&site, &command, &id).await;
                        done.unwrap_or_else(|e| panic!("{cell}: {hint}: {command}: {e}"));
                    }
                }
                (expected, ended) => {
                    let ended = ended.unwrap_or_else(|e| panic!("{cell}: {e}"));
                    assert_eq!(now.outcome.to_string(), expected, "{cell}");
                    if let (true, Some(ended)) = (way.starts_with("run"), ended) {
                        assert_eq!(ended.outcome, Outcome::Restored, "{cell}");
                        assert_eq!(toy.live(), Toy::NEW, "{cell}");
                    }
                    let open = matches!(now.outcome, Outcome::Unfinished | Outcome::Stuck);
                    assert!(open || !toy.page_is_up(), "{cell}: the page is up");
                }
            }
        }
    }
}
