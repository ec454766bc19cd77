//! What must hold after every case, by the protocol's own invariants where they can see it.

use super::case::Case;
use super::table::Line;
use super::trial::text;
use crate::load::LoadReport;
use cutover::ids::{Colour, Epoch, Generation, HostId, Incarnation, ReleaseDigest, ServiceName};
use cutover::invariant::{
    Violation, converged, generation_never_falls, one_content_per_generation, serves_only_committed,
};
use cutover::message::{Committed, Slot};
use cutover::participant::Record;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// Versions of a line that are shown by name.
const SHOWN_MAX: usize = 4;

/// What a case left behind.
pub(super) struct Evidence<'a> {
    /// `bgctl status --json` before it.
    pub(super) before: &'a Value,
    /// And after it.
    pub(super) after: &'a Value,
    /// `bgctl history --json` after it, newest first.
    pub(super) history: &'a [Value],
    /// What users saw in between.
    pub(super) report: &'a LoadReport,
    /// What was committed, from the version that served before it on. None: history tells, which keeps so many only.
    pub(super) path: Option<Vec<String>>,
    /// The version that was asked for.
    pub(super) asked: &'a str,
    /// The command's exit code.
    pub(super) code: Option<i32>,
    /// The host that was struck.
    pub(super) struck: &'a str,
}

pub(super) fn judge(case: &Case, evidence: &Evidence<'_>, took: Duration, mut faults: Vec<String>) -> Line {
    faults.extend(protocol(evidence).err().map(|violation| violation.to_string()));
    let told = committed_since(evidence);
    let path = evidence.path.clone().unwrap_or_else(|| told.clone());
    if !path.ends_with(&told) {
        faults.push(format!("history tells {}, and committed were {}", told.join(" → "), path.join(" → ")));
    }
    let excuse = case.excuse();
    let (mut excused, mut uncommitted, mut switches, mut went_back) = (0, 0, 0, 0);
    for target in &evidence.report.targets {
        let seen: Vec<_> = target.versions.iter().map(|change| change.to.clone()).collect();
        switches += seen.len().saturating_sub(1);
        let strange = uncommitted_answers(&target.answers, &path);
        if strange > 0 {
            faults.push(format!("{} gave {strange} answers of what was not committed", target.target));
        }
        uncommitted += strange;
        if !is_part_of(&seen, &path) {
            went_back += usize::from(strange == 0);
            faults.push(format!(
                "{} answered {}, and committed were {}",
                target.target,
                seen.join(" → "),
                path.join(" → ")
            ));
        }
        if target.counts.failed == 0 {
            continue;
        }
        if excuse.is_some() && target.target == evidence.struck {
            excused += target.counts.failed;
        } else {
            let first = target.failures.first().map(|note| format!("{:?} {}", note.kind, note.detail));
            let first = first.unwrap_or_default();
            faults.push(format!("{} lost {} requests, the first: {first}", target.target, target.counts.failed));
        }
    }
    let version = text(&evidence.after["services"][0]["version"]);
    let is_done = evidence.code == Some(0);
    // A deployment that was done may have been taken back since, and one that was not seen to its end may be done.
    if is_done && !path.iter().skip(1).any(|version| version == evidence.asked) {
        faults.push(format!("bgctl says that {} is done, and history does not", evidence.asked));
    }
    Line {
        excused,
        excuse: excuse.unwrap_or_default().to_owned(),
        uncommitted,
        went_back,
        committed: path.len().saturating_sub(1),
        switches,
        converged: Some(took),
        versions: shown(&path),
        serves: version,
        faults,
        ..Line::new(case, evidence.report)
    }
}

/// The versions that were committed, from the one that served before the case on.
fn committed_since(evidence: &Evidence<'_>) -> Vec<String> {
    let before = evidence.before["services"][0]["generation"].as_u64().unwrap_or_default();
    let mut all: Vec<_> = evidence
        .history
        .iter()
        .filter(|deployment| is_committed(deployment) && generation(deployment) >= before)
        .collect();
    all.sort_by_key(|deployment| generation(deployment));
    let mut versions: Vec<_> = all.iter().map(|deployment| text(&deployment["version"])).collect();
    if versions.is_empty() {
        versions.push(text(&evidence.before["services"][0]["version"]));
    }
    versions.dedup();
    versions
}

