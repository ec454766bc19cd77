//! What was worked out once: the same host meets the same message in thousands of states.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Enough that two threads seldom wait for each other.
const SHARDS: usize = 64;

/// Answers by the hash of the question.
pub struct Memo<T> {
    shards: Vec<Mutex<HashMap<u64, Option<Arc<T>>>>>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<T> Memo<T> {
    /// The answer, worked out if it is the first time.
    pub fn get(&self, question: u64, work_out: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
        let shard = &self.shards[question as usize % SHARDS];
        if let Some(answer) = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&question) {
            return answer.clone();
        }
        let answer = work_out().map(Arc::new);
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert(question, answer.clone());
        answer
    }
}
