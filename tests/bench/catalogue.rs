//! Every number: its name, unit, bar, and what it is. Names are an interface: add, never rename.

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// One number.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// In the JSON.
    pub name: &'static str,
    /// As words.
    pub unit: &'static str,
    /// None: there is nothing to hold it to.
    pub bar: Option<Bar>,
    /// In one line.
    pub meaning: &'static str,
}

const fn plain(name: &'static str, unit: &'static str, meaning: &'static str) -> Entry {
    Entry { name, unit, bar: None, meaning }
}

const fn at_most(limit: f64, name: &'static str, unit: &'static str, meaning: &'static str) -> Entry {
    Entry { name, unit, bar: Some(Bar::AtMost(limit)), meaning }
}

const fn at_least(limit: f64, name: &'static str, unit: &'static str, meaning: &'static str) -> Entry {
    Entry { name, unit, bar: Some(Bar::AtLeast(limit)), meaning }
}

/// All of them, in the order of the table.
pub const CATALOGUE: &[(&str, &[Entry])] = &[
    ("What clients lose in a switch (100 connections, 2000 POSTs a second, none sent twice)", LOST),
    ("How long a switch takes, without load", SWITCH),
    ("What the switch costs each request (100 connections, as fast as it goes)", THROUGHPUT),
    ("A deployment of new containers on 3 hosts, start of bgctl to its exit, and what Docker alone needs", DEPLOYMENT),
    ("3 hosts under load: deployments and rollbacks in turn (100 connections and 300 POSTs a second each)", ROLLOUT),
    ("The same by Docker Swarm: 3 replicas, start-first, all at once", SWARM),
    ("The leader of 3 controllers dies, kill -9, until another has taken a write and every agent is linked", FAILOVER),
    ("Resident memory", MEMORY),
    ("This run", RUN),
];

const LOST: &[Entry] = &[
    plain("lost_switches", "switches", "switches of each contender"),
    at_most(0.0, "lost_ours_per_switch", "requests", "ours: requests lost"),
    at_most(0.0, "closed_ours_per_switch", "conns", "ours: idle client connections closed"),
    at_most(0.0, "flips_ours_per_switch", "changes", "ours: changes of version that nobody asked for"),
    plain("lost_ours_requests_sent", "requests", "ours: requests sent in all"),
    plain("lost_reload_per_switch", "requests", "nginx -s reload: requests lost"),
    plain("closed_reload_per_switch", "conns", "nginx -s reload: idle client connections closed"),
    plain("flips_reload_per_switch", "changes", "nginx -s reload: changes of version that nobody asked for"),
    plain("lost_haproxy_per_switch", "requests", "HAProxy, set map: requests lost"),
    plain("closed_haproxy_per_switch", "conns", "HAProxy, set map: idle client connections closed"),
    plain("flips_haproxy_per_switch", "changes", "HAProxy, set map: changes of version that nobody asked for"),
];

const SWITCH: &[Entry] = &[
    plain("switch_ours_rename_p50_us", "us", "ours: the rename(2) alone"),
    plain("switch_ours_rename_p99_us", "us", "same, p99"),
    plain("switch_ours_proof_p50_us", "us", "ours: rename to the proof through nginx"),
    plain("switch_ours_proof_p99_us", "us", "same, p99"),
    plain("switch_ours_call_p50_us", "us", "ours: the whole call, with the fsync after the proof"),
    plain("switch_ours_call_p99_us", "us", "same, p99"),
    plain("switch_ours_served_p50_us", "us", "ours: call to the first new answer on a new connection"),
    plain("switch_ours_served_p99_us", "us", "same, p99"),
    plain(
        "switch_ours_stage_p50_us",
        "us",
        "ours: what is written and fsynced before the vote, long before the switch",
    ),
    plain("switch_ours_stage_p99_us", "us", "same, p99"),
    plain("switch_reload_call_p50_us", "us", "rewrite and nginx -s reload, to its exit"),
    plain("switch_reload_call_p99_us", "us", "same, p99"),
    plain("switch_reload_served_p50_us", "us", "rewrite and nginx -s reload, to the first new answer"),
    plain("switch_reload_served_p99_us", "us", "same, p99"),
    plain("switch_haproxy_call_p50_us", "us", "HAProxy: set map; kept in memory only"),
    plain("switch_haproxy_call_p99_us", "us", "same, p99"),
    plain("switch_haproxy_served_p50_us", "us", "HAProxy: set map to the first new answer"),
    plain("switch_haproxy_served_p99_us", "us", "same, p99"),
    plain("switch_rename_fsync_p50_us", "us", "a bare rename(2) and fsync of its folder"),
    plain("switch_rename_fsync_p99_us", "us", "same, p99"),
    at_most(
        0.05,
        "switch_ours_to_reload_ratio",
        "ratio",
        "rename to proof against a reload to its first new answer: switch_ours_proof / switch_reload_served",
    ),
    plain("switch_ours_served_to_reload_served_ratio", "ratio", "switch_ours_served / switch_reload_served, medians"),
    plain("switch_ours_call_to_reload_call_ratio", "ratio", "switch_ours_call / switch_reload_call, medians"),
];

