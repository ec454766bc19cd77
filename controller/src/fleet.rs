//! The hosts that are linked now: what they said of themselves, and the way to speak to them. Nothing of
//! it is ever stored.

use crate::ledger::Ledger;
use bgctl_proto::session as wire;
use bgctl_proto::session::controller_message::Kind;
use cutover::history::{Seen as Remembered, Standing};
use cutover::ids::{HostId, Incarnation, ServiceName};
use cutover::message::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

/// A host's answer about its images takes a few milliseconds; asking a registry takes up to half a minute.
const IMAGES_WITHIN: Duration = Duration::from_secs(40);

/// What came of handing a message to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the stream.
    Yes,
    /// There is no stream, or it is full and was given up.
    No,
}

/// All hosts that are or were linked to this leader.
pub struct Fleet {
    hosts: Mutex<BTreeMap<HostId, Seen>>,
    /// Raised with each link that comes or goes.
    changes: watch::Sender<u64>,
    links: AtomicU64,
    /// Switches by hand that are in the record of changes: host, service, when.
    noted: Mutex<BTreeSet<(HostId, String, u64)>>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            hosts: Mutex::default(),
            changes: watch::Sender::new(0),
            links: AtomicU64::new(0),
            noted: Mutex::default(),
        }
    }
}

struct Seen {
    since: Instant,
    link: Option<Link>,
    status: HostStatus,
    /// When the last State was handed to the stream.
    state_sent: Option<Instant>,
}

struct Link {
    number: u64,
    outbox: mpsc::Sender<Result<wire::ControllerMessage, tonic::Status>>,
    images: BTreeMap<u64, oneshot::Sender<Vec<wire::Image>>>,
    /// Ends the stream when the link is given up.
    _up: DropGuard,
}

/// What a host last said of itself.
#[derive(Debug, Clone, Default)]
pub struct HostStatus {
    /// Its life.
    pub incarnation: Option<Incarnation>,
    /// What takes traffic.
    pub applied: BTreeMap<ServiceName, Slot>,
    /// How its places are.
    pub health: wire::Health,
    /// Programs: agent, Docker, nginx.
    pub versions: [String; 3],
    /// What it remembers of the store it follows.
    pub remembers: Option<Remembered>,
    /// Whether that is this store; none if it was never linked.
    pub standing: Option<Standing>,
}

/// A host as `bgctl hosts` shows it.
#[derive(Debug, Clone)]
pub struct HostView {
    /// Linked now.
    pub connected: bool,
    /// Since it came, or went.
    pub since: Duration,
    /// What it said last.
    pub status: HostStatus,
}

