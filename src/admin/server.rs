//! Takes connections and bounds what one may take: of memory, of time, and of the others' turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::Grants;
use super::api::Error;
use super::caller::Caller;
use super::desk::Desk;
use super::routes;
use super::socket::Socket;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;

/// Of them, those of one user. Others are never locked out by one.
const CONNECTIONS_MAX_OF_ONE: usize = 16;

/// Of them, those of all but root and the daemon's own user, who always get through.
const CONNECTIONS_MAX_OF_OTHERS: usize = 48;

/// A request's line and headers, in bytes, and in the time from when they may come: also how long
/// a connection may idle.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Threads for what reads files: the user database, the queue. Each connection has one at most.
const BLOCKING_MAX: usize = CONNECTIONS_MAX;

/// So many of those beyond are told so, each for so long and with so much of what they ask; more are
/// only closed.
const REFUSED_MAX: usize = 16;
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);
const REFUSED_BYTES_MAX: u64 = 1024 * 1024;

/// Calls under way are given so long when the daemon ends.
const PATIENCE_AT_END: Duration = Duration::from_secs(1);

/// What the system runs short of (file descriptors) may come back.
const ACCEPT_RETRY_GAP: Duration = Duration::from_secs(1);

/// Serves the socket until it is to stop.
pub(super) fn run(socket: &Socket, desk: Desk, granted: &Grants, stopping: &watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX)
        .build();
    match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(serve(socket, desk, granted, stopping.clone()));
            if let Err(error) = served {
                error!("the admin socket can't be served: {error}");
            }
            // A user database that does not answer is not waited for.
            runtime.shutdown_background();
        }
        Err(error) => error!("the admin socket can't be served: {error}"),
    }
}

async fn serve(
    socket: &Socket,
    desk: Desk,
    granted: &Grants,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    let router = routes::router(desk, granted.clone(), stopping.clone());
    let mut connections = Connections::default();
    let until = stopping.clone();
    loop {
        tokio::select! {
            _ = stopping.changed() => break,
            Some(ended) = connections.tasks.join_next() => connections.ended(ended),
            Some(_told) = connections.refused.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.take(stream, &router, until.clone()),
                Err(error) => {
                    warn!("the admin socket can't take a connection: {error}; it tries again");
                    sleep(ACCEPT_RETRY_GAP).await;
                }
            },
        }
    }
    let rest = async { while connections.tasks.join_next().await.is_some() {} };
    drop(timeout(PATIENCE_AT_END, rest).await);
    Ok(())
}

/// The connections that are open, and whose they are.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<u32>,
    of_user: HashMap<u32, usize>,
    /// Those that are told that there are too many.
    refused: JoinSet<()>,
    /// Whether it was told that there are too many.
    told: bool,
}

impl Connections {
    fn take(&mut self, stream: UnixStream, router: &Router, stopping: watch::Receiver<bool>) {
        let Ok(credentials) = stream.peer_cred() else {
            // It is gone already.
            return;
        };
        let uid = credentials.uid();
        let is_own = uid == 0 || uid == rustix::process::geteuid().as_raw();
        let of_one = self.of_user.get(&uid).copied().unwrap_or_default();
        let max = if is_own {
            CONNECTIONS_MAX
        } else {
            CONNECTIONS_MAX_OF_OTHERS
        };
        if of_one >= CONNECTIONS_MAX_OF_ONE || self.tasks.len() >= max {
            if !std::mem::replace(&mut self.told, true) {
                warn!(
                    uid,
                    "admin: uid {uid}: connection refused: {of_one} of theirs are open, {} in all; told once until there are fewer",
                    self.tasks.len()
                );
            }
            if self.refused.len() < REFUSED_MAX {
                self.refused.spawn(refuse(stream));
            }
            return;
        }
        *self.of_user.entry(uid).or_default() += 1;
        let router = router.clone();
        self.tasks.spawn(async move {
            let known = tokio::task::spawn_blocking(move || Caller::look_up(&credentials)).await;
            if let Ok(caller) = known {
                talk(stream, router, Arc::new(caller), stopping).await;
            }
            uid
        });
    }

    fn ended(&mut self, ended: Result<u32, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                let count = self.of_user.entry(uid).or_default();
                *count -= 1;
                if *count == 0 {
                    self.of_user.remove(&uid);
                }
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
        if self.tasks.len() < CONNECTIONS_MAX_OF_ONE {
            self.told = false;
        }
    }
}

/// One connection, to its end.
async fn talk(
    stream: UnixStream,
    router: Router,
    caller: Arc<Caller>,
    mut stopping: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router.layer(Extension(caller)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How it ends says nothing: what was asked is answered, or nobody waits for it any more.
    tokio::select! {
        _ended = connection.as_mut() => {}
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// Tells a caller that there are too many. What they ask is read first: a client that can't send it
/// does not look for an answer.
async fn refuse(mut stream: UnixStream) {
    let error = Error::unavailable(
        "too_many",
        format!(
            "too many connections are open; end some of them ({CONNECTIONS_MAX_OF_ONE} a user, {CONNECTIONS_MAX} in all)"
        ),
    );
    let body = error.to_json().to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whether it was heard is not our concern.
    drop(timeout(REFUSED_PATIENCE, exchange).await);
}
