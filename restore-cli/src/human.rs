//! Numbers and tables as people read them.

use std::borrow::Cow;

use crate::paint::harmless;

/// `1.2 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        // 1023.95 would be shown as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `850 ms`, `12.3 s`, `4 min 5 s`, `2 h 10 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a float saturates"
    )]
    let whole = seconds.round() as u64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// `1 row`, `2 rows`.
pub(crate) fn number(number: u64, noun: &str) -> String {
    number_of(number, noun, &format!("{noun}s"))
}

/// `1 directory`, `2 directories`.
pub(crate) fn number_of(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}

/// A name of others, in quotes where it could pass for something else than one name: it holds control
/// characters, say, or begins or ends with a blank.
pub(crate) fn quoted(name: &str) -> std::borrow::Cow<'_, str> {
    let quoted = format!("{name:?}");
    let plain = quoted.get(1..quoted.len() - 1) == Some(name)
        && !name.is_empty()
        && name.trim() == name
        && !name.contains(" -> ");
    match plain {
        true => name.into(),
        false => quoted.into(),
    }
}

/// `2024-02-15 02:00:00` from a backup id's `20240215-020000`.
pub(crate) fn stamp(stamp: &str) -> String {
    let part = |from: usize, to: usize| stamp.get(from..to).unwrap_or("??");
    format!(
        "{}-{}-{} {}:{}:{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    )
}

/// `2024-02-15 02:00:00`, in UTC as all times here, from `2024-02-15T02:00:00.000Z`.
pub(crate) fn moment(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(date), Some(clock)) => format!("{date} {clock}"),
        _ => time.to_owned(),
    }
}

/// How the cells of a column lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Rows in columns, two blanks between them, each line ended; nothing behind the last cell.
pub(crate) fn table(sides: &[Side], rows: &[Vec<String>]) -> String {
    // Names of files are others' to choose, and none makes a line of its own.
    let rows: Vec<Vec<Cow<'_, str>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| harmless(cell)).collect())
        .collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..sides.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, side), width) in row.iter().zip(sides).zip(&widths) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            match side {
                Side::Left => line.push_str(&format!("{cell:<width$}")),
                Side::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations() {
        for (value, text) in [
            (0.0, "0 ms"),
            (0.9996, "1.0 s"),
            (59.96, "1 min 0 s"),
            (245.0, "4 min 5 s"),
            (7800.0, "2 h 10 min"),
            (f64::INFINITY, "?"),
        ] {
            assert_eq!(seconds(value), text);
        }
    }

    #[test]
    fn stamps() {
        assert_eq!(stamp("20240215-020304"), "2024-02-15 02:03:04");
    }

    #[test]
    fn tables() {
        let rows = [
            vec!["A".into(), "SIZE".into()],
            vec!["long".into(), "1".into()],
        ];
        assert_eq!(
            table(&[Side::Left, Side::Right], &rows),
            "A     SIZE\nlong     1\n"
        );
        let rows = [vec!["a".into(), String::new()]];
        assert_eq!(table(&[Side::Left, Side::Left], &rows), "a\n");
    }
}
