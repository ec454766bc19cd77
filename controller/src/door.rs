//! Who is let in as a host. A certificate says which host calls; that it is the host as it is registered, and only
//! one of it, is found out here: by its life, its machine, and the count of its hellos.
//!
//! An agent counts its hellos on its disk and marks each at random. So one agent never says a count twice, also
//! when it crashes; a clone of it, or a disk that was put back, does. Which of two is the right one nobody can
//! tell from here: the one that is linked and answers stays, and a person decides.

use crate::ledger::Life;
use crate::records::HostRecord;
use cutover::ids::HostId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// How long the agent that is linked has to show that it lives. It answers within milliseconds; a link that was cut
/// would be noticed within ten seconds by itself.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// How long after its last call an agent that was not let in is shown: it calls every ten seconds at most.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// Hellos of refused agents that are remembered for each host, so that a later one is known to be of the same agent.
const RIVALS_KEPT: usize = 64;

/// An agent at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calling {
    /// What it says it is.
    pub life: Life,
    /// Hellos it has said, with this one; 0: it cannot keep count.
    pub count: u64,
    /// Of this hello, and of the one before.
    pub mark: u64,
    /// See there.
    pub mark_before: u64,
    /// Its address.
    pub from: String,
}

/// Why an agent is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The host is registered in another life.
    OtherLife,
    /// The registered life is of another machine.
    OtherMachine,
    /// This life was removed.
    Removed,
    /// The agent that is linked answers: there are two.
    Twin,
    /// It was refused before.
    Rival,
    /// Its count of hellos has come before: there are two, or its disk was put back.
    Repeated,
}

/// What is to be done with an agent at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It may come in.
    LetIn,
    /// Only if the one that is linked does not answer.
    IfTheOtherIsGone,
    /// Not without a person's word.
    Refuse(Refusal),
}

/// What is known of the hellos of one host.
#[derive(Debug, Default)]
struct Line {
    count: u64,
    mark: u64,
    rivals: VecDeque<u64>,
}

impl Line {
    fn knows_rival(&self, mark_before: u64) -> bool {
        mark_before != 0 && self.rivals.contains(&mark_before)
    }
}

fn judge(
    registered: Option<&HostRecord>,
    removed: Option<&HostRecord>,
    line: Option<&Line>,
    is_linked: bool,
    calling: &Calling,
) -> Judgement {
    let incarnation = calling.life.incarnation.to_string();
    let Some(registered) = registered else {
        let is_removed = removed.is_some_and(|removed| removed.incarnation == incarnation);
        return if is_removed { Judgement::Refuse(Refusal::Removed) } else { Judgement::LetIn };
    };
    if registered.incarnation != incarnation {
        return Judgement::Refuse(Refusal::OtherLife);
    }
    let (here, known) = (&calling.life.machine, &registered.machine);
    if !here.is_empty() && !known.is_empty() && here != known {
        return Judgement::Refuse(Refusal::OtherMachine);
    }
    let Some(line) = line else { return Judgement::LetIn };
    if line.knows_rival(calling.mark_before) {
        return Judgement::Refuse(Refusal::Rival);
    }
    if is_linked {
        return Judgement::IfTheOtherIsGone;
    }
    if calling.count != 0 && calling.count <= line.count {
        return Judgement::Refuse(Refusal::Repeated);
    }
    Judgement::LetIn
}

/// An agent that was not let in.
#[derive(Debug, Clone)]
pub struct Knock {
    /// Who.
    pub calling: Calling,
    /// Why not.
    pub refusal: Refusal,
    at: Instant,
}

#[derive(Default)]
struct Door {
    line: Option<Line>,
    knock: Option<Knock>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The doors of all hosts, as this leader has seen them.
#[derive(Default)]
pub struct Doors {
    doors: Mutex<BTreeMap<HostId, Door>>,
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Agents of one host are judged one after the other.
    pub async fn turn(&self, host: &HostId) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(&self.lock().entry(host.clone()).or_default().turn);
        turn.lock_owned().await
    }

