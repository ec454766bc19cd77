//! One file a reader.

pub mod spec;
pub mod nginx;
pub mod host_message;
pub mod controller_message;
pub mod operator_request;
pub mod journal;
pub mod store;
pub mod certificate;
pub mod image;
pub mod yaml;
pub mod duration;
pub mod version;
