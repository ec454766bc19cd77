//! Reading typed values out of a tree, collecting every fault on the way. Whoever answers `None` has noted a
//! fault; who answers a value may have noted some too, so that one fault does not hide the next.

use super::document::{self, Node, Scalar, Value};
use super::duration::{duration_text, parse_duration};
use super::fault::{Fault, Faults, Place, crop, quote};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Typing errors up to this many letters apart are taken for the word that was meant.
const TYPING_ERRORS_MAX: usize = 2;

/// Reads a text as YAML, hands its root to `of`, and answers what that made, or everything that is wrong.
pub(crate) fn read<T>(text: &str, file: &str, of: impl FnOnce(&Field<'_>) -> Option<T>) -> Result<T, Faults> {
    let root = document::read(text, file)?;
    let notes = Notes { text, faults: RefCell::default() };
    let value = of(&Field { notes: &notes, node: &root, path: String::new(), secret: false });
    let faults = notes.faults.into_inner();
    debug_assert!(value.is_some() || !faults.is_empty(), "a reader gave up and did not say why");
    match value {
        Some(value) if faults.is_empty() => Ok(value),
        Some(_) | None => Err(Faults::new(file, faults)),
    }
}

struct Notes<'t> {
    text: &'t str,
    faults: RefCell<Vec<Fault>>,
}

/// A node with its path.
#[derive(Clone)]
pub(crate) struct Field<'t> {
    notes: &'t Notes<'t>,
    node: &'t Node,
    path: String,
    secret: bool,
}

impl<'t> Field<'t> {
    /// The same field, whose text must not be repeated in faults.
    pub(crate) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Notes a fault here.
    pub(crate) fn fault<T>(&self, message: impl Into<String>) -> Option<T> {
        self.fault_at(self.node.place, message)
    }

    fn fault_at<T>(&self, place: Place, message: impl Into<String>) -> Option<T> {
        let fault = match self.secret {
            true => Fault::hidden(place, &self.path, message),
            false => Fault::shown(self.notes.text, place, &self.path, message),
        };
        self.notes.faults.borrow_mut().push(fault);
        None
    }

    fn unexpected<T>(&self, expected: &str) -> Option<T> {
        match (&self.node.value, self.secret) {
            (Value::Scalar(..), true) => self.fault(format!("expected {expected}")),
            (value, _) => self.fault(format!("expected {expected}, found {}", value.describe())),
        }
    }

    /// A single value, as written.
    pub(crate) fn text(&self, expected: &str) -> Option<&'t str> {
        match &self.node.value {
            Value::Scalar(text, _) => Some(text),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => self.unexpected(expected),
        }
    }

    /// A single value that `parse` understands.
    pub(crate) fn parse<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match parse(self.text(expected)?) {
            Some(value) => Some(value),
            None => self.unexpected(expected),
        }
    }

    /// A whole number.
    pub(crate) fn number<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match &self.node.value {
            Value::Scalar(text, Scalar::Number) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse::<u64>().ok(),
            Value::Scalar(text, Scalar::Text) if text.parse::<u64>().is_ok() => {
                return self.unexpected(&format!("{expected}, without quotes"));
            }
            Value::Null | Value::Scalar(..) | Value::Sequence(_) | Value::Mapping(_) => None,
        };
        let inside = number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
        match inside {
            Some(number) => Some(number),
            None => self.unexpected(&expected),
        }
    }

    /// A time as Compose and Go write it, of whole milliseconds.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (start, end) = (duration_text(*range.start()), duration_text(*range.end()));
        let expected = format!("a time from {start} to {end}, such as 500ms, 10s or 1m30s");
        match &self.node.value {
            Value::Scalar(_, Scalar::Number) => self.unexpected(&format!("{expected}, with its unit (ms, s, m, h)")),
            Value::Null | Value::Scalar(..) | Value::Sequence(_) | Value::Mapping(_) => {
                self.parse(&expected, |text| parse_duration(text).filter(|duration| range.contains(duration)))
            }
        }
    }

    /// A list.
    pub(crate) fn list(&self, expected: &str, items_max: usize) -> Option<Vec<Field<'t>>> {
        match &self.node.value {
            Value::Sequence(nodes) if nodes.len() <= items_max => {
                let item = |(index, node)| Self { node, path: format!("{}[{index}]", self.path), ..self.clone() };
                Some(nodes.iter().enumerate().map(item).collect())
            }
            Value::Sequence(nodes) => {
                self.fault(format!("expected at most {items_max} entries, found {}", nodes.len()))
            }
            Value::Null | Value::Scalar(..) | Value::Mapping(_) => self.unexpected(expected),
        }
    }

    /// Whether this is a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    /// Whether this is a map.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Mapping(_))
    }

    /// Whether nothing is here.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// A map whose keys are ours: ask for each, then `close` it.
    pub(crate) fn keys(&self, expected: &str) -> Option<Keys<'t>> {
        let entries = self.entries(expected, usize::MAX)?;
        let entries = entries.into_iter().map(|(key, _, value)| (key, value)).collect();
        Some(Keys { field: self.clone(), entries, asked: Vec::new() })
    }

    /// A map whose keys are the person's: key, where it stands, value. A key that repeats is a fault.
    pub(crate) fn entries(&self, expected: &str, entries_max: usize) -> Option<Vec<(String, Field<'t>, Field<'t>)>> {
        let nodes = match &self.node.value {
            Value::Mapping(nodes) => nodes,
            Value::Null | Value::Scalar(..) | Value::Sequence(_) => return self.unexpected(expected),
        };
        if nodes.len() > entries_max {
            return self.fault(format!("expected at most {entries_max} entries, found {}", nodes.len()));
        }
        let mut first_lines = BTreeMap::new();
        let mut entries = Vec::with_capacity(nodes.len());
        for (key_node, node) in nodes {
            let Value::Scalar(key, _) = &key_node.value else {
                self.fault_at::<()>(key_node.place, format!("expected a key, found {}", key_node.value.describe()));
                continue;
            };
            if let Some(line) = first_lines.get(key) {
                let message = format!("the key {} is here twice, first on line {line}", quote(key));
                self.fault_at::<()>(key_node.place, message);
                continue;
            }
            first_lines.insert(key, key_node.place.line);
            let separator = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{separator}{}", self.path, crop(key));
            let key_field = Self { node: key_node, path: path.clone(), ..self.clone() };
            entries.push((key.clone(), key_field, Self { node, path, ..self.clone() }));
        }
        Some(entries)
    }
}

