//! A wire that can be cut: between a controller and one etcd member, or before a controller. What is cut is as a
//! network that loses every packet: nobody is told, connections stay and are silent.

use super::FleetError;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const CHUNK_BYTES: usize = 64 * 1024;

/// Where a wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// From a controller to an etcd member, both counted from 1.
    Store {
        /// The controller.
        controller: usize,
        /// The member.
        member: usize,
    },
    /// From agents and operators to a controller, counted from 1.
    Front {
        /// The controller.
        controller: usize,
    },
}

/// Ports of a wire, on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// Which.
    pub wire: Wire,
    /// Here it is entered.
    pub near: u16,
    /// Here it leads to.
    pub far: u16,
}

/// A wire that carries.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) wire: Wire,
    is_cut: watch::Sender<bool>,
    carrying: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Relay {
    /// Listens, and carries until dropped.
    pub(super) async fn start(course: Course) -> Result<Self, FleetError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, course.near)).await;
        let listener = listener.map_err(|_| FleetError::PortTaken { port: course.near })?;
        let is_cut = watch::Sender::new(false);
        let cut = is_cut.subscribe();
        let carrying = tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = JoinSet::new();
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                connections.spawn(carry(near, course.far, cut.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { wire: course.wire, is_cut, carrying })
    }

    /// From now on nothing comes through, or it does again.
    pub(super) fn set_cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

async fn carry(near: TcpStream, far: u16, mut cut: watch::Receiver<bool>) {
    if cut.wait_for(|is_cut| !is_cut).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, far)).await else { return };
    // Nagle's waiting would look like a slow controller.
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    // Either end of the conversation ends it.
    tokio::select! {
        () = pump(near_in, far_out, cut.clone()) => {}
        () = pump(far_in, near_out, cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).await;
        // What was read while the wire is cut waits; so does the news that an end has gone.
        if cut.wait_for(|is_cut| !is_cut).await.is_err() {
            return;
        }
        match count {
            Ok(count @ 1..) if to.write_all(&chunk[..count]).await.is_ok() => {}
            Ok(_) | Err(_) => return,
        }
    }
}
