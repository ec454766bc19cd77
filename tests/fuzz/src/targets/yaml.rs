//! Documents: a text becomes the tree it says, or is refused where it stops making sense.

use crate::Verdict;
use crate::bytes::Bytes;
use bgctl_controller::config::{Config, Faults, Outline, outline};
use serde_json::{Map, Value};

/// Deepest tree that is grown: the reader's own limit is 32.
const DEPTH_MAX: usize = 8;

/// What is no YAML is refused at a place in the text. What is JSON means what JSON says, since YAML has all of
/// JSON in it; numbers stay as they were written.
pub fn yaml(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    if bytes.byte() == b'{' {
        let value = grow(&mut bytes, 0);
        let text = value.to_string();
        return match outline(&text, "a.yaml") {
            Ok(outline) => {
                assert_eq!(outline, of(&value), "{text}");
                Verdict::Accepted
            }
            Err(faults) => {
                // The one thing JSON may hold raw and YAML may not.
                assert!(text.chars().any(|c| !is_printable(c)), "{text} is JSON and was refused: {faults}");
                check(&text, &faults);
                Verdict::Refused
            }
        };
    }
    let text = String::from_utf8_lossy(data);
    if let Err(error) = Config::parse(&text, "a.yaml") {
        let printed = error.to_string();
        assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
    }
    match outline(&text, "a.yaml") {
        Ok(_) => Verdict::Accepted,
        Err(faults) => {
            check(&text, &faults);
            Verdict::Refused
        }
    }
}

/// Every fault is at a line there is, and none of them gives orders to a terminal.
pub(crate) fn check(text: &str, faults: &Faults) {
    let lines = text.matches(['\n', '\r']).count() + 1;
    assert!(faults.iter().count() > 0, "refused without a reason");
    assert!(faults.iter().all(|fault| (1..=lines).contains(&fault.line)), "of {lines} lines: {faults}");
    let printed = faults.to_string();
    assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "it reaches a terminal: {printed:?}");
}

/// YAML 1.2, production 1, and what its reader may break a line at.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn grow(bytes: &mut Bytes<'_>, depth: usize) -> Value {
    let kinds = if depth < DEPTH_MAX { 7 } else { 5 };
    match bytes.below(kinds) {
        0 => Value::String(bytes.text("")),
        1 => Value::Null,
        2 => Value::Bool(bytes.flag()),
        3 => Value::from(bytes.number()),
        4 => Value::from(f64::from(bytes.short()) / 8.0),
        5 => (0..bytes.below(5)).map(|_| grow(bytes, depth + 1)).collect(),
        _ => {
            Value::Object((0..bytes.below(5)).map(|_| (bytes.text("k"), grow(bytes, depth + 1))).collect::<Map<_, _>>())
        }
    }
}

fn of(value: &Value) -> Outline {
    match value {
        Value::Null => Outline::Nothing,
        Value::Bool(_) | Value::Number(_) => Outline::Scalar(value.to_string()),
        Value::String(text) => Outline::Scalar(text.clone()),
        Value::Array(items) => Outline::List(items.iter().map(of).collect()),
        Value::Object(entries) => {
            Outline::Map(entries.iter().map(|(key, value)| (Outline::Scalar(key.clone()), of(value))).collect())
        }
    }
}

/// Each construct of the language, whole and broken, and some trees.
pub fn seeds() -> Vec<Vec<u8>> {
    let bomb: String = ('b'..'j')
        .zip('a'..)
        .map(|(this, last)| format!("{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}]\n"))
        .collect();
    let mut seeds: Vec<Vec<u8>> = [
        "",
        "a",
        "a: 1",
        "a: 1.10\nb: \"80\"\nc: 080",
        "a: no\nb: 0x1F\nc: 1e999\nd: -.inf\ne: .NaN",
        "a:\nb: ~\nc: ''",
        "\u{e9}: \u{fc}\nx: [1, {y: z}]",
        "a: |\n  two\n  lines\nb: >-\n  one\n  line",
        "x: &x {a: 1, b: 2}\nz: {<<: *x, a: 3}",
        "a: 1\na: 2",
        "\u{feff}a: 80",
        "a: !!int \"80\"\nb: !!str 80",
        "a: b: c",
        "a: [1,2\n",
        "a: 1\n---\nb: 2",
        "a: *b",
        "a: &a [*a]",
        "a: !run x",
        "a: \"\u{1b}[31m\"",
        "a: \"\\x00\"",
        "a: \"\\ud83d\"",
        "? a\n: b",
        "? [a, b]\n: c",
        "- - - a",
        "%YAML 1.2\n---\na",
        "%TAG ! x\n---\n!a b",
        "...",
        "---",
        "--- a\n...\n--- b",
        "a: 'it''s'",
        "a: \"b\\\n  c\"",
        "\ta: b",
        "a:\tb",
        "a\r\nb: c",
        "a: b\rc: d",
        "a: b #c\n#d",
        "a: @b",
        "a: `b`",
        "[a, [b, [c]]]",
        "{a: {b: {c}}}",
        "a: >9\n b",
        "a: |+\n\n\n",
        "!!binary aGk=",
        "!!set {a}",
        "!!omap [a: b]",
        "<<: {a: b}",
        "<<: [{a: b}, {c: d}]",
        "<<: a",
        "a: 0o17\nb: 1_000\nc: 12:30:45",
        "listen: 0.0.0.0:7443",
        "listen: 1",
        "store: {etcd: {}}",
        "store:\n  etcd:\n    endpoints: [\"https://a:2379\"]",
        "state_dir: relative",
        "identity: \"/a\\u0000b\"",
        "\u{2028}a: b",
        "a: b\u{85}c: d",
        "\0",
        "\u{fffe}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    seeds.push(format!("a: &a [x, x, x, x, x]\n{bomb}").into_bytes());
    seeds.push("[".repeat(1000).into_bytes());
    seeds.push("- ".repeat(1000).into_bytes());
    seeds.push("{a: ".repeat(40).into_bytes());
    seeds.extend([
        b"{\x00\x03abc".to_vec(),
        b"{\x06\x02\x01a\x00\x01b\x02<<\x06\x01\x01c\x01".to_vec(),
        b"{\x05\x04\x03\x02\x03\x03\x04\x07\x00\x02\x01".to_vec(),
        b"{\x06\x01\x04~ :#\x00\x05- \"'\n".to_vec(),
        b"{\x00\x04\x00\x1b\x7f\xc2".to_vec(),
        b"{\x05\x04\x00\x04null\x00\x04true\x00\x021e\x00\x01=".to_vec(),
    ]);
    seeds
}
