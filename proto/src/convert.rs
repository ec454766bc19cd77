//! From generated types to those of `cutover`, checked, and back.

use crate::session as wire;
use cutover::history::{Chronicle, Reign, Seen};
use cutover::ids::{Colour, Epoch, Generation, Incarnation, ReleaseDigest, Revision, ServiceName};
use cutover::message::Slot;
use std::collections::BTreeMap;

/// A message that does not say what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is malformed: {detail}")]
pub struct WireError {
    /// The field, as the .proto file calls it.
    pub field: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl WireError {
    /// An error about a field.
    pub fn new(field: &'static str, detail: impl ToString) -> Self {
        Self { field, detail: detail.to_string() }
    }
}

/// Reads a text field into one of the checked types.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, WireError>
where
    T: std::str::FromStr,
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| WireError::new(field, error))
}

/// Reads a digest.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<ReleaseDigest, WireError> {
    let bytes: [u8; 32] =
        bytes.try_into().map_err(|_| WireError::new(field, format!("{} bytes instead of 32", bytes.len())))?;
    Ok(ReleaseDigest(bytes))
}

/// Reads a colour; unset is an error.
pub fn colour(field: &'static str, value: i32) -> Result<Colour, WireError> {
    match wire::Colour::try_from(value) {
        Ok(wire::Colour::Blue) => Ok(Colour::Blue),
        Ok(wire::Colour::Green) => Ok(Colour::Green),
        Ok(wire::Colour::Unspecified) | Err(_) => Err(WireError::new(field, format!("{value} is no colour"))),
    }
}

impl From<Colour> for wire::Colour {
    fn from(colour: Colour) -> Self {
        match colour {
            Colour::Blue => Self::Blue,
            Colour::Green => Self::Green,
        }
    }
}

impl From<Slot> for wire::Slot {
    fn from(slot: Slot) -> Self {
        Self {
            generation: slot.generation.0,
            release: slot.release.0.to_vec(),
            colour: wire::Colour::from(slot.colour).into(),
        }
    }
}

impl TryFrom<&wire::Slot> for Slot {
    type Error = WireError;
    fn try_from(slot: &wire::Slot) -> Result<Self, WireError> {
        Ok(Self {
            generation: Generation(slot.generation),
            release: digest("slot.release", &slot.release)?,
            colour: colour("slot.colour", slot.colour)?,
        })
    }
}

/// Reads the slots of a host.
pub fn slots<'a>(
    field: &'static str,
    slots: impl IntoIterator<Item = (&'a String, &'a wire::Slot)>,
) -> Result<BTreeMap<ServiceName, Slot>, WireError> {
    slots.into_iter().map(|(name, slot)| Ok((parse(field, name)?, Slot::try_from(slot)?))).collect()
}

/// Writes the slots of a host.
pub fn wire_slots(slots: &BTreeMap<ServiceName, Slot>) -> std::collections::HashMap<String, wire::Slot> {
    slots.iter().map(|(name, slot)| (name.to_string(), (*slot).into())).collect()
}

/// Reads an incarnation.
pub fn incarnation(text: &str) -> Result<Incarnation, WireError> {
    parse("incarnation", text)
}

impl From<Reign> for wire::Reign {
    fn from(reign: Reign) -> Self {
        Self { epoch: reign.epoch.0, mark: reign.mark }
    }
}

fn reign(wire: &wire::Reign) -> Reign {
    Reign { epoch: Epoch(wire.epoch), mark: wire.mark }
}

impl From<Seen> for wire::Seen {
    fn from(seen: Seen) -> Self {
        let Seen { history, reign, revision } = seen;
        Self { history: history.to_string(), reign: Some(reign.into()), revision: revision.0 }
    }
}

impl TryFrom<&wire::Seen> for Seen {
    type Error = WireError;
    fn try_from(seen: &wire::Seen) -> Result<Self, WireError> {
        let heard_in = seen.reign.as_ref().ok_or_else(|| WireError::new("seen.reign", "it is not set"))?;
        let history = parse("seen.history", &seen.history)?;
        Ok(Self { history, reign: reign(heard_in), revision: Revision(seen.revision) })
    }
}

impl From<&Chronicle> for wire::Chronicle {
    fn from(chronicle: &Chronicle) -> Self {
        Self {
            history: chronicle.history.to_string(),
            replaces: chronicle.replaces.iter().map(ToString::to_string).collect(),
            reigns: chronicle.reigns.iter().map(|reign| (*reign).into()).collect(),
            revision: chronicle.revision.0,
        }
    }
}

impl TryFrom<&wire::Chronicle> for Chronicle {
    type Error = WireError;
    fn try_from(chronicle: &wire::Chronicle) -> Result<Self, WireError> {
        let replaces = chronicle.replaces.iter().map(|text| parse("chronicle.replaces", text));
        if chronicle.reigns.is_empty() {
            return Err(WireError::new("chronicle.reigns", "nobody reigns"));
        }
        Ok(Self {
            history: parse("chronicle.history", &chronicle.history)?,
            replaces: replaces.collect::<Result<_, _>>()?,
            reigns: chronicle.reigns.iter().map(reign).collect(),
            revision: Revision(chronicle.revision),
        })
    }
}

/// Bytes as hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal text as bytes.
pub fn unhex(field: &'static str, text: &str) -> Result<Vec<u8>, WireError> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    };
    let bytes: Option<_> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| WireError::new(field, "it is not hexadecimal"))
}
