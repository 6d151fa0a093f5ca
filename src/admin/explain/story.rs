//! What became of one order: for each webhook in which payloads it went, or why it has not gone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::outlook::{Counted, Outlook, Overview};
use super::standing::{Told, orders_in_words, payload_in_words};
use super::{Facts, Ground, Source};
use crate::admin::api::Error;
use crate::admin::api::explain as api;
use crate::config::Webhook;
use crate::feed::errand::NOT_RESENT;
use crate::feed::order::{Order, OrderType, Seq};
use crate::feed::payload::{PayloadId, PayloadState};
use crate::feed::policy::Sequence;
use crate::feed::selection::{Fate, Selection};
use crate::store;
use crate::store::ledger::history::{AttemptRow, Count, Filter, PayloadRow, SetAsideRow, Standing};
use crate::store::queue::reader::{QueuedOrder, Reader};

/// So many rows of the queue with the same tracking number are told of, the newest.
const ORDERS_MAX: usize = 20;

/// So many rows with a tracking number are read at once.
const PLACES_MAX: usize = 1_000;

/// Tells of the orders with a tracking number.
pub(super) async fn orders(
    source: &impl Source,
    ground: &Ground,
    facts: &Facts,
    queue: &mut Reader,
    tracking_number: &str,
) -> Result<api::Orders, Error> {
    let overview = Overview::of(&facts.standings, &facts.aside, ground, queue)?;
    let mut found = queue.with_tracking_number(tracking_number, ORDERS_MAX + 1)?;
    let pruned_up_to = source.ask(|ledger| ledger.pruned_up_to()).await?;
    if found.is_empty() {
        let pruned = if pruned_up_to > Seq::START {
            format!(" (of orders up to {pruned_up_to} those that were done with are)")
        } else {
            String::new()
        };
        return Err(Error::not_found(format!(
            "no order in the queue has the tracking number {tracking_number:?}; it was not queued, or was pruned{pruned}"
        )));
    }
    let more = found.len() > ORDERS_MAX;
    found.truncate(ORDERS_MAX);
    let mut orders = Vec::new();
    // Newest first: what was delivered of an order before it is gone over supersedes it (D23).
    let mut delivered_later = BTreeSet::new();
    for order in &found {
        let (order_type, seq) = (order.order_type, order.seq);
        let webhooks: Vec<_> = facts
            .standings
            .iter()
            .map(|standing| standing.webhook_id)
            .collect();
        let traces = source
            .ask(move |ledger| {
                let traces = webhooks.into_iter().map(|webhook_id| {
                    let mut payloads = Vec::new();
                    for id in ledger.payloads_with(webhook_id, order_type, seq)? {
                        if let Some(row) = ledger.payload_row(id)? {
                            payloads.push((row, ledger.attempts(id)?));
                        }
                    }
                    Ok(Trace {
                        payloads,
                        is_parked: ledger.is_parked(webhook_id, order_type, seq)?,
                        is_dropped: seq <= ledger.dropped_up_to(webhook_id, order_type)?,
                    })
                });
                let traces: Vec<Trace> = traces.collect::<Result<_, store::Error>>()?;
                Ok((traces, ledger.set_aside_at(seq)?, ledger.first_cursor()?))
            })
            .await?;
        let (traces, set_aside, first_cursor) = traces;
        let cursors = facts
            .standings
            .iter()
            .map(|standing| standing.lane.places[order_type].cursor);
        let bounds: BTreeSet<Seq> = cursors.collect();
        let before = Counted::read(queue, order_type, bounds, seq.before(), &facts.aside)?;
        let delivered: Vec<_> = facts
            .standings
            .iter()
            .zip(&traces)
            .filter(|(_, trace)| {
                let mut rows = trace.payloads.iter().map(|(row, _)| row);
                rows.any(|row| row.state == PayloadState::Delivered)
            })
            .map(|(standing, _)| (standing.webhook_id, order_type))
            .collect();
        let webhooks = facts.standings.iter().zip(&overview.outlooks).zip(traces);
        let webhooks = webhooks.map(|((standing, outlook), trace)| {
            let cursor = standing.lane.places[order_type].cursor;
            let case = Case {
                order,
                standing,
                webhook: ground.webhook(&standing.name),
                head: facts.head(standing),
                told: facts.told(ground, standing, outlook),
                outlook,
                before: before.within(cursor, seq.before()),
                set_aside: set_aside.as_ref(),
                first_cursor,
                is_superseded: delivered_later.contains(&(standing.webhook_id, order_type)),
                is_running: ground.started_at.is_some(),
            };
            let payloads = trace
                .payloads
                .iter()
                .map(|(row, attempts)| api::StoryPayload {
                    payload: facts.payload(ground, row),
                    requests: facts.attempts(ground, row, attempts.clone()),
                });
            case.tell(&trace, payloads.collect())
        });
        let mut webhooks: Vec<_> = webhooks.collect();
        webhooks.extend(
            facts
                .without_place
                .iter()
                .map(|(name, why)| api::WebhookStory {
                    webhook: name.to_string(),
                    state: "waiting".to_owned(),
                    reason: why.clone(),
                    next_at: None,
                    payloads: Vec::new(),
                }),
        );
        webhooks.sort_by(|one, other| one.webhook.cmp(&other.webhook));
        let undeliverable = order.order.as_ref().err().map(|what| what.0.clone());
        orders.push(api::OrderStory {
            seq: seq.0,
            order_type: order_type.to_string(),
            action: order.action.clone(),
            queued_at: order.queued_at.clone(),
            withdrawn_at: order.withdrawn_at.clone(),
            set_aside: set_aside.map(|row| row.reason).or(undeliverable),
            webhooks,
        });
        delivered_later.extend(delivered);
    }
    orders.reverse();
    Ok(api::Orders {
        tracking_number: tracking_number.to_owned(),
        orders,
        more,
    })
}

