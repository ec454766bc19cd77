//! Proof of the whole: load as a user would send it, a fleet on one machine, and the demo made of both.

pub mod exit;
pub mod workspace;
pub mod process;
pub mod images;
pub mod load;
pub mod fleet;
pub mod netfleet;
pub mod chaos;
pub mod demo;
