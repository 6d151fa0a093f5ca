//! What is counted while the daemon runs: attempts, payloads, how long they took, what refuses.
//!
//! All of it counts from the start of the process; what must outlive that is asked of the ledger when
//! somebody asks ([`super::metrics`]). A lane's meters are found once, and counting is a few atomic
//! additions: no lock is taken, and nothing is looked up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use crate::clock::WallTime;
use crate::feed::order::PerType;
use crate::feed::payload::PayloadState;
use crate::feed::timestamp::Timestamp;
use crate::store::ledger::errands::ErrandChange;
use crate::store::ledger::{Attempt, AttemptOutcome, Change, Commit};

/// In seconds: up to where most receivers answer, and up to the longest usual `timeout`.
const ATTEMPT_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 90.0,
];

/// In seconds: at once, after a retry, after an outage, after a weekend.
const DELIVERY_BUCKETS: [f64; 13] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// All meters; copies share them.
#[derive(Debug, Clone)]
pub struct Meters(Arc<All>);

#[derive(Debug)]
struct All {
    started_at: WallTime,
    registry: Registry,
    attempts: IntCounterVec,
    payloads: IntCounterVec,
    orders: IntCounterVec,
    attempt_seconds: HistogramVec,
    delivery_seconds: HistogramVec,
    /// What refuses at the moment, each with a number of its own.
    refusals: Mutex<(u64, Vec<(u64, String)>)>,
}

impl Default for Meters {
    fn default() -> Self {
        let registry = Registry::new();
        let counters = |name, help, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels);
            register(&registry, vec)
        };
        let histograms = |name, help, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(&registry, HistogramVec::new(options, &["webhook"]))
        };
        Self(Arc::new(All {
            started_at: WallTime::now(),
            attempts: counters(
                "orderfeed_attempts_total",
                "Requests that ended since the daemon started, resends and tests among them, by outcome: delivered, failed (the receiver refused it, or nothing was sent), unknown (sent, and not answered) or interrupted.",
                &["webhook", "outcome"],
            ),
            payloads: counters(
                "orderfeed_payloads_total",
                "Payloads that were delivered, or failed for good, since the daemon started; resends are not among them.",
                &["webhook", "outcome"],
            ),
            orders: counters(
                "orderfeed_composed_orders_total",
                "Orders that were put into a payload since the daemon started.",
                &["webhook", "type"],
            ),
            attempt_seconds: histograms(
                "orderfeed_attempt_duration_seconds",
                "How long a request took, from connecting to the answer's status or the failure.",
                &ATTEMPT_BUCKETS,
            ),
            delivery_seconds: histograms(
                "orderfeed_delivery_duration_seconds",
                "How long it took from composing a payload to its delivery, retries included.",
                &DELIVERY_BUCKETS,
            ),
            refusals: Mutex::default(),
            registry,
        }))
    }
}

impl Meters {
    /// The meters of one webhook; all that it may count is there from now on, beginning with 0.
    pub fn of(&self, webhook: &str) -> WebhookMeters {
        let Self(all) = self;
        let attempts =
            |outcome: AttemptOutcome| all.attempts.with_label_values(&[webhook, outcome.as_str()]);
        let payloads =
            |state: PayloadState| all.payloads.with_label_values(&[webhook, state.as_str()]);
        WebhookMeters {
            webhook: webhook.to_owned(),
            delivered: attempts(AttemptOutcome::Delivered),
            failed: attempts(AttemptOutcome::Failed),
            unknown: attempts(AttemptOutcome::Unknown),
            interrupted: attempts(AttemptOutcome::Interrupted),
            payloads_delivered: payloads(PayloadState::Delivered),
            payloads_failed: payloads(PayloadState::Failed),
            orders: PerType::from_fn(|order_type| {
                all.orders
                    .with_label_values(&[webhook, order_type.as_str()])
            }),
            attempt_seconds: all.attempt_seconds.with_label_values(&[webhook]),
            delivery_seconds: all.delivery_seconds.with_label_values(&[webhook]),
        }
    }

    /// Says that something refuses to go on, until what is returned is dropped.
    #[must_use]
    pub fn refuses(&self, what: String) -> Refusal {
        let mut refusals = self.refusals();
        refusals.0 += 1;
        let number = refusals.0;
        refusals.1.push((number, what));
        Refusal {
            number,
            meters: self.clone(),
        }
    }

    /// What refuses at the moment, the oldest first.
    pub fn refusing(&self) -> Vec<String> {
        let refusals = self.refusals();
        refusals.1.iter().map(|(_, what)| what.clone()).collect()
    }

    /// Since when there is something to count.
    pub fn started_at(&self) -> WallTime {
        self.0.started_at
    }

    /// What was counted.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.0.registry.gather()
    }

    fn refusals(&self) -> MutexGuard<'_, (u64, Vec<(u64, String)>)> {
        self.0
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something refuses, as long as this is there.
#[derive(Debug)]
pub struct Refusal {
    number: u64,
    meters: Meters,
}

impl Drop for Refusal {
    fn drop(&mut self) {
        let mut refusals = self.meters.refusals();
        refusals.1.retain(|(number, _)| *number != self.number);
    }
}

/// The meters of one webhook.
#[derive(Debug, Clone)]
pub struct WebhookMeters {
    webhook: String,
    delivered: IntCounter,
    failed: IntCounter,
    unknown: IntCounter,
    interrupted: IntCounter,
    payloads_delivered: IntCounter,
    payloads_failed: IntCounter,
    orders: PerType<IntCounter>,
    attempt_seconds: Histogram,
    delivery_seconds: Histogram,
}

impl WebhookMeters {
    /// Whose they are.
    pub fn webhook(&self) -> &str {
        &self.webhook
    }

    /// Counts what is recorded.
    pub fn count(&self, commit: &Commit, now: Timestamp) {
        for change in &commit.changes {
            match change {
                Change::Sealed { payload, .. } => {
                    let items = payload.members.seqs().len();
                    self.orders[payload.order_type].inc_by(items as u64);
                }
                Change::Settled {
                    payload_id,
                    state,
                    attempt,
                    ..
                } => {
                    self.ended(attempt);
                    match state {
                        PayloadState::Delivered => {
                            self.payloads_delivered.inc();
                            let took = now - payload_id.made_at();
                            self.delivery_seconds.observe(took.as_secs_f64());
                        }
                        PayloadState::Failed => self.payloads_failed.inc(),
                        PayloadState::Pending
                        | PayloadState::InFlight
                        | PayloadState::Discarded => {}
                    }
                }
                Change::Errand(_, ErrandChange::Settled(attempt, _)) => self.ended(attempt),
                Change::Begun(..)
                | Change::Withheld(..)
                | Change::Heeded(_)
                | Change::Discarded(..)
                | Change::Errand(..) => {}
            }
        }
    }

    fn ended(&self, attempt: &Attempt) {
        match attempt.outcome {
            AttemptOutcome::Delivered => self.delivered.inc(),
            AttemptOutcome::Failed => self.failed.inc(),
            AttemptOutcome::Unknown => self.unknown.inc(),
            AttemptOutcome::Interrupted => self.interrupted.inc(),
        }
        if let Some(duration) = attempt.duration {
            self.attempt_seconds.observe(duration.as_secs_f64());
        }
    }
}

/// Has it collected with the others.
pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let collector = made.expect("its name and labels are well-formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("no other has its name");
    collector
}