/// The payloads that carry orders with a tracking number, newest first.
pub(super) async fn payloads_of(
    source: &impl Source,
    facts: &Facts,
    queue: &mut Reader,
    tracking_number: &str,
    filter: &Filter,
    after: Option<PayloadId>,
    limit: usize,
) -> Result<(Vec<PayloadRow>, Option<PayloadId>), Error> {
    let webhooks = facts.standings.iter().map(|standing| standing.webhook_id);
    let webhooks: Vec<_> = webhooks
        .filter(|id| filter.webhook_id.is_none_or(|wanted| wanted == *id))
        .collect();
    let mut known = BTreeSet::new();
    let mut rows = BTreeMap::new();
    let mut before = Seq(i64::MAX);
    loop {
        let places = queue.places_of(tracking_number, before, PLACES_MAX)?;
        for &(seq, order_type) in &places {
            if filter.order_type.is_some_and(|wanted| wanted != order_type) {
                continue;
            }
            let webhooks = webhooks.clone();
            let ids = source
                .ask(move |ledger| {
                    let ids = webhooks
                        .iter()
                        .map(|&webhook_id| ledger.payloads_with(webhook_id, order_type, seq));
                    Ok(ids.collect::<Result<Vec<_>, store::Error>>()?.concat())
                })
                .await?;
            for id in ids {
                if after.is_some_and(|after| id >= after) || !known.insert(id) {
                    continue;
                }
                let row = source.ask(move |ledger| ledger.payload_row(id)).await?;
                let row = row.filter(|row| filter.passes(row));
                rows.extend(row.map(|row| (Reverse(row.id), row)));
                // One more tells that there are others.
                if rows.len() > limit + 1 {
                    rows.pop_last();
                }
            }
        }
        match places.last() {
            Some((last, _)) if places.len() == PLACES_MAX => before = *last,
            Some(_) | None => break,
        }
    }
    let mut rows: Vec<PayloadRow> = rows.into_values().collect();
    let next = (rows.len() > limit).then(|| rows[limit - 1].id);
    rows.truncate(limit);
    Ok((rows, next))
}

/// What the ledger knows of an order and a webhook.
struct Trace {
    payloads: Vec<(PayloadRow, Vec<AttemptRow>)>,
    is_parked: bool,
    is_dropped: bool,
}

/// An order, a webhook, and what decides what becomes of the one for the other.
struct Case<'a> {
    order: &'a QueuedOrder,
    standing: &'a Standing,
    webhook: Option<&'a Webhook>,
    head: Option<&'a PayloadRow>,
    told: Told,
    outlook: &'a Outlook,
    /// Orders of its type that the webhook meets before it.
    before: Count,
    set_aside: Option<&'a SetAsideRow>,
    first_cursor: Seq,
    /// A later version of it was delivered (D23).
    is_superseded: bool,
    is_running: bool,
}

