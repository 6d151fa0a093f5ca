//! `orderfeed run`: the daemon, in the foreground, until SIGTERM or Ctrl-C.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::{ConfigPlace, Exit, Failure};
use crate::admin;
use crate::config::Config;
use crate::daemon::{self, Reins, Stores};
use crate::store::files;
use crate::telemetry;

/// Deliver what is in the queue, and go on until stopped
///
/// SIGTERM and Ctrl-C start no further request, let those in flight finish, and end it. SIGHUP
/// reads the configuration again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let config = place.load()?;
    telemetry::init(&config.log);
    let stores = Stores::open_both(&config.queue.path, &config.ledger.path)?;
    // Only now: whoever else may have the ledger has the socket, too.
    let (server, inbox) = match admin::start(&config.admin) {
        Ok((server, inbox)) => (Some(server), Some(inbox)),
        // Not ready without it, systemd would wait in vain.
        Err(why) if daemon::is_awaited() => {
            return Err(Failure::new(
                Exit::Failed,
                format!("there is no admin socket: {why}"),
            ));
        }
        Err(why) => {
            error!("there is no admin socket: {why}; orders are delivered all the same");
            (None, None)
        }
    };
    for obstacle in files::obstacles_for_producers(&config.queue.path) {
        warn!("{obstacle}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let lanes = tokio::task::LocalSet::new();
    let (stop, stopping) = watch::channel(false);
    let (reload, reloading) = watch::channel(Arc::new(config));
    let file = place.path();
    let ended = lanes.block_on(&runtime, async {
        let signals = tokio::task::spawn_local(obey_signals(stop, reload, file)?);
        daemon::run(
            stores,
            Reins {
                stop: stopping,
                reload: reloading,
                inbox,
            },
        )
        .await?;
        signals.abort();
        info!("stopped");
        Ok(())
    });
    if let Some(server) = server {
        server.stop();
    }
    // Whoever still reads a file from a disk that does not answer is not waited for.
    runtime.shutdown_background();
    ended
}

/// Turns signals into what the daemon understands. The handlers are in place when this returns.
fn obey_signals(
    stop: watch::Sender<bool>,
    reload: watch::Sender<Arc<Config>>,
    file: PathBuf,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        // Elsewhere: a file may lie on a disk that takes its time, and a stop is heard all the same.
        let mut loading = JoinSet::new();
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv(), if loading.is_empty() => {
                    let file = file.clone();
                    loading.spawn_blocking(move || Config::load(&file));
                    continue;
                }
                Some(loaded) = loading.join_next() => {
                    // All or nothing: a broken file changes nothing.
                    match loaded {
                        Ok(Ok(config)) => drop(reload.send(Arc::new(config))),
                        Ok(Err(errors)) => error!("the configuration is not reloaded, the old one holds:\n{errors}"),
                        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                    }
                    continue;
                }
            }
            if stop.send_replace(true) {
                info!(
                    "still waiting for requests in flight; a SIGKILL would leave their outcome unknown"
                );
            } else {
                info!("stopping: no further request is started, those in flight may finish");
            }
        }
    })
}
