//! Times as people write them.

use crate::Verdict;
use bgctl_controller::config::parse_duration;

/// What is read is exactly what the text says, and what says something is read.
pub fn duration(data: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(data);
    let (read, said) = (parse_duration(&text), micros(&text));
    match read {
        Some(duration) => {
            assert_eq!(Some(duration.as_micros()), said, "{text:?}");
            Verdict::Accepted
        }
        None => {
            let whole_millis = said.filter(|micros| micros % 1000 == 0 && *micros < u128::from(u32::MAX));
            let is_long = text.len() > 12;
            assert!(whole_millis.is_none() || is_long, "{text:?} is a time and was refused");
            Verdict::Refused
        }
    }
}

/// Microseconds, worked out digit by digit; none if the text is no time, or of a fraction of one.
fn micros(text: &str) -> Option<u128> {
    const UNITS: [(&str, u128); 5] =
        [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    let mut total = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c.is_ascii_lowercase())?;
        let unit_end =
            rest[number_end..].find(|c: char| !c.is_ascii_lowercase()).map_or(rest.len(), |n| n + number_end);
        let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == &rest[number_end..unit_end])?;
        let number = &rest[..number_end];
        let digits: String = number.chars().filter(|c| *c != '.').collect();
        let places = match number.split('.').collect::<Vec<_>>()[..] {
            [whole] if !whole.is_empty() => 0,
            [whole, fraction] if !whole.is_empty() && !fraction.is_empty() => fraction.len(),
            _ => return None,
        };
        if digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let scaled = digits.parse::<u128>().ok()?.checked_mul(unit)?;
        let scale = 10_u128.pow(u32::try_from(places).ok()?);
        if scaled % scale != 0 {
            return None;
        }
        total = total.checked_add(scaled / scale)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

/// Times, and what looks like them.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "0s",
        "500ms",
        "10s",
        "1m30s",
        "1.5s",
        "2h32m",
        "5h34m56s",
        "0.001s",
        "2000us",
        "1500us",
        "0.0001s",
        "",
        "0",
        "10",
        "s",
        ".s",
        "1.s",
        ".5s",
        "-1s",
        "+1s",
        "1 s",
        "1s ",
        "1d",
        "1.5.5s",
        "1S",
        "1sec",
        "1s1",
        "1e3s",
        "1_0s",
        "99999999999999999999s",
        "9999999999999999999h",
        "1.99999999999999999999s",
        "0.500000000000000000s",
        "18446744073709551615us",
        "18446744073709551616us",
        "5124095576h",
        "\u{ff11}s",
        "1\u{b5}s",
        "1s\0",
        "1\ns",
        "00001s",
        "1h1h1h",
        "1ms1us",
        "999us1us",
        "0.9ms0.1ms",
    ]
    .map(Vec::from)
    .into()
}
