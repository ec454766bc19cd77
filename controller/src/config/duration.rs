//! Times as Compose and Go write them.

use std::time::Duration;

/// Compose's and Go's form: numbers with units, such as `1h30m`, `1.5s`. Whole milliseconds only.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut micros: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit_micros: u64 = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u64>().ok()?.checked_mul(unit_micros)?;
        if !part.is_multiple_of(scale) {
            return None;
        }
        let whole = whole.parse::<u64>().ok()?.checked_mul(unit_micros)?;
        micros = micros.checked_add(whole)?.checked_add(part / scale)?;
        rest = next;
    }
    micros.is_multiple_of(1_000).then(|| Duration::from_millis(micros / 1_000))
}

/// The shortest way to write a time of whole milliseconds.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_compose_and_go() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1_500)),
            ("2h32m", Some(9_120_000)),
            ("5h34m56s", Some(20_096_000)),
            ("0.001s", Some(1)),
            ("2000us", Some(2)),
            ("1500us", None),
            ("0.0001s", None),
            ("", None),
            ("0", None),
            ("10", None),
            ("s", None),
            (".s", None),
            ("1.s", None),
            ("-1s", None),
            ("+1s", None),
            ("1 s", None),
            ("1s ", None),
            ("1d", None),
            ("1.5.5s", None),
            ("1S", None),
            ("1sec", None),
            ("1s1", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
            ("1.99999999999999999999s", None),
            ("１s", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }
}
