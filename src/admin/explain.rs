//! What is going on, why, and what happens next: the answers to an operator's questions.
//!
//! Each question is one function here. It asks the ledger by short jobs ([`Source`]), whoever has
//! it: the lanes' thread, or, where no daemon runs, the command itself; and the queue over a
//! connection of its own ([`Reader`]). Nothing is changed.
//!
//! [`outlook`] counts what waits, [`standing`] finds the words for where a webhook stands,
//! [`story`] tells what became of one order, [`reconcile`] of all.

mod outlook;
pub mod reconcile;
mod standing;
mod story;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use self::outlook::{Aside, Outlook, Overview};
use self::standing::Told;
use super::api::Error;
use super::api::explain as api;
use super::desk::Desk;
use crate::clock::{Clock, WallTime};
use crate::config::{Config, Webhook};
use crate::feed::errand::{Errand, Told as Tell};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{PayloadId, PayloadState};
use crate::feed::timestamp::Timestamp;
use crate::feed::webhook::WebhookName;
use crate::store;
use crate::store::ledger::chores::Chore;
use crate::store::ledger::configure::Registered;
use crate::store::ledger::history::{
    AttemptRow, Count, Filter, PayloadRow, ResendRow, SetAsideRow, Standing,
};
use crate::store::ledger::{Ledger, WebhookId};
use crate::store::queue::reader::Reader;

/// What can be asked of the ledger, wherever it is.
pub trait Source: Sync {
    /// Does something short with the ledger.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, store::Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send;
}

impl Source for Desk {
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, store::Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        Self::ask(self, async move |operator| {
            let ground = operator.ground()?;
            let mut ledger = ground.ledger.get();
            Ok(job(&mut ledger)?)
        })
    }
}

/// The ledger alone: it is there also while the queue is not the one that it knows.
#[derive(Debug)]
pub struct LedgerAlone<'a>(pub &'a Desk);

impl Source for LedgerAlone<'_> {
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, store::Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        self.0.ask(async move |operator| {
            let (reply, mut answer) = oneshot::channel();
            operator.with_ledger(Box::new(|ledger| drop(reply.send(job(ledger)))))?;
            let done = answer.try_recv().map_err(|_gone| Error::stopping())?;
            Ok(done?)
        })
    }
}

/// A ledger that no daemon has.
#[derive(Debug)]
pub struct OwnLedger(Mutex<Ledger>);

impl OwnLedger {
    /// Asks this one.
    pub const fn new(ledger: Ledger) -> Self {
        Self(Mutex::new(ledger))
    }
}

impl Source for OwnLedger {
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, store::Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::future::ready(job(&mut ledger).map_err(Error::from))
    }
}

/// What else an answer rests on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The configuration that is in force.
    pub config: Arc<Config>,
    /// Since when the daemon runs; `None`: none does.
    pub started_at: Option<WallTime>,
}

impl Ground {
    /// That of the daemon.
    pub async fn of(desk: &Desk) -> Result<Self, Error> {
        desk.ask(async |operator| {
            let ground = operator.ground()?;
            Ok(Self {
                config: ground.config,
                started_at: Some(ground.started_at),
            })
        })
        .await
    }

    /// The same for what [`LedgerAlone`] answers.
    pub async fn of_ledger(ledger: &LedgerAlone<'_>) -> Result<Self, Error> {
        let desk = ledger.0;
        desk.ask(async |operator| {
            let (config, started_at) = operator.config()?;
            Ok(Self { config, started_at })
        })
        .await
    }

    /// The queue, over a connection of its own.
    pub fn queue(&self) -> Result<Reader, Error> {
        Ok(Reader::open(&self.config.queue.path)?)
    }

    fn webhook(&self, name: &str) -> Option<&Webhook> {
        let of_name = |webhook: &&Webhook| webhook.name.as_str() == name;
        self.config.webhooks.iter().find(of_name)
    }
}

/// The answer to `GET /v1/status`.
pub async fn status(
    source: &impl Source,
    ground: &Ground,
    queue: &mut Reader,
) -> Result<api::Status, Error> {
    let facts = Facts::gather(source, ground, queue.newest()).await?;
    let overview = Overview::of(&facts.standings, &facts.aside, ground, queue)?;
    let maintenance = maintenance(source).await?;
    Ok(status_of(ground, &facts, &overview, maintenance))
}

