//! A ledger with a past: what a million attempts left behind, made by the ledger's own functions.

use orderfeed::clock::{Reading, WallTime};
use orderfeed::feed::lane::{Lane, Place};
use orderfeed::feed::order::{Action, OrderType, PerType, Seq};
use orderfeed::feed::outcome::Phase;
use orderfeed::feed::payload::{
    ENCODING, Members, Payload, PayloadId, PayloadState, checksum, encode,
};
use orderfeed::feed::selection::Selection;
use orderfeed::feed::timestamp::Timestamp;
use orderfeed::store::ledger::configure::{Configured, Registered};
use orderfeed::store::ledger::{Attempt, AttemptOutcome, Change, Commit, Ledger, WebhookId};

use crate::order::order;
use crate::site::Site;

/// Webhooks of the history.
pub(crate) const WEBHOOKS: u64 = 8;

/// Payloads recorded in one transaction.
const AT_ONCE: usize = 500;

/// One in so many failed.
const FAILED_GAP: u64 = 1_000;

/// How many payloads of one order a webhook has delivered, or failed to: on the whole, as many as
/// there are to be attempts, and each webhook has come to another place.
pub(crate) fn payloads_of(webhook: u64, attempts: u64) -> u64 {
    let (mean, step) = (attempts / WEBHOOKS, attempts / WEBHOOKS / 100);
    mean + step * webhook * 2 - step * (WEBHOOKS - 1)
}

/// Records the attempts, as of the hours before now.
pub(crate) fn record(site: &Site, names: &[String], attempts: u64) {
    let reading = Reading::take();
    let mut ledger = Ledger::open(&site.ledger(), &reading).expect("a ledger");
    let configured: Vec<Configured> = names
        .iter()
        .map(|name| Configured {
            name: name.parse().expect("a name"),
            selection: Selection::default(),
            start: None,
            renamed_from: None,
        })
        .collect();
    let registered = ledger
        .configure(&configured, Seq::START, WallTime::now())
        .expect("webhooks");
    let now = ledger.clock().now();
    for (webhook, name) in (0..).zip(names) {
        let name = name.parse().expect("a name");
        let Some(Registered::Known(webhook_id, ..)) = registered.get(&name) else {
            panic!("a webhook without a place");
        };
        let payloads = payloads_of(webhook, attempts);
        let seqs: Vec<u64> = (1..=payloads).collect();
        for seqs in seqs.chunks(AT_ONCE) {
            // One every 20 ms.
            let commit = commit(*webhook_id, seqs, |seq| {
                now.ms() - (payloads - seq) as i64 * 20 - 1_000
            });
            ledger.record(&[commit]).expect("room");
        }
    }
}

fn commit(webhook_id: WebhookId, seqs: &[u64], at: impl Fn(u64) -> i64) -> Commit {
    let cursor = Seq(*seqs.last().expect("some") as i64);
    let place = Place {
        cursor,
        ..Place::default()
    };
    let lane = Lane {
        places: PerType::from_fn(|_| place),
        last_ended: Some(Timestamp::from_ms(at(cursor.0 as u64))),
        selections_version: 1,
        ..Lane::default()
    };
    let mut commit = Commit::new(webhook_id, lane, WallTime(at(cursor.0 as u64)));
    for &seq in seqs {
        let mut dice = [0; 10];
        dice[0] = webhook_id.0 as u8;
        let action = Action::default();
        let body = encode(OrderType::PurchaseOrder, &action, [order(seq).as_str()]);
        let payload = Payload {
            id: PayloadId::new(Timestamp::from_ms(at(seq)), dice),
            order_type: OrderType::PurchaseOrder,
            action,
            members: Members::new(vec![Seq(seq as i64)]).expect("one"),
            encoding: ENCODING,
            checksum: checksum(&body),
        };
        let failed = seq % FAILED_GAP == 0;
        commit.changes.push(settled(&payload, failed, at(seq)));
        let after = Seq(seq as i64 - 1);
        commit
            .changes
            .insert(commit.changes.len() - 1, Change::Sealed { payload, after });
    }
    commit
}

fn settled(payload: &Payload, failed: bool, at: i64) -> Change {
    let (state, outcome, status) = if failed {
        (PayloadState::Failed, AttemptOutcome::Failed, 422)
    } else {
        (PayloadState::Delivered, AttemptOutcome::Delivered, 200)
    };
    Change::Settled {
        payload_id: payload.id,
        state,
        reason: failed.then(|| "answered 422".to_owned()),
        attempt: Attempt {
            number: 1,
            started_at: Some(WallTime(at)),
            duration: Some(std::time::Duration::from_millis(12)),
            phase: Some(Phase::Answered),
            outcome,
            status: Some(status),
            error: None,
            answer: Some("{\"received\":true}".to_owned()),
        },
    }
}
