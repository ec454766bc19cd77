//! What must hold for any bytes at all: one function for each reader of what others wrote. Each says whether
//! the reader took the input or refused it, and panics if neither is what happened.
//!
//! The same functions run over the corpora in `tests/corpus.rs`, and without end in `make fuzz`.

pub mod bytes;
pub mod corpus;
mod nginx_text;
mod fixture;
mod shelf;
mod targets;

pub use targets::certificate::certificate;
pub use targets::controller_message::controller_message;
pub use targets::duration::duration;
pub use targets::host_message::host_message;
pub use targets::image::image;
pub use targets::journal::journal;
pub use targets::nginx::{config as nginx_config, nginx, nginx_accepts};
pub use targets::operator_request::operator_request;
pub use targets::spec::spec;
pub use targets::store::store;
pub use targets::version::version;
pub use targets::yaml::yaml;

/// What a reader made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was read, and means what it says.
    Accepted,
    /// It was refused, with a reason.
    Refused,
}

/// One reader.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `make fuzz TARGET=` takes it.
    pub name: &'static str,
    /// Holds the reader to what it must do.
    pub run: fn(&[u8]) -> Verdict,
    /// Inputs, good and evil, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All readers.
pub const TARGETS: [Target; 12] = [
    Target { name: "spec", run: spec, seeds: targets::spec::seeds },
    Target { name: "nginx", run: nginx, seeds: targets::nginx::seeds },
    Target { name: "host_message", run: host_message, seeds: targets::host_message::seeds },
    Target { name: "controller_message", run: controller_message, seeds: targets::controller_message::seeds },
    Target { name: "operator_request", run: operator_request, seeds: targets::operator_request::seeds },
    Target { name: "journal", run: journal, seeds: targets::journal::seeds },
    Target { name: "store", run: store, seeds: targets::store::seeds },
    Target { name: "certificate", run: certificate, seeds: targets::certificate::seeds },
    Target { name: "image", run: image, seeds: targets::image::seeds },
    Target { name: "yaml", run: yaml, seeds: targets::yaml::seeds },
    Target { name: "duration", run: duration, seeds: targets::duration::seeds },
    Target { name: "version", run: version, seeds: targets::version::seeds },
];
