//! A host loses a part of itself: its Docker, a container, an image, its nginx, the switch, the journal, the program
//! of its agent. On machines of their own, so that the parts are the real ones. Users are on every host all the time;
//! those of the other host must never notice, and afterwards the fleet is on one version and deploys.

mod stage;
mod docker;
mod host;
mod lost_track;
