//! What can be broken on purpose. The rules of the protocol stay whole: a broken variant edits what goes into
//! a state machine or what comes out of it, or takes a guard from the world around it.

/// A guard that is missing, or an order that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sabotage {
    /// The store takes a write whoever leads.
    NoEpochCompare,
    /// The vote leaves before the promise is on disk.
    VoteBeforeFsync,
    /// A host that restarts has no promises.
    ForgetPromises,
    /// What was caught up is switched to before it is written down what stands where.
    ForgetPlaces,
    /// Any news release a promise, also news from before it.
    NoRevisionGuard,
    /// A host does not know at which generation it serves, so that none is too low.
    NoGenerationGuard,
    /// A vote counts for whatever life the host has now, and the store does not look at the membership.
    CountOldLife,
    /// A deployment gets the generation of one that was aborted.
    ReuseGeneration,
    /// Hosts hear of a commit when it is handed to the store.
    AnnounceBeforeStored,
    /// A host says applied before nginx was seen serving it.
    AcknowledgeBeforeProbe,
    /// Hosts take a `Prepare` of any epoch.
    NoEpochCheckOnPrepare,
    /// Hosts take a `State` of any epoch.
    NoEpochCheckOnState,
}
