//! The real `bgctl` against a controller that says what the test wants: exit codes, what goes to stdout and what to
//! stderr, lost connections, and what a terminal looks like.

mod pki;
mod fake;
mod run;
mod story;

mod outcomes;
mod refusals;
mod connection;
mod verbs;
mod membership;
mod controllers;
mod json;
mod screen;
mod terminal;
