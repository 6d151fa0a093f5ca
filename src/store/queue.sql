-- The queue: the one file that other people's programs write, so this is a public interface.
--
-- It takes inserts from SQLite 3.26 (2018) with its JSON functions and from every later version. Nothing newer is used
-- here: no STRICT tables, no generated columns, no RETURNING. docs/refusals.md lists every message below, word for word.
--
-- Why triggers and no CHECK constraints: INSERT OR IGNORE skips a row that fails a CHECK or a NOT NULL, and says
-- nothing. RAISE(ABORT) in a trigger fails the statement whatever its OR clause says, and carries a message of ours.
--
-- Every message reads "name: what is allowed".

-- One row, made by `init`: which queue this is, and which ledger feeds from it, as far as that ledger has come.
CREATE TABLE queue (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    queue_id        TEXT NOT NULL,
    ledger_id       TEXT,           -- NULL before the first ledger
    last_payload_id TEXT,           -- the newest payload sealed from this queue; NULL before the first
    created_at      TEXT NOT NULL
);

CREATE TABLE orders (
    -- AUTOINCREMENT: a seq never comes back, not even after the newest orders were pruned.
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    order_type TEXT NOT NULL,
    action     TEXT NOT NULL DEFAULT 'submit',
    queued_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    dedup_key  TEXT,
    -- Last, so that reading the other columns touches none of a long order's overflow pages.
    body       TEXT NOT NULL
);

-- Ends in the rowid, as every index does: one type's orders are read from it in the order of their seq.
CREATE INDEX orders_by_type ON orders (order_type);

CREATE UNIQUE INDEX orders_by_dedup_key ON orders (dedup_key) WHERE dedup_key IS NOT NULL;

-- Where a tracking number is found. A table and not an index on json_extract(body, ...): versions of SQLite read some
-- JSON differently, and an expression index that two of them maintain ends up corrupt. Here the number is computed
-- once, by whoever inserts.
CREATE TABLE tracking_numbers (
    tracking_number TEXT NOT NULL,
    order_type      TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    PRIMARY KEY (tracking_number, order_type, seq)
) WITHOUT ROWID;