impl Case<'_> {
    fn tell(&self, trace: &Trace, payloads: Vec<api::StoryPayload>) -> api::WebhookStory {
        let story = |state: &str, reason: String| api::WebhookStory {
            webhook: self.standing.name.clone(),
            state: state.to_owned(),
            reason,
            next_at: None,
            payloads: Vec::new(),
        };
        let name = &self.standing.name;
        if let Some(row) = deciding(&trace.payloads) {
            let next_at = payloads
                .iter()
                .find(|told| told.payload.payload_id == row.id.to_string())
                .and_then(|told| told.payload.next_at);
            return api::WebhookStory {
                next_at,
                payloads,
                ..story(row.state.as_str(), self.of_payload(row))
            };
        }
        if let Some(row) = self.set_aside {
            return story(
                "set_aside",
                format!("it can't be delivered to anyone: {}", row.reason),
            );
        }
        if self.order.withdrawn_at.is_some() {
            return story(
                "withdrawn",
                "its producer took it back before it was in a payload".to_owned(),
            );
        }
        let order = match &self.order.order {
            Ok(order) => order,
            Err(what) => {
                let reason = format!(
                    "it will be set aside, as it can't be delivered to anyone: {}",
                    what.0
                );
                return story("set_aside", reason);
            }
        };
        let selections = &self.standing.selections;
        let is_met = order.seq <= self.standing.lane.places[order.order_type].cursor;
        match (selections.fate(order), is_met) {
            (Fate::Send, true) if trace.is_parked => {
                let reason = format!(
                    "it was parked, and goes with one of the next payloads; {}",
                    self.why()
                );
                api::WebhookStory {
                    next_at: self.told.next_at,
                    ..story("waiting", reason)
                }
            }
            (Fate::Send, false) => {
                let reason = self.why();
                api::WebhookStory {
                    next_at: self.told.next_at,
                    ..story("waiting", reason)
                }
            }
            (Fate::Park, _) if trace.is_parked || !is_met => {
                let why = selections
                    .current()
                    .map(|now| unselected(now, order))
                    .unwrap_or_default();
                story(
                    "parked",
                    format!(
                        "{name} collected it, and does not select it any more: {why}; it is sent when it is selected again"
                    ),
                )
            }
            (Fate::Pass, _) => story("filtered", self.why_not_its_own(order)),
            (Fate::Park | Fate::Send, _) if trace.is_dropped => story(
                "dropped",
                format!(
                    "{name} collected it, and `orderfeed webhooks drop-parked {name}` dropped it"
                ),
            ),
            (Fate::Park | Fate::Send, _) if order.seq <= self.first_cursor => story(
                "filtered",
                format!(
                    "`orderfeed adopt-queue` began after order {}: earlier ones are not sent",
                    self.first_cursor
                ),
            ),
            (Fate::Park | Fate::Send, _) => story(
                "missing",
                format!(
                    "{name} is past it, and it is in no payload: it is lost; keep both files, and queue it again"
                ),
            ),
        }
    }

    fn of_payload(&self, row: &PayloadRow) -> String {
        let reason = row.reason.as_deref().unwrap_or("for no known reason");
        let times = match row.attempts {
            1 => "at the first attempt".to_owned(),
            attempts => format!("at attempt {attempts}"),
        };
        let state = match row.state {
            PayloadState::Delivered => format!("delivered {times}"),
            // Not by an attempt: what stands there is why none was made.
            PayloadState::Failed if reason.starts_with(NOT_RESENT) => reason.to_owned(),
            PayloadState::Failed if self.is_superseded => {
                format!("its attempts are used up: {reason}; a later version was delivered since")
            }
            PayloadState::Failed if row.resend.is_some() || self.webhook.is_none() => {
                format!("its attempts are used up: {reason}")
            }
            PayloadState::Failed => format!(
                "its attempts are used up: {reason}; `orderfeed resend {}` sends it again",
                row.id
            ),
            PayloadState::Discarded => format!("given up: {reason}"),
            PayloadState::InFlight | PayloadState::Pending => match &self.told.reason {
                Some(why) => format!("{why}; next: {}", self.told.next),
                None => format!("next: {}", self.told.next),
            },
        };
        match row.resend {
            Some(resend) => {
                let resend = super::resend_in_words("its resend", resend, self.is_running);
                format!("{state}; {resend}")
            }
            None => state,
        }
    }

    /// Why it has not gone yet.
    fn why(&self) -> String {
        let mut parts = Vec::new();
        let (standing, told) = (self.standing, &self.told);
        if !self.is_running {
            parts.push("no daemon runs".to_owned());
        }
        match (self.head, self.webhook) {
            (_, None) => parts.push(format!("{} is not configured any more", standing.name)),
            // Another request is under way: a resend, or a test.
            (Some(head), _) if told.state == "sending" && !self.head_in_flight() => {
                parts.push(format!("it waits behind {}", payload_in_words(head)));
                parts.extend(told.reason.clone());
            }
            (Some(head), _) => {
                let state = match told.state {
                    "sending" => "under way".to_owned(),
                    state => match &told.reason {
                        Some(reason) => format!("{state}: {reason}"),
                        None => state.to_owned(),
                    },
                };
                parts.push(format!(
                    "it waits behind {}, which is {state}",
                    payload_in_words(head)
                ));
            }
            (None, _) if matches!(told.state, "idle" | "pacing") => {
                parts.extend(told.reason.clone().filter(|_| told.next_at.is_some()));
            }
            (None, _) => {
                let reason = told.reason.as_deref().unwrap_or("for no known reason");
                parts.push(format!("{} is {}: {reason}", standing.name, told.state));
            }
        }
        let order_type = self.order.order_type;
        if self.before.count > 0 || self.before.more {
            let more = if self.before.more { "more than " } else { "" };
            let before = orders_in_words(self.before.count, order_type);
            parts.push(format!("queued before it: {more}{before}"));
        }
        let po_first = self
            .webhook
            .is_some_and(|webhook| webhook.policy.sequence == Sequence::PoFirst);
        let purchase_orders = self.outlook.of_type(OrderType::PurchaseOrder);
        if po_first && order_type != OrderType::PurchaseOrder && purchase_orders > 0 {
            let wait = orders_in_words(purchase_orders, OrderType::PurchaseOrder);
            parts.push(format!(
                "purchase orders go first (sequence = \"po_first\"): {wait}"
            ));
        }
        if self.is_running {
            parts.push(format!("next: {}", told.next));
        }
        parts.join("; ")
    }

    fn head_in_flight(&self) -> bool {
        let head = self.standing.lane.head.as_ref();
        head.is_some_and(|head| head.in_flight)
    }

    /// Why it never was the webhook's.
    fn why_not_its_own(&self, order: &Order) -> String {
        let name = &self.standing.name;
        match self.standing.selections.in_force_at(order.seq) {
            Some(then) => format!(
                "{name} did not select it when it was queued: {}",
                unselected(then, order)
            ),
            None => format!("{name} began after it"),
        }
    }
}

/// The payload that says what became of an order: one that was delivered, or else the last.
fn deciding(payloads: &[(PayloadRow, Vec<AttemptRow>)]) -> Option<&PayloadRow> {
    let rows = || payloads.iter().map(|(row, _)| row);
    let delivered = rows().rfind(|row| row.state == PayloadState::Delivered);
    delivered.or_else(|| rows().next_back())
}

/// Why a selection does not select an order.
fn unselected(selection: &Selection, order: &Order) -> String {
    if !selection.triggers_on(order) {
        let triggers: Vec<String> = selection.triggers.iter().map(ToString::to_string).collect();
        return format!(
            "its triggers ({}) do not name {}.{}",
            triggers.join(", "),
            order.order_type,
            order.action
        );
    }
    match selection.filter.first_miss(order) {
        Some((field, Some(value))) => {
            let allowed = selection
                .filter
                .0
                .get(field)
                .map(|values| values.join(", "));
            format!(
                "its filter wants {field} to be one of: {}; it is {value}",
                allowed.unwrap_or_default()
            )
        }
        Some((field, None)) => {
            format!("its filter asks for {field}, which the order does not have")
        }
        None => "nothing speaks against it now".to_owned(),
    }
}
