//! `POST /v1/orders`: queues orders, all or none.
//!
//! It does what any producer does, on a connection of its own: the queue's lock may be another
//! producer's for a while, and the lanes' reader must not wait for it. The queue's own rules are asked
//! first, as `orderfeed enqueue` asks them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use tokio::sync::Semaphore;

use super::api::{Enqueued, EnqueuedOrder, Error, NewOrder};
use super::caller::Rights;
use super::desk::Desk;
use super::routes::{Answer, parse, read};
use crate::feed::order::{Action, Order, OrderType, Seq};
use crate::store;
use crate::store::queue::rules::Rules;
use crate::store::queue::{self, Queue};

/// A call's body: the largest order fits, with what stands around it.
const BODY_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Orders in one call.
const ORDERS_MAX: usize = 10_000;

/// So many calls are judged and queued at a time; the next one waits.
const AT_A_TIME_MAX: usize = 4;

/// Whose turn it is, once a call has sent all that it has to say: who dawdles with it holds up nobody
/// else.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME_MAX)))
    }
}

pub(super) async fn enqueue(
    State(desk): State<Desk>,
    Extension(turns): Extension<Turns>,
    Extension(rights): Extension<Rights>,
    request: Request,
) -> Result<Answer, Error> {
    let body = read(request.into_body(), BODY_BYTES_MAX).await?;
    // Nobody closes it.
    let _turn = turns.0.acquire().await.ok();
    let path = desk
        .ask(async |operator| {
            let queue = operator.ground()?.queue;
            Ok(queue.call(|queue| Ok(queue.path().to_owned())).await?)
        })
        .await?;
    let queued = tokio::task::spawn_blocking(move || {
        let (orders, numbered) = understood(&body)?;
        let granted = rights.produces();
        if let Some(order) = orders.iter().find(|order| !granted[order.order_type]) {
            return Err(Error::not_of_type(order.order_type));
        }
        judge(&orders, numbered)?;
        let mut queue = Queue::open(&path)?;
        let last = queue
            .enqueue(&orders)
            .map_err(|(index, error)| refused(index, numbered, &error))?;
        enqueued(&orders, last)
    });
    let enqueued = queued.await.map_err(|_panicked| {
        Error::new(500, "internal", "queueing broke off; the log says more")
    })??;
    let told = match enqueued.orders.as_slice() {
        [one] => format!("order {} queued", one.seq),
        [first, .., last] => format!(
            "{} orders queued, {} to {}",
            enqueued.orders.len(),
            first.seq,
            last.seq
        ),
        [] => "nothing to queue".to_owned(),
    };
    Ok(Answer::of(&enqueued).created().told(told))
}

/// The orders that were sent, and whether there may be several: then errors name which.
fn understood(body: &[u8]) -> Result<(Vec<queue::NewOrder>, bool), Error> {
    let is_list = body.trim_ascii_start().starts_with(b"[");
    let sent: Vec<NewOrder<'_>> = if is_list {
        parse(body)?
    } else {
        vec![parse(body)?]
    };
    if sent.len() > ORDERS_MAX {
        return Err(Error::new(
            413,
            "too_large",
            format!(
                "{} orders are more than one call takes; send at most {ORDERS_MAX} at a time",
                sent.len()
            ),
        ));
    }
    let mut orders = Vec::with_capacity(sent.len());
    for (index, order) in sent.into_iter().enumerate() {
        let order_type: OrderType = order.order_type.parse().map_err(|_unknown| {
            wrong(
                index,
                is_list,
                "type: must be purchase_order, transfer_order or work_order",
            )
        })?;
        orders.push(queue::NewOrder {
            order_type,
            action: order.action,
            dedup_key: order.dedup_key,
            body: order.order.get().to_owned(),
        });
    }
    Ok((orders, is_list))
}

/// By the queue's rules, as far as they can be told without it.
fn judge(orders: &[queue::NewOrder], numbered: bool) -> Result<(), Error> {
    let mut rules = Rules::new()?;
    for (index, order) in orders.iter().enumerate() {
        if let Some(refusal) = rules.refusal(order)? {
            return Err(wrong_or_known(index, numbered, &refusal));
        }
    }
    Ok(())
}

/// Why the queue took none of them.
fn refused(index: usize, numbered: bool, error: &store::Error) -> Error {
    match error.refusal() {
        Some(refusal) => wrong_or_known(index, numbered, refusal),
        None => Error::unavailable("store", format!("{error}; nothing was queued")),
    }
}

fn wrong_or_known(index: usize, numbered: bool, refusal: &str) -> Error {
    let mut error = wrong(index, numbered, refusal);
    if refusal.starts_with(KNOWN) {
        (error.status, error.code) = (409, "duplicate".to_owned());
    }
    error
}

/// How the queue's message about a repeated order begins.
const KNOWN: &str = "dedup_key: this order is in the queue already";

fn wrong(index: usize, numbered: bool, what: &str) -> Error {
    if numbered {
        let number = index + 1;
        Error::invalid(format!(
            "order {number} of the list: {what}; none was queued"
        ))
    } else {
        Error::invalid(what)
    }
}

/// What was queued: the seqs have no gap.
fn enqueued(orders: &[queue::NewOrder], last: Seq) -> Result<Enqueued, Error> {
    let first = last.0 + 1 - i64::try_from(orders.len()).unwrap_or(i64::MAX);
    let enqueued = (first..).zip(orders).map(|(seq, order)| {
        let action = order.action.as_deref().unwrap_or(Action::SUBMIT);
        let parsed = Order::parse(
            Seq(seq),
            order.order_type,
            action.as_bytes(),
            order.body.as_bytes(),
        );
        let tracking_number = parsed
            .and_then(|order| order.tracking_number())
            .map_err(|undeliverable| Error::invalid(undeliverable.to_string()))?;
        Ok(EnqueuedOrder {
            seq,
            order_type: order.order_type.to_string(),
            tracking_number: tracking_number.to_string(),
        })
    });
    Ok(Enqueued {
        orders: enqueued.collect::<Result<_, Error>>()?,
    })
}