fn status_of(
    ground: &Ground,
    facts: &Facts,
    overview: &Overview,
    maintenance: api::Maintenance,
) -> api::Status {
    let waiting = overview.waiting.iter().map(|(order_type, waiting)| {
        let waiting = api::Waiting {
            count: waiting.count.count,
            or_more: waiting.count.more,
            oldest_at: waiting.oldest_at.as_ref().and_then(|at| at.parse().ok()),
        };
        (order_type.to_string(), waiting)
    });
    let (set_aside, newest) = &facts.set_aside;
    let counts = [("set_aside", *set_aside), ("unclaimed", overview.unclaimed)];
    api::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: ground.started_at,
        now: facts.now.wall,
        queue: api::QueueStatus {
            waiting: waiting.collect(),
            set_aside: set_aside.count,
            set_aside_newest: newest.as_ref().map(|row| api::SetAside {
                seq: row.seq.0,
                order_type: row.order_type.clone(),
                reason: row.reason.clone(),
                noticed_at: row.noticed_at,
            }),
            unclaimed: overview.unclaimed.count,
            or_more: cut(&counts),
        },
        maintenance,
        webhooks: facts.webhooks(ground, overview),
    }
}

/// What `GET /metrics` measures.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The answer to `GET /v1/status`.
    pub status: api::Status,
    /// For each webhook that has a place in the queue.
    pub lanes: Vec<MeasuredLane>,
}

/// What one webhook has before it.
#[derive(Debug, Clone)]
pub struct MeasuredLane {
    /// Its name.
    pub webhook: String,
    /// By order type, the orders that it is yet to put into a payload.
    pub waiting: PerType<api::Waiting>,
    /// When the payload was composed that it is busy with.
    pub pending_since: Option<WallTime>,
}

/// Measures what `GET /metrics` tells.
pub async fn measured(
    source: &impl Source,
    ground: &Ground,
    queue: &mut Reader,
) -> Result<Measured, Error> {
    let facts = Facts::gather(source, ground, queue.newest()).await?;
    let overview = Overview::of(&facts.standings, &facts.aside, ground, queue)?;
    let lanes = facts.standings.iter().zip(&overview.outlooks);
    let lanes = lanes.map(|(standing, outlook)| MeasuredLane {
        webhook: standing.name.clone(),
        waiting: PerType::from_fn(|order_type| outlook.waiting_of(order_type)),
        pending_since: facts.head(standing).map(|row| row.created_at),
    });
    Ok(Measured {
        lanes: lanes.collect(),
        status: status_of(ground, &facts, &overview, maintenance(source).await?),
    })
}

async fn maintenance(source: &impl Source) -> Result<api::Maintenance, Error> {
    source
        .ask(|ledger| {
            let mut chores = Vec::new();
            for chore in Chore::ALL {
                let course = ledger.chore(chore)?;
                chores.extend(course.map(|course| api::Chore {
                    chore: chore.as_str().to_owned(),
                    begun_at: course.begun_at,
                    ended_at: course.ended_at,
                    success_at: course.success_at,
                    done: course.words,
                    failure: course.failure,
                }));
            }
            Ok(api::Maintenance {
                pruned_up_to: ledger.pruned_up_to()?.0,
                chores,
            })
        })
        .await
}

/// The answer to `GET /v1/webhooks`.
pub async fn webhooks(
    source: &impl Source,
    ground: &Ground,
    queue: &mut Reader,
) -> Result<api::Webhooks, Error> {
    let facts = Facts::gather(source, ground, queue.newest()).await?;
    let overview = Overview::of(&facts.standings, &facts.aside, ground, queue)?;
    Ok(api::Webhooks {
        webhooks: facts.webhooks(ground, &overview),
    })
}

/// The answer to `GET /v1/webhooks/{name}`.
pub async fn webhook(
    source: &impl Source,
    ground: &Ground,
    queue: &mut Reader,
    name: &str,
) -> Result<api::Webhook, Error> {
    let all = webhooks(source, ground, queue).await?.webhooks;
    let names: Vec<String> = all.iter().map(|webhook| webhook.name.clone()).collect();
    all.into_iter()
        .find(|webhook| webhook.name == name)
        .ok_or_else(|| Error::no_webhook(name, &names))
}

