//! What the queue takes and what it refuses, word for word, told by SQLite alone: the daemon is not involved.

use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const SCHEMA: &str = include_str!("../../src/store/queue.sql");
const REFUSALS_PAGE: &str = include_str!("../../docs/refusals.md");

/// What the statements below find: orders 1 to 3, of which 2 is withdrawn and 3 has the dedup key `erp-3`.
pub(crate) const BEFORE: &str = r#"
    INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{"TrackingNumber": 1}');
    INSERT INTO orders (order_type, body) VALUES ('transfer_order', '{"TrackingNumber": "T-2"}');
    INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'erp-3', '{"TrackingNumber": 3}');
    INSERT INTO withdrawals (seq) VALUES (2);
"#;

const ORDER_TYPE: &str = "order_type: must be purchase_order, transfer_order or work_order";
const ACTION: &str = "action: must be 1 to 64 of the characters A-Z a-z 0-9 _ -";
const QUEUED_AT: &str =
    "queued_at: leave it out, or give UTC with milliseconds: 2026-01-31T23:59:59.000Z";
const DEDUP_KEY: &str =
    "dedup_key: must be 1 to 200 characters without control characters, or NULL";
const DEDUP_KEY_AGAIN: &str =
    "dedup_key: this order is in the queue already; nothing is left to do";
const BODY_TYPE: &str = "body: must be text, not NULL and not a blob";
const BODY_SIZE: &str = "body: must be at most 16 MiB (16777216 bytes)";
const BODY_NUL: &str = "body: must not contain a NUL character";
const BODY_JSON: &str = "body: must be valid JSON";
const BODY_OBJECT: &str = r#"body: must be one JSON object: {"TrackingNumber": ...}"#;
const TRACKING_NUMBER: &str = "TrackingNumber: must be a 64-bit integer, or a string of 1 to 200 characters without control characters";
const TRACKING_NUMBER_ESCAPES: &str =
    r"TrackingNumber: must hold characters beyond U+FFFF as they are, not as \u escapes";
const TRACKING_NUMBER_LITERAL: &str =
    "TrackingNumber: must be a member of the order itself, spelled without escapes";
const TRACKING_NUMBER_TWICE: &str = "TrackingNumber: must stand in the order only once";
const SEQ: &str = "seq: leave it out; the queue numbers its orders itself";
const UPDATE: &str = "orders: an order never changes; queue a new one, or withdraw this one: INSERT INTO withdrawals (seq) VALUES (...)";
const DELETE: &str = "orders: an order is never deleted; withdraw it instead: INSERT INTO withdrawals (seq) VALUES (...)";
const TRACKING_NUMBERS: &str =
    "tracking_numbers: leave this table alone; the queue fills it from the orders";
const WITHDRAWAL: &str = "withdrawal: leave it out; the queue numbers its withdrawals itself";
const WITHDRAWAL_SEQ: &str = "seq: must be the seq of an order in the queue";
const WITHDRAWAL_AGAIN: &str = "seq: this order is withdrawn already; nothing is left to do";
const WITHDRAWN_AT: &str =
    "withdrawn_at: leave it out, or give UTC with milliseconds: 2026-01-31T23:59:59.000Z";
const WITHDRAWALS: &str =
    "withdrawals: a withdrawal is never changed or taken back; queue the order again instead";

