//! Tells those who read `GET /v1/stream` what happens. It costs nothing while nobody does, and waits for
//! nobody.

use tokio::sync::broadcast;

use crate::admin::api::Event;
use crate::clock::WallTime;
use crate::feed::outcome::Phase;
use crate::feed::payload::{Payload, PayloadId, PayloadState};
use crate::store::ledger::errands::{ErrandChange, Record};
use crate::store::ledger::{Attempt, Change, Commit};

/// Where events go.
#[derive(Clone, Debug)]
pub(super) struct Teller(pub(super) broadcast::Sender<Event>);

impl Teller {
    /// Whether somebody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells of something, if somebody listens; the event is given the time of this moment.
    pub(super) fn tell(&self, event: impl FnOnce(WallTime) -> Event) {
        if self.is_heard() {
            // The last one may have gone meanwhile.
            drop(self.0.send(event(WallTime::now())));
        }
    }

    /// Tells of what a webhook's commit changed; what became of a payload that was resent says the
    /// ledger, by then.
    pub(super) fn tell_commit(
        &self,
        commit: &Commit,
        webhook: impl Fn() -> String,
        record_of: impl Fn(PayloadId) -> Option<Record>,
    ) {
        if !self.is_heard() {
            return;
        }
        for change in &commit.changes {
            match change {
                Change::Sealed { payload, .. } => self.tell(|at| sealed(at, webhook(), payload)),
                Change::Begun(payload_id, _) => {
                    self.tell(|at| state(at, webhook(), *payload_id, PayloadState::InFlight, None));
                }
                Change::Withheld(payload_id, _) => {
                    self.tell(|at| state(at, webhook(), *payload_id, PayloadState::Pending, None));
                }
                Change::Settled {
                    payload_id,
                    state: now,
                    reason,
                    attempt,
                } => {
                    self.tell(|at| ended(at, webhook(), *payload_id, attempt));
                    self.tell(|at| state(at, webhook(), *payload_id, *now, reason.clone()));
                }
                Change::Discarded(payload_id, reason) => {
                    let now = PayloadState::Discarded;
                    self.tell(|at| state(at, webhook(), *payload_id, now, Some(reason.clone())));
                }
                Change::Errand(payload_id, change) => {
                    if let ErrandChange::Settled(attempt, _) = change {
                        self.tell(|at| ended(at, webhook(), *payload_id, attempt));
                    }
                    if let Some(record) = record_of(*payload_id) {
                        self.tell_record(&webhook(), &record, None);
                    }
                    if let ErrandChange::Parted(part, _) = change
                        && let Some(record) = record_of(part.id)
                    {
                        self.tell_record(&webhook(), &record, None);
                    }
                }
                Change::Heeded(_) => {}
            }
        }
    }

    /// Tells of a payload as it is by now; `reason` is told where the ledger has none.
    pub(super) fn tell_record(&self, webhook: &str, record: &Record, reason: Option<&str>) {
        let payload = &record.payload;
        self.tell(|at| Event::Payload {
            at,
            webhook: webhook.to_owned(),
            payload_id: payload.id.to_string(),
            state: record.state.as_str().to_owned(),
            reason: record.reason.clone().or_else(|| reason.map(str::to_owned)),
            items: Some(payload.members.seqs().len() as u64),
            order_type: Some(payload.order_type.to_string()),
            action: Some(payload.action.to_string()),
        });
    }
}

fn ended(at: WallTime, webhook: String, payload_id: PayloadId, attempt: &Attempt) -> Event {
    Event::Attempt {
        at,
        webhook,
        payload_id: payload_id.to_string(),
        number: attempt.number,
        duration_ms: attempt
            .duration
            .map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        phase: attempt.phase.map(Phase::as_str).map(str::to_owned),
        outcome: attempt.outcome.as_str().to_owned(),
        status: attempt.status,
        error: attempt.error.clone(),
    }
}

fn sealed(at: WallTime, webhook: String, payload: &Payload) -> Event {
    Event::Payload {
        at,
        webhook,
        payload_id: payload.id.to_string(),
        state: PayloadState::InFlight.as_str().to_owned(),
        reason: None,
        items: Some(payload.members.seqs().len() as u64),
        order_type: Some(payload.order_type.to_string()),
        action: Some(payload.action.to_string()),
    }
}

fn state(
    at: WallTime,
    webhook: String,
    payload_id: PayloadId,
    state: PayloadState,
    reason: Option<String>,
) -> Event {
    Event::Payload {
        at,
        webhook,
        payload_id: payload_id.to_string(),
        state: state.as_str().to_owned(),
        reason,
        items: None,
        order_type: None,
        action: None,
    }
}
