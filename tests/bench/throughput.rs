//! What the switch costs each request: the same nginx with it and without, and a container's own address against its
//! published port. In turns of a second; the ratio is that of neighbours, so that a machine that is busy now and then
//! does not decide it.

use crate::Effort;
use crate::backends;
use crate::figures::Figures;
use crate::place::Place;
use crate::proxies::{Ours, Pair, Static};
use crate::sample::Samples;
use anyhow::{Context, ensure};
use bgctl_tests::load::{Load, LoadOptions, Target};
use bgctl_tests::workspace::system_program;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// Turns of each.
const ROUNDS: (usize, usize) = (20, 8);
/// Of each turn: short, so that both of a pair meet the same machine.
const TURN: Duration = Duration::from_secs(1);
/// Open connections.
const CONNECTIONS: usize = 100;

/// Requests per second, in turns.
pub async fn measure(place: &Place, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let pair = Pair::start(place).await?;
    let ours = Ours::start(place, &pair).await?;
    let fixed = Static::start(place, &pair, &ours).await?;
    let network = backends::network(place).await?;
    let (container, published) = backends::start_published(place, &network, 2, "v1").await?;
    let generator = Generator::find();
    figures.set("throughput_by_wrk", f64::from(u8::from(matches!(generator, Generator::Wrk(_)))));

    let pairs = [
        [("throughput_ours", ours.address()), ("throughput_static", fixed.address())],
        [("throughput_bridge", container.address.into()), ("throughput_docker_proxy", published)],
    ];
    for contenders in pairs {
        let mut rates = [Samples::default(), Samples::default()];
        let mut ratios = Samples::default();
        for round in 0..effort.pick(ROUNDS.0, ROUNDS.1) {
            let mut pair = [0.0; 2];
            // A B, then B A: neither profits from what comes first.
            for index in [round % 2, 1 - round % 2] {
                pair[index] = generator.requests_per_second(contenders[index].1, TURN).await?;
                rates[index].add(pair[index]);
            }
            ratios.add(pair[0] / pair[1]);
        }
        for ((name, _), rates) in contenders.iter().zip(&rates) {
            figures.set_min_p50_max(name, "rps", rates);
        }
        let is_ours = contenders[0].0 == "throughput_ours";
        figures.set(if is_ours { "throughput_ratio" } else { "bridge_ratio" }, ratios.median());
    }
    Ok(())
}

/// wrk takes less of the machine, so that nginx gets more; where it is missing, our own client is good enough.
enum Generator {
    Wrk(PathBuf),
    Own,
}

impl Generator {
    fn find() -> Self {
        system_program("wrk", "wrk").map_or(Self::Own, Self::Wrk)
    }

    async fn requests_per_second(&self, address: SocketAddr, time: Duration) -> anyhow::Result<f64> {
        match self {
            Self::Wrk(wrk) => by_wrk(wrk, address, time).await,
            Self::Own => {
                let options = LoadOptions { connections: CONNECTIONS, time_max: time, ..LoadOptions::default() };
                let report = Load::start(vec![Target::new(address)], options)?.finish().await;
                ensure!(report.total.failed == 0, "requests failed: {report}");
                Ok(report.total.ok as f64 / (report.elapsed_micros as f64 / 1e6))
            }
        }
    }
}

async fn by_wrk(wrk: &Path, address: SocketAddr, time: Duration) -> anyhow::Result<f64> {
    let mut command = Command::new(wrk);
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", time.as_secs())]);
    command.arg(format!("http://{address}/")).kill_on_drop(true);
    let output = command.output().await.context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    requests_per_second(&text).with_context(|| format!("wrk on {address}: {text}"))
}

/// None: something failed.
fn requests_per_second(text: &str) -> Option<f64> {
    let is_good = !text.contains("Non-2xx") && !text.contains("Socket errors");
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.filter(|_| is_good)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::requests_per_second;

    #[test]
    fn a_rate_with_failures_is_none() {
        assert_eq!(requests_per_second("  2 requests\nRequests/sec:  51234.56\n"), Some(51234.56));
        assert_eq!(requests_per_second("Non-2xx or 3xx responses: 3\nRequests/sec: 9.0\n"), None);
        assert_eq!(requests_per_second(""), None);
    }
}