const THROUGHPUT: &[Entry] = &[
    plain("throughput_ours_min_rps", "req/s", "nginx with our switch"),
    plain("throughput_ours_p50_rps", "req/s", "same, median"),
    plain("throughput_ours_max_rps", "req/s", "same, max"),
    plain("throughput_static_min_rps", "req/s", "the same nginx with a static upstream"),
    plain("throughput_static_p50_rps", "req/s", "same, median"),
    plain("throughput_static_max_rps", "req/s", "same, max"),
    at_least(0.85, "throughput_ratio", "ratio", "ours / static, median of the ratios of turns side by side"),
    plain("throughput_bridge_min_rps", "req/s", "a container, asked at its bridge address"),
    plain("throughput_bridge_p50_rps", "req/s", "same, median"),
    plain("throughput_bridge_max_rps", "req/s", "same, max"),
    plain(
        "throughput_docker_proxy_min_rps",
        "req/s",
        "the same container at its port on 127.0.0.1, through docker-proxy",
    ),
    plain("throughput_docker_proxy_p50_rps", "req/s", "same, median"),
    plain("throughput_docker_proxy_max_rps", "req/s", "same, max"),
    plain("bridge_ratio", "ratio", "bridge / docker-proxy, median of the ratios of turns side by side"),
    plain("throughput_by_wrk", "yes or no", "1: load by wrk; 0: by our own client, as wrk is not installed"),
];

const DEPLOYMENT: &[Entry] = &[
    plain("deploy_min_ms", "ms", "a deployment"),
    plain("deploy_p50_ms", "ms", "same, median"),
    plain("deploy_max_ms", "ms", "same, max"),
    plain("floor3_min_ms", "ms", "Docker create + start + first healthy answer, 3 containers at once"),
    plain("floor3_p50_ms", "ms", "same, median"),
    plain("floor3_max_ms", "ms", "same, max"),
    plain("floor1_min_ms", "ms", "same for 1 container"),
    plain("floor1_p50_ms", "ms", "same, median"),
    plain("floor1_max_ms", "ms", "same, max"),
    at_most(1.3, "deploy_to_floor_ratio", "ratio", "deployment / floor of 3, medians"),
    plain("deploy_to_floor_max_ratio", "ratio", "the worst deployment against the floor just before it"),
    plain("deploy_started_p50_ms", "ms", "asked to prepare until the last host's container is started"),
    plain("deploy_healthy_p50_ms", "ms", "same, until it is healthy"),
    plain("deploy_voted_p50_ms", "ms", "same, until its vote"),
    plain("deploy_prepared_p50_ms", "ms", "request at the controller until all have voted"),
    plain("deploy_decided_p50_ms", "ms", "same, until the decision is stored"),
    plain("deploy_applied_p50_ms", "ms", "same, until all hosts have switched"),
    plain("deploy_warm_min_ms", "ms", "a deployment of the version that stands by: no new container"),
    plain("deploy_warm_p50_ms", "ms", "same, median"),
    plain("deploy_warm_max_ms", "ms", "same, max"),
];

const ROLLOUT: &[Entry] = &[
    plain("rollout_switches", "switches", "deployments and rollbacks"),
    plain("rollout_requests_sent", "requests", "requests sent"),
    at_most(0.0, "rollout_requests_failed", "requests", "requests that failed"),
    at_most(0.0, "rollout_closed_idle", "conns", "client connections closed while idle"),
    at_most(0.0, "rollout_order_broken", "yes or no", "1: a host served a version that was not its turn"),
    plain("skew_p50_ms", "ms", "first to last host, as bgctl says"),
    at_most(20.0, "skew_p99_ms", "ms", "same, p99"),
    plain("skew_max_ms", "ms", "same, max"),
    plain("skew_error_max_ms", "ms", "how far off that may be, as bgctl says"),
    at_most(150.0, "rollback_p50_ms", "ms", "a rollback, start of bgctl to its exit"),
    plain("rollback_p99_ms", "ms", "same, p99"),
    plain("rollback_max_ms", "ms", "same, max"),
    plain("rollout_deploy_p50_ms", "ms", "a deployment under load"),
];

const SWARM: &[Entry] = &[
    plain("swarm_update_min_ms", "ms", "docker service update, call to done"),
    plain("swarm_update_p50_ms", "ms", "same, median"),
    plain("swarm_update_max_ms", "ms", "same, max"),
    plain("swarm_rollback_min_ms", "ms", "docker service rollback, call to done"),
    plain("swarm_rollback_p50_ms", "ms", "same, median"),
    plain("swarm_rollback_max_ms", "ms", "same, max"),
    plain("lost_swarm_per_switch", "requests", "requests lost; only where the ingress works"),
    plain("closed_swarm_per_switch", "conns", "client connections closed while idle; only where the ingress works"),
];

const MEMORY: &[Entry] = &[
    plain("memory_deployments", "deploys", "deployments in all"),
    at_most(20.0, "agent_idle_mb", "MB", "the largest of 3 agents, after one deployment"),
    plain("agent_halfway_mb", "MB", "same, after half of the deployments: what goes on growing leaks"),
    at_most(20.0, "agent_after_mb", "MB", "same, after all deployments"),
    at_most(0.5, "agent_growth_mb", "MB", "same, since the 20th deployment (quick: 10th)"),
    plain("controller_idle_mb", "MB", "the controller, after one deployment"),
    plain("controller_halfway_mb", "MB", "same, after half of the deployments"),
    plain("controller_after_mb", "MB", "same, after all deployments"),
    plain("controller_growth_mb", "MB", "same, since the 20th deployment (quick: 10th)"),
];

const FAILOVER: &[Entry] = &[
    plain("failover_write_p50_ms", "ms", "to the first write that is taken"),
    at_most(13_000.0, "failover_write_p99_ms", "ms", "same, p99"),
    plain("failover_linked_p50_ms", "ms", "to that and the last agent's link"),
    at_most(13_000.0, "failover_linked_p99_ms", "ms", "same, p99"),
    at_most(13_000.0, "failover_max_ms", "ms", "same, the longest: the bar is twice a lease of 5 s and 3 s"),
];

const RUN: &[Entry] = &[
    plain("bench_seconds", "s", "how long it took"),
    plain("bench_quick", "yes or no", "1: --quick"),
    plain("bench_cpus", "cpus", "processors of the machine"),
];
