//! How far an attempt came (D16), observed where it passes: the name look-up, and the body as
//! the connection takes it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::feed::outcome::Phase;

/// How far the attempt under way has come. A webhook has one at a time.
#[derive(Debug, Default)]
pub(super) struct Progress {
    phase: AtomicUsize,
    /// What the host's name was found to stand for, when it was looked up last.
    addresses: Mutex<Vec<IpAddr>>,
}

impl Progress {
    pub(super) fn set(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Phase {
        Phase::ALL[self.phase.load(Ordering::Relaxed)]
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.known_addresses().clone()
    }

    fn known_addresses(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's resolver, watched.
#[derive(Debug)]
pub(super) struct WatchedResolver(Arc<Progress>);

impl WatchedResolver {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self(progress)
    }
}

impl Resolve for WatchedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let progress = Arc::clone(&self.0);
        Box::pin(async move {
            progress.set(Phase::Dns);
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            *progress.known_addresses() =
                addresses.iter().map(|at| at.ip().to_canonical()).collect();
            progress.set(Phase::Connect);
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A request's body, which says when it begins to leave and when all of it was handed over.
///
/// It is handed over in pieces, of which the connection takes a few ahead, and the kernel some
/// more: so much may still be on this side when all of it is said to have left. The last pieces
/// are small, so that little of it is the connection's.
#[derive(Debug)]
pub(super) struct WatchedBody {
    rest: Bytes,
    progress: Arc<Progress>,
}

const PIECE_BYTES: usize = 256 * 1024;

const TAIL_BYTES: usize = 64 * 1024;

const PIECE_OF_TAIL_BYTES: usize = 4 * 1024;

impl WatchedBody {
    pub(super) fn new(body: Bytes, progress: Arc<Progress>) -> Self {
        Self {
            rest: body,
            progress,
        }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = match self.rest.len() {
            left if left > TAIL_BYTES => (left - TAIL_BYTES).min(PIECE_BYTES),
            left => left.min(PIECE_OF_TAIL_BYTES),
        };
        let piece = self.rest.split_to(length);
        let phase = if self.rest.is_empty() {
            Phase::Waiting
        } else {
            Phase::Sending
        };
        self.progress.set(phase);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    /// Exact, so that the request carries a content-length (D6).
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
