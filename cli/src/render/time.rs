//! Times, for people: three digits that matter, and a unit.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A measured time: `340 µs`, `3.10 ms`, `41.2 ms`, `2.31 s`, `3m 04s`, `2h 03m`, `5d 01h`.
pub fn span(micros: u64) -> String {
    let millis = micros as f64 / 1e3;
    let seconds = micros as f64 / 1e6;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{millis:.2} ms"),
        10_000..100_000 => format!("{millis:.1} ms"),
        100_000..1_000_000 => format!("{millis:.0} ms"),
        1_000_000..10_000_000 => format!("{seconds:.2} s"),
        10_000_000..60_000_000 => format!("{seconds:.1} s"),
        _ => whole(micros / 1_000_000),
    }
}

/// A moment since a start; 0 is "not reached" on the wire, and nothing here.
pub fn reached(micros: u64) -> String {
    if micros == 0 { String::new() } else { span(micros) }
}

/// A running clock: tenths of a second in the first minute.
pub fn clock(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(60) {
        format!("{}.{} s", elapsed.as_secs(), elapsed.subsec_millis() / 100)
    } else {
        whole(elapsed.as_secs())
    }
}

/// A time that nobody measures in fractions: `0s`, `42s`, `3m 04s`.
pub fn whole(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {:02}s", seconds % 60),
        3600..86400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// A moment, in UTC: `2026-11-20 09:56:04Z`. Empty for 0.
pub fn date(unix_millis: u64) -> String {
    let moment = UNIX_EPOCH.checked_add(Duration::from_millis(unix_millis));
    match moment {
        // The formatter goes no further than the year 9999.
        Some(moment) if unix_millis > 0 && unix_millis < 253_402_300_800_000 => {
            humantime::format_rfc3339_seconds(moment).to_string().replace('T', " ")
        }
        Some(_) | None => String::new(),
    }
}

/// A moment and how long ago it was.
pub fn date_and_age(unix_millis: u64, now: SystemTime) -> String {
    let then = UNIX_EPOCH.checked_add(Duration::from_millis(unix_millis)).unwrap_or(now);
    match now.duration_since(then) {
        Ok(age) => format!("{} ({} ago)", date(unix_millis), whole(age.as_secs())),
        // The controller's clock is ahead of ours.
        Err(_) => date(unix_millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let table = [
            (0, "0 µs"),
            (999, "999 µs"),
            (3_100, "3.10 ms"),
            (41_234, "41.2 ms"),
            (412_345, "412 ms"),
            (2_312_000, "2.31 s"),
            (59_000_000, "59.0 s"),
            (184_000_000, "3m 04s"),
            (7_384_000_000, "2h 03m"),
            (435_600_000_000, "5d 01h"),
        ];
        for (micros, text) in table {
            assert_eq!(span(micros), text);
        }
    }

    #[test]
    fn clocks_and_dates() {
        assert_eq!(clock(Duration::from_millis(4_290)), "4.2 s");
        assert_eq!(clock(Duration::from_secs(64)), "1m 04s");
        assert_eq!(date(1_763_632_564_000), "2025-11-20 09:56:04Z");
        assert_eq!((date(0), date(u64::MAX)), (String::new(), String::new()));
        let now = UNIX_EPOCH + Duration::from_millis(1_763_632_564_000 + 7_384_000);
        assert_eq!(date_and_age(1_763_632_564_000, now), "2025-11-20 09:56:04Z (2h 03m ago)");
    }
}
