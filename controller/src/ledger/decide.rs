//! The one decision of a deployment, and what is kept of it afterwards.

use super::{Ledger, LedgerError, Opening, leads, read_since, service_names};
use crate::records::{self, OutcomeRecord, PREVIOUS_MAX, ReleaseRecord, ServiceRecord, keys};
use crate::records::{DeploymentRecord, Kind};
use crate::report::Report;
use crate::store::{Entry, Field, Guard, Operation, Reply, StoreError, Transaction, VALUE_BYTES_MAX};
use bgctl_proto::crashpoint;
use cutover::coordinator::Answer;
use cutover::ids::{Colour, DeploymentId, Generation, ServiceName};
use cutover::message::{Outcome, Participants};

/// Reports that are let go of in one transaction: four keys each, and a store takes 128.
const FORGOTTEN_AT_ONCE: usize = 16;

/// Reports kept for each service.
pub const HISTORY_KEPT: usize = 50;

impl Ledger {
    /// Writes the commit once, and says what came of it. Unknown stays unknown: the protocol asks again.
    pub async fn commit(
        &self,
        opening: &Opening,
        participants: &Participants,
        report: &Report,
    ) -> Result<Answer, LedgerError> {
        let _turn = self.writing.lock().await;
        let (id, names) = name(opening)?;
        let (members, members_revision) =
            self.read(|truth| Ok::<_, LedgerError>((truth.members()?, truth.members_revision)))?;
        // The promises must be those of the lives that are known now; the guard below holds the store to it.
        if participants.iter().any(|(host, incarnation)| members.get(host) != Some(incarnation)) {
            return Ok(Answer::MembersChanged(members));
        }
        let after: Vec<_> = names.iter().map(|name| self.committed_record(opening, name)).collect();
        let mut guards = self.pending_guards(opening, &names);
        guards.push(Guard { key: keys::MEMBERS.to_owned(), field: Field::ModRevision, equals: members_revision });
        let mut operations = self.outcome_operations(opening, &id, &names, Decided::Commit(participants));
        operations.extend(
            names.iter().zip(&after).map(|(name, record)| Operation::Put(keys::service(name), records::write(record))),
        );
        operations.extend(
            names.iter().map(|name| Operation::Put(keys::history(name, opening.generation), records::write(report))),
        );
        let transaction = Transaction { guards, operations, otherwise: decision_keys(&id, &names) };
        crashpoint!("before_commit_sent");
        let answer = self.ask(&transaction, &id).await?;
        crashpoint!("after_commit_sent");
        if let Answered::Done(revision) = answer {
            self.update(|truth| {
                truth.revision = revision;
                for (name, record) in names.iter().zip(after) {
                    truth.pending.remove(name);
                    truth.services.insert(name.clone(), (record, revision));
                    truth.history.entry(name.clone()).or_default().insert(opening.generation, report.clone());
                }
            });
        }
        if let Answered::Landed(_, revision) | Answered::MembersChanged(revision) = answer {
            self.refresh(revision).await?;
        }
        answer.into_answer(self.read(|truth| truth.members())?)
    }

    /// Writes the abort once, and says what came of it.
    pub async fn abort(&self, opening: &Opening, reason: &str, report: &Report) -> Result<Answer, LedgerError> {
        let _turn = self.writing.lock().await;
        let (id, names) = name(opening)?;
        let guards = self.pending_guards(opening, &names);
        let mut operations = self.outcome_operations(opening, &id, &names, Decided::Abort(reason));
        operations.extend(
            names.iter().map(|name| Operation::Put(keys::history(name, opening.generation), records::write(report))),
        );
        let full = Transaction { guards: guards.clone(), operations, otherwise: decision_keys(&id, &names) };
        let answer = match self.ask(&full, &id).await {
            // A store that is out of space takes deletions: that is enough, no record means aborted.
            Err(LedgerError::Store(StoreError::Refused { detail })) => {
                tracing::error!(%detail, "the store takes no more; aborting without a record");
                let operations = names.iter().map(|name| Operation::Delete(keys::pending(name))).collect();
                self.ask(&Transaction { guards, operations, otherwise: decision_keys(&id, &names) }, &id).await?
            }
            answered => answered?,
        };
        if let Answered::Done(revision) = answer {
            self.update(|truth| {
                truth.revision = revision;
                for name in &names {
                    truth.pending.remove(name);
                    truth.history.entry(name.clone()).or_default().insert(opening.generation, report.clone());
                }
            });
        }
        if let Answered::Landed(_, revision) = answer {
            self.refresh(revision).await?;
        }
        answer.into_answer(Participants::new())
    }

