//! Whether queue and ledger belong together, and how to go on when they do not.

use rusqlite::{TransactionBehavior, params};

use super::{Ledger, Noted, WebhookId, lookup, read_payload, write_lane};
use crate::clock::WallTime;
use crate::feed::lane::Lane;
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{ENCODING, Payload, PayloadState};
use crate::store::queue::Queue;
use crate::store::{During, Error};

/// From which order on an adopted queue is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopt {
    /// `--resend-from SEQ`: from this one on.
    ResendFrom(Seq),
    /// `--all-new`: all in the file.
    AllNew,
}

impl Adopt {
    /// An error in words if it means an order that the queue does not have. The one after the newest
    /// is the next one to be queued: none of those that are there are sent again.
    pub fn check(self, queue: &Queue) -> Result<(), String> {
        let newest = queue.newest_noticed();
        match self {
            Self::ResendFrom(seq) if seq > newest.next() => Err(format!(
                "there is no order {seq} in the queue {}, whose newest is {newest}; say {} to send none of them again, and all that are queued later",
                queue.path().display(),
                newest.next()
            )),
            Self::ResendFrom(_) | Self::AllNew => Ok(()),
        }
    }
}

/// What an adoption did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// What it means for each webhook.
    pub webhooks: Vec<Adopted>,
    /// Parked orders that were forgotten, because the queue is another.
    pub parked_forgotten: u64,
}

/// What an adoption means for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Its name.
    pub name: String,
    /// What became of its pending payload, in words.
    pub pending: Option<String>,
    /// Orders that are not sent: by the ledger they were yet to be, but it is not up to date.
    pub passed: Option<(Seq, Seq)>,
}

impl Ledger {
    /// An error, in words and with what to do, unless the queue is the one that this ledger
    /// fed from last, and no older copy of it; nor is the ledger an older copy.
    ///
    /// The queue must have been looked at.
    pub fn agree_with(&self, queue: &Queue) -> Result<(), Error> {
        let identity = queue.identity()?;
        if let Some(copied_at) = self.copied_at()? {
            let found = format!(
                "the ledger {} is a copy of {copied_at}, and does not know what was delivered since",
                self.path.display()
            );
            return Err(Error::Disagree(format!(
                "{found}\nNothing was sent. Put the ledger that was in use back, and its queue; or, to go on with a copy, run `orderfeed restore FOLDER`, which says what is sent again; if the copies are lost, `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on)"
            )));
        }
        let disagree = |found: String| {
            Err(Error::Disagree(format!(
                "{found}\nNothing was sent. Put the right file back; or, to go on with what is there, run `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on) or `orderfeed adopt-queue --all-new` (sends all orders in the file)"
            )))
        };
        if identity.queue_id != self.queue_id {
            return disagree(format!(
                "the queue {} is not the one that the ledger {} fed from: it was replaced",
                queue.path().display(),
                self.path.display()
            ));
        }
        if identity.ledger_id.as_deref() != Some(self.ledger_id.as_str()) {
            return disagree(format!(
                "the queue {} was fed from by another ledger, not by {}: the ledger was lost, replaced, or belongs to another queue, and so it can't tell which orders were delivered",
                queue.path().display(),
                self.path.display()
            ));
        }
        if let Some(payload_id) = identity.last_payload_id
            && !self.has_known(payload_id)?
        {
            return disagree(format!(
                "the ledger {} does not know payload {payload_id}, which was made from this queue: it was restored from an older copy, and does not know all that was delivered",
                self.path.display()
            ));
        }
        let (noticed, last_payloads) = self.traces().during("reading what was seen", &self.path)?;
        if queue.newest_noticed() < noticed {
            return disagree(format!(
                "the queue {} ends at order {}, and the ledger has seen order {noticed}: the queue was restored from an older copy",
                queue.path().display(),
                queue.newest_noticed()
            ));
        }
        for payload_id in last_payloads {
            if let Ok(payload_id) = payload_id.parse()
                && let Some(payload) = self.payload(payload_id)?
                && let Err(what) = queue.body(&payload)?
            {
                return disagree(format!(
                    "{what}: the queue {} was replaced or restored from a copy",
                    queue.path().display()
                ));
            }
        }
        Ok(())
    }

