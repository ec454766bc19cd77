//! A watch that outlives its connection: when the stream breaks it is opened again, from the next revision.

use super::super::{AGAIN_AFTER, Change, StoreError};
use super::{Etcd, refusal, request};
use etcd_client::{GetOptions, WatchOptions, WatchResponse, WatchStream};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::VecDeque;

/// The first revision that can hold a change: an empty etcd is at revision 1. Zero would mean "from now".
const FIRST_REVISION: u64 = 2;

/// Changes from the revision on.
pub(super) async fn open(
    etcd: Etcd,
    prefix: &str,
    from_revision: u64,
) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
    let key = etcd.full_key(prefix);
    let next = from_revision.max(FIRST_REVISION);
    let mut watching = Watching { etcd, key, next, live: None, ready: VecDeque::new(), failed: false };
    watching.live = Some(watching.connect().await?);
    Ok(stream::unfold(watching, Watching::step).boxed())
}

struct Watching {
    etcd: Etcd,
    key: String,
    /// The first revision that was not seen. etcd never splits a revision over two messages unless asked to.
    next: u64,
    live: Option<WatchStream>,
    ready: VecDeque<Change>,
    failed: bool,
}

impl Watching {
    async fn step(mut self) -> Option<(Result<Change, StoreError>, Self)> {
        if self.failed {
            return None;
        }
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some((Ok(change), self));
            }
            match self.look().await {
                Ok(()) => {}
                Err(StoreError::Unknown { detail }) => {
                    tracing::warn!(%detail, from = self.next, "a watch broke off; opening it again");
                    self.live = None;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => {
                    self.failed = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.connect().await?,
        };
        let message = live.message().await.map_err(|error| refusal::classify(&error, &self.etcd.endpoints))?;
        let message = message.ok_or_else(|| self.etcd.unanswered("the stream of changes ended"))?;
        self.check_alive(&message, self.next)?;
        for event in message.events() {
            let Some(change) = request::change(event, &self.etcd.prefix) else { continue };
            self.next = self.next.max(change.revision() + 1);
            self.ready.push_back(change);
        }
        self.live = Some(live);
        Ok(())
    }

    /// Opens the stream, after asking whether everything from `next` on is still there. etcd would take the very
    /// revision it compacted at, of which removals are gone; a read of the one before it finds that out.
    async fn connect(&self) -> Result<WatchStream, StoreError> {
        let before = self.next - 1;
        if is_kept(&self.etcd, &self.key, before).await? {
            let (live, first) = self.start(self.next).await?;
            self.check_alive(&first, self.next)?;
            return Ok(live);
        }
        // A stream from a revision that is gone ends by saying up to where all are gone.
        let (mut live, mut message) = self.start(before).await?;
        loop {
            self.check_alive(&message, self.next)?;
            let next = live.message().await.map_err(|error| refusal::classify(&error, &self.etcd.endpoints))?;
            message = next.ok_or_else(|| self.etcd.unanswered("the stream of changes ended"))?;
        }
    }

    /// The stream and its first message.
    async fn start(&self, revision: u64) -> Result<(WatchStream, WatchResponse), StoreError> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let (live, first) = self
            .etcd
            .ask(|| {
                let (mut watch, key) = (self.etcd.watch.clone(), self.key.clone());
                let options = WatchOptions::new().with_prefix().with_start_revision(revision);
                async move {
                    let mut live = watch.watch(key, Some(options)).await?;
                    let first = live.message().await?;
                    Ok((live, first))
                }
            })
            .await?;
        let first = first.ok_or_else(|| self.etcd.unanswered("the stream of changes ended"))?;
        Ok((live, first))
    }

    fn check_alive(&self, message: &WatchResponse, asked: u64) -> Result<(), StoreError> {
        match (message.canceled(), request::unsigned(message.compact_revision())) {
            (false, _) => Ok(()),
            (true, 0) => Err(self.etcd.unanswered(&format!("the watch was ended: {}", message.cancel_reason()))),
            (true, compacted) => Err(StoreError::Compacted { asked, oldest: compacted + 1 }),
        }
    }
}

/// Whether the store as it was at this revision can still be read.
pub(super) async fn is_kept(etcd: &Etcd, key: &str, revision: u64) -> Result<bool, StoreError> {
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    etcd.ask(|| {
        let (mut kv, key) = (etcd.kv.clone(), key.to_owned());
        async move {
            match kv.get(key, Some(GetOptions::new().with_revision(revision).with_count_only())).await {
                Ok(_) => Ok(true),
                Err(error) if refusal::is_future(&error) => Ok(true),
                Err(error) if refusal::is_compacted(&error) => Ok(false),
                Err(error) => Err(error),
            }
        }
    })
    .await
}
