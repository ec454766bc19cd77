//! YAML text to a tree in which every node knows where it stands. The one place that knows the YAML crate.
//!
//! A tree, and not types straight away, because a person wants all the faults of a file at once, and
//! because `version: 1.10` must stay `1.10` and not become the number 1.1.

use super::fault::{Fault, Faults, Place, quote};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};
use std::fmt;

/// Longest text that is read, in bytes. A spec is a page or two; a release made of it must fit into one
/// value of the store.
pub(crate) const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting. Ours is five levels deep; a parser that recurses must stop somewhere.
const DEPTH_MAX: usize = 32;

/// Most nodes, those that aliases repeat included: an "alias bomb" is a kilobyte that becomes a gigabyte.
const NODES_MAX: usize = 20_000;

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What YAML knows.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, or `null`.
    Null,
    /// As written, without quotes.
    Scalar(String, Scalar),
    Sequence(Vec<Node>),
    /// In the order of the file; keys may repeat.
    Mapping(Vec<(Node, Node)>),
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Boolean,
    Number,
    Text,
}

/// Reads a text. An error here means the text is not YAML; it is always the first fault alone.
pub(crate) fn read(text: &str, file: &str) -> Result<Node, Faults> {
    let faults = |place, message: String| Faults::new(file, vec![Fault::shown(text, place, "", message)]);
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the file has {} bytes, expected at most {TEXT_BYTES_MAX}", text.len());
        return Err(faults(Place::START, message));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Shape>>(text, options) {
        Ok(shape) => Ok(node(shape, text)),
        Err(error) => {
            let place = error.location().map_or(Place::START, place);
            let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
            Err(faults(place, format!("not valid YAML: {message}")))
        }
    }
}

/// A value as the YAML crate hands it over. What it made a number or boolean of is read again from the text.
enum Shape {
    Null,
    Boolean,
    Number,
    Text(String),
    Sequence(Vec<Spanned<Self>>),
    Mapping(Vec<(Spanned<Self>, Spanned<Self>)>),
}

fn node(shape: Spanned<Shape>, text: &str) -> Node {
    let (referenced, defined) = (shape.referenced, shape.defined);
    let scalar = |kind| Value::Scalar(written(text, defined), kind);
    let value = match shape.value {
        Shape::Null => Value::Null,
        Shape::Boolean => scalar(Scalar::Boolean),
        Shape::Number => scalar(Scalar::Number),
        Shape::Text(content) => Value::Scalar(content, Scalar::Text),
        Shape::Sequence(items) => Value::Sequence(items.into_iter().map(|item| node(item, text)).collect()),
        Shape::Mapping(entries) => {
            let both = |(key, value)| (node(key, text), node(value, text));
            Value::Mapping(entries.into_iter().map(both).collect())
        }
    };
    Node { place: place(referenced), value }
}

/// The characters that made a number or boolean. Quotes are among them only where a tag makes one of a text.
fn written(text: &str, location: Location) -> String {
    let span = location.span();
    let range = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(length).ok()?)?)
    });
    range.and_then(|range| text.get(range)).unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
}

fn place(location: Location) -> Place {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let start = |n: u64| number(n).max(1);
    Place { line: start(location.line()), column: start(location.column()), width: number(location.span().len()) }
}