    /// The newest order that was noticed, and each webhook's last payload of this queue.
    pub(super) fn traces(&self) -> rusqlite::Result<(Seq, Vec<String>)> {
        let noticed = self.conn.query_row(
            "SELECT coalesce(max(newest_noticed), 0) FROM webhooks",
            [],
            |row| row.get(0).map(Seq),
        )?;
        let mut statement = self.conn.prepare(
            "SELECT last_payload_id FROM webhooks CROSS JOIN payloads USING (webhook_id)
             WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = last_payload_id AND queue_generation = ?1",
        )?;
        let last_payloads = statement
            .query_map([self.queue_generation], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok((noticed, last_payloads))
    }

    /// Goes on with the queue that is there. Pending payloads whose orders are gone become
    /// `failed`; those whose orders are sent again anyway, `discarded`; the others stay.
    pub fn adopt(
        &mut self,
        queue: &mut Queue,
        adopt: Adopt,
        at: WallTime,
    ) -> Result<Adoption, Error> {
        let identity = queue.identity()?;
        let same_queue = identity.queue_id == self.queue_id;
        // A ledger that does not know what was made from the queue does not know how far it came.
        let up_to_date = same_queue
            && self.copied_at()?.is_none()
            && identity.ledger_id.as_deref() == Some(self.ledger_id.as_str())
            && identity
                .last_payload_id
                .map_or(Ok(true), |payload_id| self.has_known(payload_id))?;
        let newest = queue.newest_noticed();
        let adopted_from = match adopt {
            // Not beyond the end (see [`Adopt::check`]): what is queued next would be skipped.
            Adopt::ResendFrom(seq) => seq.before().min(newest),
            Adopt::AllNew => Seq::START,
        };
        let mut adoption = Adoption::default();
        let mut lanes = Vec::new();
        for (webhook_id, name) in self.webhooks()? {
            let mut lane = self.lane(webhook_id)?;
            let stood_at = OrderType::ALL
                .map(|order_type| lane.places[order_type].cursor)
                .into_iter()
                .min();
            let passed = stood_at
                .filter(|&stood_at| same_queue && !up_to_date && stood_at < adopted_from)
                .map(|stood_at| (stood_at.next(), adopted_from));
            for order_type in OrderType::ALL {
                let place = &mut lane.places[order_type];
                // What a webhook is yet to be sent is not skipped.
                let reached = if up_to_date {
                    place.cursor
                } else {
                    adopted_from
                };
                place.cursor = reached.min(adopted_from);
                if !same_queue {
                    place.unpark = None;
                }
            }
            let pending = match &lane.head {
                None => None,
                Some(_) if !same_queue => Some((
                    PayloadState::Failed,
                    "its orders were in the queue that was replaced".to_owned(),
                )),
                Some(head) => match queue.body(&head.payload)? {
                    Err(gone) => Some((PayloadState::Failed, gone)),
                    Ok(_) => {
                        let place = &mut lane.places[head.payload.order_type];
                        if head.payload.members.last() > place.cursor {
                            // Some of its orders are sent again; so that none is missing, all are.
                            place.cursor = place.cursor.min(head.payload.members.first().before());
                            let reason = "adopt-queue sends its orders again in new payloads";
                            Some((PayloadState::Discarded, reason.to_owned()))
                        } else {
                            None
                        }
                    }
                },
            };
            lanes.push((
                webhook_id,
                Adopted {
                    name,
                    pending: None,
                    passed,
                },
                lane,
                pending,
            ));
        }
        // What was pruned and is there again, in an older copy, may be sent again.
        let cursors = lanes.iter().flat_map(|(_, _, lane, _)| {
            OrderType::ALL.map(|order_type| lane.places[order_type].cursor)
        });
        let sent_from = cursors.chain([adopted_from]).min().unwrap_or_default();
        let lost = if same_queue {
            self.lost(queue)?
        } else {
            Vec::new()
        };
        // From here on a webhook reads each type again, and sets aside again what is still to be.
        let mut read_from = PerType::from_fn(|_| newest);
        for (_, _, lane, _) in &lanes {
            for (order_type, place) in lane.places.iter() {
                read_from[order_type] = read_from[order_type].min(place.cursor);
            }
        }
        // The ledger first: if the queue is not marked after it, the next start says so again.
        let transaction = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .during("adopting the queue", &self.path)?;
        for (webhook_id, mut adopted, mut lane, pending) in lanes {
            if let Some((state, reason)) = pending
                && let Some(head) = lane.head.take()
            {
                transaction
                    .execute(
                        "UPDATE payloads SET state = ?4, reason = ?5, settled_at = ?6 WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id = ?3",
                        params![
                            webhook_id.0,
                            head.payload.order_type.as_str(),
                            head.payload.id.to_string(),
                            state.as_str(),
                            reason,
                            at.0
                        ],
                    )
                    .during("adopting the queue", &self.path)?;
                adopted.pending = Some(format!(
                    "{} is {}: {reason}",
                    head.payload.id,
                    state.as_str()
                ));
            }
            let parked =
                forget_what_lost_its_meaning(&transaction, webhook_id, &lane, newest, same_queue)
                    .during("adopting the queue", &self.path)?;
            adoption.parked_forgotten += parked;
            adoption.webhooks.push(adopted);
        }
        forget_where_lost_orders_were(&transaction, &lost)
            .during("adopting the queue", &self.path)?;
        for (order_type, &after) in read_from.iter() {
            transaction
                .execute(
                    "DELETE FROM set_aside WHERE queue_generation = ?1 AND order_type = ?2 AND seq > ?3",
                    params![self.queue_generation, order_type.as_str(), after.0],
                )
                .during("adopting the queue", &self.path)?;
        }
        transaction
            .execute(
                "UPDATE ledger SET queue_id = ?1, queue_generation = queue_generation + ?2, first_cursor = ?3,
                    pruned_up_to = min(pruned_up_to, ?4), copied_at = NULL WHERE id = 1",
                params![
                    identity.queue_id,
                    i64::from(!same_queue),
                    adopted_from.0,
                    if same_queue { sent_from.0 } else { 0 }
                ],
            )
            // How old the orders are is not known any more.
            .and_then(|_| transaction.execute("DELETE FROM milestones", []))
            .during("adopting the queue", &self.path)?;
        lookup::write_adoption(
            &transaction,
            self.clock.now(),
            self.queue_generation + i64::from(!same_queue),
            same_queue,
        )
        .and_then(|()| transaction.commit())
        .during("adopting the queue", &self.path)?;
        if !same_queue {
            self.queue_generation += 1;
        }
        self.queue_id = identity.queue_id;
        if queue.mark(&self.ledger_id, None, Queue::PATIENCE)? {
            Ok(adoption)
        } else {
            Err(Error::Disagree(
                "a producer held the queue for 30 s; run adopt-queue again when it is done"
                    .to_owned(),
            ))
        }
    }

    /// Payloads of this queue whose orders it does not have: where it is an older copy, other orders get
    /// their places.
    fn lost(&self, queue: &Queue) -> Result<Vec<(WebhookId, Payload)>, Error> {
        let doing = "looking for lost orders";
        let pruned_up_to = self.pruned_up_to()?;
        let mut lost = Vec::new();
        for (webhook_id, _) in self.webhooks()? {
            for order_type in OrderType::ALL {
                for (from, before) in self.payload_spans()? {
                    let mut newest_first = self
                        .conn
                        .prepare_cached(
                            "SELECT * FROM payloads WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3 AND payload_id < ?4
                                AND queue_generation = ?5 ORDER BY payload_id DESC",
                        )
                        .during(doing, &self.path)?;
                    let span = params![
                        webhook_id.0,
                        order_type.as_str(),
                        from.to_string(),
                        before.to_string(),
                        self.queue_generation
                    ];
                    let mut payloads = newest_first
                        .query_map(span, |row| {
                            let after = Seq(row.get("after_seq")?);
                            let resent = row.get::<_, Option<String>>("resend_of")?.is_some();
                            let payload = read_payload(row)?;
                            let is_proof = !resent && payload.members.last() > after;
                            Ok((payload, is_proof))
                        })
                        .during(doing, &self.path)?;
                    // All that were sealed before one whose orders are there hold earlier ones; those
                    // of the same millisecond are in no order.
                    let mut there = None;
                    while let Some((payload, is_proof)) =
                        payloads.next().transpose().during(doing, &self.path)?
                    {
                        let made_at = payload.id.made_at();
                        if there.is_some_and(|there| made_at < there) {
                            break;
                        }
                        if payload.encoding != ENCODING || payload.members.last() <= pruned_up_to {
                            continue;
                        }
                        if queue.body(&payload)?.is_err() {
                            lost.push((webhook_id, payload));
                        } else if is_proof {
                            there = Some(made_at);
                        }
                    }
                }
            }
        }
        Ok(lost)
    }

    /// The webhooks that it knows, with their names.
    pub fn webhooks(&self) -> Result<Vec<(WebhookId, String)>, Error> {
        self.conn
            .prepare("SELECT webhook_id, name FROM webhooks ORDER BY webhook_id")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| Ok((WebhookId(row.get(0)?), row.get(1)?)))?
                    .collect()
            })
            .during("listing webhooks", &self.path)
    }
}

