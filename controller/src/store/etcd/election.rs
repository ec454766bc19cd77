//! Leading under a lease. The lease only decides when others may try; what keeps a late leader from writing is
//! the epoch in its guards.

use super::super::{AGAIN_AFTER, Field, Guard, LEADER_KEY, Leadership, Standing, StoreError, leadership};
use super::{Etcd, request};
use async_trait::async_trait;
use etcd_client::{PutOptions, Txn, TxnOp, TxnOpResponse};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Renewals in the life of a lease: often enough that a change of etcd's own leader, a second or two, casts no doubt.
const RENEWALS_PER_TTL: u32 = 6;

/// Looks at the clock in the life of a lease, for a machine that was suspended: timers do not run meanwhile.
const LOOKS_PER_TTL: u32 = 12;

/// Stands until elected. Without an answer it goes on asking; only a refusal ends it.
pub(super) async fn campaign(etcd: &Etcd, candidate: &str) -> Result<Box<dyn Leadership>, StoreError> {
    loop {
        let outcome = match leadership::vacant(etcd).await {
            Ok(()) => stand(etcd, candidate).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Some(leading)) => return Ok(Box::new(leading)),
            Ok(None) => {}
            Err(StoreError::Unknown { detail }) => {
                tracing::warn!(%detail, "no answer to the candidacy; standing again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A key under a lease, and the task that renews it.
struct Leading {
    etcd: Etcd,
    lease: i64,
    epoch: u64,
    standing: watch::Receiver<Standing>,
    _renewing: AbortOnDropHandle<()>,
}

#[async_trait]
impl Leadership for Leading {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn lost(&mut self) -> String {
        match self.standing.wait_for(|standing| matches!(standing, Standing::Lost(_))).await.map(|lost| lost.clone()) {
            Ok(Standing::Lost(why)) => why,
            Ok(Standing::Firm | Standing::Doubtful(_)) | Err(_) => "the renewal of the lease ended".to_owned(),
        }
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        revoke(&self.etcd, self.lease).await
    }
}

/// One attempt: a lease, and the key if nobody has it.
async fn stand(etcd: &Etcd, candidate: &str) -> Result<Option<Leading>, StoreError> {
    let asked = etcd.now();
    let ttl_seconds = i64::from(etcd.lease_ttl_seconds);
    let granted = etcd
        .ask(|| {
            let mut lease = etcd.lease.clone();
            async move { lease.grant(ttl_seconds, None).await }
        })
        .await?;
    let lease = granted.id();
    let ttl = Duration::from_secs(request::unsigned(granted.ttl()));
    let Some(epoch) = seize(etcd, candidate, lease, asked.timer + ttl).await? else {
        // Not needed any more; if this fails it runs out by itself.
        if let Err(error) = revoke(etcd, lease).await {
            tracing::debug!(%error, "an unused lease is left to run out");
        }
        return Ok(None);
    };
    let (sender, standing) = watch::channel(Standing::Firm);
    let confirmed = watch::Sender::new(asked);
    let store = etcd.clone();
    let renewing = tokio::spawn(async move {
        let why = tokio::select! {
            why = renew(&store, lease, ttl, &confirmed) => why,
            why = leadership::taken(&store, epoch) => why,
            never = doubt(&store, ttl, confirmed.subscribe(), &sender) => match never {},
        };
        sender.send_replace(Standing::Lost(why));
    });
    Ok(Some(Leading { etcd: etcd.clone(), lease, epoch, standing, _renewing: AbortOnDropHandle::new(renewing) }))
}

/// Writes the leader key under the lease if it is free. An answer that is lost is asked for again with the same
/// transaction, until the lease has run out and it can no longer land.
async fn seize(etcd: &Etcd, candidate: &str, lease: i64, until: Instant) -> Result<Option<u64>, StoreError> {
    let free = Guard { key: LEADER_KEY.to_owned(), field: Field::CreateRevision, equals: 0 };
    let key = etcd.full_key(LEADER_KEY);
    let txn = Txn::new()
        .when([request::compare(&free, &etcd.prefix)])
        .and_then([TxnOp::put(key.clone(), candidate, Some(PutOptions::new().with_lease(lease)))])
        .or_else([TxnOp::get(key, None)]);
    let answer = loop {
        let asking = etcd.ask(|| {
            let (mut kv, txn) = (etcd.kv.clone(), txn.clone());
            async move { kv.txn(txn).await }
        });
        match asking.await {
            Err(StoreError::Unknown { detail }) if Instant::now() < until => {
                tracing::warn!(%detail, "no answer to the candidacy; asking the same again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            answered => break answered?,
        }
    };
    if answer.succeeded() {
        return Ok(request::revision(answer.header()));
    }
    for response in answer.op_responses() {
        if let TxnOpResponse::Get(found) = response
            && let Some(pair) = found.kvs().iter().find(|pair| pair.lease() == lease)
        {
            return Ok(Some(request::unsigned(pair.create_revision())));
        }
    }
    Ok(None)
}

/// Renews until etcd says that the lease is gone. Silence is no such word: etcd lets leases live on through its own
/// changes of leader, so that one which could not be renewed for long may still be ours.
async fn renew(etcd: &Etcd, lease: i64, ttl: Duration, confirmed: &watch::Sender<Moment>) -> String {
    let pause = ttl / RENEWALS_PER_TTL;
    loop {
        tokio::time::sleep(pause).await;
        loop {
            // Counts from when it was sent, so that it never believes in a lease that etcd has let go.
            let sent = etcd.now();
            match tokio::time::timeout(pause, renew_once(etcd, lease)).await {
                Ok(Ok(true)) => {
                    confirmed.send_replace(sent);
                    break;
                }
                Ok(Ok(false)) => return "the lease ran out: etcd does not know it any more".to_owned(),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease was not renewed; trying again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(_) => tracing::warn!("the lease was not renewed within {pause:?}; trying again"),
            }
        }
    }
}

/// Watches the age of the last renewal: past two thirds of a lease's life it is in doubt, until the next one.
async fn doubt(
    etcd: &Etcd,
    ttl: Duration,
    confirmed: watch::Receiver<Moment>,
    standing: &watch::Sender<Standing>,
) -> Infallible {
    let polite = ttl * 2 / 3;
    loop {
        tokio::time::sleep(ttl / LOOKS_PER_TTL).await;
        let age = confirmed.borrow().age(etcd.now());
        let now = match age < polite {
            true => Standing::Firm,
            false => Standing::Doubtful(format!("the lease was last renewed {:.1} s ago", age.as_secs_f64())),
        };
        standing.send_if_modified(|known| {
            let is_news = matches!(known, Standing::Firm) != matches!(now, Standing::Firm);
            if is_news {
                *known = now;
            }
            is_news
        });
    }
}

/// A moment by two clocks: timers' own, and the one that goes on while the machine is suspended.
#[derive(Clone, Copy)]
struct Moment {
    timer: Instant,
    boot: Duration,
}

impl Moment {
    /// By the clock that says more.
    fn age(self, now: Self) -> Duration {
        now.timer.saturating_duration_since(self.timer).max(now.boot.saturating_sub(self.boot))
    }
}

impl Etcd {
    fn now(&self) -> Moment {
        Moment { timer: Instant::now(), boot: self.ambient.since_boot() }
    }
}

/// False if the lease is gone.
async fn renew_once(etcd: &Etcd, lease: i64) -> Result<bool, StoreError> {
    let renewal = etcd.ask(|| {
        let mut client = etcd.lease.clone();
        async move { client.keep_alive(lease).await }
    });
    let Err(failure) = renewal.await else { return Ok(true) };
    // The client reports a lease that is gone like any other trouble. Asked in so many words, etcd says -1.
    let left = etcd
        .ask(|| {
            let mut client = etcd.lease.clone();
            async move { client.time_to_live(lease, None).await }
        })
        .await?;
    if left.ttl() <= 0 { Ok(false) } else { Err(failure) }
}

/// Gives the lease back, and with it the key. One that is gone is fine.
async fn revoke(etcd: &Etcd, lease: i64) -> Result<(), StoreError> {
    etcd.ask(|| {
        let mut client = etcd.lease.clone();
        async move {
            match client.revoke(lease).await {
                Err(error) if super::refusal::is_gone(&error) => Ok(()),
                other => other.map(|_| ()),
            }
        }
    })
    .await
}
