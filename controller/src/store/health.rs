//! How the store is: what it says of itself, and what of that a person must act on. Nothing is decided by it.

use std::fmt;

/// From this part of its quota on, a person is told: there is time to act then.
const ALARM_PERCENT: u64 = 70;

/// The disk under an embedded store: a person is told from so many times what it needs on.
const ROOM_FACTOR: u64 = 8;

/// Old revisions that etcd may keep before a person is told that nothing compacts them. A deployment makes about ten.
pub(super) const REVISIONS_KEPT_MAX: u64 = 100_000;

/// The oldest release whose reads are never stale after a pause of its leader.
const ETCD_WANTED: (u64, u64, u64) = (3, 6, 9);

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// `embedded` or `etcd`.
    pub kind: &'static str,
    /// Its parts; the file is one.
    pub members: Vec<Member>,
    /// Bytes at which it takes no more. 0: there is no such limit.
    pub quota_bytes: u64,
    /// The names of alarms that are raised.
    pub alarms: Vec<String>,
    /// Its newest revision, when it was asked.
    pub revision: u64,
    /// It keeps more old revisions than anybody needs.
    pub is_history_long: bool,
    /// What a person types to make room.
    pub remedy: Vec<String>,
    /// On the disk under it; none: that is its members' business.
    pub room: Option<Room>,
    /// It could not be asked.
    pub trouble: Option<String>,
}

/// What is left on the disk of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The file.
    pub path: String,
    /// Bytes that may still be used.
    pub left_bytes: u64,
    /// With less than that nothing is written any more.
    pub needed_bytes: u64,
}

/// A part of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// As it calls itself; empty if it was not reached.
    pub name: String,
    /// Where it was asked.
    pub address: String,
    /// Of its program.
    pub version: String,
    /// On its disk.
    pub size_bytes: u64,
    /// Of that, what holds data; the rest a defragmentation gives back.
    pub in_use_bytes: u64,
    /// It leads the others.
    pub leads: bool,
    /// Why it was not reached.
    pub trouble: Option<String>,
}

impl Health {
    /// What a person must know, each with what to do.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(trouble) = &self.trouble {
            warnings.push(format!("the store does not answer: {trouble}"));
        }
        let remedy = self.remedy.join("; ");
        for alarm in &self.alarms {
            warnings.push(match alarm.as_str() {
                "NOSPACE" => format!(
                    "etcd is over its space quota: no deployment is committed and no new leader can be elected, so do \
                     not restart the controllers; run: {remedy}"
                ),
                other => format!("etcd raised the alarm {other}: see `etcdctl alarm list` and its documentation"),
            });
        }
        if let Some(Room { path, left_bytes, needed_bytes }) = &self.room {
            let (left, needed) = (Bytes(*left_bytes), Bytes(*needed_bytes));
            if left_bytes < needed_bytes {
                warnings.push(format!(
                    "the disk of `{path}` is full ({left} left, {needed} needed): nothing is deployed or rolled back; \
                     make room there"
                ));
            } else if *left_bytes < needed_bytes * ROOM_FACTOR {
                warnings.push(format!(
                    "the disk of `{path}` has {left} left, and with less than {needed} nothing is deployed or rolled \
                     back; make room there"
                ));
            }
        }
        let size = self.size_bytes();
        if self.alarms.is_empty() && self.quota_bytes > 0 && size >= self.quota_bytes / 100 * ALARM_PERCENT {
            let (used, quota) = (Bytes(size), Bytes(self.quota_bytes));
            warnings.push(format!("etcd holds {used} of {quota}, and takes no writes beyond that; run: {remedy}"));
        }
        for member in &self.members {
            if let Some(trouble) = &member.trouble {
                warnings.push(format!("etcd at {} does not answer: {trouble}", member.address));
            }
        }
        if let Some(member) = self.members.iter().find(|member| is_old(&member.version)) {
            let (major, minor, patch) = ETCD_WANTED;
            warnings.push(format!(
                "etcd {} at {} is older than {major}.{minor}.{patch}: after a pause of its leader its reads may be \
                 stale, and 3.4 and older get no corrections any more; upgrade it",
                member.version, member.address
            ));
        }
        if self.is_history_long {
            warnings.push(format!(
                "etcd keeps more than {REVISIONS_KEPT_MAX} old revisions; start its members with \
                 --auto-compaction-mode=periodic --auto-compaction-retention=1h"
            ));
        }
        warnings
    }

    /// Of its largest member.
    pub fn size_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.size_bytes).max().unwrap_or_default()
    }
}

/// A version that cannot be read is not called old.
fn is_old(version: &str) -> bool {
    let numbers: Vec<u64> = version.split('.').map_while(|part| part.parse().ok()).collect();
    matches!(numbers[..], [major, minor, patch] if (major, minor, patch) < ETCD_WANTED)
}

/// `2.0 GiB`, `81.2 MiB`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1024.0 * 1024.0;
        match self.0 as f64 / MIB {
            mib if mib >= 1024.0 => write!(f, "{:.1} GiB", mib / 1024.0),
            mib => write!(f, "{mib:.1} MiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(version: &str, size_bytes: u64) -> Health {
        let member = Member { version: version.to_owned(), size_bytes, ..Member::default() };
        let remedy = ["compact", "defrag", "disarm"].map(str::to_owned).to_vec();
        Health { kind: "etcd", members: vec![member], quota_bytes: 1000, remedy, ..Health::default() }
    }

    #[test]
    fn a_person_is_told_what_to_do_and_only_when_there_is_something() {
        assert_eq!(etcd("3.6.9", 699).warnings(), Vec::<String>::new());
        assert!(etcd("3.6.9", 700).warnings()[0].ends_with("run: compact; defrag; disarm"));
        assert!(etcd("3.4.23", 0).warnings()[0].contains("stale"));
        let full = Health { alarms: vec!["NOSPACE".to_owned()], ..etcd("3.7.0", 1000) };
        let told = full.warnings();
        assert!(told.len() == 1 && told[0].contains("do not restart") && told[0].contains("defrag"), "{told:?}");
    }

    #[test]
    fn a_disk_that_fills_is_told_before_and_after() {
        let with = |left_bytes| {
            let room = Room { path: "/var/lib/store".to_owned(), left_bytes, needed_bytes: 100 };
            Health { kind: "embedded", room: Some(room), ..Health::default() }.warnings()
        };
        assert_eq!(with(800), Vec::<String>::new());
        assert!(with(799)[0].contains("`/var/lib/store` has 0.0 MiB left"), "{:?}", with(799));
        assert!(with(99)[0].contains("is full") && with(99)[0].contains("make room there"), "{:?}", with(99));
    }
}