impl HostView {
    /// What is wrong there, in the host's own words: Docker, nginx, its journal, and what a person must look at.
    pub fn troubles(&self) -> Vec<String> {
        let health = &self.status.health;
        let parts = [&health.docker_trouble, &health.nginx_trouble, &health.journal_trouble];
        parts.into_iter().chain(&health.alarms).filter(|text| !text.is_empty()).cloned().collect()
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Seen>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a host's switches by hand that this leader has not heard of before.
    pub fn news_by_hand(&self, host: &HostId, held: &[wire::Held]) -> Vec<wire::Held> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // Of what has ended nothing has to be remembered.
        let of = |held: &wire::Held| (host.clone(), held.service.clone(), held.at_unix_millis);
        let now: BTreeSet<_> = held.iter().map(of).collect();
        noted.retain(|known| known.0 != *host || now.contains(known));
        held.iter().filter(|held| noted.insert(of(held))).cloned().collect()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// A host's stream is up. Answers the stream's number; an older stream of the same life is given up.
    /// `up` goes when this one is.
    pub fn connected(
        &self,
        host: &HostId,
        status: HostStatus,
        outbox: mpsc::Sender<Result<wire::ControllerMessage, tonic::Status>>,
        up: DropGuard,
    ) -> u64 {
        let mut hosts = self.lock();
        let number = self.links.fetch_add(1, Ordering::Relaxed);
        let link = Some(Link { number, outbox, images: BTreeMap::new(), _up: up });
        let health = hosts.get(host).map(|seen| seen.status.health.clone()).unwrap_or_default();
        let status = HostStatus { health, ..status };
        hosts.insert(host.clone(), Seen { since: Instant::now(), link, status, state_sent: None });
        drop(hosts);
        self.changed();
        number
    }

    /// A stream ended; a newer one of the same host is left alone.
    pub fn disconnected(&self, host: &HostId, number: u64) {
        let mut hosts = self.lock();
        if let Some(seen) = hosts.get_mut(host)
            && seen.link.as_ref().is_some_and(|link| link.number == number)
        {
            seen.link = None;
            seen.since = Instant::now();
        }
        drop(hosts);
        self.changed();
    }

    /// Changes what is known of a host.
    pub fn update(&self, host: &HostId, change: impl FnOnce(&mut HostStatus)) {
        if let Some(seen) = self.lock().get_mut(host) {
            change(&mut seen.status);
        }
    }

    /// What is known of a host; none if it was never linked to this leader.
    pub fn view(&self, host: &HostId) -> Option<HostView> {
        self.lock().get(host).map(|seen| HostView {
            connected: seen.link.is_some(),
            since: seen.since.elapsed(),
            status: seen.status.clone(),
        })
    }

    /// Whether a host is linked.
    pub fn is_connected(&self, host: &HostId) -> bool {
        self.lock().get(host).is_some_and(|seen| seen.link.is_some())
    }

    /// What is known of all of them.
    pub fn all(&self) -> BTreeMap<HostId, HostStatus> {
        self.lock().iter().map(|(host, seen)| (host.clone(), seen.status.clone())).collect()
    }

    /// Whether the agent at the other end of a host's stream answers a question in time.
    pub async fn answers(&self, host: &HostId, within: Duration) -> bool {
        let asked = self.find_images(host, Vec::new(), false);
        tokio::time::timeout(within, asked).await.is_ok_and(|answer| answer.is_some())
    }

    /// Ends a host's stream, if there is one.
    pub fn unlink(&self, host: &HostId) {
        if let Some(seen) = self.lock().get_mut(host) {
            seen.link = None;
            seen.since = Instant::now();
        }
        self.changed();
    }

    /// Ends a host's stream and forgets the host.
    pub fn forget(&self, host: &HostId) {
        self.lock().remove(host);
        self.changed();
    }

    /// Waits until all of these are linked, for as long as given; answers those that are not.
    pub async fn wait_for(&self, hosts: &[HostId], within: Duration) -> Vec<HostId> {
        let mut changes = self.changes.subscribe();
        let deadline = Instant::now() + within;
        loop {
            let away: Vec<_> = hosts.iter().filter(|host| !self.is_connected(host)).cloned().collect();
            if away.is_empty() {
                return away;
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return away,
            }
        }
    }

    /// Hands a message to a host. A stream that takes no more is given up: the next one begins anew.
    pub fn send(&self, host: &HostId, kind: Kind) -> Sent {
        let is_state = matches!(kind, Kind::State(_));
        let mut hosts = self.lock();
        let Some(seen) = hosts.get_mut(host) else { return Sent::No };
        let Some(link) = &seen.link else { return Sent::No };
        match link.outbox.try_send(Ok(wire::ControllerMessage { kind: Some(kind) })) {
            Ok(()) => {
                if is_state {
                    seen.state_sent = Some(Instant::now());
                }
                Sent::Yes
            }
            Err(_) => {
                seen.link = None;
                seen.since = Instant::now();
                drop(hosts);
                self.changed();
                Sent::No
            }
        }
    }

    /// When the last State went to a host.
    pub fn state_sent(&self, host: &HostId) -> Option<Instant> {
        self.lock().get(host).and_then(|seen| seen.state_sent)
    }

    /// Tells a host what the store says of its services.
    pub fn tell_state(&self, ledger: &Ledger, host: &HostId) -> Sent {
        match crate::planner::state_for(ledger, host) {
            Ok(state) => self.send(host, Kind::State(state)),
            Err(error) => {
                tracing::error!(%host, %error, "cannot tell the host what it should serve");
                Sent::No
            }
        }
    }

    /// Asks a host which images it has. None: it went away, or did not answer in time.
    pub async fn find_images(
        &self,
        host: &HostId,
        references: Vec<String>,
        ask_registry: bool,
    ) -> Option<Vec<wire::Image>> {
        let (answer, answered) = oneshot::channel();
        let request = {
            let mut hosts = self.lock();
            let link = hosts.get_mut(host)?.link.as_mut()?;
            let request = link.images.keys().next_back().map_or(1, |last| last + 1);
            link.images.insert(request, answer);
            request
        };
        let find = wire::FindImages { request, references, ask_registry };
        if self.send(host, Kind::FindImages(find)) == Sent::No {
            return None;
        }
        tokio::time::timeout(IMAGES_WITHIN, answered).await.ok()?.ok()
    }

    /// A host answered about its images.
    pub fn images(&self, host: &HostId, images: wire::Images) {
        let mut hosts = self.lock();
        let link = hosts.get_mut(host).and_then(|seen| seen.link.as_mut());
        if let Some(answer) = link.and_then(|link| link.images.remove(&images.request)) {
            drop(answer.send(images.images));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_by_hand_is_news_once() {
        let fleet = Fleet::default();
        let (h1, h2) = ("h1".parse().expect("a name"), "h2".parse().expect("a name"));
        let held = |service: &str, at_unix_millis| wire::Held {
            service: service.to_owned(),
            at_unix_millis,
            ..wire::Held::default()
        };
        let web = [held("web", 5)];
        assert_eq!(fleet.news_by_hand(&h1, &web), web);
        assert_eq!(fleet.news_by_hand(&h1, &web), []);
        assert_eq!(fleet.news_by_hand(&h2, &web), web);
        let both = [held("api", 6), held("web", 5)];
        assert_eq!(fleet.news_by_hand(&h1, &both), both[..1]);
        // It ended, and somebody did it again.
        assert_eq!(fleet.news_by_hand(&h1, &[]), []);
        assert_eq!(fleet.news_by_hand(&h1, &[held("web", 9)]), [held("web", 9)]);
    }
}