    /// Keeps a report, and lets go of the ones that are too old.
    pub async fn keep(&self, generation: Generation, report: &Report) -> Result<(), LedgerError> {
        let _turn = self.writing.lock().await;
        let service: ServiceName = records::parse("history", &report.service)?;
        let mut operations = vec![Operation::Put(keys::history(&service, generation), records::write(report))];
        let old = self.oldest(&service);
        operations.extend(self.forgetting(&service, &old)?);
        let revision = self.done(operations).await?;
        self.update(|truth| {
            truth.revision = revision;
            truth.history.entry(service.clone()).or_default().insert(generation, report.clone());
        });
        self.forgot(&service, old);
        Ok(())
    }

    /// Lets go of reports that are too old, if there are any: deployments that fail are not kept for ever.
    pub async fn forget_oldest(&self, service: &ServiceName) -> Result<(), LedgerError> {
        let _turn = self.writing.lock().await;
        let old = self.oldest(service);
        if old.is_empty() {
            return Ok(());
        }
        let operations = self.forgetting(service, &old)?;
        let revision = self.done(operations).await?;
        self.update(|truth| truth.revision = revision);
        self.forgot(service, old);
        Ok(())
    }

    fn oldest(&self, service: &ServiceName) -> Vec<(Generation, String)> {
        self.read(|truth| {
            let kept = truth.history.get(service);
            let surplus = kept.map_or(0, |kept| (kept.len() + 1).saturating_sub(HISTORY_KEPT));
            let old = kept.into_iter().flatten().take(surplus.min(FORGOTTEN_AT_ONCE));
            old.map(|(generation, report)| (*generation, report.id.clone())).collect()
        })
    }

    fn forgetting(&self, service: &ServiceName, old: &[(Generation, String)]) -> Result<Vec<Operation>, LedgerError> {
        let mut operations = Vec::new();
        for (generation, id) in old {
            let id: DeploymentId = records::parse("history", id)?;
            let request = self.read(|truth| truth.deployments.get(&id).map(|record| record.request.clone()));
            operations.push(Operation::Delete(keys::history(service, *generation)));
            operations.push(Operation::Delete(keys::deployment(&id)));
            operations.push(Operation::Delete(keys::outcome(&id)));
            operations.extend(request.map(|request| Operation::Delete(keys::request(&request))));
        }
        Ok(operations)
    }

    fn forgot(&self, service: &ServiceName, old: Vec<(Generation, String)>) {
        self.update(|truth| {
            for (generation, id) in old {
                if let Some(kept) = truth.history.get_mut(service) {
                    kept.remove(&generation);
                }
                truth.requests.retain(|_, deployment| deployment.as_str() != id);
                truth.deployments.retain(|deployment, _| deployment.as_str() != id);
            }
        });
    }

    fn pending_guards(&self, opening: &Opening, names: &[ServiceName]) -> Vec<Guard> {
        let pending = names.iter().map(|name| Guard {
            key: keys::pending(name),
            field: Field::ModRevision,
            equals: opening.generation.0,
        });
        std::iter::once(leads(self.epoch)).chain(pending).collect()
    }

    fn outcome_operations(
        &self,
        opening: &Opening,
        id: &DeploymentId,
        names: &[ServiceName],
        decided: Decided<'_>,
    ) -> Vec<Operation> {
        let (outcome, reason, participants) = match decided {
            Decided::Commit(participants) => ("commit", "", participants.clone()),
            Decided::Abort(reason) => ("abort", reason, Participants::new()),
        };
        let participants = participants.into_iter().map(|(host, life)| (host.to_string(), life.to_string()));
        let record = OutcomeRecord {
            outcome: outcome.to_owned(),
            epoch: self.epoch.0,
            reason: reason.to_owned(),
            participants: participants.collect(),
        };
        let mut operations = vec![Operation::Put(keys::outcome(id), records::write(&record))];
        operations.extend(names.iter().map(|name| Operation::Delete(keys::pending(name))));
        operations.extend(self.audit(&opening.record.actor, format!("{outcome} {id} {reason}")));
        operations
    }