/// By the places of orders that are not in the queue any more nothing is found: they are as those of
/// another queue.
fn forget_where_lost_orders_were(
    conn: &rusqlite::Connection,
    lost: &[(WebhookId, Payload)],
) -> rusqlite::Result<()> {
    for (webhook_id, payload) in lost {
        let id = payload.id.to_string();
        conn.prepare_cached(
            "UPDATE payloads SET queue_generation = 0 WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id = ?3",
        )?
        .execute(params![webhook_id.0, payload.order_type.as_str(), id])?;
        for &seq in payload.members.seqs() {
            conn.prepare_cached(
                "DELETE FROM strays WHERE webhook_id = ?1 AND seq = ?2 AND payload_id = ?3",
            )?
            .execute(params![webhook_id.0, seq.0, id])?;
        }
    }
    Ok(())
}

/// What an adopted queue makes meaningless for a webhook: its selections of earlier seqs, its
/// parked orders that are read again or are in another file, and what it had seen of the queue.
fn forget_what_lost_its_meaning(
    conn: &rusqlite::Connection,
    webhook_id: WebhookId,
    lane: &Lane,
    newest: Seq,
    same_queue: bool,
) -> rusqlite::Result<u64> {
    let mut forgotten = 0;
    for (order_type, place) in lane.places.iter() {
        let kept_up_to = if same_queue { place.cursor } else { Seq::START };
        forgotten += conn.execute(
            "DELETE FROM parked WHERE webhook_id = ?1 AND order_type = ?2 AND seq > ?3",
            params![webhook_id.0, order_type.as_str(), kept_up_to.0],
        )?;
    }
    if !same_queue {
        conn.execute("DELETE FROM dropped WHERE webhook_id = ?1", [webhook_id.0])?;
    }
    // The last selection holds for all orders to come; in another file, where seqs of the old one
    // mean nothing, for all orders.
    let from = if same_queue {
        newest.next()
    } else {
        Seq::START
    };
    conn.execute(
        "DELETE FROM selections WHERE webhook_id = ?1 AND from_seq >= ?2
            AND from_seq < (SELECT max(from_seq) FROM selections WHERE webhook_id = ?1)",
        params![webhook_id.0, if same_queue { from.0 } else { i64::MIN }],
    )?;
    conn.execute(
        "UPDATE selections SET from_seq = ?2 WHERE webhook_id = ?1 AND from_seq > ?2",
        params![webhook_id.0, from.0],
    )?;
    write_lane(conn, webhook_id, lane, &Noted::default())?;
    conn.execute(
        "UPDATE webhooks SET newest_noticed = ?2, last_payload_id = NULL WHERE webhook_id = ?1",
        params![webhook_id.0, newest.0],
    )?;
    Ok(u64::try_from(forgotten).unwrap_or(0))
}
