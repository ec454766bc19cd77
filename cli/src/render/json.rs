//! What programs get. Every name here is an interface: add, never rename.
//!
//! Enums are words in lower case, times are numbers in fields named `*_micros` or `*_millis`, and null
//! means unknown, not reached, or none. `deploy`, `rollback` and `watch` print one object a line:
//!
//! | `event` | fields |
//! |---|---|
//! | `progress` | those of a deployment, `attached`, and in `hosts` the hosts that changed |
//! | `connection` | `state` (`lost`, `restored`), `detail` |
//! | `result` | always last: `outcome`, `exit_code`, `error`; those of a deployment if it is known; all `hosts` |
//!
//! All other verbs print one document. Any verb that fails prints a `result` with `outcome`, `exit_code` and `error`.

use super::line::{self, Line};
use super::words;
use crate::commands::controllers::Found;
use crate::exit::{Exit, Failure};
use crate::progress::{Changes, Progress};
use bgctl_proto::operator as wire;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The deployment's fields, and the hosts that changed.
pub fn progress(progress: &Progress, changes: &Changes) -> Value {
    let mut fields = Map::from_iter([("event".to_owned(), json!("progress"))]);
    fields.extend(progress.deployment.as_ref().map(deployment_fields).unwrap_or_default());
    fields.insert("attached".to_owned(), json!(progress.attached));
    let changed = changes.hosts.iter().filter_map(|name| progress.hosts.get(name));
    fields.insert("hosts".to_owned(), changed.map(host_progress).collect());
    Value::Object(fields)
}

/// The connection went or came back.
pub fn connection(progress: &Progress) -> Value {
    let state = if progress.lost.is_some() { "lost" } else { "restored" };
    json!({ "event": "connection", "state": state, "detail": progress.lost })
}

/// The last line. `words` say why the deployment's end is not known, if it is not.
pub fn result(progress: &Progress, exit: Exit, words: &[Line]) -> Value {
    let mut fields = outcome(exit, (!words.is_empty()).then(|| joined(words)));
    fields.insert("event".to_owned(), json!("result"));
    fields.extend(progress.deployment.as_ref().map(deployment_fields).unwrap_or_default());
    fields.insert("attached".to_owned(), json!(progress.attached));
    fields.insert("hosts".to_owned(), progress.hosts.values().map(host_progress).collect());
    Value::Object(fields)
}

/// Of a command that could not do what it was asked.
pub fn failure(failure: &Failure) -> Value {
    let mut fields = outcome(failure.exit(), Some(failure.to_string()));
    fields.insert("event".to_owned(), json!("result"));
    Value::Object(fields)
}

/// A deployment's own fields.
pub fn deployment(deployment: &wire::Deployment) -> Value {
    Value::Object(deployment_fields(deployment))
}

/// What a spec became.
pub fn applied(reply: &wire::ApplyReply) -> Value {
    let wire::ApplyReply { service, revision, changed, hosts } = reply;
    json!({ "service": service, "revision": revision, "changed": changed, "hosts": hosts })
}

/// All services.
pub fn status(reply: &wire::StatusReply) -> Value {
    let services: Vec<Value> = reply.services.iter().map(service).collect();
    json!({
        "revision": reply.revision, "epoch": reply.epoch, "services": services, "follower": follower(reply.follower.as_ref()),
        "warnings": reply.warnings,
        "history": known(&reply.history),
        "store_doubt": known(&reply.store_doubt),
    })
}

/// A service's deployments, each with its hosts.
pub fn history(reply: &wire::HistoryReply) -> Value {
    let report = |report: &wire::DeploymentReport| {
        let mut fields = report.deployment.as_ref().map(deployment_fields).unwrap_or_default();
        fields.insert("hosts".to_owned(), report.hosts.iter().map(host_progress).collect());
        Value::Object(fields)
    };
    let deployments = reply.deployments.iter().map(report).collect::<Vec<_>>();
    json!({ "deployments": deployments, "follower": follower(reply.follower.as_ref()) })
}

