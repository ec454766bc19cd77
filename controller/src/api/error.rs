//! Errors as gRPC status: the one place where that is decided.

use crate::ledger::{LedgerError, OpenError};
use crate::planner::ImagesError;
use crate::spec::SpecError;
use crate::store::StoreError;
use tonic::Status;

/// Something that could not be written, or read back.
pub fn ledger_status(error: LedgerError) -> Status {
    match &error {
        LedgerError::Store(StoreError::Unknown { .. } | StoreError::Doubtful { .. }) | LedgerError::Deposed => {
            Status::unavailable(error.to_string())
        }
        LedgerError::Store(StoreError::Refused { .. }) => Status::resource_exhausted(error.to_string()),
        LedgerError::Store(StoreError::Compacted { .. } | StoreError::Unusable { .. }) | LedgerError::Record(_) => {
            Status::internal(error.to_string())
        }
    }
}

/// A deployment that was not opened.
pub fn open_status(error: OpenError) -> Status {
    match error {
        OpenError::Ledger(error) => ledger_status(error),
        OpenError::Busy { service, deployment } => Status::failed_precondition(format!(
            "deployment {deployment} of {service} is open: wait for it (`bgctl watch {deployment}`), or end it (`bgctl abort {service}`)"
        )),
        OpenError::Overtaken(_) | OpenError::Repeated(_) => Status::aborted(error.to_string()),
    }
}

/// A version that could not be made exact.
pub fn images_status(error: ImagesError) -> Status {
    match &error {
        ImagesError::Missing { .. } | ImagesError::Differs { .. } | ImagesError::Trouble { .. } => {
            Status::failed_precondition(error.to_string())
        }
        ImagesError::Malformed { .. } => Status::internal(error.to_string()),
    }
}

/// A spec that is refused.
pub fn spec_status(error: SpecError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// There is no deployment at all.
pub fn nothing_deployed() -> Status {
    Status::failed_precondition("nothing was ever deployed; there is nothing to go back from")
}
