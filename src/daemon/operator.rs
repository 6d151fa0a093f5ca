//! What an operator does: resend ([`resend`]), discard, pause, resume, retry, test, withdraw.
//!
//! Each becomes a row before it is answered, and wakes the lanes; nothing reaches into a lane, and
//! each lane hears of it before it begins another request. What is asked is judged by the ledger as
//! it is with all that lanes have to record, and written in the same breath: no lane comes between.

mod resend;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::shell::Shared;
use crate::admin::api::{Error, act};
use crate::clock::{self, WallTime};
use crate::config::{Config, Webhook};
use crate::feed::errand::Told;
use crate::feed::lane::{Hold, Lane, Standing};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{PayloadId, PayloadState};
use crate::feed::selection::Trigger;
use crate::feed::timestamp::Timestamp;
use crate::store::ledger::WebhookId;
use crate::store::ledger::errands::Record;
use crate::store::queue::Queue;

/// A lane heeds what it is told at once, unless a request is in flight: so long it is waited for.
const HEED_PATIENCE: Duration = Duration::from_secs(2);

/// A test that may not go for longer than this is not waited for.
const PACE_PATIENCE: Duration = Duration::from_secs(3);

/// Tests are waited for so long, with their requests' timeouts.
const TEST_PATIENCE: Duration = Duration::from_secs(100);

/// A reason that is given is kept up to so many characters.
const REASON_CHARS_MAX: usize = 500;

/// An operator, and what they have to do with.
pub(super) struct Hand {
    pub(super) shared: Shared,
    /// The configuration that is in force.
    pub(super) config: Arc<Config>,
}

impl Hand {
    // Discarding.

