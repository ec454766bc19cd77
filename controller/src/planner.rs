//! What is to be done, worked out of what is known: no store, no host, no clock in here.

mod roll;
mod images;
mod state;

pub use images::{ImagesError, Pins, choose_pins};
pub use roll::{Absence, Roll, RollError, call, wanted};
pub use state::{prepare_for, state_for};
