//! `bgctl controllers`: who leads, who is there, and how the store is. Each controller is asked for its own word, so
//! that what is shown as reachable is reachable from here.

use crate::client::{CallError, Client, Silence};
use crate::exit::{Exit, Failure};
use crate::render::line::{Line, Tone};
use crate::render::table::{Side, Table};
use crate::render::{json, print, print_json, time};
use bgctl_proto::operator::{
    Controller, ControllersReply, ControllersRequest, ForgetControllerRequest, KnownController, Store,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is known of one controller.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// As written down, if it is.
    pub known: Option<KnownController>,
    /// Its own word.
    pub own: Option<Controller>,
    /// Why there is none.
    pub trouble: Option<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Found {
    /// By name; one that never answered and is not written down has its address for one.
    pub controllers: BTreeMap<String, Seen>,
    /// The leader's word on the store; without one, anybody's.
    pub store: Option<Store>,
}

/// Shows all controllers.
pub async fn run(client: &Client<'_>, json: bool) -> Result<Exit, Failure> {
    let found = find(client).await?;
    if json {
        print_json(&json::controllers(&found)).map_err(Failure::Output)?;
    } else {
        let mut lines = table(&found).lines(0);
        lines.extend(found.store.as_ref().map(store).unwrap_or_default());
        print(&lines).map_err(Failure::Output)?;
    }
    Ok(Exit::Done)
}

/// Strikes one out of the list.
pub async fn forget(client: &Client<'_>, name: String, json: bool) -> Result<Exit, Failure> {
    let request = ForgetControllerRequest { name };
    client.call(async |mut controller| controller.forget_controller(request.clone()).await).await?;
    if json {
        print_json(&json::forgotten(&request.name)).map_err(Failure::Output)?;
    } else {
        print(&[Line::of(&format!("{} is forgotten", request.name))]).map_err(Failure::Output)?;
    }
    Ok(Exit::Done)
}

/// Asks those that were given, and those that they name.
async fn find(client: &Client<'_>) -> Result<Found, CallError> {
    let mut to_ask: VecDeque<String> = client.addresses().map(str::to_owned).collect();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let (mut replies, mut silent): (Vec<ControllersReply>, Vec<Silence>) = Default::default();
    while let Some(address) = to_ask.pop_front() {
        if !asked.insert(address.clone()) {
            continue;
        }
        match client.alone(&address, async |mut controller| controller.controllers(ControllersRequest {}).await).await?
        {
            Ok(reply) => {
                to_ask.extend(reply.known.iter().map(|known| known.address.clone()));
                replies.push(reply);
            }
            Err(detail) => silent.push(Silence { address, detail }),
        }
    }
    if replies.is_empty() {
        return Err(CallError::Unreachable { tried: silent, asked: false });
    }
    Ok(merge(replies, silent))
}

fn merge(replies: Vec<ControllersReply>, silent: Vec<Silence>) -> Found {
    let mut found = Found::default();
    let by_leader = |reply: &ControllersReply| reply.controller.as_ref().is_some_and(|own| own.leads);
    found.store =
        replies.iter().find(|reply| by_leader(reply)).or(replies.first()).and_then(|reply| reply.store.clone());
    for reply in replies {
        for known in reply.known {
            let name = known.name.clone();
            found.controllers.entry(name).or_default().known = Some(known);
        }
        if let Some(own) = reply.controller {
            let name = own.name.clone();
            found.controllers.entry(name).or_default().own = Some(own);
        }
    }
    for Silence { address, detail } in silent {
        let is_there =
            |seen: &&mut Seen| seen.known.as_ref().is_some_and(|known| known.address == address) && seen.own.is_none();
        match found.controllers.values_mut().find(is_there) {
            Some(seen) => seen.trouble = Some(detail),
            None => {
                let seen = Seen { trouble: Some(detail), ..Seen::default() };
                found.controllers.insert(address, seen);
            }
        }
    }
    found
}

fn table(found: &Found) -> Table {
    let left = |name| (name, Side::Left);
    let right = |name| (name, Side::Right);
    let mut table = Table::new(&[
        left("CONTROLLER"),
        left("ADDRESS"),
        left("ROLE"),
        right("EPOCH"),
        left("SINCE"),
        right("REVISION"),
        right("LAG"),
        left("VERSION"),
        left("TROUBLE"),
    ]);
    let newest = found.newest_revision();
    for (name, seen) in &found.controllers {
        let address = seen.address();
        let mut row = vec![Line::of(name), Line::of(address)];
        match &seen.own {
            Some(own) => {
                let (tone, role) = if own.leads { (Tone::Good, "leader") } else { (Tone::Plain, "follower") };
                row.push(Line::new().with(tone, role));
                row.push(Line::of(&own.epoch.to_string()));
                row.push(Line::of(&time::whole(own.since_millis / 1000)));
                row.push(Line::of(&own.revision.to_string()));
                row.push(Line::of(&newest.saturating_sub(own.revision).to_string()));
                row.push(Line::of(&own.version));
            }
            None => {
                row.push(Line::new().with(Tone::Bad, "UNREACHABLE"));
                row.extend([Line::new(), Line::new(), Line::new(), Line::new()]);
                row.push(Line::of(seen.known.as_ref().map_or("", |known| &known.version)));
            }
        }
        row.push(Line::new().with(Tone::Bad, &seen.trouble()));
        table.row(row);
    }
    table
}

impl Found {
    /// That anybody heard of.
    pub fn newest_revision(&self) -> u64 {
        let own = self.controllers.values().filter_map(|seen| seen.own.as_ref());
        own.map(|own| own.newest_revision.max(own.revision)).max().unwrap_or_default()
    }
}

impl Seen {
    /// Where others reach it.
    pub fn address(&self) -> &str {
        let own = self.own.as_ref().map(|own| own.address.as_str());
        own.or(self.known.as_ref().map(|known| known.address.as_str())).unwrap_or_default()
    }

    /// In words; empty if there is none.
    pub fn trouble(&self) -> String {
        match (&self.trouble, &self.own) {
            (Some(trouble), _) => trouble.clone(),
            (None, Some(own)) => match own.store_age_millis {
                None => "it has not reached the store since it started".to_owned(),
                Some(age) if age >= STALE_MILLIS => {
                    format!("the store has not answered it for {}", time::whole(age / 1000))
                }
                Some(_) => String::new(),
            },
            (None, None) => "not reached".to_owned(),
        }
    }
}

/// Controllers ask the store once a second.
const STALE_MILLIS: u64 = 5_000;

fn store(store: &Store) -> Vec<Line> {
    let mut lines = vec![Line::new()];
    let size = match (store.size_bytes, store.quota_bytes) {
        (0, _) => String::new(),
        (size, 0) => format!("  {}", bytes(size)),
        (size, quota) => format!("  {} of {} ({} %)", bytes(size), bytes(quota), size.saturating_mul(100) / quota),
    };
    let line = Line::of("store  ").with(Tone::Strong, &store.kind).with(Tone::Plain, &size);
    lines.push(match store.alarms.is_empty() {
        true => line,
        false => line.with(Tone::Bad, &format!("  ALARM {}", store.alarms.join(", "))),
    });
    if !store.members.is_empty() {
        let columns = ["MEMBER", "ADDRESS", "ROLE", "VERSION", "SIZE", "IN USE", "TROUBLE"];
        let mut table = Table::new(&columns.map(|name| (name, Side::Left)));
        for member in &store.members {
            let role = match (member.trouble.is_empty(), member.leads) {
                (false, _) => Line::new().with(Tone::Bad, "UNREACHABLE"),
                (true, true) => Line::of("leads"),
                (true, false) => Line::of("follows"),
            };
            let sizes = [member.size_bytes, member.in_use_bytes].map(|size| match size {
                0 => Line::new(),
                size => Line::of(&bytes(size)),
            });
            let mut row = vec![Line::of(&member.name), Line::of(&member.address), role, Line::of(&member.version)];
            row.extend(sizes);
            row.push(Line::new().with(Tone::Bad, &member.trouble));
            table.row(row);
        }
        lines.extend(table.lines(2));
    }
    lines.extend(store.warnings.iter().map(|warning| Line::new().with(Tone::Bad, warning)));
    lines
}

fn bytes(count: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    match count as f64 / MIB {
        mib if mib >= 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        mib => format!("{mib:.1} MiB"),
    }
}