/// What `GET /v1/payloads` may be asked.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this webhook.
    pub webhook: Option<String>,
    /// In this state.
    pub state: Option<PayloadState>,
    /// Of this order type.
    pub order_type: Option<OrderType>,
    /// That carry an order with this tracking number.
    pub tracking_number: Option<String>,
    /// Composed then or later.
    pub since: Option<WallTime>,
    /// Composed before.
    pub until: Option<WallTime>,
    /// So many at most.
    pub limit: Option<usize>,
    /// Older than this one.
    pub after: Option<PayloadId>,
}

/// So many payloads are in a page, unless it is asked for another number.
pub const PAGE_PAYLOADS: usize = 100;

/// No page has more.
pub const PAGE_PAYLOADS_MAX: usize = 1_000;

/// So many payloads are looked at for one page, in slices; what is further back is on the next.
const LOOKED_AT_MAX: usize = 20_000;

/// So many are looked at while the lanes wait.
const SLICE: usize = 1_000;

/// The answer to `GET /v1/payloads`.
pub async fn payloads(
    source: &impl Source,
    ground: &Ground,
    queue: &mut Reader,
    wanted: &Wanted,
) -> Result<api::Payloads, Error> {
    let facts = Facts::gather(source, ground, queue.newest()).await?;
    let limit = wanted
        .limit
        .unwrap_or(PAGE_PAYLOADS)
        .clamp(1, PAGE_PAYLOADS_MAX);
    let mut filter = Filter {
        webhook_id: None,
        state: wanted.state,
        order_type: wanted.order_type,
        since: wanted.since,
        until: wanted.until,
    };
    if let Some(name) = &wanted.webhook {
        let known = facts.standings.iter().find(|known| known.name == *name);
        filter.webhook_id = match known {
            Some(known) => Some(known.webhook_id),
            None if ground.webhook(name).is_some() => {
                return Ok(api::Payloads {
                    payloads: Vec::new(),
                    next: None,
                });
            }
            None => return Err(Error::no_webhook(name, &facts.names(ground))),
        };
    }
    let (rows, next) = if let Some(tracking_number) = &wanted.tracking_number {
        story::payloads_of(
            source,
            &facts,
            queue,
            tracking_number,
            &filter,
            wanted.after,
            limit,
        )
        .await?
    } else {
        let mut after = wanted.after;
        let mut rows: Vec<PayloadRow> = Vec::new();
        for _slice in 0..LOOKED_AT_MAX / SLICE {
            let (filter, left) = (filter.clone(), limit - rows.len());
            let page = source
                .ask(move |ledger| ledger.payload_page(&filter, after, left, SLICE))
                .await?;
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() || rows.len() >= limit {
                break;
            }
        }
        (rows, after)
    };
    Ok(api::Payloads {
        payloads: rows.iter().map(|row| facts.payload(ground, row)).collect(),
        next: next.map(|id| id.to_string()),
    })
}

/// The answer to `GET /v1/payloads/{payload_id}`.
pub async fn payload(
    source: &impl Source,
    ground: &Ground,
    id: PayloadId,
) -> Result<api::Payload, Error> {
    let facts = Facts::gather(source, ground, Seq::START).await?;
    let row = source.ask(move |ledger| ledger.payload_row(id)).await?;
    row.map(|row| facts.payload(ground, &row))
        .ok_or_else(|| no_payload(id))
}

/// The answer to `GET /v1/payloads/{payload_id}/attempts`.
pub async fn attempts(
    source: &impl Source,
    ground: &Ground,
    id: PayloadId,
) -> Result<api::Attempts, Error> {
    let facts = Facts::gather(source, ground, Seq::START).await?;
    let found = source
        .ask(move |ledger| Ok((ledger.payload_row(id)?, ledger.attempts(id)?)))
        .await?;
    let (Some(row), attempts) = found else {
        return Err(no_payload(id));
    };
    Ok(api::Attempts {
        attempts: facts.attempts(ground, &row, attempts),
    })
}

/// The answer to `GET /v1/payloads/{payload_id}/body`: the very bytes that are sent, before they
/// are compressed.
pub async fn body(source: &impl Source, queue: &mut Reader, id: PayloadId) -> Result<Bytes, Error> {
    let payload = source.ask(move |ledger| ledger.payload(id)).await?;
    let payload = payload.ok_or_else(|| no_payload(id))?;
    queue
        .body(&payload)?
        .map_err(|what| Error::conflict("gone", format!("{what}; its bytes can't be made again")))
}