    /// Gives up a payload that is neither in flight nor delivered; or the resend that waits of one
    /// that was delivered before.
    pub(super) async fn discard(
        &self,
        payload_id: &str,
        ask: &act::Discard,
    ) -> Result<act::Discarded, Error> {
        let reason = ask.reason.trim();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
            return Err(Error::invalid(format!(
                "reason: say why, in at most {REASON_CHARS_MAX} characters; it is shown with the payload"
            )));
        }
        let payload_id = parse_id(payload_id)?;
        let record = self.record(payload_id)?;
        let webhook = self.name_of(record.webhook_id)?;
        if record.is_in_flight() {
            return Err(Error::conflict(
                "in_flight",
                format!(
                    "payload {payload_id} is on its way to {webhook} right now; wait for what comes of it"
                ),
            ));
        }
        let refused = match record.state {
            PayloadState::Delivered if record.resend.is_none() => "was delivered",
            PayloadState::Discarded if record.resend.is_none() => "is discarded already",
            _ => "",
        };
        if !refused.is_empty() {
            let message =
                format!("payload {payload_id} {refused}; there is nothing left to give up");
            return Err(Error::conflict(record.state.as_str(), message));
        }
        let at = WallTime::now();
        if record.is_head {
            let told = Told::Discard {
                payload_id,
                reason: reason.to_owned(),
            };
            let done = self.tell(record.webhook_id, &told).await?;
            let message = match (done, self.configured(&webhook)) {
                (true, None) => "given up: it is not sent again, unless somebody resends it",
                (true, Some(_)) => "given up; the webhook goes on with its next payload",
                (false, _) => {
                    "given up as soon as the webhook's request in flight has ended; it is not sent again"
                }
            };
            return self.discarded(payload_id, webhook, message);
        }
        let mut ledger = self.shared.ledger.caught_up();
        ledger.discard(record.webhook_id, payload_id, reason, at)?;
        drop(ledger);
        self.tell_of(payload_id, "its resend is given up")?;
        self.wake();
        let message = match record.state {
            PayloadState::Delivered => "it stays delivered; only its resend is given up",
            _ => "given up: it is not sent again, unless somebody resends it",
        };
        self.discarded(payload_id, webhook, message)
    }

    fn discarded(
        &self,
        payload_id: PayloadId,
        webhook: String,
        message: &str,
    ) -> Result<act::Discarded, Error> {
        Ok(act::Discarded {
            payload_id: payload_id.to_string(),
            webhook,
            state: self.record(payload_id)?.state.as_str().to_owned(),
            message: message.to_owned(),
        })
    }

    // What a webhook is told.

    /// Lets a webhook send nothing of its own until it is resumed (D24); `by` says who wants that.
    pub(super) async fn pause(&self, name: &str, by: &str) -> Result<act::Told, Error> {
        let (webhook_id, webhook) = self.in_use(name)?;
        let webhook = webhook.name.to_string();
        if self.lane(webhook_id)?.paused.is_some() {
            let message = format!("{webhook} is paused already");
            return Err(Error::conflict("paused", message));
        }
        let by = format!("paused by {by}");
        let done = self.tell(webhook_id, &Told::Pause { by }).await?;
        Ok(act::Told {
            message: format!(
                "{webhook} is paused{}; its orders wait until `orderfeed resume {webhook}`, and only resends and tests go",
                after_flight(done)
            ),
            webhook,
            done,
        })
    }

    /// Lets a webhook go on that is paused, deactivated, held or down.
    pub(super) async fn resume(&self, name: &str) -> Result<act::Told, Error> {
        let (webhook_id, configured) = self.in_use(name)?;
        let webhook = configured.name.to_string();
        let (lane, told) = {
            let ledger = self.shared.ledger.caught_up();
            (ledger.lane(webhook_id)?, ledger.instructions(webhook_id)?)
        };
        let was = match (&lane.paused, lane.standing.trouble()) {
            (Some(paused), _) => paused.reason.clone(),
            (None, Some(trouble)) => {
                format!("{}: {}", lane.standing.state().as_str(), trouble.reason)
            }
            // It is about to be.
            (None, None)
                if told
                    .iter()
                    .any(|one| matches!(one.told, Told::Pause { .. })) =>
            {
                "paused".to_owned()
            }
            (None, None) => {
                return Err(Error::conflict(
                    "not_stopped",
                    format!("{webhook} is neither paused, deactivated, held nor down"),
                ));
            }
        };
        let done = self.tell(webhook_id, &Told::Resume).await?;
        let but = if configured.policy.active {
            ""
        } else {
            "; but active = false in the configuration, so it sends nothing all the same"
        };
        Ok(act::Told {
            message: format!("{webhook} goes on{}{but}; it was {was}", after_flight(done)),
            webhook,
            done,
        })
    }

    /// Lets what waits for its retry go as soon as D4 allows.
    pub(super) async fn retry_now(&self, name: &str) -> Result<act::Told, Error> {
        let (webhook_id, configured) = self.in_use(name)?;
        let webhook = configured.name.to_string();
        let lane = self.lane(webhook_id)?;
        let waits = self.shared.ledger.get().heard(webhook_id)?.errand.is_some();
        let stopped = match (&lane.standing, &lane.paused) {
            (Standing::Deactivated(_), _) => Some("deactivated"),
            (_, Some(_)) => Some("paused"),
            _ if !configured.policy.active => Some("inactive"),
            _ => None,
        };
        if let Some(stopped) = stopped.filter(|_| !waits) {
            let what_to_do = match stopped {
                "inactive" => "set active = true in the configuration".to_owned(),
                _ => format!("`orderfeed resume {webhook}` lets it go on"),
            };
            let message = format!("{webhook} is {stopped}, and retries nothing; {what_to_do}");
            return Err(Error::conflict(stopped, message));
        }
        let held = matches!(
            lane.standing,
            Standing::Held(Hold::Interrupted | Hold::Mismatch, _)
        );
        if lane.head.is_none() && !held && !waits {
            let message = format!("nothing waits for a retry at {webhook}");
            return Err(Error::conflict("nothing_waits", message));
        }
        let done = self.tell(webhook_id, &Told::RetryNow).await?;
        let paced = self.paced_until(configured, &lane);
        let when = match (done, paced) {
            (false, _) => " once the request in flight has ended".to_owned(),
            (true, Some(at)) => format!(" at {at}: payload_interval is kept"),
            (true, None) => " now".to_owned(),
        };
        Ok(act::Told {
            message: format!("{webhook} tries again{when}"),
            webhook,
            done,
        })
    }

    /// Has the lane told, and waits a little for it to heed that; whether it did.
    async fn tell(&self, webhook_id: WebhookId, told: &Told) -> Result<bool, Error> {
        self.shared
            .ledger
            .caught_up()
            .tell(webhook_id, told, WallTime::now())?;
        let mut done = self.shared.done.subscribe();
        self.wake();
        let deadline = Instant::now() + HEED_PATIENCE;
        loop {
            done.mark_unchanged();
            if self
                .shared
                .ledger
                .get()
                .instructions(webhook_id)?
                .is_empty()
            {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            drop(tokio::time::timeout(left, done.changed()).await);
        }
    }

    // Testing.

    /// Sends one test for each trigger of the webhook. Those that may not go yet (D4) are not waited
    /// for: they go at their time, and the answer says when.
    pub(super) async fn test(&self, name: &str, ask: &act::Test) -> Result<act::Tests, Error> {
        let (webhook_id, webhook) = self.in_use(name)?;
        let started_at = WallTime::now();
        let mut done = self.shared.done.subscribe();
        let tests = {
            let mut ledger = self.shared.ledger.caught_up();
            let waiting = ledger.tests(webhook_id)?;
            if waiting.is_empty() {
                // In the order of types, which is also that of their ids, in which they go.
                let triggers = webhook.selection.triggers.iter();
                let mut events: Vec<_> = triggers.map(Trigger::example).collect();
                events.sort_by_key(|(order_type, _)| *order_type);
                let now = self.shared.clock.now();
                let mut ids: Vec<_> = events
                    .iter()
                    .map(|_| PayloadId::new(now, clock::dice()))
                    .collect();
                ids.sort();
                let events = events
                    .into_iter()
                    .map(|(order_type, action)| format!("{order_type}.{action}"));
                let tests: Vec<_> = ids.into_iter().zip(events).collect();
                ledger.accept_tests(webhook_id, &tests, ask.now, started_at)?;
                tests
            } else {
                if ask.now {
                    ledger.unpace_tests(webhook_id)?;
                }
                waiting
            }
        };
        self.wake();
        let deadline = Instant::now() + TEST_PATIENCE;
        loop {
            done.mark_unchanged();
            let (waiting, lane, errand) = {
                let ledger = self.shared.ledger.caught_up();
                let errand = ledger.heard(webhook_id)?.errand;
                (ledger.tests(webhook_id)?, ledger.lane(webhook_id)?, errand)
            };
            let is_ours = |id: &PayloadId| tests.iter().any(|(ours, _)| ours == id);
            let in_flight = lane.head.as_ref().is_some_and(|head| head.in_flight)
                || errand.is_some_and(|errand| errand.in_flight);
            let paced = self.paced_for(webhook, &lane);
            let is_over = !waiting.iter().any(|(id, _)| is_ours(id));
            if is_over
                || !in_flight && !ask.now && paced > PACE_PATIENCE
                || Instant::now() >= deadline
            {
                return self.test_runs(webhook, &lane, started_at, &tests);
            }
            drop(tokio::time::timeout(Duration::from_secs(1), done.changed()).await);
        }
    }

    fn test_runs(
        &self,
        webhook: &Webhook,
        lane: &Lane,
        started_at: WallTime,
        tests: &[(PayloadId, String)],
    ) -> Result<act::Tests, Error> {
        let now = WallTime::now();
        let mut may_go = now.0 + span_ms(self.paced_for(webhook, lane));
        let mut runs = Vec::new();
        for (id, event) in tests {
            let made = self.shared.ledger.get().attempt_of(*id, 1)?;
            let waits = made.is_none();
            let state = match made.as_ref().map(|made| made.outcome.as_str()) {
                None => "waiting",
                Some("delivered") => "succeeded",
                Some(_) => "failed",
            };
            runs.push(act::TestRun {
                payload_id: id.to_string(),
                event: event.clone(),
                state: state.to_owned(),
                started_at: made.as_ref().map(|made| made.started_at),
                duration_ms: made.as_ref().and_then(|made| made.duration_ms),
                status: made.as_ref().and_then(|made| made.status),
                error: made.as_ref().and_then(|made| made.error.clone()),
                answer: made.and_then(|made| made.answer),
                next_at: waits.then_some(WallTime(may_go)),
            });
            if waits {
                may_go += span_ms(webhook.policy.payload_interval);
            }
        }
        let count = |state| {
            let found = runs.iter().filter(|run| run.state == state).count();
            u64::try_from(found).unwrap_or(u64::MAX)
        };
        let (succeeded, failed) = (count("succeeded"), count("failed"));
        Ok(act::Tests {
            webhook: webhook.name.to_string(),
            started_at,
            tests_run: succeeded + failed,
            tests_succeeded: succeeded,
            tests_failed: failed,
            tests: runs,
        })
    }

    // Withdrawing.

    /// Takes an order back from every webhook for which it is in no payload yet.
    pub(super) async fn withdraw(
        &self,
        number: &str,
        ask: &act::Withdraw,
        granted: PerType<bool>,
    ) -> Result<act::Withdrawn, Error> {
        let asked = order_type_of(ask.order_type.as_deref())?;
        let mut found = Vec::new();
        for order_type in OrderType::ALL {
            let versions = self.versions(number, order_type).await?;
            if !versions.is_empty() && asked.is_none_or(|asked| asked == order_type) {
                found.push((order_type, versions));
            }
        }
        let (order_type, mut seqs) = match found.len() {
            0 => {
                return Err(Error::not_found(format!(
                    "there is no order {number} in the queue"
                )));
            }
            1 => found.remove(0),
            _ => {
                let message = format!("order {number} fits several types; say which, by type");
                let candidates = found
                    .iter()
                    .map(|(order_type, _)| json!({ "type": order_type.as_str() }));
                return Err(Error {
                    candidates: candidates.collect(),
                    ..Error::conflict("ambiguous", message)
                });
            }
        };
        if !granted[order_type] {
            return Err(Error::not_of_type(order_type));
        }
        seqs.sort();
        let to_withdraw = seqs.clone();
        let withdrawn = self
            .shared
            .queue
            .call(move |queue| queue.withdraw(&to_withdraw))
            .await?;
        let Some(withdrawn) = withdrawn else {
            return Err(Error::unavailable(
                "queue_busy",
                "a producer is writing to the queue all the while; nothing was withdrawn: try again",
            ));
        };
        if withdrawn.is_empty() {
            let message = format!("order {number} was withdrawn before; nothing is left to do");
            return Err(Error::conflict("withdrawn", message));
        }
        self.shared.look().await?;
        // From here on every lane looks again before it seals: what it holds by now it has.
        self.wake();
        let ledger = self.shared.ledger.caught_up();
        let mut too_late = Vec::new();
        for (webhook_id, webhook) in ledger.webhooks()? {
            for &seq in &seqs {
                for payload_id in ledger.payloads_with(webhook_id, order_type, seq)? {
                    if let Some(record) = ledger.record_of(payload_id)? {
                        too_late.push(act::TooLate {
                            webhook: webhook.clone(),
                            seq: seq.0,
                            payload_id: payload_id.to_string(),
                            state: record.state.as_str().to_owned(),
                        });
                    }
                }
            }
        }
        Ok(act::Withdrawn {
            tracking_number: number.to_owned(),
            order_type: order_type.to_string(),
            seqs: withdrawn.into_iter().map(|seq| seq.0).collect(),
            too_late,
        })
    }

    // What all of them need.

    /// Tells those who listen of a payload; `reason` if the ledger has none.
    fn tell_of(&self, payload_id: PayloadId, reason: &str) -> Result<(), Error> {
        if self.shared.teller.is_heard() {
            let record = self.record(payload_id)?;
            let webhook = self.name_of(record.webhook_id)?;
            let teller = &self.shared.teller;
            teller.tell_record(&webhook, &record, Some(reason));
        }
        Ok(())
    }

    /// Every lane hears what is asked for before it begins anything else.
    fn wake(&self) {
        self.shared.asked.send_modify(|asked| *asked += 1);
    }

    fn record(&self, payload_id: PayloadId) -> Result<Record, Error> {
        let record = self.shared.ledger.caught_up().record_of(payload_id)?;
        record.ok_or_else(|| {
            Error::not_found(format!(
                "there is no payload {payload_id}; `orderfeed payloads` lists them"
            ))
        })
    }

    fn lane(&self, webhook_id: WebhookId) -> Result<Lane, Error> {
        Ok(self.shared.ledger.caught_up().lane(webhook_id)?)
    }

    /// The seqs of an order, newest first.
    async fn versions(&self, number: &str, order_type: OrderType) -> Result<Vec<Seq>, Error> {
        let number = number.to_owned();
        let all = move |queue: &mut Queue| {
            queue.versions(&number, order_type, Seq::START, queue.newest_noticed())
        };
        self.shared.look().await?;
        Ok(self.shared.queue.call(all).await?)
    }

    /// The webhook of this name, or an error that lists those that there are.
    fn webhook(&self, name: &str) -> Result<(WebhookId, String), Error> {
        let webhooks = self.shared.ledger.get().webhooks()?;
        let known: Vec<String> = webhooks.iter().map(|(_, name)| name.clone()).collect();
        let found = webhooks.into_iter().find(|(_, known)| known == name);
        found.ok_or_else(|| Error::no_webhook(name, &known))
    }

    /// The webhook of this name, if the configuration has it: nobody heeds what another one is told,
    /// and nothing is sent to it.
    fn in_use(&self, name: &str) -> Result<(WebhookId, &Webhook), Error> {
        let (webhook_id, name) = self.webhook(name)?;
        let webhook = self.configured(&name).ok_or_else(|| removed(&name))?;
        Ok((webhook_id, webhook))
    }

    /// The webhook of this name, or all; of those that the configuration has.
    fn webhooks(&self, name: Option<&str>) -> Result<Vec<(WebhookId, String)>, Error> {
        if let Some(name) = name {
            let (webhook_id, webhook) = self.in_use(name)?;
            return Ok(vec![(webhook_id, webhook.name.to_string())]);
        }
        let mut webhooks = self.shared.ledger.get().webhooks()?;
        webhooks.retain(|(_, name)| self.configured(name).is_some());
        Ok(webhooks)
    }

    fn name_of(&self, webhook_id: WebhookId) -> Result<String, Error> {
        let webhooks = self.shared.ledger.get().webhooks()?;
        let found = webhooks.into_iter().find(|(known, _)| *known == webhook_id);
        Ok(found.map_or_else(String::new, |(_, name)| name))
    }

    fn configured(&self, name: &str) -> Option<&Webhook> {
        let mut webhooks = self.config.webhooks.iter();
        webhooks.find(|webhook| webhook.name.as_str() == name)
    }

    /// How long D4 lets a webhook's next request wait.
    fn paced_for(&self, webhook: &Webhook, lane: &Lane) -> Duration {
        let now: Timestamp = self.shared.clock.now();
        lane.last_ended.map_or(Duration::ZERO, |ended| {
            (ended + webhook.policy.payload_interval) - now
        })
    }

    /// Until when; `None`: it may go at once.
    fn paced_until(&self, webhook: &Webhook, lane: &Lane) -> Option<WallTime> {
        let span = self.paced_for(webhook, lane);
        (!span.is_zero()).then(|| WallTime(WallTime::now().0.saturating_add(span_ms(span))))
    }
}

fn removed(webhook: &str) -> Error {
    Error::conflict(
        "no_webhook",
        format!(
            "the configuration does not have {webhook} any more, and nothing is sent to it; put it back and `orderfeed reload`, then ask again (`discard` needs no webhook)"
        ),
    )
}

fn after_flight(done: bool) -> &'static str {
    if done {
        ""
    } else {
        " once its request in flight has ended"
    }
}

fn parse_id(text: &str) -> Result<PayloadId, Error> {
    text.parse()
        .map_err(|what| Error::invalid(format!("payload_id: {what}")))
}

fn order_type_of(text: Option<&str>) -> Result<Option<OrderType>, Error> {
    let parse = |text: &str| {
        text.parse().map_err(|_unknown| {
            Error::invalid("type: must be purchase_order, transfer_order or work_order")
        })
    };
    text.map(parse).transpose()
}

fn span_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}
