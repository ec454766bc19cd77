//! What the agent says, written into messages.

use crate::memory::Introduction;
use crate::nginx::SwitchTimes;
use bgctl_proto::convert::wire_slots;
use bgctl_proto::session as wire;
use bgctl_proto::session::agent_message::Kind;
use cutover::message::{Applied, Hello, Lost, Verdict, Vote};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The way out of one stream. Sending never waits: a stream that is full is given up.
#[derive(Clone)]
pub struct Outbox {
    sender: mpsc::Sender<wire::AgentMessage>,
    overflow: CancellationToken,
}

/// Programs on the host, for `bgctl hosts`.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// Docker's, empty if it does not answer.
    pub docker: String,
    /// nginx's.
    pub nginx: String,
}

impl Outbox {
    /// Of a stream that ends when `overflow` is cancelled.
    pub fn new(sender: mpsc::Sender<wire::AgentMessage>, overflow: CancellationToken) -> Self {
        Self { sender, overflow }
    }

    fn send(&self, kind: Kind) {
        match self.sender.try_send(wire::AgentMessage { kind: Some(kind) }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.overflow.cancel(),
        }
    }

    /// First on every stream.
    pub fn hello(&self, hello: Hello, versions: &Versions, introduction: Introduction) {
        let prepared = hello.prepared.iter().map(|(deployment, generation)| (deployment.to_string(), generation.0));
        self.send(Kind::Hello(introduction.tell(wire::Hello {
            incarnation: hello.incarnation.to_string(),
            applied: wire_slots(&hello.applied),
            prepared: prepared.collect(),
            protocol_min: bgctl_proto::PROTOCOL_VERSION,
            protocol_max: bgctl_proto::PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            docker_version: versions.docker.clone(),
            nginx_version: versions.nginx.clone(),
            ..wire::Hello::default()
        })));
    }

    /// With what the failed container printed last, if that is why.
    pub fn vote(&self, vote: Vote, log_tail: Vec<String>) {
        let (yes, reason) = match vote.verdict {
            Verdict::Yes => (true, String::new()),
            Verdict::No(reason) => (false, reason),
        };
        self.send(Kind::Vote(wire::Vote {
            deployment: vote.deployment.to_string(),
            incarnation: vote.incarnation.to_string(),
            yes,
            reason,
            log_tail,
        }));
    }

    /// Takes back a vote.
    pub fn lost(&self, lost: Lost) {
        self.send(Kind::Lost(wire::Lost {
            deployment: lost.deployment.to_string(),
            incarnation: lost.incarnation.to_string(),
            reason: lost.reason,
        }));
    }

    /// With how the switch went that it acknowledges, if it acknowledges one.
    pub fn applied(&self, applied: Applied, switch: Option<(Instant, SwitchTimes)>) {
        let times = switch.and_then(|(heard, times)| {
            let renamed = Instant::from_std(times.renamed_at?);
            Some(wire::SwitchTimes {
                state_to_rename_micros: micros(renamed.saturating_duration_since(heard)),
                rename_micros: micros(times.rename),
                rename_to_proof_micros: micros(times.proof),
                rename_to_sent_micros: micros(renamed.elapsed()),
            })
        });
        self.send(Kind::Applied(wire::Applied {
            incarnation: applied.incarnation.to_string(),
            applied: wire_slots(&applied.services),
            times,
        }));
    }

    /// Answers `FindImages`.
    pub fn images(&self, images: wire::Images) {
        self.send(Kind::Images(images));
    }

    /// How a deployment goes here.
    pub fn progress(&self, progress: wire::Progress) {
        self.send(Kind::Progress(progress));
    }

    /// How the host is.
    pub fn health(&self, health: wire::Health) {
        self.send(Kind::Health(health));
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
