//! `make chaos`: every named crash point against every process that can die there, every link that can be cut and every
//! loss of power against every phase, on a fleet of namespaces under load. One line a case, and a verdict: nothing lost
//! where a healthy colour exists, nothing served that was not committed, no host back except by what history tells.

pub mod case;
mod scene;
mod logs;
mod prepare;
mod strike;
mod mid_start;
mod judge;
mod trial;
mod switches;
pub mod table;

pub use scene::ChaosError;

use crate::netfleet::NetFleetOptions;
use case::Case;
use scene::Scene;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::{Line, Table};

/// Hosts of the fleet.
const HOSTS: usize = 5;
/// Controllers, and etcd members.
const CONTROLLERS: usize = 3;
/// After so many cases in a row that could not be carried through, something else is wrong.
const LOST_CASES_MAX: usize = 4;

/// How a run goes.
#[derive(Debug, Clone)]
pub struct ChaosOptions {
    /// Requests per second on each host.
    pub rate_per_second: u32,
    /// No case begins later than this.
    pub time_max: Duration,
    /// Logs of a fleet that failed a case are copied to a folder of the case's name in here.
    pub keep_logs_in: Option<PathBuf>,
}

/// Runs the cases, one after the other, on one fleet; a case that leaves it unfit costs a new one. `told` hears each
/// line as it is written.
///
/// # Errors
/// When no fleet comes up, or none stays up.
pub async fn run(cases: Vec<Case>, options: &ChaosOptions, told: impl Fn(&Line)) -> Result<Table, ChaosError> {
    let begun = Instant::now();
    let rate_per_second = u64::from(options.rate_per_second) * HOSTS as u64;
    let mut table = Table { is_whole: cases == case::all(), rate_per_second, ..Table::default() };
    let mut scene: Option<Scene> = None;
    let mut lost_in_a_row = 0;
    for (number, case) in cases.iter().enumerate() {
        if begun.elapsed() > options.time_max {
            table.left_out = cases.len() - number;
            break;
        }
        let mut present = match scene.take() {
            Some(scene) => scene,
            None => Scene::up(fleet_options(), options.rate_per_second).await?,
        };
        let outcome = trial::run(&mut present, case, number).await;
        let (line, is_fit) = match outcome {
            Ok(line) => (line, true),
            Err(error) => (present.lost_line(case, &error), false),
        };
        if line.is_bad()
            && let Some(folder) = &options.keep_logs_in
        {
            present.keep_logs(&folder.join(case.file_name()));
        }
        told(&line);
        table.lines.push(line);
        if is_fit {
            lost_in_a_row = 0;
            scene = Some(present);
        } else {
            lost_in_a_row += 1;
            present.down().await;
            if lost_in_a_row >= LOST_CASES_MAX {
                table.left_out = cases.len() - number - 1;
                break;
            }
        }
    }
    if let Some(scene) = scene {
        scene.down().await;
    }
    table.took = begun.elapsed();
    Ok(table)
}

fn fleet_options() -> NetFleetOptions {
    NetFleetOptions { hosts: HOSTS, controllers: CONTROLLERS, registry: true, ..NetFleetOptions::default() }
}