/// A map whose keys are ours.
pub(crate) struct Keys<'t> {
    field: Field<'t>,
    entries: Vec<(String, Field<'t>)>,
    asked: Vec<&'static str>,
}

impl<'t> Keys<'t> {
    /// The value of a key, if it is there.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Field<'t>> {
        self.asked.push(key);
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    /// The value of a key; a fault if it is not there.
    pub(crate) fn required(&mut self, key: &'static str, expected: &str) -> Option<Field<'t>> {
        self.optional(key).or_else(|| self.field.fault(format!("`{key}` is missing, expected {expected}")))
    }

    /// What `read` makes of a key's value; `absent` if the key is not there.
    pub(crate) fn or<T>(
        &mut self,
        key: &'static str,
        absent: T,
        read: impl FnOnce(&Field<'t>) -> Option<T>,
    ) -> Option<T> {
        match self.optional(key) {
            Some(value) => read(&value),
            None => Some(absent),
        }
    }

    /// A key that was not asked for is a fault. `hint` knows keys that people bring from elsewhere.
    pub(crate) fn close(self, hint: impl Fn(&str) -> Option<&'static str>) {
        for (key, value) in &self.entries {
            if self.asked.contains(&key.as_str()) {
                continue;
            }
            let advice = match (hint(key), meant(key, &self.asked)) {
                (Some(hint), _) => hint.to_owned(),
                (None, Some(meant)) => format!("did you mean `{meant}`?"),
                (None, None) => format!("expected one of {}", self.asked.join(", ")),
            };
            let place = self.field.key_place(key).unwrap_or(value.node.place);
            value.fault_at::<()>(place, format!("unknown key {}; {advice}", quote(key)));
        }
    }
}

impl Field<'_> {
    fn key_place(&self, key: &str) -> Option<Place> {
        let Value::Mapping(nodes) = &self.node.value else { return None };
        let is_key = |node: &Node| matches!(&node.value, Value::Scalar(text, _) if text == key);
        nodes.iter().find(|(node, _)| is_key(node)).map(|(node, _)| node.place)
    }
}

fn meant<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    // A long word is far from every key, and the distance of long words takes long to compute.
    let near = known.iter().filter(|key| typed.len().abs_diff(key.len()) <= TYPING_ERRORS_MAX);
    let distances = near.map(|key| (distance(typed, key), *key));
    let closest = distances.filter(|(distance, key)| *distance <= TYPING_ERRORS_MAX.min(key.len() / 2)).min();
    closest.map(|(_, key)| key)
}

/// Letters to insert, remove or replace to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised_and_a_foreign_word_is_not() {
        let known = ["port", "image", "healthcheck", "command"];
        for (typed, expected) in [
            ("prot", Some("port")),
            ("ports", Some("port")),
            ("imgae", Some("image")),
            ("health_check", Some("healthcheck")),
            ("Command", Some("command")),
            ("volumes", None),
            ("p", None),
            ("", None),
        ] {
            assert_eq!(meant(typed, &known), expected, "{typed:?}");
        }
    }
}