/// The answer to `GET /v1/orders/{tracking_number}`.
pub async fn orders(
    source: &impl Source,
    ground: &Ground,
    queue: &mut Reader,
    tracking_number: &str,
) -> Result<api::Orders, Error> {
    let facts = Facts::gather(source, ground, queue.newest()).await?;
    story::orders(source, ground, &facts, queue, tracking_number).await
}

/// What becomes of a resend that is not done yet; `what` is how it is called.
fn resend_in_words(what: &str, resend: ResendRow, is_running: bool) -> String {
    match (resend.in_flight, resend.due, resend.counted) {
        (true, ..) if is_running => format!("{what} is under way"),
        (true, ..) => {
            format!("{what} was under way when the daemon ended: whether it arrived is unknown")
        }
        (false, None, _) => format!(
            "{what} was interrupted three times, and waits until somebody says so: `orderfeed retry-now`"
        ),
        (false, Some(_), 0) => format!("{what} waits for its turn"),
        (false, Some(_), 1) => format!("{what} waits for its retry, after a failed attempt"),
        (false, Some(_), failed) => {
            format!("{what} waits for its retry, after {failed} failed attempts")
        }
    }
}

/// What the ledger says of all webhooks, and when.
struct Facts {
    standings: Vec<Standing>,
    /// The rows of the payloads that webhooks are busy with.
    heads: Vec<PayloadRow>,
    /// What operators asked of webhooks, the first of each.
    errands: Vec<(WebhookId, Errand)>,
    /// Who paused which webhook, while a request of it was in flight that has not ended yet.
    pauses: Vec<(WebhookId, String)>,
    /// Why configured webhooks have no place in the ledger.
    without_place: BTreeMap<WebhookName, String>,
    set_aside: (Count, Option<SetAsideRow>),
    /// Those that some webhook has not passed yet.
    aside: Aside,
    now: Now,
}

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Now {
    clock: Timestamp,
    wall: WallTime,
}

impl Now {
    fn read(clock: Clock) -> Self {
        Self {
            clock: clock.now(),
            wall: WallTime::now(),
        }
    }

    /// What the wall clock shows when the ledger's shows this.
    const fn wall_at(self, time: Timestamp) -> WallTime {
        let ahead_ms = self.wall.0.saturating_sub(self.clock.ms());
        WallTime(time.ms().saturating_add(ahead_ms))
    }

    /// What the ledger's clock showed when the wall clock showed this; never later than now.
    fn clock_at(self, wall: WallTime) -> Timestamp {
        let ahead_ms = self.wall.0.saturating_sub(self.clock.ms());
        Timestamp::from_ms(wall.0.saturating_sub(ahead_ms)).min(self.clock)
    }
}

impl Facts {
    /// `newest` is the newest order in the queue, for what is said of webhooks without a place.
    async fn gather(source: &impl Source, ground: &Ground, newest: Seq) -> Result<Self, Error> {
        let configured = ground.config.configured();
        source
            .ask(move |ledger| {
                let mut standings = ledger.standings()?;
                let (mut heads, mut errands) = (Vec::new(), Vec::new());
                let mut pauses = Vec::new();
                for standing in &standings {
                    let told = ledger.instructions(standing.webhook_id)?;
                    let mut told = told.into_iter().map(|instruction| instruction.told);
                    let last = told.rfind(|told| matches!(told, Tell::Pause { .. } | Tell::Resume));
                    if let Some(Tell::Pause { by }) = last {
                        pauses.push((standing.webhook_id, by));
                    }
                    let errand = ledger.first_errand(standing.webhook_id)?;
                    errands.extend(errand.map(|errand| (standing.webhook_id, errand)));
                    if let Some(head) = &standing.lane.head {
                        heads.extend(ledger.payload_row(head.payload.id)?);
                    }
                }
                let mut without_place = BTreeMap::new();
                let names: Vec<String> = standings.iter().map(|known| known.name.clone()).collect();
                let has_place =
                    |name: &WebhookName| names.iter().any(|known| known == name.as_str());
                if !configured.iter().all(|webhook| has_place(&webhook.name)) {
                    let registered = ledger.preview(&configured, newest, WallTime::now())?;
                    for (name, registered) in registered {
                        match registered {
                            Registered::Known(..) if has_place(&name) => {}
                            // The daemon will give it this place when it starts.
                            Registered::Known(webhook_id, places, selections) => {
                                standings.push(Standing::beginning(
                                    webhook_id, &name, places, selections,
                                ));
                            }
                            Registered::NoStart { reason } => {
                                without_place.insert(name, reason);
                            }
                        }
                    }
                }
                let cursors = standings.iter().flat_map(|standing| {
                    OrderType::ALL.map(|order_type| standing.lane.places[order_type].cursor)
                });
                let after = cursors.min().unwrap_or_default();
                let aside = ledger.set_aside_after(after, outlook::ASIDE_MAX)?;
                Ok(Self {
                    aside: Aside::new(&aside),
                    now: Now::read(ledger.clock()),
                    set_aside: ledger.set_aside()?,
                    standings,
                    heads,
                    errands,
                    pauses,
                    without_place,
                })
            })
            .await
    }

