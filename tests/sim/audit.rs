//! The last word: what the ledger's file says when all is over, read with plain SQL, against
//! what the oracle saw.

use std::collections::{BTreeMap, BTreeSet};

use orderfeed::feed::order::{OrderType, Seq};
use orderfeed::feed::payload::PayloadState;
use orderfeed::store::ledger::{Ledger, WebhookId};
use rusqlite::{Connection, params};

use crate::world::World;

/// Conservation, and that the ledger's file tells the truth (D11, D18, D25).
pub(crate) fn check(world: &mut World) {
    let World {
        oracle, producers, ..
    } = world;
    oracle.conserved(producers);
    every_order_is_found(world);
    let ledger = Connection::open(world.ledger_path()).expect("the ledger");
    let pruned_up_to = ledger
        .query_row("SELECT pruned_up_to FROM ledger", [], |row| {
            row.get(0).map(Seq)
        })
        .expect("what is pruned");
    let mut states = states(&ledger);
    for (payload_id, sent) in &world.oracle.payloads {
        let present = world
            .oracle
            .webhooks()
            .any(|present| present == sent.webhook_id);
        assert!(
            !present
                || matches!(
                    sent.state,
                    PayloadState::Delivered | PayloadState::Failed | PayloadState::Discarded
                ),
            "D11: {payload_id} with {:?} is {:?}",
            sent.numbers,
            sent.state
        );
        let stored = states.remove(&payload_id.to_string());
        let pruned = sent.is_pruned(pruned_up_to);
        if present && (stored.is_some() || !pruned) {
            let expected = (sent.webhook_id.0, sent.state.as_str().to_owned());
            assert_eq!(
                stored,
                Some(expected),
                "D11: what the ledger shows of {payload_id}"
            );
        }
    }
    assert!(states.is_empty(), "payloads that nobody sealed: {states:?}");
    let set_aside = seqs(&ledger, "SELECT seq FROM set_aside WHERE ?1 > 0", 1);
    for webhook_id in world.oracle.webhooks() {
        let sql = "SELECT seq FROM parked WHERE webhook_id = ?1";
        let parked = seqs(&ledger, sql, webhook_id.0);
        // What lies beyond the cursor is yet to be looked at.
        let passed = |seq: &i64| {
            let order = world.producers.order(Seq(*seq)).expect("an order");
            *seq <= cursor(&ledger, webhook_id, order.order_type)
        };
        let left_lying = world.oracle.left_lying(webhook_id, &world.producers);
        for seq in left_lying.iter().filter(|seq| passed(seq)) {
            assert!(
                parked.contains(seq),
                "D25: order {seq} is not counted as parked"
            );
        }
        let left_broken = world.oracle.left_broken(webhook_id, &world.producers);
        for seq in left_broken.iter().filter(|seq| passed(seq)) {
            assert!(
                set_aside.contains(seq),
                "order {seq} is not listed as set aside"
            );
        }
    }
}

/// Who asks which payloads carry an order is told those, and no others.
fn every_order_is_found(world: &World) {
    let reading = world.clocks.reading();
    let ledger = Ledger::open(world.ledger_path(), &reading).expect("the ledger opens");
    let pruned_up_to = ledger.pruned_up_to().expect("the ledger answers");
    for (webhook_id, seq, order_type, payloads) in
        world.oracle.carried(pruned_up_to, &world.producers)
    {
        let found = ledger.payloads_with(webhook_id, order_type, seq);
        assert_eq!(
            found.expect("the ledger answers"),
            payloads,
            "order {seq} in payloads of {webhook_id:?}"
        );
    }
}

fn cursor(ledger: &Connection, webhook_id: WebhookId, order_type: OrderType) -> i64 {
    let sql = format!("SELECT {order_type}_cursor FROM webhooks WHERE webhook_id = ?1");
    ledger
        .query_row(&sql, [webhook_id.0], |row| row.get(0))
        .expect("a cursor")
}

/// Each payload's webhook and state.
fn states(ledger: &Connection) -> BTreeMap<String, (i64, String)> {
    let mut statement = ledger
        .prepare("SELECT payload_id, webhook_id, state FROM payloads")
        .expect("payloads");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    rows.and_then(Iterator::collect).expect("payloads")
}

fn seqs(ledger: &Connection, sql: &str, parameter: i64) -> BTreeSet<i64> {
    let mut statement = ledger.prepare(sql).expect("seqs");
    let rows = statement.query_map(params![parameter], |row| row.get(0));
    rows.and_then(Iterator::collect).expect("seqs")
}
