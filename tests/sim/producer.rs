//! The producers: they write the queue with a driver of their own, and do not wait for the disk.
//!
//! What they committed is kept here as a history, too: after a power cut the queue's file is
//! made again from as much of it as survived.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use orderfeed::feed::order::{OrderType, Seq};
use orderfeed::store::queue::{self, Queue};
use rusqlite::{Connection, params};

use crate::dice::Dice;

/// The queue's id; what it is does not matter.
pub(crate) const QUEUE_ID: &str = "queue-of-the-simulation";

/// The ledger's id.
pub(crate) const LEDGER_ID: &str = "ledger-of-the-simulation";

/// An order as its producer knows it. Nobody else ever has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SimOrder {
    pub(crate) number: i64,
    /// Its tracking number: its own, or an earlier order's, of which it is a later version.
    pub(crate) tracking: i64,
    pub(crate) order_type: OrderType,
    pub(crate) action: &'static str,
    pub(crate) site: Option<&'static str>,
    /// What no trigger of the queue can refuse, and no receiver could read.
    pub(crate) broken: bool,
    pub(crate) body: String,
}

/// One transaction on the queue.
#[derive(Debug, Clone)]
pub(crate) enum Transaction {
    Orders(Vec<SimOrder>),
    /// The seq of the order that is taken back.
    Withdrawal(i64),
    /// The daemon's own: how far the ledger came.
    Mark(Option<String>),
    /// The daemon's own: these are done with.
    Pruned(Vec<i64>),
}

/// How far the queue's history goes: orders and withdrawals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Extent {
    pub(crate) orders: usize,
    pub(crate) withdrawals: usize,
}

#[derive(Debug)]
pub(crate) struct Producers {
    path: PathBuf,
    conn: Option<Connection>,
    history: Vec<Transaction>,
    /// So many transactions survive a power cut for certain.
    durable: usize,
    next_number: i64,
    /// Every order that the queue holds; its seq is its place, from 1.
    orders: Vec<SimOrder>,
    /// The seqs that were taken back, in that order.
    withdrawals: Vec<i64>,
    /// The seqs that the daemon has pruned.
    pruned: BTreeSet<i64>,
    /// Whether now and then one queues what can't be delivered.
    makes_mistakes: bool,
}

impl Producers {
    pub(crate) fn new(path: &Path) -> Self {
        fs::write(path, empty_queue()).expect("an empty queue");
        let mut producers = Self {
            path: path.to_owned(),
            conn: None,
            history: Vec::new(),
            durable: 0,
            next_number: 1,
            orders: Vec::new(),
            withdrawals: Vec::new(),
            pruned: BTreeSet::new(),
            makes_mistakes: true,
        };
        producers.mark(None);
        producers.connect();
        producers
    }

    pub(crate) const fn make_no_mistakes(&mut self) {
        self.makes_mistakes = false;
    }

    pub(crate) fn orders(&self) -> &[SimOrder] {
        &self.orders
    }

    pub(crate) fn order(&self, seq: Seq) -> Option<&SimOrder> {
        let index = usize::try_from(seq.0).ok()?.checked_sub(1)?;
        self.orders.get(index)
    }

    /// Whether the order is among the first so many withdrawals.
    pub(crate) fn is_withdrawn(&self, seq: i64, noticed: Extent) -> bool {
        self.withdrawals[..noticed.withdrawals].contains(&seq)
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent {
            orders: self.orders.len(),
            withdrawals: self.withdrawals.len(),
        }
    }

    /// Commits some orders.
    pub(crate) fn queue_orders(&mut self, dice: &mut Dice) -> usize {
        let count = dice.one_of(&[1, 1, 1, 2, 3, 6]);
        let mut orders = Vec::new();
        let mut order_type = dice.one_of(&OrderType::ALL);
        let mut action = dice.one_of(&["submit", "submit", "submit", "update"]);
        for _ in 0..count {
            if dice.permille(300) {
                order_type = dice.one_of(&OrderType::ALL);
                action = dice.one_of(&["submit", "submit", "submit", "update"]);
            }
            orders.push(self.new_order(order_type, action, dice));
        }
        self.commit(Transaction::Orders(orders));
        count
    }