-- Orders that their producers took back: not sent to any webhook for which they are not in a payload yet.
CREATE TABLE withdrawals (
    withdrawal   INTEGER PRIMARY KEY AUTOINCREMENT,
    seq          INTEGER NOT NULL UNIQUE,
    withdrawn_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- Empty, but for the daemon's own transactions that prune: orders up to this one may be deleted while the row is there,
-- and it is gone again before the transaction ends. So nobody deletes an order by accident.
CREATE TABLE prunings (
    up_to INTEGER NOT NULL
);

-- What can be told without reading the JSON. It must be told *before* the insert: OR IGNORE drops a row with a NULL,
-- and OR REPLACE deletes the row in its way (without firing DELETE triggers), before any AFTER trigger runs.
--
-- The statements run from top to bottom, and each relies on those above it. NULL is asked for by typeof() or IS: a
-- comparison with NULL is neither true nor false, and would refuse nothing. GLOB and length() stop at a NUL character,
-- so instr() looks for one.
CREATE TRIGGER orders_before_insert BEFORE INSERT ON orders
BEGIN
    -- OR REPLACE would overwrite that order. A seq left out reads as -1 here; any other wrong one is refused afterwards.
    SELECT RAISE(ABORT, 'seq: leave it out; the queue numbers its orders itself')
    WHERE EXISTS (SELECT 1 FROM orders WHERE seq = NEW.seq);

    SELECT RAISE(ABORT, 'order_type: must be purchase_order, transfer_order or work_order')
    WHERE NEW.order_type IS NOT 'purchase_order'
      AND NEW.order_type IS NOT 'transfer_order'
      AND NEW.order_type IS NOT 'work_order';

    SELECT RAISE(ABORT, 'action: must be 1 to 64 of the characters A-Z a-z 0-9 _ -')
    WHERE typeof(NEW.action) <> 'text'
       OR length(NEW.action) NOT BETWEEN 1 AND 64
       OR NEW.action GLOB '*[^A-Za-z0-9_-]*'
       OR instr(NEW.action, char(0)) > 0;

    -- The way over julianday() finds 30 February and hour 24: SQLite's own parser takes both, and by that number it
    -- writes them as the day after.
    SELECT RAISE(ABORT, 'queued_at: leave it out, or give UTC with milliseconds: 2026-01-31T23:59:59.000Z')
    WHERE typeof(NEW.queued_at) <> 'text'
       OR length(CAST(NEW.queued_at AS BLOB)) <> 24
       OR NEW.queued_at NOT GLOB
          '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'
       OR strftime('%Y-%m-%dT%H', julianday(NEW.queued_at)) IS NOT substr(NEW.queued_at, 1, 13);

    -- The class of characters is U+0001 to U+001F and U+007F to U+009F; 45 is the hyphen.
    SELECT RAISE(ABORT, 'dedup_key: must be 1 to 200 characters without control characters, or NULL')
    WHERE NEW.dedup_key IS NOT NULL
      AND (typeof(NEW.dedup_key) <> 'text'
           OR length(NEW.dedup_key) NOT BETWEEN 1 AND 200
           OR NEW.dedup_key GLOB '*[' || char(1, 45, 31, 127, 45, 159) || ']*'
           OR instr(NEW.dedup_key, char(0)) > 0);

    SELECT RAISE(ABORT, 'dedup_key: this order is in the queue already; nothing is left to do')
    WHERE EXISTS (SELECT 1 FROM orders WHERE dedup_key = NEW.dedup_key);

    SELECT RAISE(ABORT, 'body: must be text, not NULL and not a blob')
    WHERE typeof(NEW.body) <> 'text';

    SELECT RAISE(ABORT, 'body: must be at most 16 MiB (16777216 bytes)')
    WHERE length(CAST(NEW.body AS BLOB)) > 16777216;

    -- The JSON functions of older versions stop at a NUL and call what stands before it valid. So does printf(), by
    -- which one is found in a fraction of the time that instr() takes over a long text.
    SELECT RAISE(ABORT, 'body: must not contain a NUL character')
    WHERE printf('%s', NEW.body) <> NEW.body;
END;

-- What the JSON says, and the seq that the order got. All of it in one trigger: SQLite keeps the parsed JSON while a
-- trigger runs, not from one to the next. Refusing here undoes the insert.
CREATE TRIGGER orders_after_insert AFTER INSERT ON orders
BEGIN
    -- One far too high would end all inserts for ever (2^63-1 has no next), and a low one would never be read: the
    -- daemon has passed it. sqlite_sequence is written when the statement ends, so of an INSERT of several rows only
    -- the table shows the ones before this; of a table that was pruned empty only sqlite_sequence knows the last.
    SELECT RAISE(ABORT, 'seq: leave it out; the queue numbers its orders itself')
    WHERE NEW.seq <> 1 + max(
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'orders'), 0),
        coalesce((SELECT seq FROM orders WHERE seq < NEW.seq ORDER BY seq DESC LIMIT 1), 0));

    -- First of all that looks into the JSON: the other functions fail on a malformed one with a message of their own.
    SELECT RAISE(ABORT, 'body: must be valid JSON')
    WHERE NOT json_valid(NEW.body);

    SELECT RAISE(ABORT, 'body: must be one JSON object: {"TrackingNumber": ...}')
    WHERE json_type(NEW.body) <> 'object';

    -- An escaped spelling ("Track\u0069ngNumber") is found by newer versions' JSON functions and not by older ones';
    -- of two members some readers take the first and some the last. Looking closely is slow, so only orders look twice
    -- that spell the name twice, or hold an escaped letter (\u0041 to \u007a). With /u for each \u the JSON stays valid,
    -- also where a backslash before it was meant (\\u becomes \/u), and an escaped name is none any more. Of a name that
    -- goes on after \u0000 some functions see the beginning alone: read with \u0001 it is found.
    SELECT RAISE(ABORT, 'TrackingNumber: must be a member of the order itself, spelled without escapes')
    WHERE json_type(NEW.body, '$.TrackingNumber') IS NULL
       OR NEW.body GLOB '*\u00[4-7]*'
          AND json_type(replace(NEW.body, '\u', '/u'), '$.TrackingNumber') IS NULL
       OR NEW.body GLOB '*\u0000*'
          AND EXISTS (SELECT 1 FROM json_each(replace(NEW.body, '\u0000', '\u0001'))
                      WHERE key GLOB 'TrackingNumber' || char(1) || '*');

    SELECT RAISE(ABORT, 'TrackingNumber: must stand in the order only once')
    WHERE (NEW.body GLOB '*TrackingNumber"*TrackingNumber"*' OR NEW.body GLOB '*\u00[4-7]*')
      AND (SELECT count(*) FROM json_each(NEW.body) WHERE key = 'TrackingNumber') > 1;

    -- An escaped pair of surrogates ("\ud83d\ude00") is one character to newer versions and two broken ones to older
    -- ones; half a pair is no character at all. Extracted twice, the member comes as it was written, in an array.
    SELECT RAISE(ABORT, 'TrackingNumber: must hold characters beyond U+FFFF as they are, not as \u escapes')
    WHERE NEW.body GLOB '*\u[dD][89A-Fa-f]*'
      AND json_type(NEW.body, '$.TrackingNumber') = 'text'
      AND replace(json_extract(NEW.body, '$.TrackingNumber', '$.TrackingNumber'), '\\', '//')
          GLOB '*\u[dD][89A-Fa-f]*';

    -- An integer of more than 64 bits has the type 'integer' and comes out as a real.
    SELECT RAISE(ABORT, 'TrackingNumber: must be a 64-bit integer, or a string of 1 to 200 characters without control characters')
    WHERE CASE json_type(NEW.body, '$.TrackingNumber')
          WHEN 'integer' THEN typeof(json_extract(NEW.body, '$.TrackingNumber')) <> 'integer'
          WHEN 'text' THEN length(json_extract(NEW.body, '$.TrackingNumber')) NOT BETWEEN 1 AND 200
              OR json_extract(NEW.body, '$.TrackingNumber') GLOB '*[' || char(1, 45, 31, 127, 45, 159) || ']*'
              -- Some versions end a string at \u0000, so it is read as \u0001, which they all refuse above.
              OR NEW.body GLOB '*\u0000*'
              AND json_extract(replace(NEW.body, '\u0000', '\u0001'), '$.TrackingNumber') GLOB '*' || char(1) || '*'
          ELSE 1
          END;

    INSERT INTO tracking_numbers (tracking_number, order_type, seq)
    VALUES (json_extract(NEW.body, '$.TrackingNumber'), NEW.order_type, NEW.seq);
