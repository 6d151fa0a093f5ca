//! Questions, answered by the daemon; or, where none runs, from the files themselves.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::runtime::Runtime;

use super::client::Client;
use super::{ConfigPlace, Exit, Failure};
use crate::admin::api::Error;
use crate::admin::explain::{Ground, OwnLedger};
use crate::clock::Reading;
use crate::store;
use crate::store::ledger::Ledger;
use crate::store::queue::reader::Reader;

/// A daemon that starts has its socket within this time.
const STARTING_PATIENCE: Duration = Duration::from_secs(5);

/// It is looked for so often.
const LOOK_GAP: Duration = Duration::from_millis(50);

/// Whoever answers.
pub(super) enum Asked {
    /// The daemon that runs.
    Daemon(Client),
    /// Nobody runs: the files.
    Files(Box<Files>),
}

/// Queue and ledger, opened for a question. While it lasts no daemon can start, so it should be
/// short.
pub(super) struct Files {
    pub(super) ledger: OwnLedger,
    pub(super) ground: Ground,
    pub(super) queue: Reader,
    pub(super) runtime: Runtime,
}

impl Asked {
    /// The daemon, if its socket answers, and else the files.
    pub(super) fn find(place: &ConfigPlace) -> Result<Self, Failure> {
        let client = Client::new(place)?;
        if client.is_running() {
            return Ok(Self::Daemon(client));
        }
        let config = place.load()?;
        let deadline = Instant::now() + STARTING_PATIENCE;
        let ledger = loop {
            match Ledger::open(&config.ledger.path, &Reading::take()) {
                Ok(ledger) => break ledger,
                // Whoever has it may be a daemon that has no socket yet, or another such question.
                Err(store::Error::Held { .. }) if Instant::now() < deadline => {
                    thread::sleep(LOOK_GAP);
                }
                Err(held @ store::Error::Held { .. }) => {
                    return Err(Failure::new(
                        Exit::Unreachable,
                        format!("{held}, and no daemon answers at its socket"),
                    ));
                }
                Err(error) => return Err(error.into()),
            }
            if client.is_running() {
                return Ok(Self::Daemon(client));
            }
        };
        let queue = Reader::open(&config.queue.path)?;
        Ok(Self::Files(Box::new(Files {
            ledger: OwnLedger::new(ledger),
            ground: Ground {
                config: Arc::new(config),
                started_at: None,
            },
            queue,
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
        })))
    }
}

impl Files {
    /// Waits for an answer.
    pub(super) fn answer<T>(
        &mut self,
        question: impl AsyncFnOnce(&OwnLedger, &Ground, &mut Reader) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let Self {
            ledger,
            ground,
            queue,
            runtime,
        } = self;
        runtime
            .block_on(question(ledger, ground, queue))
            .map_err(|error| Failure::new(Exit::Failed, error.message))
    }
}

/// A part of a call's path, or a value behind its `?`.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
