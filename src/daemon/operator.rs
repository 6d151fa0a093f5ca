//! What an operator does: resend, discard, pause, resume, retry, test, withdraw.
//!
//! Each becomes a row before it is answered, and wakes the lanes; nothing reaches into a lane, and
//! each lane hears of it before it begins another request. What is asked is judged by the ledger as
//! it is with all that lanes have to record, and written in the same breath: no lane comes between.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::shell::Shared;
use super::superseded::Known;
use crate::admin::api::{Error, act};
use crate::clock::{self, WallTime};
use crate::config::{Config, Webhook};
use crate::feed::errand::{Older, Told};
use crate::feed::lane::{Hold, Lane, Standing};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{ENCODING, Members, Payload, PayloadId, PayloadState, checksum};
use crate::feed::selection::Trigger;
use crate::feed::timestamp::Timestamp;
use crate::store::ledger::WebhookId;
use crate::store::ledger::errands::{Accepted, Record, Relative};
use crate::store::queue::Queue;

/// So many payloads are resent at once, at most.
const RESENDS_MAX: usize = 10_000;

/// The code of a refusal: what waits already holds some of the same orders.
const WAITING: &str = "waiting";

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

/// A payload that is to be sent again, or a part of it.
struct Candidate {
    webhook: String,
    record: Record,
    /// What of it: all, unless a part.
    members: Members,
}

impl Hand {
    // Resending.

