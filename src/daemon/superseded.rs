//! Which orders of a payload would overwrite a later version that was delivered since (D23).
//!
//! An order may have thousands of versions. So what was found of a number is kept, while one question
//! of an operator lasts or, by a lane, until it delivers something else; the versions are gone through
//! in slices, and other lanes go on between.

use std::collections::HashMap;

use super::shell::Shared;
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{Payload, PayloadId};
use crate::store;
use crate::store::ledger::WebhookId;
use crate::store::ledger::errands::Superseded;
use crate::store::queue::Held;

/// So many versions are looked for while the lanes wait.
const SLICE: usize = 16;

/// What is known of more numbers is not kept for the next question.
const NUMBERS_MAX: usize = 256;

/// What was found of each tracking number so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    newest: HashMap<Number, Newest>,
    /// The payload that was asked about last, and the newest version that it holds of each number.
    asked: Option<(PayloadId, Vec<(Number, Seq)>)>,
}

type Number = (WebhookId, OrderType, String);

/// The newest version that was delivered, and in which payload, among those after one.
#[derive(Debug, Clone, Copy)]
struct Newest {
    after: Seq,
    delivered: Option<(Seq, PayloadId)>,
}

impl Known {
    /// The orders of a payload of which a later version was delivered to the webhook, which has come
    /// so far with their type. A version that the payload holds itself does not count.
    pub(super) async fn superseded(
        &mut self,
        shared: &Shared,
        webhook_id: WebhookId,
        payload: &Payload,
        newest: Seq,
    ) -> Result<Vec<Superseded>, store::Error> {
        let (order_type, members) = (payload.order_type, payload.members.clone());
        let held = shared
            .queue
            .call(move |queue| queue.held(order_type, &members))
            .await?;
        if self.newest.len() > NUMBERS_MAX {
            self.newest.clear();
        }
        let newest_held = held.iter().map(|held| {
            let number = (webhook_id, order_type, held.tracking_number.clone());
            (number, held.seqs.last().copied().unwrap_or_default())
        });
        self.asked = Some((payload.id, newest_held.collect()));
        let mut superseded = Vec::new();
        for Held {
            tracking_number,
            seqs,
        } in held
        {
            let after = seqs.first().copied().unwrap_or_default();
            let number = (webhook_id, order_type, tracking_number.clone());
            let known = self.newest.get(&number).copied();
            let known = known.filter(|known| after >= known.after || known.delivered.is_some());
            let mut found = match known {
                Some(known) => known,
                None => {
                    let number = &tracking_number;
                    newest_of(shared, webhook_id, order_type, number, after, newest, &[]).await?
                }
            };
            self.newest.insert(number, found);
            if found
                .delivered
                .is_some_and(|(seq, _)| payload.members.contains(seq))
            {
                // There may be others between.
                let number = &tracking_number;
                found =
                    newest_of(shared, webhook_id, order_type, number, after, newest, &seqs).await?;
            }
            let Some((by_seq, by_payload)) = found.delivered else {
                continue;
            };
            let older = seqs.into_iter().filter(|&seq| seq < by_seq);
            superseded.extend(older.map(|seq| Superseded {
                seq,
                tracking_number: tracking_number.clone(),
                by_seq,
                by_payload,
            }));
        }
        superseded.sort_by_key(|one| one.seq);
        Ok(superseded)
    }

    /// Takes note that a payload was delivered: what is known stays true if it is the one that was
    /// asked about last, and is forgotten otherwise.
    pub(super) fn delivered(&mut self, payload_id: PayloadId) {
        match self.asked.take() {
            Some((asked, held)) if asked == payload_id => {
                for (number, seq) in held {
                    if let Some(known) = self.newest.get_mut(&number)
                        && known.delivered.is_none_or(|(newest, _)| newest < seq)
                    {
                        known.delivered = Some((seq, payload_id));
                    }
                }
            }
            Some(_) | None => self.newest.clear(),
        }
    }
}

/// The newest version after one that was delivered, but for some.
async fn newest_of(
    shared: &Shared,
    webhook_id: WebhookId,
    order_type: OrderType,
    tracking_number: &str,
    after: Seq,
    newest: Seq,
    but_for: &[Seq],
) -> Result<Newest, store::Error> {
    let number = tracking_number.to_owned();
    let mut versions = shared
        .queue
        .call(move |queue| queue.versions(&number, order_type, after, newest))
        .await?;
    versions.retain(|version| but_for.binary_search(version).is_err());
    for slice in versions.chunks(SLICE) {
        let delivered = shared
            .ledger
            .get()
            .first_delivered(webhook_id, order_type, slice)?;
        if delivered.is_some() {
            return Ok(Newest { after, delivered });
        }
        // Other lanes go on between.
        tokio::task::yield_now().await;
    }
    Ok(Newest {
        after,
        delivered: None,
    })
}