    fn committed_record(&self, opening: &Opening, name: &ServiceName) -> ServiceRecord {
        let DeploymentRecord { id, kind, services, .. } = &opening.record;
        let release = services[name.as_str()].clone();
        let before = self.read(|truth| truth.services.get(name).map(|(record, _)| record.clone()));
        let colour = before.as_ref().and_then(|before| before.colour.parse().ok()).map_or(Colour::Blue, Colour::other);
        let mut record = ServiceRecord {
            generation: opening.generation.0,
            deployment: id.clone(),
            colour: colour.to_string(),
            previous: ways_back(before, &release, *kind),
            release,
        };
        // A store that refused the commit for its size would refuse it for ever: the oldest ways back go first.
        while records::write(&record).len() > VALUE_BYTES_MAX && record.previous.pop().is_some() {}
        record
    }

    async fn ask(&self, transaction: &Transaction, id: &DeploymentId) -> Result<Answered, LedgerError> {
        match self.store.transact(transaction).await {
            Ok(Reply::Done { revision }) => Ok(Answered::Done(revision)),
            Ok(Reply::Refused { read, revision }) => self.why_refused(&read, revision, id),
            Err(StoreError::Unknown { detail }) => {
                tracing::warn!(%detail, deployment = %id, "the store did not answer the decision");
                Ok(Answered::Unknown)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A decision is refused because it was made already, because the membership moved, or because
    /// another leads. The outcome's record tells the first apart.
    fn why_refused(&self, read: &[Entry], revision: u64, id: &DeploymentId) -> Result<Answered, LedgerError> {
        let find = |key: &str| read.iter().find(|entry| entry.key == key);
        if let Some(entry) = find(&keys::outcome(id)) {
            let record: OutcomeRecord = records::read(&entry.key, &entry.value)?;
            let outcome = if record.outcome == "commit" { Outcome::Commit } else { Outcome::Abort };
            return Ok(Answered::Landed(outcome, revision));
        }
        let leader = find(crate::store::LEADER_KEY).map(|entry| entry.create_revision);
        if leader != Some(self.epoch.0) {
            tracing::warn!(deployment = %id, epoch = self.epoch.0, "a decision was refused: another controller leads");
            return Ok(Answered::Deposed);
        }
        if read.iter().any(|entry| entry.key.starts_with("pending/") && entry.value == id.as_str().as_bytes()) {
            return Ok(Answered::MembersChanged(revision));
        }
        // Nothing pending and no record: presumed aborted.
        Ok(Answered::Landed(Outcome::Abort, revision))
    }

    /// Reads everything anew: a write landed whose answer was lost, at this revision at the latest.
    pub(super) async fn refresh(&self, landed: u64) -> Result<(), LedgerError> {
        let range = read_since(&*self.store, landed).await?;
        let truth = super::Truth::read(&range)?;
        self.update(|known| *known = truth);
        Ok(())
    }
}

/// After a deploy, what was active is the first way back. A rollback takes the first way back and does not
/// leave one to what it took back: `bgctl rollback` twice goes back twice, it does not return.
fn ways_back(before: Option<ServiceRecord>, release: &ReleaseRecord, kind: Kind) -> Vec<ReleaseRecord> {
    let Some(before) = before else { return Vec::new() };
    match kind {
        Kind::Deploy => {
            let all = std::iter::once(before.release).chain(before.previous);
            all.filter(|way| way.digest != release.digest).take(PREVIOUS_MAX).collect()
        }
        Kind::Rollback => before.previous.into_iter().filter(|way| way.digest != release.digest).collect(),
    }
}

fn name(opening: &Opening) -> Result<(DeploymentId, Vec<ServiceName>), LedgerError> {
    let id = records::parse("deploy", &opening.record.id)?;
    Ok((id, service_names("deploy", opening.record.services.keys())?))
}

fn decision_keys(id: &DeploymentId, names: &[ServiceName]) -> Vec<String> {
    let pending = names.iter().map(keys::pending);
    [crate::store::LEADER_KEY.to_owned(), keys::outcome(id)].into_iter().chain(pending).collect()
}

/// A decision as it is asked for.
#[derive(Clone, Copy)]
enum Decided<'a> {
    /// It rests on these.
    Commit(&'a Participants),
    /// Why.
    Abort(&'a str),
}

/// What came of asking for a decision; the numbers are the store's revision then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Done(u64),
    Landed(Outcome, u64),
    MembersChanged(u64),
    Deposed,
    Unknown,
}

impl Answered {
    fn into_answer(self, members: Participants) -> Result<Answer, LedgerError> {
        Ok(match self {
            Self::Done(_) => Answer::Done,
            Self::Landed(outcome, _) => Answer::AlreadyDecided(outcome),
            Self::MembersChanged(_) => Answer::MembersChanged(members),
            Self::Deposed => Answer::Deposed,
            Self::Unknown => Answer::Unknown,
        })
    }
}
