//! The whole on real parts: Docker, nginx, etcd, mTLS. In every scene users keep connections open, send POST
//! and never retry, and what they see is compared with what `bgctl` says.
//!
//! The modules follow the life of a deployment: what goes well, what an operator may do meanwhile, what goes
//! wrong before the switch and after it, what dies, what works without a controller, and who is let in at all.

mod scene;
mod relay;
mod docker;
mod outage;
mod switching;
mod commands;
mod specs;
mod refused;
mod unprepared;
mod outages;
mod full_disk;
mod late;
mod killed;
mod away;
mod etcd;
mod controllers;
mod slow_disk;
mod alone;
mod readiness;
mod clocks;
mod by_hand;
mod strangers;
mod restored;
mod identity;
