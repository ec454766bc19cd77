//! Runs a model to its end and says what it found, as a story.

use crate::config::Config;
use crate::model::World;
use stateright::{Checker, HasDiscoveries, Model};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Between two looks whether it is over: small beside the smallest model.
const LOOKS_EACH: Duration = Duration::from_millis(5);

/// Between two lines of a model that takes minutes.
const TELLS_EACH: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug)]
pub struct Verdict {
    /// Different states seen.
    pub states: usize,
    /// The properties that do not hold, each with the shortest path there that was found.
    pub failures: Vec<(&'static str, String)>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Explores all of it, or up to the first failure.
pub fn explore(config: Config) -> Verdict {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = World::new(config).checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs();
    let mut told = began;
    while !checker.is_done() {
        std::thread::sleep(LOOKS_EACH);
        if told.elapsed() > TELLS_EACH {
            told = Instant::now();
            println!("... {} states, {} steps deep", checker.unique_state_count(), checker.max_depth());
        }
    }
    let checker = checker.join();
    let mut failures = Vec::new();
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        let found = discoveries.get(property.name);
        match property.expectation {
            stateright::Expectation::Always | stateright::Expectation::Eventually => {
                if let Some(path) = found {
                    let mut story = format!("{} does not hold:\n", property.name);
                    let steps: Vec<_> = path.clone().into_vec();
                    for (number, (_, action)) in steps.iter().enumerate() {
                        if let Some(action) = action {
                            let _ = writeln!(story, "{:>3}. {action}", number + 1);
                        }
                    }
                    let last = path.last_state();
                    let why = last.broken.as_ref().map_or("nothing goes on from here", |broken| &broken.1);
                    let _ = writeln!(story, "     => {why}");
                    failures.push((property.name, story));
                }
            }
            stateright::Expectation::Sometimes => {
                if found.is_none() {
                    failures.push((property.name, format!("never: {}", property.name)));
                }
            }
        }
    }
    Verdict { states: checker.unique_state_count(), failures, seconds: began.elapsed().as_secs_f64() }
}

/// Explores all of it; panics with the story of what does not hold. Answers how many states there are.
pub fn holds(name: &str, config: Config) -> usize {
    let verdict = explore(config);
    println!("{name}: {} states in {:.1} s", verdict.states, verdict.seconds);
    let stories: Vec<_> = verdict.failures.iter().map(|(_, story)| story.as_str()).collect();
    assert!(stories.is_empty(), "{name}, after {} states: {}", verdict.states, stories.join("\n"));
    verdict.states
}
