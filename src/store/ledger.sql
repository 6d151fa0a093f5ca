-- ledger.db: what was sent, to whom, when, and with what answer. The daemon alone writes it.
--
-- Columns in _at are wall time, milliseconds UTC, for people; those in _ms without more are
-- spans, or points on the ledger's clock (see clock_*), which decisions rest on.

-- One row: which ledger this is, which queue it feeds from, and its clock.
CREATE TABLE ledger (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id        TEXT    NOT NULL,
    queue_id         TEXT    NOT NULL,
    -- Counts the queues that were adopted: seqs of one mean nothing in another.
    queue_generation INTEGER NOT NULL DEFAULT 1,
    created_at       INTEGER NOT NULL,
    -- The first webhooks of this ledger begin after this order: 0, unless adopt-queue said so.
    first_cursor     INTEGER NOT NULL DEFAULT 0,
    -- Orders up to this one are done with, for good: they are deleted from the queue, or about to be.
    pruned_up_to     INTEGER NOT NULL DEFAULT 0,
    -- Payloads that were sealed up to then, on the ledger's clock, may be deleted.
    forgotten_ms     INTEGER NOT NULL DEFAULT -1,
    -- When this file was copied from a ledger: it must be restored before it is used. NULL: it is no copy.
    copied_at        INTEGER,
    -- The ledger's clock showed clock_ms in this boot, at this reading of the others.
    clock_ms         INTEGER NOT NULL,
    boot_id          TEXT    NOT NULL,
    boottime_ms      INTEGER NOT NULL,
    wall_at          INTEGER NOT NULL
) STRICT;

-- A row for each webhook that was ever configured: where it stands.
CREATE TABLE webhooks (
    webhook_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT    NOT NULL UNIQUE,
    -- NULL while the configuration has it.
    removed_at     INTEGER,
    -- When pruning first saw that, on the ledger's clock.
    removed_ms     INTEGER,
    -- How far it has come with each order type.
    purchase_order_cursor      INTEGER NOT NULL,
    purchase_order_unpark      INTEGER,
    purchase_order_sealed_last INTEGER NOT NULL,
    transfer_order_cursor      INTEGER NOT NULL,
    transfer_order_unpark      INTEGER,
    transfer_order_sealed_last INTEGER NOT NULL,
    work_order_cursor          INTEGER NOT NULL,
    work_order_unpark          INTEGER,
    work_order_sealed_last     INTEGER NOT NULL,
    seals            INTEGER NOT NULL,
    last_ended_ms    INTEGER,
    failing_since_ms INTEGER,
    -- The version of the selections that it goes by.
    selections_version INTEGER NOT NULL,
    standing          TEXT    NOT NULL,
    standing_reason   TEXT,
    standing_since_ms INTEGER,
    -- Who paused it (D24), and when; NULL while nobody did.
    paused_by         TEXT,
    paused_since_ms   INTEGER,
    -- The payload it is busy with, and its course so far.
    head_payload_id     TEXT,
    head_begun_at       INTEGER,
    head_attempts       INTEGER,
    head_counted        INTEGER,
    head_interruptions  INTEGER,
    head_retry_wait_ms  INTEGER,
    head_in_flight      INTEGER,
    -- The last payload that it sealed: proof that the queue is the one it was sealed from.
    last_payload_id TEXT,
    -- The newest order that was noticed when this row was written: the queue can't be shorter.
    newest_noticed  INTEGER NOT NULL DEFAULT 0,
    -- For people: how its last requests went. Here, so that nobody has to look for them.
    last_success_at INTEGER,
    last_error_at   INTEGER,
    last_error      TEXT
) STRICT;

-- What a webhook subscribed to, and from which order on (D25).
CREATE TABLE selections (
    webhook_id INTEGER NOT NULL,
    from_seq   INTEGER NOT NULL,
    -- Counts a webhook's changes, from 1.
    version    INTEGER NOT NULL,
    selection  TEXT    NOT NULL,
    PRIMARY KEY (webhook_id, from_seq)
) STRICT, WITHOUT ROWID;

-- Every payload that was sealed. Its bytes are made again from the queue's orders.
--
-- The rows of one webhook and order type lie together, in the order in which they were sealed: so lists of them need no
-- index, nor does the question which of them carries an order (see after_seq). Who knows nothing but a payload's id
-- asks for it in each of them, which are few.
CREATE TABLE payloads (
    webhook_id       INTEGER NOT NULL,
    order_type       TEXT    NOT NULL,
    payload_id       TEXT    NOT NULL,
    action           TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    -- All payloads that were sealed before it hold, but for strays, orders up to this one; it holds later ones.
    after_seq        INTEGER NOT NULL,
    -- The payload that it sends again in part, or anew (D22).
    resend_of        TEXT,
    reason           TEXT,
    items            INTEGER NOT NULL,
    attempts         INTEGER NOT NULL,
    -- Of the queue that its orders are in; 0: an older copy of that was adopted, which does not have them.
    queue_generation INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    settled_at       INTEGER,
    -- Its first attempt, if that delivered it, as most do: a row of its own would be a page more to sync for each payload.
    first_started_at  INTEGER,
    first_duration_ms INTEGER,
    first_status      INTEGER,
    first_answer      TEXT,
    encoding         INTEGER NOT NULL,
    -- XXH3 of its bytes.
    checksum         INTEGER NOT NULL,
    -- The seqs of its orders: distances, 7 bits a byte. Last, because it may be long.
    members          BLOB    NOT NULL,
    PRIMARY KEY (webhook_id, order_type, payload_id)
) STRICT, WITHOUT ROWID;

