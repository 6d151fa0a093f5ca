// Queues one order: node producer.mjs QUEUE TYPE KEY < order.json
// SQLite is a part of Node from 22.13 on.

import { existsSync, readFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

/** Queues the order; false: it is in the queue already. Can be repeated after any error. */
export function enqueue(path, orderType, key, order) {
  if (!existsSync(path)) throw new Error(`there is no queue at ${path}`); // else an empty file would be made
  const queue = new DatabaseSync(path);
  try {
    queue.exec("PRAGMA busy_timeout=5000"); // others may be writing, for a moment
    queue.exec("PRAGMA synchronous=FULL"); // committed means on disk
    queue.exec("PRAGMA wal_autocheckpoint=0"); // the daemon does that
    queue.prepare("INSERT INTO orders (order_type, dedup_key, body) VALUES (?, ?, ?)").run(orderType, key, order);
    return true;
  } catch (error) {
    if (error.message.includes("dedup_key: this order is in the queue already")) return false;
    throw error;
  } finally {
    queue.close();
  }
}

const [path, orderType, key] = process.argv.slice(2);
try {
  console.log(enqueue(path, orderType, key, readFileSync(0, "utf8")) ? "queued" : "was queued already");
} catch (error) {
  console.error(`not queued: ${error.message}`);
  process.exitCode = 1;
}
