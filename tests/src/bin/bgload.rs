//! Puts load on HTTP/1.1 servers as a strict user would, and reports what was lost.

use anyhow::{Context, bail};
use bgctl_tests::exit::exit;
use bgctl_tests::load::{Load, LoadOptions, Method, Target};
use clap::{Parser, ValueEnum};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// Keeps connections open, sends POST, looks before it writes, never sends anything twice.
/// Ends at Ctrl-C, or by --seconds or --requests. Exit code 1: something was lost.
#[derive(Debug, Parser)]
#[command(name = "bgload")]
struct Args {
    /// Where to send: ADDRESS:PORT, with a path if not /.
    #[arg(required = true)]
    targets: Vec<String>,
    /// Connections per target.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// What to send.
    #[arg(long, value_enum, default_value_t = MethodArg::Post)]
    method: MethodArg,
    /// Requests per second and target; as fast as answers come when left out.
    #[arg(long)]
    rate: Option<u32>,
    /// Ends after so many seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Ends after so many requests per target.
    #[arg(long)]
    requests: Option<u64>,
    /// Longest wait for an answer, in seconds.
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// Prints one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    Post,
    Get,
    Alternate,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("bgload", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let targets = args.targets.iter().map(|text| target(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let defaults = LoadOptions::default();
    let seconds = |value: f64| Duration::try_from_secs_f64(value).context("expected a number of seconds from 0");
    let options = LoadOptions {
        connections: args.connections,
        method: match args.method {
            MethodArg::Post => Method::Post,
            MethodArg::Get => Method::Get,
            MethodArg::Alternate => Method::Alternate,
        },
        rate_per_second: args.rate,
        timeout: seconds(args.timeout)?,
        requests_max: args.requests,
        time_max: args.seconds.map(seconds).transpose()?.unwrap_or(defaults.time_max),
        ..defaults
    };
    let load = Load::start(targets, options)?;
    let interrupted = async {
        tokio::signal::ctrl_c().await.context("cannot listen for Ctrl-C")?;
        eprintln!("bgload: waiting for the answers under way");
        anyhow::Ok(())
    };
    let ended = load.ended();
    tokio::select! {
        () = ended => {}
        outcome = interrupted => outcome?,
    }
    let report = load.stop().await;
    if args.json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    let lost = report.total.failed + report.total.closed_idle;
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn target(text: &str) -> anyhow::Result<Target> {
    let (address, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let Ok(address) = address.parse::<SocketAddr>() else {
        bail!("target {text:?}: expected ADDRESS:PORT or ADDRESS:PORT/PATH, as in 127.0.0.1:8081");
    };
    let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    Ok(Target { name: text.to_owned(), address, path })
}
