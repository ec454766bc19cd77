//! Whether anybody still talks to a colour that no longer takes traffic: the kernel knows. nginx closes
//! its idle connections to a colour after a second without use, so what is left has a request under way.

use async_trait::async_trait;
use bgctl_proto::crashpoint;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// How often the kernel's table is read. It has a line a connection; a busy host has some thousands.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The kernel's table of this host's own TCP connections over IPv4.
const TABLE: &str = "/proc/net/tcp";

/// As that table writes an established connection.
const ESTABLISHED: &str = "01";

/// Who talks to whom on this host.
#[async_trait]
pub trait Traffic: Send + Sync + 'static {
    /// Returns when no connection of this host leads to these addresses, or when the time is over.
    async fn drained(&self, addresses: &[SocketAddrV4], at_most: Duration);
}

/// As the kernel sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelTraffic;

#[async_trait]
impl Traffic for KernelTraffic {
    async fn drained(&self, addresses: &[SocketAddrV4], at_most: Duration) {
        drained(addresses, at_most).await;
    }
}

async fn drained(addresses: &[SocketAddrV4], at_most: Duration) {
    let deadline = tokio::time::Instant::now() + at_most;
    crashpoint!("after_drain_start");
    while tokio::time::Instant::now() < deadline {
        match tokio::fs::read_to_string(TABLE).await {
            Ok(table) if !is_any_connected(&table, addresses) => break,
            Ok(_) => tokio::time::sleep(LOOK_EVERY).await,
            // Nothing is known: the time it was given is what counts.
            Err(error) => {
                tracing::warn!(%error, "cannot read {TABLE}; waiting for the whole drain time");
                tokio::time::sleep_until(deadline).await;
            }
        }
    }
    crashpoint!("before_drain_end");
}

fn is_any_connected(table: &str, addresses: &[SocketAddrV4]) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let (remote, state) = (fields.next().and_then(remote), fields.next());
        state == Some(ESTABLISHED) && remote.is_some_and(|remote| addresses.contains(&remote))
    })
}

/// `0201A8C0:1F90` is 192.168.1.2:8080 on a little-endian machine: the address as it lies in memory, the
/// port as a number.
fn remote(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address.to_ne_bytes()), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream, SocketAddrV4) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let std::net::SocketAddr::V4(address) = listener.local_addr().expect("bound") else { unreachable!("IPv4") };
        let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("connects"), served.expect("accepts").0, address)
    }

    #[tokio::test]
    async fn an_open_connection_is_waited_for_and_a_closed_one_is_not() {
        let (client, served, address) = pair().await;
        let table = std::fs::read_to_string(TABLE).expect("the kernel has a table");
        assert!(is_any_connected(&table, &[address]), "{address} is not in\n{table}");
        let waited = tokio::spawn(async move { drained(&[address], Duration::from_secs(30)).await });
        tokio::task::yield_now().await;
        assert!(!waited.is_finished());
        drop((client, served));
        tokio::time::timeout(Duration::from_secs(10), waited).await.expect("it ends").expect("no panic");
    }

    #[tokio::test]
    async fn a_connection_that_stays_is_waited_for_no_longer_than_told() {
        let (_client, _served, address) = pair().await;
        let begun = std::time::Instant::now();
        drained(&[address], Duration::from_millis(200)).await;
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }
}
