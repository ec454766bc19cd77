//! The real loops of controllers and agents in a world where everything else is simulated, and where one number says
//! everything that happens.

pub mod chance;
pub mod check;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod engine;
pub mod etcd;
pub mod faults;
pub mod fleet;
pub mod liveness;
pub mod net;
pub mod people;
pub mod plan;
pub mod proxy;
pub mod run;
pub mod sabotage;
pub mod sweep;
pub mod timeline;
