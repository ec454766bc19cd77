//! What the reader of documents makes of a text, for tests that compare it with another reader's word.

use super::Faults;
use super::document::{self, Node, Value};

/// A document without its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outline {
    /// Nothing, or `null`.
    Nothing,
    /// As written, without quotes.
    Scalar(String),
    /// In order.
    List(Vec<Self>),
    /// In the order of the file; keys may repeat.
    Map(Vec<(Self, Self)>),
}

/// Reads a text as YAML. `file_name` is what errors call it.
///
/// # Errors
/// The first fault, if the text is not YAML.
pub fn outline(text: &str, file_name: &str) -> Result<Outline, Faults> {
    document::read(text, file_name).map(|node| of(&node))
}

fn of(node: &Node) -> Outline {
    match &node.value {
        Value::Null => Outline::Nothing,
        Value::Scalar(text, _) => Outline::Scalar(text.clone()),
        Value::Sequence(items) => Outline::List(items.iter().map(of).collect()),
        Value::Mapping(entries) => Outline::Map(entries.iter().map(|(key, value)| (of(key), of(value))).collect()),
    }
}
