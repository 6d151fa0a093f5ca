"""Queues one order: python3 producer.py QUEUE TYPE KEY < order.json"""

import sqlite3
import sys


def enqueue(path: str, order_type: str, key: str, order: str) -> bool:
    """Queues the order; False: it is in the queue already. Can be repeated after any error."""
    # mode=rw: where there is no queue, none is made. timeout: others may be writing, for a moment.
    queue = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)
    try:
        queue.execute("PRAGMA synchronous=FULL")  # committed means on disk
        queue.execute("PRAGMA wal_autocheckpoint=0")  # the daemon does that
        with queue:  # a transaction: all of it, or nothing
            queue.execute(
                "INSERT INTO orders (order_type, dedup_key, body) VALUES (?, ?, ?)",
                (order_type, key, order),
            )
        return True
    except sqlite3.IntegrityError as refused:
        if str(refused).startswith("dedup_key: this order is in the queue already"):
            return False
        raise
    finally:
        queue.close()


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    try:
        queued = enqueue(*sys.argv[1:4], sys.stdin.read())
    except sqlite3.Error as error:
        sys.exit(f"not queued: {error}")
    print("queued" if queued else "was queued already")
