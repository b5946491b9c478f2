//! Stopped by whoever started it: undone, and nothing is left.

use super::support::Whole;

#[test]
fn everything_is_as_before() {
    let whole = Whole::new();
    let damaged = whole.damaged();
    for (signal, step) in [
        ("INT", "stage:postgres"),
        ("TERM", "stage:prometheus"),
        ("TERM", "stop:app"),
        ("TERM", "cut-over:redis"),
        ("INT", "cut-over:nginx-config"),
        ("TERM", "start:app"),
        ("HUP", "check:inside"),
    ] {
        let what = format!("{signal} at {step}");
        let mut running = whole.start(&["run", "latest", "--yes"]);
        running.until_step(step);
        running.signal(signal);
        running.end().exits(130).says(&["undoing"]);
        whole.is(&damaged, &what);
        whole.nothing_left(&what);
        let report = whole.restore(&["report", "--json"]).exits(0).json();
        assert_eq!(report["report"]["outcome"], "undone", "{what}");
        assert_eq!(report["report"]["failure"]["kind"], "interrupted", "{what}");
    }
    // And it can be done after all.
    whole.restore(&["run", "latest", "--yes"]).exits(0);
    whole.is(&whole.at_backup, "restored in the end");
}
