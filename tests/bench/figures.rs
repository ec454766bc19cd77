//! What was measured, as a table for people and as flat JSON for programs.

use crate::catalogue::{Bar, CATALOGUE, Entry};
use crate::sample::Samples;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The numbers of one run. Every name is in the catalogue.
#[derive(Debug, Default)]
pub struct Figures {
    values: BTreeMap<&'static str, f64>,
    notes: Vec<String>,
}

impl Figures {
    /// One number.
    ///
    /// # Panics
    /// When the catalogue has no such name.
    pub fn set(&mut self, name: &str, value: f64) {
        let entry = entry(name).unwrap_or_else(|| panic!("the catalogue has no {name}"));
        self.values.insert(entry.name, value);
    }

    /// Median and p99, as `NAME_p50_UNIT` and `NAME_p99_UNIT`.
    pub fn set_p50_p99(&mut self, name: &str, unit: &str, samples: &Samples) {
        self.set(&format!("{name}_p50_{unit}"), samples.median());
        self.set(&format!("{name}_p99_{unit}"), samples.quantile(0.99));
    }

    /// `NAME_min_UNIT`, `NAME_p50_UNIT`, `NAME_max_UNIT`.
    pub fn set_min_p50_max(&mut self, name: &str, unit: &str, samples: &Samples) {
        self.set(&format!("{name}_min_{unit}"), samples.min());
        self.set(&format!("{name}_p50_{unit}"), samples.median());
        self.set(&format!("{name}_max_{unit}"), samples.max());
    }

    /// Something a reader must know.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Name to number; what could not be computed is left out.
    pub fn to_json(&self) -> Value {
        let numbers = self.values.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        Value::Object(numbers.filter(|(_, value)| value.is_number()).collect::<Map<_, _>>())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, entries) in CATALOGUE {
            let measured = entries.iter().filter_map(|entry| Some((entry, self.values.get(entry.name)?)));
            let mut measured = measured.peekable();
            if measured.peek().is_none() {
                continue;
            }
            writeln!(f, "{section}")?;
            for (Entry { name, unit, bar, meaning }, value) in measured {
                let number = shown(*value);
                let verdict = bar.map(|bar| verdict(bar, *value)).unwrap_or_default();
                writeln!(f, "  {name:<38}{number:>11} {unit:<10}{verdict:<16}{meaning}")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "NOTE: {note}")?;
        }
        write!(f, "Figures of one machine in one run: compare those that stand side by side. tests/bench/README.md")
    }
}

fn verdict(bar: Bar, value: f64) -> String {
    let (holds, text) = match bar {
        Bar::AtMost(limit) => (value <= limit, format!("≤ {limit}")),
        Bar::AtLeast(limit) => (value >= limit, format!("≥ {limit}")),
    };
    format!("{} {text}", if holds { "pass" } else { "FAIL" })
}

fn shown(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 1000.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

fn entry(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().flat_map(|(_, entries)| entries.iter()).find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_that_is_missed_is_said_in_the_table() {
        let mut figures = Figures::default();
        figures.set("throughput_ratio", 0.84);
        figures.set("agent_idle_mb", 20.0);
        let table = figures.to_string();
        assert!(table.contains("FAIL ≥ 0.85") && table.contains("pass ≤ 20"), "{table}");
        assert_eq!(figures.to_json(), serde_json::json!({ "throughput_ratio": 0.84, "agent_idle_mb": 20.0 }));
    }

    #[test]
    fn a_number_that_there_is_none_of_is_no_pass_and_not_in_the_json() {
        let mut figures = Figures::default();
        figures.set_min_p50_max("deploy", "ms", &Samples::default());
        figures.set("deploy_to_floor_ratio", f64::NAN);
        assert!(figures.to_string().contains("FAIL ≤ 1.3"));
        assert_eq!(figures.to_json(), serde_json::json!({}));
    }

    /// Names are an interface; the page that explains them is kept true here.
    #[test]
    fn the_readme_explains_every_name_and_no_other() {
        let readme = include_str!("README.md");
        let explained: Vec<_> = readme.lines().filter(|line| line.starts_with("| `")).collect();
        let line = |entry: &Entry| {
            let bar = match entry.bar {
                Some(Bar::AtMost(limit)) => format!("≤ {limit}"),
                Some(Bar::AtLeast(limit)) => format!("≥ {limit}"),
                None => String::new(),
            };
            format!("| `{}` | {} | {bar} | {} |", entry.name, entry.unit, entry.meaning)
        };
        let expected: Vec<_> = CATALOGUE.iter().flat_map(|(_, entries)| entries.iter()).map(line).collect();
        assert_eq!(explained, expected, "the table in README.md should read:\n{}", expected.join("\n"));
    }
}
