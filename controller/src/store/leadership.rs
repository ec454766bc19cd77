//! Who holds the leader key: waiting until nobody does, and noticing that it is gone.

use super::{AGAIN_AFTER, Change, LEADER_KEY, Range, Store, StoreError};
use futures_util::StreamExt;

/// Returns when the leader key does not exist.
pub(super) async fn vacant(store: &dyn Store) -> Result<(), StoreError> {
    loop {
        let range = store.range(LEADER_KEY).await?;
        if holder(&range).is_none() {
            return Ok(());
        }
        let mut changes = match store.watch(LEADER_KEY, range.revision + 1).await {
            Ok(changes) => changes,
            Err(StoreError::Compacted { .. }) => continue,
            Err(error) => return Err(error),
        };
        while let Some(change) = changes.next().await {
            match change {
                Ok(Change::Deleted { key, .. }) if key == LEADER_KEY => return Ok(()),
                Ok(Change::Deleted { .. } | Change::Put(_)) => {}
                Err(StoreError::Compacted { .. }) => break,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns when the leader key is no longer the one of this epoch, and says what became of it.
pub(super) async fn taken(store: &dyn Store, epoch: u64) -> String {
    let mut from = epoch + 1;
    loop {
        match follow(store, epoch, from).await {
            Ok(why) => return why,
            Err(error) => tracing::warn!(%error, "the watch of the leader key ended; reading it again"),
        }
        match store.range(LEADER_KEY).await {
            Ok(range) => match holder(&range) {
                Some((_, held)) if held == epoch => from = range.revision + 1,
                Some((who, _)) => return format!("`{who}` leads now"),
                None => return "the leader key was removed from the store".to_owned(),
            },
            Err(error) => {
                tracing::warn!(%error, "the leader key could not be read");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

async fn follow(store: &dyn Store, epoch: u64, from: u64) -> Result<String, StoreError> {
    let mut changes = store.watch(LEADER_KEY, from).await?;
    while let Some(change) = changes.next().await {
        match change? {
            Change::Deleted { key, .. } if key == LEADER_KEY => {
                return Ok("the leader key was removed from the store".to_owned());
            }
            Change::Put(entry) if entry.key == LEADER_KEY && entry.create_revision != epoch => {
                return Ok(format!("`{}` leads now", String::from_utf8_lossy(&entry.value)));
            }
            Change::Deleted { .. } | Change::Put(_) => {}
        }
    }
    Err(StoreError::Unknown { detail: "the stream of changes ended".to_owned() })
}

/// Who holds the key, and since which revision.
fn holder(range: &Range) -> Option<(String, u64)> {
    let entry = range.entries.iter().find(|entry| entry.key == LEADER_KEY)?;
    Some((String::from_utf8_lossy(&entry.value).into_owned(), entry.create_revision))
}