-- Parts and copies are found by what they were made of.
CREATE INDEX payloads_resent ON payloads (webhook_id, resend_of) WHERE resend_of IS NOT NULL;

-- The failed ones are few, asked for often, and never forgotten (D11).
CREATE INDEX payloads_failed ON payloads (webhook_id, payload_id) WHERE state = 'failed';

-- Orders in a payload in which one would not look for them by after_seq: parked ones that returned (D25), and those of
-- parts and copies (D22).
CREATE TABLE strays (
    webhook_id INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    payload_id TEXT    NOT NULL,
    PRIMARY KEY (webhook_id, seq, payload_id)
) STRICT, WITHOUT ROWID;

-- When a queue was adopted, on the ledger's clock: cursors went back then, and after_seq with them.
CREATE TABLE adoptions (
    adopted_ms       INTEGER PRIMARY KEY,
    -- Of the queue that was adopted.
    queue_generation INTEGER NOT NULL
) STRICT;

-- What an operator asked a webhook to send, until that is done: resends (D20 to D23) and tests.
CREATE TABLE errands (
    webhook_id    INTEGER NOT NULL,
    -- A test's is its own, and in no payload's row.
    payload_id    TEXT    NOT NULL,
    -- What a test is for, as in purchase_order.submit; NULL: a resend.
    test_of       TEXT,
    -- A test goes although the interval is not over.
    unpaced       INTEGER NOT NULL DEFAULT 0,
    -- Of a resend, what becomes of orders of which a later version was delivered: nothing of it goes (0), they are left
    -- out (1), they go all the same (2).
    older         INTEGER NOT NULL DEFAULT 0,
    asked_at      INTEGER NOT NULL,
    -- Not before this, on the ledger's clock; the greatest number: not before somebody says so.
    due_ms        INTEGER NOT NULL,
    counted       INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    in_flight     INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, payload_id)
) STRICT, WITHOUT ROWID;

-- What is in flight, then what is due first.
CREATE INDEX errands_next ON errands (webhook_id, in_flight DESC, due_ms, payload_id);

-- What an operator told a webhook, until its lane has heeded it: when no request is in flight.
CREATE TABLE instructions (
    instruction_id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id     INTEGER NOT NULL,
    -- pause, resume, retry_now, discard
    told           TEXT    NOT NULL,
    -- Of discard: what.
    payload_id     TEXT,
    -- Of pause, who says so; of discard, why.
    words          TEXT,
    told_at        INTEGER NOT NULL
) STRICT;

-- Every other attempt that ended.
CREATE TABLE other_attempts (
    payload_id  TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    duration_ms INTEGER,
    phase       TEXT,
    outcome     TEXT    NOT NULL,
    status      INTEGER,
    error       TEXT,
    -- The beginning of the answer's body: 256 bytes of a success, 2 KiB of a failure.
    answer      TEXT,
    PRIMARY KEY (payload_id, number)
) STRICT, WITHOUT ROWID;

-- Every attempt that ended.
CREATE VIEW attempts AS
    SELECT payload_id, number, started_at, duration_ms, phase, outcome, status, error, answer FROM other_attempts
    UNION ALL
    SELECT payload_id, 1, first_started_at, first_duration_ms, 'answered', 'delivered', first_status, NULL, first_answer
    FROM webhooks CROSS JOIN payloads USING (webhook_id)
    WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order') AND first_started_at IS NOT NULL;

-- Orders that belong to a webhook and are no longer selected (D25).
CREATE TABLE parked (
    webhook_id INTEGER NOT NULL,
    order_type TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, order_type, seq)
) STRICT, WITHOUT ROWID;

-- Parked orders that somebody dropped: those of a webhook and order type up to this one.
CREATE TABLE dropped (
    webhook_id INTEGER NOT NULL,
    order_type TEXT    NOT NULL,
    up_to      INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, order_type)
) STRICT, WITHOUT ROWID;

-- Rows of the queue that can't be delivered to anyone.
CREATE TABLE set_aside (
    queue_generation INTEGER NOT NULL,
    seq              INTEGER NOT NULL,
    order_type       TEXT    NOT NULL,
    reason           TEXT    NOT NULL,
    noticed_at       INTEGER NOT NULL,
    PRIMARY KEY (queue_generation, seq)
) STRICT, WITHOUT ROWID;

-- Which order was the newest that was noticed, now and then: so the age of orders is told by the ledger's clock, and not
-- by what their producers say.
CREATE TABLE milestones (
    noticed_ms INTEGER PRIMARY KEY,
    noticed_at INTEGER NOT NULL,
    newest_seq INTEGER NOT NULL
) STRICT;

-- What the daemon does for itself: how it went last.
CREATE TABLE chores (
    -- prune, backup
    chore      TEXT    NOT NULL PRIMARY KEY,
    begun_at   INTEGER NOT NULL,
    -- NULL: it is under way, or was cut off.
    ended_at   INTEGER,
    -- When it last succeeded.
    success_at INTEGER,
    -- What came of it, in words.
    words      TEXT,
    -- Why it failed; NULL: it did not.
    failure    TEXT
) STRICT, WITHOUT ROWID;
