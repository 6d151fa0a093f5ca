//! The admin socket: HTTP/1.1 and JSON for whoever runs orderfeed (contract, section 6).
//!
//! It runs on a thread of its own, so that reading requests never delays a lane. It knows who calls
//! ([`caller`]), what they may do, and how much of anything one of them may take; what it is asked
//! it has the lanes' thread answer ([`desk`]), which has the ledger. It decides nothing about
//! deliveries, and a request that it refuses has changed nothing.

mod acts;
pub mod api;
pub mod caller;
pub mod desk;
pub mod explain;
pub mod meters;
mod metrics;
mod orders;
mod questions;
mod routes;
mod server;
mod socket;
mod stream;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{broadcast, mpsc, watch};

use self::desk::{Desk, Inbox};
use self::meters::Meters;
use crate::config::{AdminConfig, Grant};

/// The running server.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Makes the socket and serves it; what it is asked comes out of the inbox. What went wrong is told
/// in words.
pub fn start(config: &AdminConfig) -> Result<(Server, Inbox), String> {
    let socket = socket::Socket::bind(&config.socket)?;
    let (jobs, asked) = mpsc::channel(desk::JOBS_MAX);
    let (grants, granted) = watch::channel(Arc::new(config.grants.clone()));
    let (stop, stopping) = watch::channel(false);
    let (events, _) = broadcast::channel(desk::EVENTS_MAX);
    let meters = Meters::default();
    let desk = Desk::new(jobs, events.clone(), meters.clone());
    let thread = thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || server::run(&socket, desk, &granted, &stopping))
        .map_err(|error| cant_serve(&config.socket, &error))?;
    Ok((
        Server { stop, thread },
        Inbox::new(asked, grants, events, meters),
    ))
}

impl Server {
    /// Ends it, and removes the socket.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if let Err(panicked) = self.thread.join() {
            std::panic::resume_unwind(panicked);
        }
    }
}

fn cant_serve(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// What the configuration grants.
type Grants = watch::Receiver<Arc<Vec<Grant>>>;
