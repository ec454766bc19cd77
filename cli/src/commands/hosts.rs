//! `bgctl hosts`: who is there, since when, and with what troubles.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::render::line::{Line, Tone};
use crate::render::table::{Side, Table};
use crate::render::{json, print, print_json, say, time, words};
use bgctl_proto::operator::{Host, HostsRequest, RemoveHostRequest, ReplaceHostRequest};

/// Shows all hosts.
pub async fn run(client: &Client<'_>, json: bool) -> Result<Exit, Failure> {
    let reply = client.read(async |mut controller| controller.hosts(HostsRequest {}).await).await?;
    say(&words::follower(reply.follower.as_ref()));
    if json {
        print_json(&json::hosts(&reply)).map_err(Failure::Output)?;
    } else if reply.hosts.is_empty() {
        say(&[Line::of("no host has connected yet")]);
    } else {
        print(&table(&reply.hosts).lines(0)).map_err(Failure::Output)?;
    }
    Ok(Exit::Done)
}

/// Lets in the agent that waits.
pub async fn replace(client: &Client<'_>, host: String, json: bool) -> Result<Exit, Failure> {
    let request = ReplaceHostRequest { host: host.clone() };
    let reply = client.call(async |mut controller| controller.replace_host(request.clone()).await).await?;
    let told = "replaced; it joins within ten seconds and catches up with what is committed";
    let document = json::replaced(&host, &reply);
    say_done(&host, told, json, &document)
}

/// Takes a host out.
pub async fn remove(client: &Client<'_>, host: String, force: bool, json: bool) -> Result<Exit, Failure> {
    let request = RemoveHostRequest { host: host.clone(), force };
    let reply = client.call(async |mut controller| controller.remove_host(request.clone()).await).await?;
    let told = "removed; what it runs goes on until its agent is stopped and `bgctl-agent remove` clears it";
    let document = json::removed(&host, &reply);
    say_done(&host, told, json, &document)
}

fn say_done(host: &str, told: &str, json: bool, document: &serde_json::Value) -> Result<Exit, Failure> {
    let line = Line::new().with(Tone::Strong, host).with(Tone::Plain, ": ").with(Tone::Good, told);
    if json { print_json(document) } else { print(&[line]) }.map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn table(hosts: &[Host]) -> Table {
    let headings = ["HOST", "STATE", "LABELS", "SERVICES", "AGENT", "DOCKER", "NGINX", "TROUBLES"];
    let mut table = Table::new(&headings.map(|name| (name, Side::Left)));
    for host in hosts {
        let mut labels: Vec<_> = host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.sort();
        let texts = [labels.join(" "), host.services.join(" ")];
        let versions = [&host.agent_version, &host.docker_version, &host.nginx_version];
        let mut row = vec![Line::of(&host.host), state(host)];
        row.extend(texts.iter().chain(versions).map(|text| Line::of(text)));
        let hands = host.by_hand.iter().map(|hand| format!("{} {}", hand.service, words::by_hand(hand)));
        let told = [&host.waiting].into_iter().chain(&host.troubles).filter(|told| !told.is_empty());
        let troubles: Vec<_> = hands.chain(told.cloned()).collect();
        let mut last = Line::new().with(Tone::Bad, &troubles.join("; "));
        if !host.warnings.is_empty() {
            let between = if troubles.is_empty() { "" } else { "; " };
            last = last.with(Tone::Plain, &format!("{between}warning: {}", host.warnings.join("; ")));
        }
        row.push(last);
        table.row(row);
    }
    table
}

fn state(host: &Host) -> Line {
    let since = time::whole(host.since_millis / 1000);
    if host.stranger {
        Line::new().with(Tone::Bad, "NOT LET IN")
    } else if host.connected {
        Line::new().with(Tone::Good, &format!("connected {since}"))
    } else {
        Line::new().with(Tone::Bad, &format!("AWAY {since}"))
    }
}
