//! The table of `docs/runs.md` on a whole platform: in each state each command works, or is refused
//! with a hint, and a restore is possible afterwards.

use restore_testing::{Sample, Share};

use super::support::{Running, Whole};

const WAYS: [&str; 8] = [
    "resume",
    "rollback",
    "abandon",
    "confirm",
    "run",
    "run over unconfirmed",
    "run over it",
    "page",
];

/// The exit codes of each state.
const TABLE: [(&str, [i32; 8]); 7] = [
    ("unfinished", [0, 0, 0, 4, 4, 4, 0, 0]),
    ("restored", [4, 0, 4, 0, 4, 0, 0, 0]),
    ("undone", [4, 4, 4, 0, 0, 0, 0, 0]),
    ("rolled back", [4, 4, 4, 0, 4, 0, 0, 0]),
    ("half confirmed", [4, 4, 4, 0, 0, 0, 0, 0]),
    // It had been stopped on request.
    ("stuck", [130, 0, 0, 4, 4, 4, 0, 0]),
    ("abandoned", [4, 0, 4, 0, 0, 0, 0, 0]),
];

#[test]
fn every_state_has_a_way_out_1_of_2() {
    walk(Share::new(1, 2));
}

#[test]
fn every_state_has_a_way_out_2_of_2() {
    walk(Share::new(2, 2));
}

fn walk(share: Share) {
    let whole = Whole::new();
    let cells = TABLE
        .iter()
        .flat_map(|(state, codes)| WAYS.iter().zip(codes).map(move |cell| (*state, cell)));
    let cells = Sample::of_this_run().one_kind_of(3).choose(
        cells,
        |(state, (way, _))| format!("{state}, {way}"),
        |(state, _)| (*state).to_owned(),
        1,
        share,
    );
    for (state, (way, code)) in cells {
        let cell = format!("{state}, {way}");
        println!("{cell}");
        let id = bring_into(&whole, state);
        let ran = match *way {
            "resume" => whole.restore(&["resume", &id]),
            "run" => whole.restore(&["run", "latest", "--yes"]),
            "run over unconfirmed" => {
                whole.restore(&["run", "latest", "--yes", "--over-unconfirmed"])
            }
            "run over it" => whole.restore(&[
                "run",
                "latest",
                "--yes",
                "--over",
                &id,
                "--over-unconfirmed",
            ]),
            "page" => {
                whole.restore(&["page", "on"]).exits(0);
                assert_eq!(answer(&whole), "503", "{cell}");
                whole.restore(&["page", "off"])
            }
            verb => whole.restore(&[verb, &id, "--yes"]),
        };
        let ran = ran.exits(*code);
        if *code == 4 {
            ran.says(&["hint: "]);
        }
        end(&whole, &cell);
    }
}

/// What users are answered.
fn answer(whole: &Whole) -> String {
    let code = r#"load_platform; curl -s -o /dev/null -w '%{http_code}' \
        -H 'Host: www.example.test' "http://127.0.0.1:$HTTP_PORT/api/version""#;
    whole.shell(code, &[])
}

fn newest(whole: &Whole) -> String {
    let report = whole.restore(&["report", "--json"]).exits(0).json();
    report["report"]["run"].as_str().unwrap().to_owned()
}

fn started(whole: &Whole, step: &str) -> Running {
    let mut running = whole.start(&["run", "latest", "--yes"]);
    running.until_step(step);
    running
}

/// Makes a run in that state, on a platform that does not keep it there; its id.
fn bring_into(whole: &Whole, state: &str) -> String {
    match state {
        "unfinished" => {
            let running = started(whole, "start:app");
            running.signal("KILL");
            running.end();
        }
        "undone" => {
            let running = started(whole, "cut-over:redis");
            running.signal("TERM");
            running.end().exits(130);
        }
        "stuck" | "abandoned" => {
            let running = started(whole, "start:app");
            running.signal("STOP");
            let kept = whole.hosting.root().join("volumes/grafana_data");
            let kept = kept.join(format!(".restore-{}", newest(whole)));
            let away = whole.hosting.work().join("away");
            std::fs::rename(&kept, &away).unwrap();
            running.signal("TERM");
            running.signal("CONT");
            running.end().exits(6);
            std::fs::rename(away, kept).unwrap();
            if state == "abandoned" {
                whole.restore(&["abandon", "--yes"]).exits(0);
            }
        }
        _ => {
            whole.restore(&["run", "latest", "--yes"]).exits(0);
        }
    }
    match state {
        "rolled back" => {
            whole.restore(&["rollback", "--yes"]).exits(0);
        }
        "half confirmed" => {
            let mut running = whole.start(&["confirm", "--yes"]);
            running.until_step("delete:redis");
            running.signal("KILL");
            running.end();
        }
        _ => {}
    }
    newest(whole)
}

/// Whatever has become of it: no run is left open, users are served, and a restore is possible.
fn end(whole: &Whole, cell: &str) {
    let open = |whole: &Whole| {
        let history = whole.restore(&["history", "--json"]).exits(0).json();
        let runs = history["runs"].as_array().unwrap();
        let open = |run: &&serde_json::Value| {
            ["unfinished", "stuck"].contains(&run["outcome"].as_str().unwrap())
        };
        runs.iter().filter(open).count()
    };
    if open(whole) > 0 {
        whole.restore(&["rollback", "--yes"]).exits(0);
        assert_eq!(open(whole), 0, "{cell}");
    }
    whole
        .restore(&["run", "latest", "--yes", "--over-unconfirmed"])
        .exits(0);
    whole.is(&whole.at_backup, &format!("{cell}, and restored again"));
    assert_eq!(answer(whole), "200", "{cell}");
    // What they keep is deleted, newest first; that of an abandoned one by its name.
    let history = whole.restore(&["history", "--json"]).exits(0).json();
    for run in history["runs"].as_array().unwrap().iter().rev() {
        if run["confirmed"] != true {
            let id = run["run"].as_str().unwrap();
            whole.restore(&["confirm", id, "--yes"]).exits(0);
        }
    }
}