    fn new_order(
        &mut self,
        order_type: OrderType,
        action: &'static str,
        dice: &mut Dice,
    ) -> SimOrder {
        let number = self.next_number;
        self.next_number += 1;
        let site = dice.one_of(&[Some("Ulm"), Some("Bern"), None]);
        let broken = self.makes_mistakes && dice.permille(30);
        let site_member = site.map_or(String::new(), |site| format!(",\"Site\":\"{site}\""));
        let note = match (broken, dice.below(4)) {
            (true, _) => r#","Note":"\ud800""#.to_owned(),
            (false, 0) => format!(",\"Note\":\"{}\"", "x".repeat(dice.below(150))),
            (false, _) => String::new(),
        };
        let earlier = self
            .orders
            .iter()
            .filter(|order| order.order_type == order_type);
        let earlier: Vec<i64> = earlier.map(|order| order.tracking).collect();
        let tracking = if earlier.is_empty() || dice.permille(600) {
            number
        } else {
            dice.one_of(&earlier)
        };
        SimOrder {
            number,
            tracking,
            order_type,
            action,
            site,
            broken,
            body: format!("{{\"TrackingNumber\":{tracking}{site_member}{note}}}"),
        }
    }

    /// Takes an order back, if there is one that was not.
    pub(crate) fn withdraw(&mut self, dice: &mut Dice) -> Option<i64> {
        let newest = i64::try_from(self.orders.len()).expect("few orders");
        let seq = dice.between(newest.saturating_sub(4).max(1), newest.max(1));
        if newest == 0 || self.withdrawals.contains(&seq) || self.is_pruned(seq) {
            return None;
        }
        self.commit(Transaction::Withdrawal(seq));
        Some(seq)
    }

    fn commit(&mut self, transaction: Transaction) {
        let conn = self.conn.as_ref().expect("the power is on");
        conn.execute_batch("BEGIN IMMEDIATE")
            .expect("a producer's turn");
        write(conn, &transaction);
        conn.execute_batch("COMMIT").expect("a producer's commit");
        self.remember(transaction);
    }

    fn remember(&mut self, transaction: Transaction) {
        match &transaction {
            Transaction::Orders(orders) => self.orders.extend_from_slice(orders),
            Transaction::Withdrawal(seq) => self.withdrawals.push(*seq),
            Transaction::Mark(_) => {}
            Transaction::Pruned(seqs) => self.pruned.extend(seqs),
        }
        self.history.push(transaction);
    }

    /// The daemon marked the queue, and waited for the disk: all before it is there, too.
    pub(crate) fn mark(&mut self, last_payload_id: Option<String>) {
        self.remember(Transaction::Mark(last_payload_id));
        self.durable = self.history.len();
        if self.history.len() == 1 {
            self.rebuild();
        }
    }

    /// The seqs that the daemon has pruned since this was asked last; it waited for the disk.
    pub(crate) fn notice_pruned(&mut self) -> Vec<i64> {
        let conn = self.conn.as_ref().expect("the power is on");
        let mut statement = conn.prepare_cached("SELECT seq FROM orders").expect("SQL");
        let rows = statement.query_map([], |row| row.get(0)).expect("orders");
        let there: BTreeSet<i64> = rows.collect::<Result<_, _>>().expect("orders");
        let newest = i64::try_from(self.orders.len()).expect("few orders");
        let gone = (1..=newest).filter(|seq| !there.contains(seq) && !self.pruned.contains(seq));
        let gone: Vec<i64> = gone.collect();
        drop(statement);
        if !gone.is_empty() {
            self.remember(Transaction::Pruned(gone.clone()));
            self.durable = self.history.len();
        }
        gone
    }

    pub(crate) fn is_pruned(&self, seq: i64) -> bool {
        self.pruned.contains(&seq)
    }

