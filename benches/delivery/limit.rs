//! The bare limit: what one loop reaches that does no more than must be done. It reads the
//! orders, posts them one payload after another over one kept connection, and commits one row a
//! payload; it retries nothing, recovers nothing, and knows one webhook and one order type.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

/// Sends `payloads` payloads of `items` orders each.
pub(crate) fn deliver(queue: &Path, ledger: &Path, url: &str, items: i64, payloads: i64) {
    let queue = Connection::open(queue).expect("the queue");
    let ledger = ledger_with_grown_wal(ledger);
    // Loopback needs no TLS; the client wants to know whose it would be.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .pool_idle_timeout(Duration::from_secs(1))
        .pool_max_idle_per_host(1)
        .tls_certs_only([])
        .build()
        .expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut read = queue
        .prepare("SELECT seq, body FROM orders WHERE order_type = 'purchase_order' AND seq > ?1 ORDER BY seq LIMIT ?2")
        .expect("the queue's schema");
    let mut write = ledger
        .prepare("INSERT INTO sent (payload_id, first_seq, last_seq) VALUES (?1, ?2, ?3)")
        .expect("the schema above");
    runtime.block_on(async {
        let mut last_seq = 0_i64;
        for payload_id in 1..=payloads {
            let first_seq = last_seq + 1;
            let mut body = br#"{"DataType":"purchase_order","Data":["#.to_vec();
            let mut rows = read.query(params![last_seq, items]).expect("orders");
            while let Some(row) = rows.next().expect("an order") {
                if body.last() == Some(&b'}') {
                    body.push(b',');
                }
                last_seq = row.get(0).expect("a seq");
                let order = row.get_ref(1).expect("a body");
                body.extend_from_slice(order.as_bytes().expect("text"));
            }
            drop(rows);
            body.extend_from_slice(b"]}");
            let response = client
                .post(url)
                .header("content-type", "application/json")
                .header("webhook-id", payload_id)
                .body(body)
                .timeout(Duration::from_secs(90))
                .send()
                .await
                .expect("an answer");
            assert!(response.status().is_success());
            response.bytes().await.expect("its body");
            write
                .execute(params![payload_id, first_seq, last_seq])
                .expect("a commit");
        }
    });
}

/// A WAL that is overwritten in place costs less to sync than one that grows.
fn ledger_with_grown_wal(path: &Path) -> Connection {
    let conn = Connection::open(path).expect("a new file");
    conn.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE sent (payload_id INTEGER PRIMARY KEY, first_seq INTEGER, last_seq INTEGER);
         CREATE TABLE filler (bytes BLOB);
         INSERT INTO filler VALUES (zeroblob(4500000));
         DROP TABLE filler;
         PRAGMA wal_checkpoint(RESTART);",
    )
    .expect("a grown WAL");
    conn
}