    /// What is to be done with this one.
    pub fn judge(
        &self,
        host: &HostId,
        registered: Option<&HostRecord>,
        removed: Option<&HostRecord>,
        is_linked: bool,
        calling: &Calling,
    ) -> Judgement {
        let doors = self.lock();
        judge(registered, removed, doors.get(host).and_then(|door| door.line.as_ref()), is_linked, calling)
    }

    /// It was let in.
    pub fn entered(&self, host: &HostId, calling: &Calling) {
        let mut doors = self.lock();
        let door = doors.entry(host.clone()).or_default();
        let line = door.line.get_or_insert_default();
        if calling.count != 0 {
            (line.count, line.mark) = (calling.count, calling.mark);
        }
        if door
            .knock
            .as_ref()
            .is_some_and(|knock| knock.calling.life == calling.life && knock.calling.mark == calling.mark_before)
        {
            door.knock = None;
        }
    }

    /// It was not.
    pub fn refused(&self, host: &HostId, calling: Calling, refusal: Refusal) {
        let mut doors = self.lock();
        let door = doors.entry(host.clone()).or_default();
        match refusal {
            // Of the same life as the one that is in: told apart by their marks alone.
            Refusal::Twin | Refusal::Rival | Refusal::Repeated => {
                let line = door.line.get_or_insert_default();
                line.rivals.push_back(calling.mark);
                let surplus = line.rivals.len().saturating_sub(RIVALS_KEPT);
                line.rivals.drain(..surplus);
            }
            Refusal::OtherLife | Refusal::OtherMachine | Refusal::Removed => {}
        }
        door.knock = Some(Knock { calling, refusal, at: Instant::now() });
    }

    /// Who waits at this door, or did until just now.
    pub fn waiting(&self, host: &HostId) -> Option<Knock> {
        let doors = self.lock();
        doors.get(host)?.knock.clone().filter(|knock| knock.at.elapsed() < SHOWN_FOR)
    }

    /// All hosts at whose doors somebody waits.
    pub fn knocks(&self) -> BTreeMap<HostId, Knock> {
        let doors = self.lock();
        let recent = |door: &Door| door.knock.clone().filter(|knock| knock.at.elapsed() < SHOWN_FOR);
        doors.iter().filter_map(|(host, door)| Some((host.clone(), recent(door)?))).collect()
    }

    /// A person let this one in: from now on it is the host, and the one before is the rival.
    pub fn replaced(&self, host: &HostId, knock: &Knock) {
        let mut doors = self.lock();
        let door = doors.entry(host.clone()).or_default();
        let before = door.line.take().map_or(0, |line| line.mark);
        let Calling { count, mark, .. } = knock.calling;
        door.line = Some(Line { count, mark, rivals: VecDeque::from([before]) });
        door.knock = None;
    }

    /// The host is no more.
    pub fn forget(&self, host: &HostId) {
        if let Some(door) = self.lock().get_mut(host) {
            (door.line, door.knock) = (None, None);
        }
    }
}

impl Knock {
    /// One line for people: who waits, why, and what to do.
    pub fn told(&self, host: &HostId) -> String {
        let Calling { life, from, .. } = &self.calling;
        let machine = match life.machine.as_str() {
            "" => String::new(),
            machine => format!(", machine {machine}"),
        };
        let who = format!("{from}{machine}");
        let replace = format!("`bgctl hosts replace {host}`");
        match self.refusal {
            Refusal::OtherLife => format!(
                "new life waiting ({who}): a new disk, or its state was lost; it serves nothing until you run {replace}"
            ),
            Refusal::OtherMachine => format!(
                "its state is on another machine, which waits ({who}): if the host has moved there, run {replace}"
            ),
            Refusal::Removed => format!(
                "it was removed and its agent still runs ({who}): stop it there, or take it back with {replace}"
            ),
            Refusal::Twin | Refusal::Rival | Refusal::Repeated => format!(
                "two agents with this identity: the other one ({who}) is not let in; stop one of them, and if that \
                 one is the host, run {replace}"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