    /// The daemon synced the queue when it held this much.
    pub(crate) fn synced(&mut self, extent: Extent) {
        let mut at = Extent::default();
        let mut durable = 0;
        for (index, transaction) in self.history.iter().enumerate() {
            match transaction {
                Transaction::Orders(orders) => at.orders += orders.len(),
                Transaction::Withdrawal(_) => at.withdrawals += 1,
                Transaction::Mark(_) | Transaction::Pruned(_) => continue,
            }
            if at.orders <= extent.orders && at.withdrawals <= extent.withdrawals {
                durable = index + 1;
            }
        }
        self.durable = self.durable.max(durable);
    }

    /// The power goes: of what was not synced, a part is gone. Returns the orders that are.
    pub(crate) fn lose_power(&mut self, dice: &mut Dice) -> Vec<SimOrder> {
        let kept = self.durable + dice.below(self.history.len() - self.durable + 1);
        let before = std::mem::take(&mut self.orders);
        self.withdrawals.clear();
        self.pruned.clear();
        let mut history = std::mem::take(&mut self.history);
        history.truncate(kept);
        for transaction in history {
            self.remember(transaction);
        }
        self.durable = kept;
        self.rebuild();
        self.connect();
        before[self.orders.len()..].to_vec()
    }

    /// The queue's file, from its history.
    fn rebuild(&mut self) {
        self.conn = None;
        for suffix in ["-wal", "-shm"] {
            let beside = format!("{}{suffix}", self.path.display());
            drop(fs::remove_file(beside));
        }
        fs::write(&self.path, empty_queue()).expect("an empty queue");
        let conn = Connection::open(&self.path).expect("the queue");
        conn.execute_batch("PRAGMA synchronous = OFF; BEGIN")
            .expect("the queue");
        for transaction in &self.history {
            write(&conn, transaction);
        }
        conn.execute_batch("COMMIT").expect("the queue");
    }

    fn connect(&mut self) {
        let conn = Connection::open(&self.path).expect("the queue");
        conn.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0")
            .expect("a producer's settings");
        conn.busy_timeout(Duration::ZERO)
            .expect("a producer's settings");
        self.conn = Some(conn);
    }
}

fn write(conn: &Connection, transaction: &Transaction) {
    match transaction {
        Transaction::Orders(orders) => {
            let mut insert = conn
                .prepare_cached("INSERT INTO orders (order_type, action, body) VALUES (?1, ?2, ?3)")
                .expect("the contract's statement");
            for order in orders {
                insert
                    .execute(params![order.order_type.as_str(), order.action, order.body])
                    .expect("the queue takes the order");
            }
        }
        Transaction::Withdrawal(seq) => {
            conn.execute("INSERT INTO withdrawals (seq) VALUES (?1)", [seq])
                .expect("the queue takes the withdrawal");
        }
        Transaction::Pruned(seqs) => {
            let run = |sql: &str, seq: i64| conn.execute(sql, [seq]).expect("the queue is pruned");
            for &seq in seqs {
                run("INSERT INTO prunings (up_to) VALUES (?1)", seq);
                run("DELETE FROM tracking_numbers WHERE seq = ?1", seq);
                run(
                    "DELETE FROM withdrawals WHERE seq = ?1 AND withdrawal < (SELECT max(withdrawal) FROM withdrawals)",
                    seq,
                );
                run("DELETE FROM orders WHERE seq = ?1", seq);
                run("DELETE FROM prunings WHERE up_to = ?1", seq);
            }
        }
        Transaction::Mark(last_payload_id) => {
            conn.execute(
                "UPDATE queue SET ledger_id = ?1, last_payload_id = ?2",
                params![LEDGER_ID, last_payload_id],
            )
            .expect("the queue takes the mark");
        }
    }
}

/// The bytes of a new queue, made once.
fn empty_queue() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("queue.db");
        queue::create(&path, QUEUE_ID).expect("a queue");
        drop(Queue::open(&path).expect("the queue"));
        fs::read(&path).expect("the queue's file")
    })
}