fn uncommitted_answers(answers: &BTreeMap<String, u64>, path: &[String]) -> u64 {
    answers.iter().filter(|(version, _)| !path.contains(version)).map(|(_, count)| count).sum()
}

/// All of a short one, and of a long one the ends.
fn shown(path: &[String]) -> String {
    match path {
        [first, .., last] if path.len() > SHOWN_MAX => format!("{first} → … → {last}"),
        path => path.join(" → "),
    }
}

fn is_committed(deployment: &Value) -> bool {
    !["aborted", "preparing", "deciding"].contains(&deployment["phase"].as_str().unwrap_or_default())
}

fn generation(deployment: &Value) -> u64 {
    deployment["generation"].as_u64().unwrap_or_default()
}

/// In this order, with gaps: a host that is away misses some.
fn is_part_of(seen: &[String], path: &[String]) -> bool {
    let mut rest = path.iter();
    !seen.is_empty() && seen.iter().all(|version| rest.any(|committed| committed == version))
}

fn protocol(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let service: ServiceName = "web".parse().expect("a name");
    let mut contents = BTreeMap::new();
    for deployment in evidence.history.iter().filter(|deployment| is_committed(deployment)) {
        contents.insert((service.clone(), Generation(generation(deployment))), digest(&deployment["version"]));
    }
    // What is older than history is what was served before the case.
    let before = &evidence.before["services"][0];
    contents.entry((service.clone(), Generation(generation(before)))).or_insert_with(|| digest(&before["version"]));
    let after = &evidence.after["services"][0];
    let truth = Committed { generation: Generation(generation(after)), release: digest(&after["version"]) };
    let truth = BTreeMap::from([(service.clone(), truth)]);
    let earlier = records(evidence.before, &service);
    for (host, record) in records(evidence.after, &service) {
        serves_only_committed(&host, &record, &contents)?;
        converged(&host, &record, &truth)?;
        if let Some(earlier) = earlier.get(&host) {
            generation_never_falls(&host, earlier, &record)?;
            one_content_per_generation(&host, earlier, &record)?;
        }
    }
    Ok(())
}

/// What the hosts say, as the protocol keeps it. A version has one image here, and so one content.
fn records(status: &Value, service: &ServiceName) -> BTreeMap<HostId, Record> {
    let hosts = status["services"][0]["hosts"].as_array().cloned().unwrap_or_default();
    let each = hosts.iter().filter_map(|host| {
        let name: HostId = host["host"].as_str()?.parse().ok()?;
        let colour: Colour = host["colour"].as_str()?.parse().ok()?;
        let slot = Slot { colour, generation: Generation(generation(host)), release: digest(&host["version"]) };
        let record = Record {
            incarnation: Incarnation(0),
            max_epoch: Epoch(0),
            applied: BTreeMap::from([(service.clone(), slot)]),
            prepared: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        Some((name, record))
    });
    each.collect()
}

fn digest(version: &Value) -> ReleaseDigest {
    ReleaseDigest(Sha256::digest(version.as_str().unwrap_or_default()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_answer_of_what_was_not_committed_counts() {
        let answers = [("v1", 5), ("v2", 7), ("v3", 2)].map(|(version, count)| (version.to_owned(), count));
        let answers = BTreeMap::from(answers);
        assert_eq!(uncommitted_answers(&answers, &all("v1 v2 v3")), 0);
        assert_eq!(uncommitted_answers(&answers, &all("v1 v2")), 2);
        assert_eq!(uncommitted_answers(&answers, &all("v2")), 7);
    }

    #[test]
    fn a_long_path_is_shown_by_its_ends() {
        assert_eq!(shown(&all("v1 v2 v1 v2")), "v1 → v2 → v1 → v2");
        assert_eq!(shown(&all("v1 v2 v1 v2 v3")), "v1 → … → v3");
    }

    #[test]
    fn a_host_may_miss_what_was_committed_and_may_not_show_anything_else_or_go_back() {
        assert!(is_part_of(&all("v1 v2"), &all("v1 v2")));
        assert!(is_part_of(&all("v2"), &all("v1 v2")));
        assert!(is_part_of(&all("v1 v3"), &all("v1 v2 v3")));
        assert!(is_part_of(&all("v1 v2 v1"), &all("v1 v2 v1")));
        assert!(!is_part_of(&all("v1 v2 v1"), &all("v1 v2")));
        assert!(!is_part_of(&all("v1 v2"), &all("v1")));
        assert!(!is_part_of(&[], &all("v1")));
    }
}
