//! What happened: who, what, and when in simulated time. Two runs of one seed have the same.

use crate::clock::Clock;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the simulation began.
    pub at: Duration,
    /// A host, or who plays the world.
    pub who: String,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  {:<8} {}", self.at.as_secs_f64(), self.who, self.what)
    }
}

/// Everything that happened. Clones are the same one.
#[derive(Clone, Default)]
pub struct Timeline {
    clock: Clock,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Timeline {
    /// An empty one, on this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, lines: Arc::default() }
    }

    /// Notes what somebody did.
    pub fn say(&self, who: &str, what: impl Into<String>) {
        let line = Line { at: self.clock.now(), who: who.to_owned(), what: what.into() };
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// All of it.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names all of it: 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for line in self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hash.update(line.at.as_nanos().to_be_bytes());
            hash.update(&line.who);
            hash.update(&line.what);
        }
        hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
    }
}

thread_local! {
    /// The hosts whose turn it is, by their spans: one, or none.
    static TURN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Puts what the programs log into the timeline, under the host that says it.
pub struct Logs {
    timeline: Timeline,
    nodes: Mutex<BTreeMap<u64, String>>,
}

impl Logs {
    /// Into this timeline.
    pub fn new(timeline: Timeline) -> Self {
        Self { timeline, nodes: Mutex::default() }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
    name: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => drop(write!(self.message, "{value:?}")),
            name => drop(write!(self.rest, " {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "name" => value.clone_into(&mut self.name),
            name => drop(write!(self.rest, " {name}={value}")),
        }
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Logs {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "node" {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into_u64(), fields.name);
        }
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        if let Some(name) = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(&id.into_u64()) {
            TURN.with_borrow_mut(|turn| turn.push(name.clone()));
        }
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        if self.nodes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id.into_u64()) {
            TURN.with_borrow_mut(|turn| drop(turn.pop()));
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.into_u64());
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("bgctl") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let who = TURN.with_borrow(|turn| turn.last().cloned()).unwrap_or_default();
        let level = event.metadata().level();
        let mark = if *level <= tracing::Level::ERROR { "! " } else { "" };
        self.timeline.say(&who, format!("{mark}{}{}", fields.message, fields.rest));
    }
}
