//! Sending payloads again: what of them, to whom, and what is refused (D20 to D23).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Hand, order_type_of, parse_id, removed};
use crate::admin::api::{Error, act};
use crate::clock::{self, WallTime};
use crate::daemon::superseded::Known;
use crate::feed::errand::Older;
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{ENCODING, Members, Payload, PayloadId, checksum};
use crate::store::ledger::WebhookId;
use crate::store::ledger::errands::{Accepted, Record, Relative};

/// So many payloads are resent at once, at most.
const RESENDS_MAX: usize = 10_000;

/// The code of a refusal: what waits already holds some of the same orders.
const WAITING: &str = "waiting";

/// Another: the orders are not in the queue any more.
const GONE: &str = "gone";

/// Another: something became of it just now.
const CHANGED: &str = "changed";

/// A payload that is to be sent again, or a part of it.
struct Candidate {
    webhook: String,
    record: Record,
    /// What of it: all, unless a part.
    members: Members,
}

/// How a candidate goes.
struct Plan {
    candidate: Candidate,
    /// The resend of the same that waits already, and is the one that goes.
    waiting: Option<PayloadId>,
    resending: act::Resending,
    accept: Accepted,
}

impl Hand {
    /// Sends payloads again (D20 to D23).
    pub(in crate::daemon) async fn resend(&self, ask: &act::Resend) -> Result<act::Resends, Error> {
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
            let payload_id = candidate.record.payload.id.to_string();
            if let Err(error) = self.refuse_gone(ask, &candidate).await {
                if several && error.code == GONE {
                    let reason = error.message;
                    answer.gone.push(act::Gone { payload_id, reason });
                    continue;
                }
                return Err(error);
            }
            let without_superseded =
                self.without_superseded(ask, candidate, &mut known, &mut answer);
            let Some(candidate) = without_superseded.await? else {
                continue;
            };
            match self.plan(ask, candidate).await {
                Ok(plan) => planned.push(plan),
                // Somebody asked for it meanwhile.
                Err(error) if several && error.code == WAITING => answer.under_way.push(payload_id),
                Err(error) => return Err(error),
            }
        }
        if !ask.force && !ask.skip_superseded && !answer.superseded.is_empty() {
            return Err(refuse_superseded(&answer.superseded));
        }
        // Somebody else may have asked for the same meanwhile; from here on nobody comes between.
        let mut accepted = Vec::new();
        for plan in planned {
            match self.refuse_changed(ask, &plan) {
                Ok(()) => {
                    answer.resends.push(plan.resending);
                    accepted.push(plan.accept);
                }
                Err(error) if several && [WAITING, CHANGED].contains(&error.code.as_str()) => {
                    let payload_id = plan.candidate.record.payload.id;
                    answer.under_way.push(payload_id.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if ask.dry_run || accepted.is_empty() {
            return Ok(answer);
        }
        self.shared
            .ledger
            .caught_up()
            .accept(&accepted, WallTime::now())?;
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
                if let Some(members) = left {
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

    /// An error if its orders are not in the queue any more, or others have their places there.
    async fn refuse_gone(&self, ask: &act::Resend, candidate: &Candidate) -> Result<(), Error> {
        let record = &candidate.record;
        let payload_id = record.payload.id;
        if !record.of_this_queue {
            return Err(Error::conflict(
                GONE,
                format!(
                    "the orders of payload {payload_id} are not in the queue any more: it was replaced, or restored from an older copy"
                ),
            ));
        }
        if record.payload.members.first() <= self.shared.ledger.get().pruned_up_to()? {
            return Err(Error::conflict(
                GONE,
                format!(
                    "payload {payload_id} is older than maintenance.retention, and its orders are pruned; queue them again"
                ),
            ));
        }
        // What another version made can't be compared, only made anew.
        if record.payload.encoding == ENCODING || is_whole(ask, candidate) {
            let sealed = record.payload.clone();
            let queue = &self.shared.queue;
            let body = queue.call(move |queue| queue.body(&sealed)).await?;
            body.map_err(|what| Error::conflict(GONE, what))?;
        }
        Ok(())
    }

    /// An error if what was planned is not what really is any more.
    fn refuse_changed(&self, ask: &act::Resend, plan: &Plan) -> Result<(), Error> {
        let Candidate { record, .. } = &plan.candidate;
        let payload_id = record.payload.id;
        let now = self.shared.ledger.caught_up().record_of(payload_id)?;
        let waiting = self.waiting_of(ask, &plan.candidate)?;
        if now.as_ref() == Some(record) && waiting == plan.waiting {
            return Ok(());
        }
        Err(Error::conflict(
            CHANGED,
            format!(
                "something became of payload {payload_id} just now; nothing was resent: look at it, and ask again"
            ),
        ))
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
    async fn plan(&self, ask: &act::Resend, candidate: Candidate) -> Result<Plan, Error> {
        let waiting = self.waiting_of(ask, &candidate)?;
        let mut resending = self.resending(&candidate, waiting.is_some())?;
        let record = &candidate.record;
        let (webhook_id, payload) = (record.webhook_id, &record.payload);
        let older = match (ask.force, ask.skip_superseded) {
            (true, _) => Older::Sent,
            (false, true) => Older::LeftOut,
            (false, false) => Older::Refused,
        };
        let is_whole = is_whole(ask, &candidate);
        if let Some(payload_id) = waiting.or_else(|| is_whole.then_some(payload.id)) {
            // One that waits is the same one: there is no second.
            resending.payload_id = Some(payload_id.to_string());
            resending.resend_of = (payload_id != payload.id).then(|| payload.id.to_string());
            let accept = Accepted::Whole {
                webhook_id,
                payload_id,
                older,
            };
            return Ok(Plan {
                candidate,
                waiting,
                resending,
                accept,
            });
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
        let gone = |what| Error::conflict(GONE, what);
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
        let accept = Accepted::New {
            webhook_id,
            payload: new,
            resend_of: payload.id,
            older,
        };
        Ok(Plan {
            candidate,
            waiting,
            resending,
            accept,
        })
    }

    /// A resend of the same that waits already, if there is one; an error if one waits that holds
    /// some of the same orders: they would go twice.
    fn waiting_of(
        &self,
        ask: &act::Resend,
        candidate: &Candidate,
    ) -> Result<Option<PayloadId>, Error> {
        let record = &candidate.record;
        let is_whole = is_whole(ask, candidate);
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
            in_flight,
            ..
        } in waiting
        {
            let is_same = payload_id != record.payload.id && members == candidate.members;
            if !is_whole && !in_flight && is_same {
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
                        "payload {payload_id}, which is to be resent, holds some of the same orders, and they would go twice; wait for it, or discard it first"
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
}

/// What of a payload is one of these orders.
fn part(record: &Record, versions: &[Seq]) -> Option<Members> {
    record.payload.members.only(|seq| versions.contains(&seq))
}

/// Whether it goes under its own id.
fn is_whole(ask: &act::Resend, candidate: &Candidate) -> bool {
    candidate.members == candidate.record.payload.members && !ask.as_new
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