/// All hosts.
pub fn hosts(reply: &wire::HostsReply) -> Value {
    let hosts = reply.hosts.iter().map(host).collect::<Vec<_>>();
    json!({ "hosts": hosts, "follower": follower(reply.follower.as_ref()) })
}

/// Whose word an answer is. Null: the leader's.
fn follower(follower: Option<&wire::FollowerView>) -> Value {
    let Some(wire::FollowerView { replica, age_millis, leader }) = follower else { return Value::Null };
    json!({ "replica": replica, "age_millis": age_millis, "leader": known(leader) })
}

/// All controllers, and the store.
pub fn controllers(found: &Found) -> Value {
    let newest = found.newest_revision();
    let each = found.controllers.iter().map(|(name, seen)| {
        let own = seen.own.as_ref();
        json!({
            "name": name,
            "address": known(seen.address()),
            "reachable": own.is_some(),
            "role": own.map(|own| if own.leads { "leader" } else { "follower" }),
            "epoch": own.map(|own| own.epoch),
            "leader": own.and_then(|own| (!own.leader.is_empty()).then_some(&own.leader)),
            "since_millis": own.map(|own| own.since_millis),
            "revision": own.map(|own| own.revision),
            "lag_revisions": own.map(|own| newest.saturating_sub(own.revision)),
            "store_age_millis": own.and_then(|own| own.store_age_millis),
            "version": own.map(|own| &own.version).or(seen.known.as_ref().map(|known| &known.version)),
            "trouble": known(&seen.trouble()),
        })
    });
    json!({ "controllers": each.collect::<Vec<_>>(), "store": found.store.as_ref().map(store) })
}

/// A controller that was struck out of the list.
pub fn forgotten(name: &str) -> Value {
    json!({ "forgotten": name })
}

fn store(store: &wire::Store) -> Value {
    let members = store.members.iter().map(|member| {
        json!({
            "name": known(&member.name),
            "address": member.address,
            "version": known(&member.version),
            "size_bytes": member.size_bytes,
            "in_use_bytes": member.in_use_bytes,
            "leads": member.leads,
            "trouble": known(&member.trouble),
        })
    });
    json!({
        "kind": store.kind,
        "members": members.collect::<Vec<_>>(),
        "size_bytes": store.size_bytes,
        "quota_bytes": reached(store.quota_bytes),
        "alarms": store.alarms,
        "revision": store.revision,
        "warnings": store.warnings,
    })
}

/// A host in another life.
pub fn replaced(host: &str, reply: &wire::ReplaceHostReply) -> Value {
    json!({ "host": host, "before": known(&reply.before), "now": reply.now })
}

/// A host that is no more.
pub fn removed(host: &str, reply: &wire::RemoveHostReply) -> Value {
    json!({ "host": host, "before": known(&reply.before) })
}

/// The store under its new history.
pub fn confirmed(reply: &wire::ConfirmStoreReply) -> Value {
    json!({ "history": reply.history, "replaces": reply.replaces, "revision": reply.revision })
}

/// As text. What JSON need not escape and a terminal must not see is escaped too: such characters
/// stand in strings only.
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        if line::is_hostile(c) { text.push_str(&format!("\\u{:04x}", u32::from(c))) } else { text.push(c) }
    }
    text
}

