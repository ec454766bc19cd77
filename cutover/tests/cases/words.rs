//! How the protocol's nouns are written in a case. A release is a number: `r1`.
//!
//! `h1/1` host and life · `d2@20` deployment and generation · `web=r2` release · `web=r2@20/green` slot ·
//! `web=r1@10+d2` committed and pending · `-` nothing

use cutover::ids::{DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
use cutover::message::{Committed, Participants, Prepare, ServiceState, Slot};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

pub fn parse<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// Two parts of a word.
pub fn halves<'a>(text: &'a str, between: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(between).ok_or_else(|| format!("{text:?}: expected a {between:?} in it"))
}

/// The number after this word, and the rest.
fn number<'a>(text: &'a str, word: &str) -> Result<(u64, &'a str), String> {
    let rest = text.strip_prefix(word).ok_or_else(|| format!("{text:?}: expected `{word}N`"))?;
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Ok((parse(number)?, rest))
}

/// `d2@20 epoch 5 rev 22 web=r2`, and how every message with a release begins.
pub fn prepare(text: &str) -> Result<Prepare, String> {
    let (deployment, rest) = halves(text, " ")?;
    let (deployment, generation) = self::deployment(deployment)?;
    let (epoch, rest) = number(rest, "epoch ")?;
    let (revision, rest) = number(rest, "rev ")?;
    let services = map(rest, release)?;
    Ok(Prepare { epoch: Epoch(epoch), deployment, generation, revision: Revision(revision), services })
}

pub fn show_prepare(prepare: &Prepare) -> String {
    let Prepare { epoch, deployment, generation, revision, services } = prepare;
    let services = show_map(services, show_release);
    format!("{deployment}@{generation} epoch {epoch} rev {revision} {services}")
}

pub fn epoch_and_revision(text: &str) -> Result<(Epoch, Revision, &str), String> {
    let (epoch, rest) = number(text, "epoch ")?;
    let (revision, rest) = number(rest, "rev ")?;
    Ok((Epoch(epoch), Revision(revision), rest))
}

pub fn epoch(text: &str) -> Result<(Epoch, &str), String> {
    number(text, "epoch ").map(|(epoch, rest)| (Epoch(epoch), rest))
}

pub fn revision(text: &str) -> Result<(Revision, &str), String> {
    number(text, "rev ").map(|(revision, rest)| (Revision(revision), rest))
}

pub fn deployment(text: &str) -> Result<(DeploymentId, Generation), String> {
    let (id, generation) = halves(text, "@")?;
    Ok((parse(id)?, Generation(parse(generation)?)))
}

pub fn release(text: &str) -> Result<ReleaseDigest, String> {
    let digits = text.strip_prefix('r').ok_or_else(|| format!("{text:?}: expected a release like r1"))?;
    Ok(ReleaseDigest([parse(digits)?; 32]))
}

pub fn show_release(release: &ReleaseDigest) -> String {
    format!("r{}", release.0[0])
}

pub fn slot(text: &str) -> Result<Slot, String> {
    let (release, rest) = halves(text, "@")?;
    let (generation, colour) = halves(rest, "/")?;
    Ok(Slot { generation: Generation(parse(generation)?), release: self::release(release)?, colour: parse(colour)? })
}

pub fn show_slot(slot: &Slot) -> String {
    format!("{}@{}/{}", show_release(&slot.release), slot.generation, slot.colour)
}

pub fn service_state(text: &str) -> Result<ServiceState, String> {
    let (committed, pending) = text.split_once('+').map_or((text, None), |(committed, id)| (committed, Some(id)));
    let committed = match committed {
        "-" => None,
        _ => {
            let (release, generation) = halves(committed, "@")?;
            Some(Committed { generation: Generation(parse(generation)?), release: self::release(release)? })
        }
    };
    Ok(ServiceState { committed, pending: pending.map(parse).transpose()? })
}

/// `web=... api=...`
pub fn map<V>(text: &str, value: impl Fn(&str) -> Result<V, String>) -> Result<BTreeMap<ServiceName, V>, String> {
    let entry = |word| {
        let (name, rest) = halves(word, "=")?;
        Ok((parse(name)?, value(rest)?))
    };
    text.split_whitespace().map(entry).collect()
}

pub fn show_map<V>(map: &BTreeMap<ServiceName, V>, value: impl Fn(&V) -> String) -> String {
    let entries: Vec<_> = map.iter().map(|(name, entry)| format!("{name}={}", value(entry))).collect();
    if entries.is_empty() { "nothing".to_owned() } else { entries.join(" ") }
}

pub fn slots(map: &BTreeMap<ServiceName, Slot>) -> String {
    show_map(map, show_slot)
}

pub fn life(text: &str) -> Result<(HostId, Incarnation), String> {
    let (host, incarnation) = halves(text, "/")?;
    Ok((parse(host)?, Incarnation(parse(incarnation)?)))
}

pub fn lives(text: &str) -> Result<Participants, String> {
    text.split_whitespace().map(life).collect()
}

pub fn show_lives(participants: &Participants) -> String {
    let lives: Vec<_> = participants.iter().map(|(host, incarnation)| format!("{host}/{}", incarnation.0)).collect();
    lives.join(" ")
}