END;

CREATE TRIGGER orders_before_update BEFORE UPDATE ON orders
BEGIN
    SELECT RAISE(ABORT, 'orders: an order never changes; queue a new one, or withdraw this one: INSERT INTO withdrawals (seq) VALUES (...)');
END;

CREATE TRIGGER orders_before_delete BEFORE DELETE ON orders
BEGIN
    SELECT RAISE(ABORT, 'orders: an order is never deleted; withdraw it instead: INSERT INTO withdrawals (seq) VALUES (...)')
    WHERE NOT EXISTS (SELECT 1 FROM prunings WHERE OLD.seq <= up_to);
END;

-- An order whose statement has not ended is in orders and not yet in sqlite_sequence: so only the trigger above gets
-- past this.
CREATE TRIGGER tracking_numbers_before_insert BEFORE INSERT ON tracking_numbers
BEGIN
    SELECT RAISE(ABORT, 'tracking_numbers: leave this table alone; the queue fills it from the orders')
    WHERE NOT EXISTS (SELECT 1 FROM orders WHERE seq = NEW.seq)
       OR NEW.seq <= (SELECT seq FROM sqlite_sequence WHERE name = 'orders');
END;

CREATE TRIGGER tracking_numbers_before_update BEFORE UPDATE ON tracking_numbers
BEGIN
    SELECT RAISE(ABORT, 'tracking_numbers: leave this table alone; the queue fills it from the orders');
END;

CREATE TRIGGER tracking_numbers_before_delete BEFORE DELETE ON tracking_numbers
BEGIN
    SELECT RAISE(ABORT, 'tracking_numbers: leave this table alone; the queue fills it from the orders')
    WHERE NOT EXISTS (SELECT 1 FROM prunings WHERE OLD.seq <= up_to);
END;

CREATE TRIGGER withdrawals_before_insert BEFORE INSERT ON withdrawals
BEGIN
    SELECT RAISE(ABORT, 'withdrawal: leave it out; the queue numbers its withdrawals itself')
    WHERE EXISTS (SELECT 1 FROM withdrawals WHERE withdrawal = NEW.withdrawal);

    SELECT RAISE(ABORT, 'seq: must be the seq of an order in the queue')
    WHERE NOT EXISTS (SELECT 1 FROM orders WHERE seq = NEW.seq);

    SELECT RAISE(ABORT, 'seq: this order is withdrawn already; nothing is left to do')
    WHERE EXISTS (SELECT 1 FROM withdrawals WHERE seq = NEW.seq);

    SELECT RAISE(ABORT, 'withdrawn_at: leave it out, or give UTC with milliseconds: 2026-01-31T23:59:59.000Z')
    WHERE typeof(NEW.withdrawn_at) <> 'text'
       OR length(CAST(NEW.withdrawn_at AS BLOB)) <> 24
       OR NEW.withdrawn_at NOT GLOB
          '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]Z'
       OR strftime('%Y-%m-%dT%H', julianday(NEW.withdrawn_at)) IS NOT substr(NEW.withdrawn_at, 1, 13);
END;

-- The same rule as for the seq of an order, for the same reasons.
CREATE TRIGGER withdrawals_after_insert AFTER INSERT ON withdrawals
BEGIN
    SELECT RAISE(ABORT, 'withdrawal: leave it out; the queue numbers its withdrawals itself')
    WHERE NEW.withdrawal <> 1 + max(
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'withdrawals'), 0),
        coalesce((SELECT withdrawal FROM withdrawals WHERE withdrawal < NEW.withdrawal
                  ORDER BY withdrawal DESC LIMIT 1), 0));
END;

CREATE TRIGGER withdrawals_before_update BEFORE UPDATE ON withdrawals
BEGIN
    SELECT RAISE(ABORT, 'withdrawals: a withdrawal is never changed or taken back; queue the order again instead');
END;

CREATE TRIGGER withdrawals_before_delete BEFORE DELETE ON withdrawals
BEGIN
    SELECT RAISE(ABORT, 'withdrawals: a withdrawal is never changed or taken back; queue the order again instead')
    WHERE NOT EXISTS (SELECT 1 FROM prunings WHERE OLD.seq <= up_to);
END;