fn outcome(exit: Exit, error: Option<String>) -> Map<String, Value> {
    let fields = [("outcome", json!(exit.word())), ("exit_code", json!(exit.code())), ("error", json!(error))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn deployment_fields(deployment: &wire::Deployment) -> Map<String, Value> {
    let summary = deployment.summary.as_ref();
    let figure = |read: fn(&wire::Summary) -> u64| json!(summary.map(read));
    let fields = [
        ("deployment", json!(deployment.id)),
        ("generation", json!(deployment.generation)),
        ("service", json!(deployment.service)),
        ("kind", json!(words::kind(deployment.kind()))),
        ("version", json!(deployment.version)),
        ("from_version", known(&deployment.from_version)),
        ("phase", json!(words::phase(deployment.phase()))),
        ("reason", known(&deployment.reason)),
        ("actor", known(&deployment.actor)),
        ("started_unix_millis", json!(deployment.started_unix_millis)),
        ("elapsed_micros", json!(deployment.elapsed_micros)),
        ("rolled_back_by", known(&deployment.rolled_back_by)),
        ("host_count", json!(deployment.host_count)),
        ("left_out", json!(deployment.left_out)),
        ("skew_micros", figure(|summary| summary.skew_micros)),
        ("skew_error_micros", figure(|summary| summary.skew_error_micros)),
        ("prepared_micros", figure(|summary| summary.prepared_micros)),
        ("decided_micros", figure(|summary| summary.decided_micros)),
        ("applied_micros", figure(|summary| summary.applied_micros)),
        ("requests_lost", json!(summary.and_then(|summary| summary.requests_lost))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn host_progress(host: &wire::HostProgress) -> Value {
    json!({
        "host": host.host,
        "phase": words::host_phase(host.phase()),
        "detail": known(&host.detail),
        "log_tail": host.log_tail,
        "colour": known(&host.colour),
        "pulled_micros": reached(host.pulled_micros),
        "started_micros": reached(host.started_micros),
        "healthy_micros": reached(host.healthy_micros),
        "voted_micros": reached(host.voted_micros),
        "switched_micros": reached(host.switched_micros),
        "rename_micros": reached(host.rename_micros),
        "proof_micros": reached(host.proof_micros),
        "left_out": host.left_out,
    })
}

fn service(service: &wire::ServiceStatus) -> Value {
    let host = |host: &wire::HostServiceStatus| {
        json!({
            "host": host.host,
            "connected": host.connected,
            "current": host.current,
            "version": known(&host.version),
            "generation": reached(host.generation),
            "colour": known(&host.colour),
            "condition": known(&host.condition),
            "standby_version": known(&host.standby_version),
            "standby_condition": known(&host.standby_condition),
            "trouble": known(&host.trouble),
            "dropped": host.dropped,
            "by_hand": host.by_hand.as_ref().map(by_hand),
            "not_ready": known(&host.not_ready),
        })
    };
    json!({
        "service": service.service,
        "spec_revision": service.spec_revision,
        "version": known(&service.version),
        "generation": reached(service.generation),
        "mixed": service.mixed,
        "release": known(&service.release),
        "rollback_version": known(&service.rollback_version),
        "rollback_ready": service.rollback_ready,
        "pending": service.pending.as_ref().map(deployment),
        "latest": service.latest.as_ref().map(deployment),
        "hosts": service.hosts.iter().map(host).collect::<Vec<_>>(),
    })
}

fn host(host: &wire::Host) -> Value {
    json!({
        "host": host.host,
        "labels": host.labels.iter().collect::<BTreeMap<_, _>>(),
        "connected": host.connected,
        "since_millis": host.since_millis,
        "incarnation": host.incarnation,
        "agent_version": known(&host.agent_version),
        "docker_version": known(&host.docker_version),
        "nginx_version": known(&host.nginx_version),
        "services": host.services,
        "troubles": host.troubles,
        "warnings": host.warnings,
        "waiting": known(&host.waiting),
        "stranger": host.stranger,
        "by_hand": host.by_hand.iter().map(by_hand).collect::<Vec<_>>(),
    })
}

fn by_hand(hand: &wire::ByHand) -> Value {
    json!({
        "service": hand.service,
        "colour": hand.colour,
        "version": known(&hand.version),
        "at_unix_millis": hand.at_unix_millis,
        "uid": hand.uid,
    })
}

fn known(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

fn reached(number: u64) -> Value {
    if number == 0 { Value::Null } else { json!(number) }
}

fn joined(words: &[Line]) -> String {
    let lines: Vec<String> = words.iter().map(|line| line.painted(false)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log line in JSON is what the container wrote, and harmless to look at.
    #[test]
    fn text_is_harmless_and_says_the_same() {
        let value = json!({ "log": "\u{1b}[2J \u{9b}2J \u{7f} \u{202e} ü" });
        let text = text(&value);
        assert_eq!(text, r#"{"log":"\u001b[2J \u009b2J \u007f \u202e ü"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