/// Statement and message. Control characters are spelled `char(...)`, and long texts are computed, so that every
/// producer's tool can be given the same lines.
#[rustfmt::skip]
pub(crate) const REFUSED: &[(&str, &str)] = &[
    // order_type
    ("INSERT INTO orders DEFAULT VALUES", ORDER_TYPE),
    (r#"INSERT INTO orders (body) VALUES ('{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES (NULL, '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('', '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('PO', '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('Purchase_Order', '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('purchase_order ', '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('purchase_order' || char(0), '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES (CAST('purchase_order' AS BLOB), '{"TrackingNumber":9}')"#, ORDER_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES (1, '{"TrackingNumber":9}')"#, ORDER_TYPE),
    // action
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', NULL, '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', '', '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'sub mit', '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'a.b', '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'löschen', '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'a' || char(10), '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'submit' || char(0), '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', char(0), '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', x'7375626d6974', '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', 1.5, '{"TrackingNumber":9}')"#, ACTION),
    (r#"INSERT INTO orders (order_type, action, body) VALUES ('work_order', substr(hex(zeroblob(40)), 1, 65), '{"TrackingNumber":9}')"#, ACTION),
    // queued_at
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', NULL, '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', 1767225600, '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', 'now', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31T10:00:00Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31 10:00:00.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31T10:00:00.000+01:00', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-02-30T10:00:00.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-13-01T10:00:00.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-00-01T10:00:00.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-00T10:00:00.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31T24:00:00.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31T23:59:60.000Z', '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', '2026-01-31T10:00:00.000Z' || char(0), '{"TrackingNumber":9}')"#, QUEUED_AT),
    (r#"INSERT INTO orders (order_type, queued_at, body) VALUES ('work_order', CAST('2026-01-31T10:00:00.000Z' AS BLOB), '{"TrackingNumber":9}')"#, QUEUED_AT),
    // dedup_key
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', '', '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', x'61', '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', char(0), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'a' || char(0), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'a' || char(1), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'a' || char(31), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'a' || char(127), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'a' || char(159), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', substr(hex(zeroblob(101)), 1, 201), '{"TrackingNumber":9}')"#, DEDUP_KEY),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'erp-3', '{"TrackingNumber":9}')"#, DEDUP_KEY_AGAIN),
    (r#"INSERT INTO orders (order_type, dedup_key, body) VALUES ('work_order', 'k', '{"TrackingNumber":9}'), ('work_order', 'k', '{"TrackingNumber":9}')"#, DEDUP_KEY_AGAIN),
    // body
    ("INSERT INTO orders (order_type) VALUES ('work_order')", BODY_TYPE),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', NULL)", BODY_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', CAST('{"TrackingNumber":9}' AS BLOB))"#, BODY_TYPE),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', zeroblob(10))", BODY_TYPE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9}' || substr(replace(hex(zeroblob(8388608)), '0', ' '), 20))"#, BODY_SIZE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"' || replace(hex(zeroblob(3000000)), '0', '€') || '"}')"#, BODY_SIZE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9}' || char(0))"#, BODY_NUL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9}' || char(0) || '{}')"#, BODY_NUL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,"a":"' || char(0) || '"}')"#, BODY_NUL),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', char(0))", BODY_NUL),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', '')", BODY_JSON),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', 'TrackingNumber 9')", BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9}}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9} {"TrackingNumber":10}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,}')"#, BODY_JSON),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', '{TrackingNumber:9}')", BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":0x10}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":09}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":+9}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":NaN}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9} // ok')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', char(65279) || '{"TrackingNumber":9}')"#, BODY_JSON),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"a' || char(10) || 'b"}')"#, BODY_JSON),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', '9')", BODY_OBJECT),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', 9)", BODY_OBJECT),
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', 'null')", BODY_OBJECT),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '"TrackingNumber"')"#, BODY_OBJECT),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '[{"TrackingNumber":9}]')"#, BODY_OBJECT),
    // TrackingNumber: missing, nested, escaped, twice
    ("INSERT INTO orders (order_type, body) VALUES ('work_order', '{}')", TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"trackingNumber":9}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"x":"TrackingNumber"}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"Order":{"TrackingNumber":9}}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"T\u0072ackingNumber":9,"\\user":"\\u0041"}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"Track\u0069ngNumber":9}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumbe\u0072":9}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"Tracking\u004eumber":9}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"Tracking\u004Eumber":9}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"\u0054rackingNumber":9,"x":{"TrackingNumber":8}}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"\u0054rackingNumber":9,"x":"\\","y":"TrackingNumber"}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber\u0000x":9}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber\u0000x":9,"TrackingNumber":8}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"Track\u0069ngNumber\u0000":9,"TrackingNumber":8}')"#, TRACKING_NUMBER_LITERAL),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,"TrackingNumber":10}')"#, TRACKING_NUMBER_TWICE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,"TrackingNumber":9}')"#, TRACKING_NUMBER_TWICE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,"Tracking\u004eumber":10}')"#, TRACKING_NUMBER_TWICE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,"TrackingNumbe\u0072":10}')"#, TRACKING_NUMBER_TWICE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9,"Track\u0069ngNumber":10}')"#, TRACKING_NUMBER_TWICE),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"Track\u0069ngNumber":10,"TrackingNumber":9}')"#, TRACKING_NUMBER_TWICE),
    // TrackingNumber: its value
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":null}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":true}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":false}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9.0}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9e3}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":[9]}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":{"TrackingNumber":9}}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9223372036854775808}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":-9223372036854775809}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":12345678901234567890123456789}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":""}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"' || substr(hex(zeroblob(101)), 1, 201) || '"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"' || replace(substr(hex(zeroblob(101)), 1, 201), '0', '€') || '"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"\u0000"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\u0000"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\\\u0000x"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\u0001"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\n"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"\t9"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\u001f"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\u007f"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9' || char(127) || '"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\u0080"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9' || char(133) || '"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"9\u009F"}')"#, TRACKING_NUMBER),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"\ud83d\ude00"}')"#, TRACKING_NUMBER_ESCAPES),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"A\\\uD83D\uDE00B"}')"#, TRACKING_NUMBER_ESCAPES),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"\uD800"}')"#, TRACKING_NUMBER_ESCAPES),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":"\udfff"}')"#, TRACKING_NUMBER_ESCAPES),
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":["\ud83d\ude00"]}')"#, TRACKING_NUMBER),
    // seq: taken, too low, too high, the last there is
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (1, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (3, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES ('3', 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (rowid, order_type, body) VALUES (3.0, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (0, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (-1, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (-9223372036854775808, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (5, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (oid, order_type, body) VALUES (9223372036854775807, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (NULL, 'work_order', '{"TrackingNumber":9}'), (6, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    (r#"INSERT INTO orders (seq, order_type, body) VALUES (4, 'work_order', '{"TrackingNumber":9}'), (4, 'work_order', '{"TrackingNumber":9}')"#, SEQ),
    ("INSERT INTO orders SELECT * FROM orders", SEQ),
    // one bad row among good ones
    (r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9}'), ('work_order', '{}')"#, TRACKING_NUMBER_LITERAL),
    ("INSERT INTO orders (order_type, body) SELECT order_type, CASE seq WHEN 3 THEN '[]' ELSE body END FROM orders", BODY_OBJECT),
    // an order stays as it is
    ("UPDATE orders SET action = 'update' WHERE seq = 1", UPDATE),
    ("UPDATE orders SET seq = 4 WHERE seq = 3", UPDATE),
    ("UPDATE orders SET seq = 3 WHERE seq = 1", UPDATE),
    ("UPDATE orders SET dedup_key = 'erp-3'", UPDATE),
    ("UPDATE orders SET body = body", UPDATE),
    ("DELETE FROM orders WHERE seq = 1", DELETE),
    ("DELETE FROM orders", DELETE),
    // where tracking numbers are found
    ("INSERT INTO tracking_numbers VALUES ('9', 'purchase_order', 1)", TRACKING_NUMBERS),
    ("INSERT INTO tracking_numbers VALUES ('1', 'purchase_order', 1)", TRACKING_NUMBERS),
    ("INSERT INTO tracking_numbers VALUES ('9', 'work_order', 3)", TRACKING_NUMBERS),
    ("INSERT INTO tracking_numbers VALUES ('4', 'work_order', 4)", TRACKING_NUMBERS),
    ("INSERT INTO tracking_numbers VALUES (NULL, NULL, NULL)", TRACKING_NUMBERS),
    ("UPDATE tracking_numbers SET tracking_number = '9'", TRACKING_NUMBERS),
    ("DELETE FROM tracking_numbers", TRACKING_NUMBERS),
    // withdrawals
    ("INSERT INTO withdrawals DEFAULT VALUES", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES (NULL)", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES (0)", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES (4)", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES (1.5)", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES ('T-2')", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES (x'31')", WITHDRAWAL_SEQ),
    ("INSERT INTO withdrawals (seq) VALUES (2)", WITHDRAWAL_AGAIN),
    ("INSERT INTO withdrawals (seq) VALUES (1), (1)", WITHDRAWAL_AGAIN),
    ("INSERT INTO withdrawals (seq) SELECT seq FROM orders", WITHDRAWAL_AGAIN),
    ("INSERT INTO withdrawals (withdrawal, seq) VALUES (1, 3)", WITHDRAWAL),
    ("INSERT INTO withdrawals (withdrawal, seq) VALUES (0, 3)", WITHDRAWAL),
    ("INSERT INTO withdrawals (withdrawal, seq) VALUES (3, 3)", WITHDRAWAL),
    ("INSERT INTO withdrawals (rowid, seq) VALUES (9223372036854775807, 3)", WITHDRAWAL),
    ("INSERT INTO withdrawals (seq, withdrawn_at) VALUES (3, NULL)", WITHDRAWN_AT),
    ("INSERT INTO withdrawals (seq, withdrawn_at) VALUES (3, 'yesterday')", WITHDRAWN_AT),
    ("INSERT INTO withdrawals (seq, withdrawn_at) VALUES (3, '2026-02-30T10:00:00.000Z')", WITHDRAWN_AT),
    ("INSERT INTO withdrawals (seq, withdrawn_at) VALUES (3, '2026-01-31T10:00:00.000Z' || char(0))", WITHDRAWN_AT),
    ("INSERT INTO withdrawals (seq, withdrawn_at) VALUES (3, '2026-01-31 10:00:00.000Z')", WITHDRAWN_AT),
    ("UPDATE withdrawals SET seq = 3", WITHDRAWALS),
    ("DELETE FROM withdrawals", WITHDRAWALS),
];

/// Orders that the queue takes: the body, and the tracking number under which the order is found.
#[rustfmt::skip]
pub(crate) const TAKEN: &[(&str, &str)] = &[
    (r#"'{"TrackingNumber":0}'"#, "0"),
    (r#"'{"TrackingNumber":-5}'"#, "-5"),
    (r#"'{"TrackingNumber":9223372036854775807}'"#, "9223372036854775807"),
    (r#"'{"TrackingNumber":-9223372036854775808}'"#, "-9223372036854775808"),
    (r#"'{"TrackingNumber":"007"}'"#, "007"),
    (r#"'{"TrackingNumber":"12345678901234567890123456789"}'"#, "12345678901234567890123456789"),
    (r#"'{"TrackingNumber":"Größe 5 \"A\" \\ \/ €"}'"#, r#"Größe 5 "A" \ / €"#),
    (r#"'{"TrackingNumber":"\u0041\u00e9\ud55c😀","a":"\ud83d\ude00"}'"#, "Aé한😀"),
    (r#"'{"TrackingNumber":"\\ud83d\\uDE00"}'"#, r"\ud83d\uDE00"),
    (r#"'{"TrackingNumber":"\\u0000"}'"#, r"\u0000"),
    (r#"'{"TrackingNumber":9,"x\u0000":"TrackingNumber\u0000","y":{"TrackingNumber\\u0000":1}}'"#, "9"),
    (r#"'{"TrackingNumber":"' || char(160) || '"}'"#, "\u{a0}"),
    (r#"'{"TrackingNumber":" "}'"#, " "),
    (r#"' {"a":[1,{"b":null}],"TrackingNumber" : 1 } ' || char(10)"#, "1"),
    // the name once at the top, and elsewhere as often as one likes
    (r#"'{"TrackingNumber":2,"Lines":[{"TrackingNumber":3},{"TrackingNumber":4}],"x":{"TrackingNumber":5}}'"#, "2"),
    (r#"'{"Lines":[{"TrackingNumber":3}],"TrackingNumber":2,"Key":"TrackingNumber"}'"#, "2"),
    // escapes that spell no name
    (r#"'{"TrackingNumber":6,"a":"\u0041","\u0062":"\u0000\n\\u0069","c":"\\\u0069\\","d":"\\user"}'"#, "6"),
    (r#"'{"TrackingNumber":7,"a":"\\\\","Order":{"Track\u0069ngNumber":8}}'"#, "7"),
    // numbers and repeated names that are none of the queue's business
    (r#"'{"TrackingNumber":8,"a":12345678901234567890123456789,"b":1e400,"a":19.90}'"#, "8"),
    // as long as allowed, in characters and in bytes
    (r#"'{"TrackingNumber":"' || replace(substr(hex(zeroblob(100)), 1, 200), '0', 'x') || '","a":1}'"#,
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    (r#"'{"TrackingNumber":10}' || substr(replace(hex(zeroblob(8388608)), '0', ' '), 22)"#, "10"),
];

#[test]
fn every_way_around_the_rules_is_refused_with_its_message() {
    let queue = queue();
    let before = contents(&queue);
    for (statement, message) in REFUSED {
        for statement in ways_around(statement) {
            assert_eq!(run(&queue, &statement), *message, "{statement}");
            assert_eq!(contents(&queue), before, "changed by {statement}");
        }
    }
}

#[test]
fn a_refusal_ends_its_statement_and_not_the_transaction() {
    let queue = queue();
    for (statement, message) in REFUSED {
        let before = contents(&queue);
        for statement in ways_around(statement) {
            queue.execute_batch("BEGIN IMMEDIATE").unwrap();
            assert_eq!(run(&queue, &statement), *message, "{statement}");
            assert!(!queue.is_autocommit(), "{statement}");
            queue.execute_batch("COMMIT").unwrap();
        }
        assert_eq!(contents(&queue), before, "changed by {statement}");
    }
}

#[test]
fn what_the_rules_allow_is_taken_and_found_by_its_tracking_number() {
    let queue = queue();
    for (body, tracking_number) in TAKEN {
        let statement = insert(body);
        assert_eq!(run(&queue, &statement), "ok", "{statement}");
        assert_eq!(
            last_tracking_number(&queue),
            *tracking_number,
            "{statement}"
        );
    }
}

#[test]
fn optional_columns_are_taken_as_given() {
    let queue = queue();
    let longest_action = "A".repeat(64);
    let longest_key = "€".repeat(200);
    for (columns, values) in [
        ("action", "'FULFILLED'"),
        ("action", "'a-b_C-9'"),
        ("action", "7"),
        ("action", &*format!("'{longest_action}'")),
        ("queued_at", "'2024-02-29T23:59:59.999Z'"),
        ("queued_at", "'1999-12-31T00:00:00.001Z'"),
        ("dedup_key", "NULL"),
        ("dedup_key", "'ERP-3'"),
        ("dedup_key", "17"),
        ("dedup_key", &*format!("'{longest_key}'")),
        ("seq", "NULL"),
        ("seq", "(SELECT max(seq) + 1 FROM orders)"),
    ] {
        let statement = format!(
            r#"INSERT INTO orders ({columns}, order_type, body) VALUES ({values}, 'work_order', '{{"TrackingNumber":9}}')"#
        );
        assert_eq!(run(&queue, &statement), "ok", "{statement}");
    }
}

#[test]
fn defaults_are_submit_and_now() {
    let queue = queue();
    let (action, is_now): (String, bool) = queue
        .query_row(
            "SELECT action, abs(julianday('now') - julianday(queued_at)) * 86400 < 60 FROM orders WHERE seq = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!((action.as_str(), is_now), ("submit", true));
}

#[test]
fn one_statement_inserts_many_orders() {
    let queue = queue();
    queue
        .execute_batch(
            r#"INSERT INTO orders (order_type, body)
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
               SELECT 'transfer_order', '{"TrackingNumber":' || i || '}' FROM n"#,
        )
        .unwrap();
    queue
        .execute_batch("INSERT INTO orders (order_type, body) SELECT order_type, body FROM orders")
        .unwrap();
    assert_eq!(seqs(&queue), (10_006, 1, 10_006));
}

#[test]
fn one_statement_withdraws_many_orders() {
    let queue = queue();
    let statement = "INSERT INTO withdrawals (seq) SELECT seq FROM orders WHERE seq NOT IN (SELECT seq FROM withdrawals)";
    assert_eq!(run(&queue, statement), "ok");
    let next = "INSERT INTO withdrawals (withdrawal, seq, withdrawn_at) VALUES (4, 4, '2026-01-31T10:00:00.000Z')";
    assert_eq!(run(&queue, &insert("'{\"TrackingNumber\":4}'")), "ok");
    assert_eq!(run(&queue, next), "ok");
    let withdrawn: String = queue
        .query_row(
            "SELECT group_concat(seq) FROM (SELECT seq FROM withdrawals ORDER BY withdrawal)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(withdrawn, "2,1,3,4");
}

#[test]
fn what_is_rolled_back_leaves_no_gap() {
    let queue = queue();
    let insert =
        r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":9}')"#;
    queue
        .execute_batch(&format!("BEGIN; {insert}; {insert}; ROLLBACK; {insert}"))
        .unwrap();
    queue
        .execute_batch(&format!(
            "BEGIN; SAVEPOINT a; {insert}; ROLLBACK TO a; {insert}; COMMIT"
        ))
        .unwrap();
    assert_eq!(seqs(&queue), (5, 1, 5));
}

#[test]
fn a_seq_never_comes_back_after_pruning() {
    let queue = queue();
    let insert = r#"INSERT INTO orders (seq, order_type, body) VALUES (?, 'work_order', '{"TrackingNumber":9}')"#;
    queue
        .execute_batch("DROP TRIGGER orders_before_delete; DELETE FROM orders")
        .unwrap();
    for seq in [1, 2, 3, 5] {
        assert_eq!(run(&queue, &insert.replace('?', &seq.to_string())), SEQ);
    }
    assert_eq!(run(&queue, &insert.replace('?', "NULL")), "ok");
    assert_eq!(run(&queue, &insert.replace('?', "5")), "ok");
    assert_eq!(seqs(&queue), (2, 4, 5));
}

#[test]
fn an_untrusted_schema_and_recursive_triggers_change_nothing() {
    let queue = queue();
    queue
        .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA recursive_triggers = ON; PRAGMA foreign_keys = OFF")
        .unwrap();
    let before = contents(&queue);
    for (statement, message) in REFUSED {
        assert_eq!(run(&queue, statement), *message, "{statement}");
    }
    assert_eq!(contents(&queue), before);
    for (body, _) in TAKEN {
        let statement = insert(body);
        assert_eq!(run(&queue, &statement), "ok", "{statement}");
    }
}

#[test]
fn a_seq_that_is_no_number_is_refused_by_sqlite_itself() {
    let queue = queue();
    let before = contents(&queue);
    for way in ways_around(
        r#"INSERT INTO orders (seq, order_type, body) VALUES ('first', 'work_order', '{"TrackingNumber":9}')"#,
    ) {
        assert_eq!(run(&queue, &way), "datatype mismatch", "{way}");
    }
    assert_eq!(contents(&queue), before);
}

#[test]
fn every_message_is_provoked_here_and_listed_in_the_docs() {
    let messages = messages();
    assert!(messages.len() > 20, "{messages:?}");
    for message in &messages {
        assert!(
            REFUSED.iter().any(|(_, refused)| refused == message),
            "no statement provokes: {message}"
        );
        assert!(
            REFUSALS_PAGE.contains(&format!("| `{message}` |")),
            "docs/refusals.md lacks: {message}"
        );
        let (name, _) = message.split_once(": ").expect("name: what is allowed");
        assert!(
            name.chars().all(|c| c.is_ascii_alphabetic() || c == '_'),
            "{message}"
        );
    }
}

#[test]
fn the_docs_list_no_message_that_the_queue_does_not_have() {
    let messages = messages();
    let section = REFUSALS_PAGE
        .split("\n## ")
        .find(|part| part.starts_with("The queue"))
        .unwrap();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let message = line.split('`').nth(1).unwrap();
        assert!(messages.contains(&message), "{message}");
    }
}

/// The messages in queue.sql, each once.
fn messages() -> Vec<&'static str> {
    let mut messages: Vec<_> = SCHEMA
        .split("RAISE(ABORT, '")
        .skip(1)
        .map(|rest| rest.split_once("')").expect("the message's end").0)
        .collect();
    messages.sort_unstable();
    messages.dedup();
    messages
}

/// The same statement with every clause that would have SQLite look away.
pub(crate) fn ways_around(statement: &str) -> Vec<String> {
    let mut ways = vec![statement.to_owned()];
    for clause in ["IGNORE", "REPLACE", "FAIL", "ROLLBACK", "ABORT"] {
        for verb in ["INSERT", "UPDATE"] {
            if let Some(rest) = statement.strip_prefix(verb) {
                ways.push(format!("{verb} OR {clause}{rest}"));
            }
        }
    }
    if let Some(rest) = statement.strip_prefix("INSERT") {
        ways.push(format!("REPLACE{rest}"));
        if statement.contains(" VALUES (") {
            ways.push(format!("{statement} ON CONFLICT DO NOTHING"));
        }
        if statement.starts_with("INSERT INTO orders (") && statement.contains(" VALUES (") {
            ways.push(format!(
                "{statement} ON CONFLICT (seq) DO UPDATE SET body = excluded.body"
            ));
            ways.push(format!(
                "{statement} ON CONFLICT (dedup_key) WHERE dedup_key IS NOT NULL DO UPDATE SET body = excluded.body"
            ));
        }
    }
    ways
}

/// Queues an order whose body is an SQL expression.
pub(crate) fn insert(body: &str) -> String {
    format!("INSERT INTO orders (order_type, body) VALUES ('work_order', {body})")
}

/// A queue in memory that holds what `BEFORE` says.
fn queue() -> Connection {
    let queue = Connection::open_in_memory().unwrap();
    queue
        .execute_batch(&format!("BEGIN; {SCHEMA}; COMMIT; {BEFORE}"))
        .unwrap();
    queue
}

/// A queue as the daemon makes it, on disk and in WAL mode, that holds what `BEFORE` says.
pub(crate) fn queue_file() -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("queue.db");
    let queue = Connection::open(&path).unwrap();
    queue
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; BEGIN; {SCHEMA}; COMMIT; {BEFORE}"
        ))
        .unwrap();
    (folder, path)
}

/// `ok`, or SQLite's message.
fn run(queue: &Connection, statement: &str) -> String {
    match queue.execute_batch(statement) {
        Ok(()) => "ok".to_owned(),
        Err(rusqlite::Error::SqliteFailure(_, Some(message))) => message,
        Err(error) => panic!("{error}: {statement}"),
    }
}

/// Everything that the file holds, to be compared.
pub(crate) fn contents(queue: &Connection) -> String {
    ["orders", "tracking_numbers", "withdrawals", "sqlite_sequence"]
        .map(|table| {
            let columns: String = queue
                .query_row(
                    "SELECT group_concat('quote(' || name || ')', '||'',''||') FROM pragma_table_info(?)",
                    [table],
                    |row| row.get(0),
                )
                .unwrap();
            let rows: Option<String> = queue
                .query_row(&format!("SELECT group_concat({columns}, char(10)) FROM {table}"), [], |row| row.get(0))
                .unwrap();
            format!("{table}\n{}\n", rows.unwrap_or_default())
        })
        .concat()
}

/// How many orders there are, and the first and last seq.
fn seqs(queue: &Connection) -> (i64, i64, i64) {
    queue
        .query_row(
            "SELECT count(*), min(seq), max(seq) FROM orders",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap()
}

/// The tracking number of the newest order.
fn last_tracking_number(queue: &Connection) -> String {
    queue
        .query_row(
            "SELECT tracking_number FROM tracking_numbers WHERE seq = (SELECT max(seq) FROM orders)",
            [],
            |row| row.get(0),
        )
        .unwrap()
}