    fn names(&self, ground: &Ground) -> Vec<String> {
        let known = self.standings.iter().map(|standing| standing.name.clone());
        let configured = ground.config.webhooks.iter();
        let mut names: Vec<String> = known
            .chain(configured.map(|webhook| webhook.name.to_string()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn head(&self, standing: &Standing) -> Option<&PayloadRow> {
        let id = standing.lane.head.as_ref()?.payload.id;
        self.heads.iter().find(|row| row.id == id)
    }

    fn told(&self, ground: &Ground, standing: &Standing, outlook: &Outlook) -> Told {
        let of_webhook = |it: &&(WebhookId, Errand)| it.0 == standing.webhook_id;
        let errand = self.errands.iter().find(of_webhook).map(|(_, it)| it);
        let mut told = self.told_with(errand, ground, standing, outlook);
        if let Some((_, by)) = self.pauses.iter().find(|it| it.0 == standing.webhook_id) {
            let reason = told.reason.into_iter();
            let pause = format!("{by}, from when its request in flight has ended");
            told.reason = Some(reason.chain([pause]).collect::<Vec<_>>().join("; "));
        }
        told
    }

    fn told_with(
        &self,
        errand: Option<&Errand>,
        ground: &Ground,
        standing: &Standing,
        outlook: &Outlook,
    ) -> Told {
        let webhook = ground.webhook(&standing.name);
        let payload_max_items = webhook.map_or(1, |webhook| webhook.policy.payload_max_items);
        standing::tell(
            webhook,
            standing,
            self.head(standing),
            errand,
            &outlook.waiting_for(payload_max_items, self.now),
            ground.started_at.is_some(),
            self.now,
        )
    }

    fn webhooks(&self, ground: &Ground, overview: &Overview) -> Vec<api::Webhook> {
        let with_place = self.standings.iter().zip(&overview.outlooks);
        let with_place = with_place.map(|(standing, outlook)| {
            let told = self.told(ground, standing, outlook);
            let counts = [
                ("waiting", outlook.waiting),
                ("parked", outlook.parked.and(standing.parked)),
                ("failed", standing.failed),
            ];
            let last_error = standing.last_error.clone();
            let webhook = described(ground, &standing.name, told);
            api::Webhook {
                payload_id: self.head(standing).map(|row| row.id.to_string()),
                waiting: counts[0].1.count,
                parked: counts[1].1.count,
                failed: counts[2].1.count,
                or_more: cut(&counts),
                last_success_at: standing.last_success_at,
                last_error_at: last_error.as_ref().map(|(at, _)| *at),
                last_error: last_error.map(|(_, what)| what),
                ..webhook
            }
        });
        let without_place = self.without_place.iter().map(|(name, why)| {
            let told = Told {
                state: "held",
                reason: Some(why.clone()),
                since: None,
                next: "nothing, until it has a place in the queue".to_owned(),
                next_at: None,
            };
            described(ground, name.as_str(), told)
        });
        let mut webhooks: Vec<_> = with_place.chain(without_place).collect();
        webhooks.sort_by(|one, other| one.name.cmp(&other.name));
        webhooks
    }

    fn payload(&self, ground: &Ground, row: &PayloadRow) -> api::Payload {
        let standing = self
            .standings
            .iter()
            .find(|known| known.webhook_id == row.webhook_id);
        let own_turn = standing
            .filter(|standing| {
                let head = standing.lane.head.as_ref();
                head.is_some_and(|head| head.payload.id == row.id && !head.in_flight)
            })
            .and_then(|standing| {
                let told = self.told_with(None, ground, standing, &Outlook::default());
                told.next_at
            });
        // One that goes at once has no time.
        let next_at = match row.resend.and_then(|resend| resend.due) {
            Some(due) if due <= self.now.clock => None,
            Some(due) => own_turn.into_iter().chain([self.now.wall_at(due)]).min(),
            None => own_turn,
        };
        let is_running = ground.started_at.is_some();
        let resend = row
            .resend
            .map(|resend| resend_in_words("its resend", resend, is_running));
        let reasons = [row.reason.clone(), resend];
        let reasons: Vec<_> = reasons.into_iter().flatten().collect();
        api::Payload {
            payload_id: row.id.to_string(),
            webhook: standing.map_or_else(String::new, |standing| standing.name.clone()),
            order_type: row.order_type.to_string(),
            action: row.action.clone(),
            state: row.state.as_str().to_owned(),
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            items: row.items,
            created_at: row.created_at,
            settled_at: row.settled_at,
            attempts: row.attempts,
            next_at,
            resend_of: row.resend_of.map(|id| id.to_string()),
            // Nothing is split yet (D14).
            part_of: None,
        }
    }

    /// A payload's requests: those that ended, and the one that is under way.
    fn attempts(
        &self,
        ground: &Ground,
        row: &PayloadRow,
        ended: Vec<AttemptRow>,
    ) -> Vec<api::Attempt> {
        let last = ended.last().map_or(0, |attempt| attempt.number);
        let mut attempts: Vec<api::Attempt> = ended
            .into_iter()
            .map(|attempt| api::Attempt {
                number: attempt.number,
                started_at: attempt.started_at,
                duration_ms: attempt.duration_ms,
                phase: attempt.phase,
                outcome: attempt.outcome,
                status: attempt.status,
                error: attempt.error,
                answer: attempt.answer,
            })
            .collect();
        let standing = self
            .standings
            .iter()
            .find(|known| known.webhook_id == row.webhook_id);
        let begun_at = standing.and_then(|standing| standing.head_begun_at);
        let resend_in_flight = row.resend.is_some_and(|resend| resend.in_flight);
        if (row.state == PayloadState::InFlight || resend_in_flight)
            && last < row.attempts
            && let Some(started_at) = begun_at
        {
            let (outcome, error) = if ground.started_at.is_some() {
                ("in_flight", None)
            } else {
                let what = "cut off when the daemon ended: whether it arrived is unknown";
                ("interrupted", Some(what.to_owned()))
            };
            attempts.push(api::Attempt {
                number: row.attempts,
                started_at,
                duration_ms: None,
                phase: None,
                outcome: outcome.to_owned(),
                status: None,
                error,
                answer: None,
            });
        }
        attempts
    }
}

/// A webhook of which nothing is counted.
fn described(ground: &Ground, name: &str, told: Told) -> api::Webhook {
    let configured = ground.webhook(name);
    let selection = configured.map(|webhook| &webhook.selection);
    api::Webhook {
        name: name.to_owned(),
        url: configured.map(|webhook| webhook.endpoint.shown_url()),
        active: configured.is_some_and(|webhook| webhook.policy.active),
        triggers: selection
            .map(|selection| selection.triggers.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        filter: selection
            .map(|selection| selection.filter.0.clone())
            .unwrap_or_default(),
        state: told.state.to_owned(),
        reason: told.reason,
        since: told.since,
        next: told.next,
        next_at: told.next_at,
        payload_id: None,
        waiting: 0,
        parked: 0,
        failed: 0,
        or_more: Vec::new(),
        last_success_at: None,
        last_error: None,
        last_error_at: None,
    }
}

/// The names of the counts that are only lower bounds.
fn cut(counts: &[(&str, Count)]) -> Vec<String> {
    let more = counts.iter().filter(|(_, count)| count.more);
    more.map(|(name, _)| (*name).to_owned()).collect()
}

fn no_payload(id: PayloadId) -> Error {
    Error::not_found(format!(
        "the ledger knows no payload {id}; `orderfeed payloads` lists those that there are"
    ))
}
