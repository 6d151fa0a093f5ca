//! Reading ahead: while a request is in flight, the orders of the payloads after it are read, so
//! that the next request follows the answer at once.
//!
//! It decides nothing and promises nothing: what was read counts only while nothing has changed
//! since, and is read again otherwise. So a purchase order that is queued meanwhile still goes
//! first (D2).

use std::collections::VecDeque;
use std::sync::Arc;

use super::lane::Settings;
use crate::feed::lane::{Lane, Place, Seal, Step, next_step};
use crate::feed::order::{PerType, Seq};
use crate::feed::timestamp::Timestamp;
use crate::store::Error;
use crate::store::ledger::WebhookId;
use crate::store::queue::{Pick, Queue, Scan};

/// So many payloads are read in one go at most: handing each over by itself costs more than
/// reading a small one.
pub const PAYLOADS_MAX: usize = 16;

/// So many bytes of bodies are read in one go at most, beyond the last payload.
const BYTES_MAX: usize = 64 * 1024;

/// So many rows are passed in one go at most, beyond the last payload: a filter that lets few
/// through would hold up the other lanes, who read by the same thread.
const ROWS_MAX: i64 = 4_096;

/// What the next turns of a lane will find, if nothing changes.
#[derive(Debug)]
pub struct Ahead {
    basis: Basis,
    turns: VecDeque<Turn>,
    /// With so many left, it is time to read on.
    turns_short: usize,
    /// The lane after these turns; `None` where nothing more is to be read.
    end: Option<Lane>,
}

/// What is read by, beside where the lane stands.
#[derive(Debug, Clone)]
pub struct Basis {
    /// Counts what was noticed in the queue, and changes of what webhooks subscribe to.
    pub noticed: u64,
    /// The settings that the lane goes by.
    pub settings: Arc<Settings>,
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        self.noticed == other.noticed && Arc::ptr_eq(&self.settings, &other.settings)
    }
}

/// What one turn will find.
#[derive(Debug)]
struct Turn {
    places: PerType<Place>,
    scan: Scan,
    next: Option<AheadPick>,
}

/// A payload's orders, and what they were picked by.
#[derive(Debug)]
pub struct AheadPick {
    basis: Basis,
    seal: Seal,
    place: Place,
    newest: Seq,
    pick: Pick,
}

impl Ahead {
    /// Reads what a lane that stands so will find and send, if all goes as expected, at most
    /// `payloads_max` payloads; nothing where parked orders are on their way, which the ledger
    /// knows.
    pub fn read(
        queue: &Queue,
        webhook_id: WebhookId,
        mut lane: Lane,
        basis: Basis,
        payloads_max: usize,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let policy = &basis.settings.policy;
        let mut turns = VecDeque::new();
        let (mut bytes_read, mut rows_read) = (0, 0);
        let mut is_end = false;
        while turns.len() < payloads_max && bytes_read <= BYTES_MAX && rows_read <= ROWS_MAX {
            let places = lane.places;
            if places.iter().any(|(_, place)| place.unpark.is_some()) {
                is_end = true;
                break;
            }
            let scan = queue.waiting(webhook_id, &places, &PerType::default(), policy)?;
            for (order_type, &progress) in scan.progress.iter() {
                lane = lane.looked(order_type, progress);
            }
            let (unread, newest) = (scan.unread, scan.newest_noticed);
            let step = next_step(&lane, None, &scan.waiting, policy, now);
            let (Step::Seal(seal), false) = (step, unread) else {
                let next = None;
                is_end = true;
                turns.push_back(Turn { places, scan, next });
                break;
            };
            let place = lane.places[seal.order_type];
            let pick = queue.pick(webhook_id, seal, place, &[], newest, policy)?;
            bytes_read += pick.picked.as_ref().map_or(0, |picked| picked.body.len());
            // No fewer than were read: rows of other types lie between.
            rows_read += pick.progress.cursor.0 - places[seal.order_type].cursor.0;
            lane = lane.passed(seal.order_type, pick.progress);
            let basis = basis.clone();
            let next = Some(AheadPick {
                basis,
                seal,
                place,
                newest,
                pick,
            });
            turns.push_back(Turn { places, scan, next });
        }
        Ok(Self {
            basis,
            // One is always left to be sent while the next are read.
            turns_short: (turns.len() / 2).max(1),
            turns,
            end: (!is_end).then_some(lane),
        })
    }

    /// Adds what was read on; or only that counts, if it was read by something else.
    pub fn append(&mut self, later: Self) {
        let mut turns = std::mem::take(&mut self.turns);
        if self.basis != later.basis {
            turns.clear();
        }
        turns.extend(later.turns);
        *self = Self { turns, ..later };
    }

    /// The lane from which to read on, if it is time to.
    pub fn runs_short(&self) -> Option<&Lane> {
        let short = self.turns.len() <= self.turns_short;
        self.end.as_ref().filter(|_| short)
    }

    /// Whether it holds what the next turn of this lane will find.
    pub fn serves(&self, lane: &Lane, basis: &Basis) -> bool {
        let next = self.turns.front();
        self.basis == *basis && next.is_some_and(|turn| turn.places == lane.places)
    }

    /// What waits for the lane, and its next payload's orders; `None` if it was read for another
    /// one.
    pub fn take(&mut self, lane: &Lane, basis: &Basis) -> Option<(Scan, Option<AheadPick>)> {
        let serves = self.serves(lane, basis);
        let turn = self.turns.pop_front().filter(|_| serves)?;
        Some((turn.scan, turn.next))
    }
}

impl AheadPick {
    /// What was picked; `None` if something else is asked for.
    pub fn take(self, seal: Seal, place: Place, newest: Seq, basis: &Basis) -> Option<Pick> {
        let asked_for = (self.seal, self.place, self.newest) == (seal, place, newest);
        (asked_for && self.basis == *basis).then_some(self.pick)
    }
}