    /// Sends payloads again (D20 to D23).
    pub(super) async fn resend(&self, ask: &act::Resend) -> Result<act::Resends, Error> {
        let order_type = order_type_of(ask.order_type.as_deref())?;
        if ask.force && ask.skip_superseded {
            return Err(Error::invalid(
                "force, skip_superseded: one of them; the first sends older versions, the second leaves them out",
            ));
        }
        let mut answer = act::Resends {
            dry_run: ask.dry_run,
            ..act::Resends::default()
        };
        let candidates = match (&ask.payload_id, &ask.tracking_number, &ask.state) {
            (Some(payload_id), tracking_number, None) => {
                refuse_span(ask)?;
                let payload_id = parse_id(payload_id)?;
                vec![
                    self.by_id(ask, payload_id, tracking_number.as_deref())
                        .await?,
                ]
            }
            (None, Some(tracking_number), None) => {
                refuse_span(ask)?;
                vec![self.by_number(ask, tracking_number, order_type).await?]
            }
            (None, None, Some(state)) if state == "failed" => {
                self.failed(ask, order_type, &mut answer)?
            }
            (None, None, Some(_)) => {
                return Err(Error::invalid(
                    "state: only failed payloads are resent by their state; name others by payload_id or tracking_number",
                ));
            }
            _ => {
                return Err(Error::invalid(
                    "say what to resend: payload_id (with tracking_number: that order of it), tracking_number, or state = failed",
                ));
            }
        };
        let several = ask.state.is_some();
        let mut planned = Vec::new();
        let mut known = Known::default();
        for candidate in candidates {
            let without_superseded =
                self.without_superseded(ask, candidate, &mut known, &mut answer);
            let Some(candidate) = without_superseded.await? else {
                continue;
            };
            let (resending, accept) = match self.plan(ask, &candidate).await {
                Ok(planned) => planned,
                // Somebody asked for it meanwhile.
                Err(error) if several && error.code == WAITING => {
                    answer
                        .under_way
                        .push(candidate.record.payload.id.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            planned.push((resending, accept, candidate.record));
        }
        if !ask.force && !ask.skip_superseded && !answer.superseded.is_empty() {
            return Err(refuse_superseded(&answer.superseded));
        }
        {
            let mut ledger = self.shared.ledger.caught_up();
            let mut accepted = Vec::new();
            for (resending, accept, before) in planned {
                let now = ledger.record_of(before.payload.id)?;
                if now.as_ref() == Some(&before) {
                    answer.resends.push(resending);
                    accepted.push(accept);
                } else if several {
                    answer.under_way.push(before.payload.id.to_string());
                } else {
                    return Err(Error::conflict(
                        "changed",
                        format!(
                            "something became of payload {} just now; nothing was resent: look at it, and ask again",
                            before.payload.id
                        ),
                    ));
                }
            }
            if ask.dry_run || accepted.is_empty() {
                return Ok(answer);
            }
            ledger.accept(&accepted, WallTime::now())?;
        }
        for resending in &answer.resends {
            let id = resending.payload_id.as_deref();
            if let Some(Ok(id)) = id.map(str::parse) {
                self.tell_of(id, "it is to be sent again")?;
            }
        }
        self.wake();
        Ok(answer)
    }

    /// The payload of this id, or one order of it.
    async fn by_id(
        &self,
        ask: &act::Resend,
        payload_id: PayloadId,
        tracking_number: Option<&str>,
    ) -> Result<Candidate, Error> {
        let record = self.record(payload_id)?;
        let webhook = self.name_of(record.webhook_id)?;
        let is_other = |asked: &Option<String>, found: &str| {
            asked.as_deref().is_some_and(|asked| asked != found)
        };
        let order_type = record.payload.order_type;
        if is_other(&ask.webhook, &webhook) || is_other(&ask.order_type, order_type.as_str()) {
            return Err(Error::invalid(format!(
                "payload {payload_id} holds {order_type}s for {webhook}, not what webhook or type say"
            )));
        }
        let members = match tracking_number {
            None => record.payload.members.clone(),
            Some(number) => {
                let versions = self.versions(number, order_type).await?;
                part(&record, &versions).ok_or_else(|| {
                    Error::not_found(format!(
                        "payload {payload_id} holds no {order_type} {number}"
                    ))
                })?
            }
        };
        let candidate = Candidate {
            webhook,
            record,
            members,
        };
        self.refuse_unsendable(&candidate)?;
        Ok(candidate)
    }

    /// The latest payload that carried this order, and what of it is that order.
    async fn by_number(
        &self,
        ask: &act::Resend,
        number: &str,
        order_type: Option<OrderType>,
    ) -> Result<Candidate, Error> {
        let webhooks = self.webhooks(ask.webhook.as_deref())?;
        let mut found = Vec::new();
        let mut is_queued = false;
        for order_type in order_type.map_or_else(|| OrderType::ALL.to_vec(), |one| vec![one]) {
            let versions = self.versions(number, order_type).await?;
            is_queued |= !versions.is_empty();
            for (webhook_id, webhook) in &webhooks {
                if let Some(record) = self.latest(*webhook_id, order_type, &versions).await?
                    && let Some(members) = part(&record, &versions)
                {
                    found.push(Candidate {
                        webhook: webhook.clone(),
                        record,
                        members,
                    });
                }
            }
        }
        match found.len() {
            0 if is_queued => Err(Error::conflict(
                "not_sent",
                format!(
                    "order {number} is in no payload yet, so there is nothing to send again; `orderfeed trace {number}` says what it waits for"
                ),
            )),
            0 => Err(Error::not_found(format!(
                "there is no order {number} in the queue"
            ))),
            1 => {
                let candidate = found.remove(0);
                self.refuse_unsendable(&candidate)?;
                Ok(candidate)
            }
            _ => Err(ambiguous(number, &found)),
        }
    }

    /// The latest payload that carried the newest version that was in one.
    async fn latest(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        versions: &[Seq],
    ) -> Result<Option<Record>, Error> {
        for &seq in versions {
            let last = {
                let ledger = self.shared.ledger.caught_up();
                match ledger.payloads_with(webhook_id, order_type, seq)?.pop() {
                    Some(payload_id) => ledger.record_of(payload_id)?,
                    None => None,
                }
            };
            if last.is_some() {
                return Ok(last);
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    /// All that failed, by what is asked, but for the orders that went under another id since.
    fn failed(
        &self,
        ask: &act::Resend,
        order_type: Option<OrderType>,
        answer: &mut act::Resends,
    ) -> Result<Vec<Candidate>, Error> {
        let webhooks = self.webhooks(ask.webhook.as_deref())?;
        let ledger = self.shared.ledger.caught_up();
        let mut candidates = Vec::new();
        // By what the payloads were made of in the end: the orders that are gone, or are taken here;
        // and those that wait to be resent.
        let mut families: BTreeMap<PayloadId, (BTreeSet<Seq>, BTreeSet<Seq>)> = BTreeMap::new();
        for (webhook_id, webhook) in webhooks {
            let span = (ask.since, ask.until);
            for payload_id in ledger.failed(webhook_id, order_type, span, RESENDS_MAX + 1)? {
                let Some(record) = ledger.record_of(payload_id)? else {
                    continue;
                };
                let origin = ledger.origin_of(&record)?;
                let (gone, waiting) = match families.entry(origin) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let family = ledger.family_of(webhook_id, origin)?;
                        let seqs = |is: fn(&Relative, PayloadId) -> bool| {
                            let found = family.iter().filter(|one| is(one, origin));
                            found.flat_map(|one| one.members.seqs()).copied().collect()
                        };
                        unknown.insert((
                            seqs(|one, origin| one.waits || one.goes() && one.id != origin),
                            seqs(|one, _| one.waits),
                        ))
                    }
                };
                let mut seqs = record.payload.members.seqs().iter();
                if seqs.any(|seq| waiting.contains(seq)) {
                    answer.under_way.push(payload_id.to_string());
                }
                let left = record.payload.members.only(|seq| !gone.contains(&seq));
                if let Some(members) = left.filter(|_| record.of_this_queue) {
                    gone.extend(members.seqs());
                    candidates.push(Candidate {
                        webhook: webhook.clone(),
                        members,
                        record,
                    });
                }
            }
        }
        if candidates.len() > RESENDS_MAX {
            return Err(Error::invalid(format!(
                "more than {RESENDS_MAX} payloads failed; take fewer at a time, by webhook, type, since or until"
            )));
        }
        Ok(candidates)
    }

    /// An error if it can't be sent (again), or goes anyway.
    fn refuse_unsendable(&self, candidate: &Candidate) -> Result<(), Error> {
        let Candidate {
            webhook, record, ..
        } = candidate;
        let payload_id = record.payload.id;
        if self.configured(webhook).is_none() {
            return Err(removed(webhook));
        }
        if !record.of_this_queue {
            return Err(Error::conflict(
                "gone",
                format!("the orders of payload {payload_id} were in the queue that was replaced"),
            ));
        }
        if record.is_in_flight() {
            return Err(Error::conflict(
                "in_flight",
                format!(
                    "payload {payload_id} is on its way to {webhook} right now; wait for what comes of it: should it fail, it goes again by itself"
                ),
            ));
        }
        Ok(())
    }

    /// What of it may go without overwriting a later version (D23); `None`: nothing. What may not is
    /// noted in the answer.
    async fn without_superseded(
        &self,
        ask: &act::Resend,
        mut candidate: Candidate,
        known: &mut Known,
        answer: &mut act::Resends,
    ) -> Result<Option<Candidate>, Error> {
        if ask.force {
            return Ok(Some(candidate));
        }
        let payload = Payload {
            members: candidate.members.clone(),
            ..candidate.record.payload.clone()
        };
        let webhook_id = candidate.record.webhook_id;
        let newest = self.shared.ledger.get().lane(webhook_id)?.places[payload.order_type].cursor;
        let superseded = known
            .superseded(&self.shared, webhook_id, &payload, newest)
            .await?;
        if superseded.is_empty() {
            return Ok(Some(candidate));
        }
        let gone: BTreeSet<Seq> = superseded.iter().map(|one| one.seq).collect();
        answer
            .superseded
            .extend(superseded.into_iter().map(|one| act::Superseded {
                payload_id: payload.id.to_string(),
                webhook: candidate.webhook.clone(),
                tracking_number: one.tracking_number,
                seq: one.seq.0,
                by_seq: one.by_seq.0,
                by_payload_id: one.by_payload.to_string(),
            }));
        if ask.skip_superseded && candidate.record.resend.is_some() {
            // It waits already: its lane leaves them out when it is about to be sent.
            return Ok(Some(candidate));
        }
        let left = candidate.members.only(|seq| !gone.contains(&seq));
        Ok(left.filter(|_| ask.skip_superseded).map(|left| {
            candidate.members = left;
            candidate
        }))
    }

    /// How it goes: whole and again under its id, or as a part or a copy under a new one (D22).
    async fn plan(
        &self,
        ask: &act::Resend,
        candidate: &Candidate,
    ) -> Result<(act::Resending, Accepted), Error> {
        let record = &candidate.record;
        let (webhook_id, payload) = (record.webhook_id, &record.payload);
        let is_whole = candidate.members == payload.members && !ask.as_new;
        let waiting = self.waiting_of(candidate, is_whole)?;
        let mut resending = self.resending(candidate, waiting.is_some())?;
        let older = match (ask.force, ask.skip_superseded) {
            (true, _) => Older::Sent,
            (false, true) => Older::LeftOut,
            (false, false) => Older::Refused,
        };
        if let Some(payload_id) = waiting {
            // The same one: there is no second.
            resending.payload_id = Some(payload_id.to_string());
            resending.resend_of = (payload_id != payload.id).then(|| payload.id.to_string());
            let accepted = Accepted::Whole {
                webhook_id,
                payload_id,
                older,
            };
            return Ok((resending, accepted));
        }
        let gone = |what| Error::conflict("gone", what);
        if is_whole {
            let sealed = payload.clone();
            let queue = &self.shared.queue;
            queue
                .call(move |queue| queue.body(&sealed))
                .await?
                .map_err(gone)?;
            resending.payload_id = Some(payload.id.to_string());
            let accepted = Accepted::Whole {
                webhook_id,
                payload_id: payload.id,
                older,
            };
            return Ok((resending, accepted));
        }
        if record.is_head {
            return Err(Error::conflict(
                "pending",
                format!(
                    "payload {} is yet to be delivered, and its orders would go twice; resend it whole, and it goes now, or discard it first",
                    payload.id
                ),
            ));
        }
        if payload.encoding != ENCODING && !ask.as_new {
            return Err(gone(format!(
                "payload {} was made by another version of orderfeed, and can't be parted; resend it with as_new",
                payload.id
            )));
        }
        let (order_type, action) = (payload.order_type, payload.action.clone());
        let members = candidate.members.clone();
        let body = self
            .shared
            .queue
            .call(move |queue| queue.encode(order_type, &action, &members))
            .await?
            .map_err(gone)?;
        let new = Payload {
            id: PayloadId::new(self.shared.clock.now(), clock::dice()),
            members: candidate.members.clone(),
            encoding: ENCODING,
            checksum: checksum(&body),
            ..payload.clone()
        };
        resending.payload_id = (!ask.dry_run).then(|| new.id.to_string());
        resending.resend_of = Some(payload.id.to_string());
        let accepted = Accepted::New {
            webhook_id,
            payload: new,
            resend_of: payload.id,
            older,
        };
        Ok((resending, accepted))
    }

    /// A resend of the same that waits already, if there is one; an error if one waits that holds
    /// some of the same orders: they would go twice.
    fn waiting_of(
        &self,
        candidate: &Candidate,
        is_whole: bool,
    ) -> Result<Option<PayloadId>, Error> {
        let record = &candidate.record;
        let family = {
            let ledger = self.shared.ledger.caught_up();
            ledger.family_of(record.webhook_id, ledger.origin_of(record)?)?
        };
        if is_whole && record.resend.is_some() {
            return Ok(Some(record.payload.id));
        }
        let waiting = family.into_iter().filter(|one| one.waits);
        for Relative {
            id: payload_id,
            members,
            ..
        } in waiting
        {
            if !is_whole && payload_id != record.payload.id && members == candidate.members {
                return Ok(Some(payload_id));
            }
            if members
                .seqs()
                .iter()
                .any(|&seq| candidate.members.contains(seq))
            {
                return Err(Error::conflict(
                    WAITING,
                    format!(
                        "payload {payload_id}, which waits to be resent, holds some of the same orders, and they would go twice; wait for it, or discard it first"
                    ),
                ));
            }
        }
        Ok(None)
    }

    fn resending(
        &self,
        candidate: &Candidate,
        waits_already: bool,
    ) -> Result<act::Resending, Error> {
        let Candidate {
            webhook,
            record,
            members,
        } = candidate;
        let configured = self.configured(webhook);
        let lane = self.shared.ledger.get().lane(record.webhook_id)?;
        let paced = configured.and_then(|webhook| self.paced_until(webhook, &lane));
        Ok(act::Resending {
            payload_id: None,
            resend_of: record.resend_of.map(|id| id.to_string()),
            webhook: webhook.clone(),
            url: configured.map_or_else(String::new, |webhook| webhook.endpoint.shown_url()),
            order_type: record.payload.order_type.to_string(),
            action: record.payload.action.to_string(),
            items: u64::try_from(members.seqs().len()).unwrap_or(u64::MAX),
            state: record.state.as_str().to_owned(),
            waits_already,
            next_at: paced,
        })
    }

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
            let message = if done {
                "given up; the webhook goes on with its next payload"
            } else if self.configured(&webhook).is_none() {
                "given up before anything else is sent, should the configuration have the webhook again"
            } else {
                "given up as soon as the webhook's request in flight has ended; it is not sent again"
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

/// What of a payload is one of these orders.
fn part(record: &Record, versions: &[Seq]) -> Option<Members> {
    record.payload.members.only(|seq| versions.contains(&seq))
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

fn refuse_span(ask: &act::Resend) -> Result<(), Error> {
    if ask.since.is_some() || ask.until.is_some() {
        return Err(Error::invalid(
            "since, until: only with state = failed; a payload_id or a tracking_number names what to resend",
        ));
    }
    Ok(())
}

fn ambiguous(number: &str, found: &[Candidate]) -> Error {
    let candidates = found.iter().map(|candidate| {
        json!({
            "payload_id": candidate.record.payload.id.to_string(),
            "webhook": candidate.webhook,
            "type": candidate.record.payload.order_type.as_str(),
            "state": candidate.record.state.as_str(),
        })
    });
    let message =
        format!("order {number} fits several webhooks or types; say which, by webhook and type");
    Error {
        candidates: candidates.collect(),
        ..Error::conflict("ambiguous", message)
    }
}

fn refuse_superseded(superseded: &[act::Superseded]) -> Error {
    let candidates = superseded.iter().map(|one| json!(one));
    let first = superseded.first();
    let number = first.map_or("", |first| &first.tracking_number);
    let by = first.map_or("", |first| &first.by_payload_id);
    let others = match superseded.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more orders)", count - 1),
    };
    let message = format!(
        "order {number}{others} was delivered in a later version since (payload {by}), which this would overwrite; nothing was resent: skip_superseded lets the others go, force sends all"
    );
    Error {
        candidates: candidates.collect(),
        ..Error::conflict("superseded", message)
    }
}

fn span_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}
