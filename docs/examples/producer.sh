#!/bin/sh
# Queues one order: producer.sh QUEUE TYPE KEY < order.json
set -eu

quoted() { printf "'"; sed "s/'/''/g"; printf "'"; }

queue=$1
type=$(printf %s "$2" | quoted)
key=$(printf %s "$3" | quoted)
order=$(quoted)

[ -e "$queue" ] || { echo "not queued: there is no queue at $queue" >&2; exit 1; } # else an empty file would be made
# Others may be writing, for a moment; committed means on disk; the daemon does the checkpoints.
if said=$(sqlite3 -batch -bail "$queue" 2>&1 <<SQL
.timeout 5000
.output /dev/null
PRAGMA synchronous=FULL;
PRAGMA wal_autocheckpoint=0;
INSERT INTO orders (order_type, dedup_key, body) VALUES ($type, $key, $order);
SQL
); then
    echo queued
else
    case $said in
    *"dedup_key: this order is in the queue already"*) echo "was queued already" ;;
    *)
        echo "not queued: $said" >&2
        exit 1
        ;;
    esac
fi