impl Value {
    /// As told to the person who wrote it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Scalar(text, Scalar::Text) => format!("the text {}", quote(text)),
            Self::Scalar(text, Scalar::Number) => format!("the number {}", quote(text).trim_matches('"')),
            Self::Scalar(text, Scalar::Boolean) => quote(text).trim_matches('"').to_owned(),
            Self::Sequence(_) => "a list".to_owned(),
            Self::Mapping(_) => "a map".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Shape, E> {
        Ok(Shape::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Shape::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short form of a tree: scalars with what they are taken for.
    fn short(node: &Node) -> String {
        match &node.value {
            Value::Null => "-".to_owned(),
            Value::Scalar(text, Scalar::Text) => format!("{text:?}"),
            Value::Scalar(text, Scalar::Number) => format!("#{text}"),
            Value::Scalar(text, Scalar::Boolean) => format!("?{text}"),
            Value::Sequence(items) => format!("[{}]", items.iter().map(short).collect::<Vec<_>>().join(" ")),
            Value::Mapping(entries) => {
                let entry = |(key, value): &(Node, Node)| {
                    let Place { line, column, .. } = value.place;
                    format!("{}@{line}:{column}={}", short(key), short(value))
                };
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }

    /// What YAML makes of a number is taken back: it stands as it was written. Aliases and merges stand
    /// where they are used; what is written in a map wins over what is merged into it.
    #[test]
    fn scalars_stay_as_written_and_everything_has_a_place() {
        for (text, expected) in [
            ("a: 1.10\nb: \"80\"\nc: 080", r##"{"a"@1:4=#1.10 "b"@2:4="80" "c"@3:4=#080}"##),
            ("a: no\nb: 0x1F\nc: 1e999\nd: -.inf", r##"{"a"@1:4=?no "b"@2:4=#0x1F "c"@3:4=#1e999 "d"@4:4=#-.inf}"##),
            ("a:\nb: ~\nc: ''", r##"{"a"@1:2=- "b"@2:4=- "c"@3:4=""}"##),
            ("é: ü\nx: [1, {y: z}]", r##"{"é"@1:4="ü" "x"@2:4=[#1 {?y@2:12="z"}]}"##),
            ("a: |\n  two\n  lines\nb: >-\n  one\n  line", r##"{"a"@2:3="two\nlines\n" "b"@5:3="one line"}"##),
            (
                "x: &x {a: 1, b: 2}\nz: {<<: *x, a: 3}",
                r##"{"x"@1:7={"a"@1:11=#1 "b"@1:17=#2} "z"@2:4={"a"@2:16=#3 "b"@2:9=#2}}"##,
            ),
            ("a: 1\na: 2", r##"{"a"@1:4=#1 "a"@2:4=#2}"##),
            ("\u{feff}a: 80", r##"{"a"@1:4=#80}"##),
            ("a: !!int \"80\"\nb: !!str 80", r##"{"a"@1:10=#80 "b"@2:10="80"}"##),
            ("", "-"),
        ] {
            assert_eq!(short(&read(text, "a.yaml").expect(text)), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_yaml_is_refused_at_its_place() {
        let deep = "[".repeat(1000);
        let bomb: String = ('b'..'j')
            .zip('a'..)
            .map(|(this, last)| format!("{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}]\n"))
            .collect();
        let bomb = format!("a: &a [x, x, x, x, x]\n{bomb}");
        let long = format!("# {}", "x".repeat(TEXT_BYTES_MAX));
        for (text, expected) in [
            ("a: b: c", "a.yaml:1:5: not valid YAML: mapping values are not allowed in this context"),
            ("a: [1,2\n", "a.yaml:1:4: not valid YAML: unclosed bracket '['"),
            ("a: 1\n---\nb: 2", "a.yaml:3:1: not valid YAML: only single YAML document expected but multiple found"),
            ("a: *b", "a.yaml:1:4: not valid YAML: reference to unknown value"),
            ("a: &a [*a]", "a.yaml:1:8: not valid YAML: Recursive reference not allowed here"),
            ("a: !run x", "a.yaml:1:9: not valid YAML: unsupported tag `!run`"),
            ("a: \"\u{1b}[31m\"", "a.yaml:1:5: not valid YAML: unexpected character: `\\u{1b}'"),
            (&deep, "a.yaml:1:256: not valid YAML: recursion limit exceeded"),
            (
                &bomb,
                "a.yaml:6:20: not valid YAML: YAML document too large or too complex: limits breached: Nodes { nodes: 20001 }",
            ),
            (&long, "a.yaml:1:1: the file has 262146 bytes, expected at most 262144"),
        ] {
            let error = read(text, "a.yaml").expect_err(text).to_string();
            assert_eq!(error.lines().next(), Some(expected), "{error}");
        }
    }
}
