# What the scripts of tests/boot share; they run inside, as root.
set -euo pipefail
shopt -s extglob

config=/etc/orderfeed/config.toml
queue=/var/spool/orderfeed/queue.db
ledger=/var/lib/orderfeed/ledger.db
# What the receiver took, a JSON object a line.
taken=/var/lib/receiver/taken

# step TEXT: what follows, with the seconds since the script began.
step() { printf '%6.1f s  %s\n' "$(seconds)" "$*"; }
seconds() { awk -v now="${EPOCHREALTIME/,/.}" -v began="$began" 'BEGIN {print now - began}'; }
began=${EPOCHREALTIME/,/.}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# equal WHAT FOUND EXPECTED
equal() { [[ $2 == "$3" ]] || fail "$1 is '$2', not '$3'"; }

# becomes WHAT EXPECTED COMMAND...: waits until the command prints that, for a minute.
becomes() {
    local what=$1 expected=$2 found='' deadline=$((SECONDS + 60))
    shift 2
    while ((SECONDS < deadline)); do
        found=$("$@" 2>/dev/null || true)
        # shellcheck disable=SC2053 # a pattern
        [[ $found != $expected ]] || return 0
        sleep 0.1
    done
    fail "$what is '$found', not '$expected', for a minute"
}

show() { systemctl show --property="$1" --value orderfeed; }

# says USER EXIT PATTERN COMMAND...: what a user is told, and with which exit code.
says() {
    local user=$1 exit=$2 pattern=$3 said status=0
    shift 3
    said=$(runuser -u "$user" -- "$@" 2>&1) || status=$?
    echo "$user: $*: $said [exit $status]"
    equal 'the exit code' "$status" "$exit"
    # shellcheck disable=SC2053 # a pattern
    [[ $said == $pattern ]] || fail "that is not '$pattern'"
}

# A place in the journal, and what orderfeed told since: told_since CURSOR TEXT waits for it.
here() { journalctl --no-pager -n 0 --show-cursor | sed -n 's/^-- cursor: //p'; }
told() { journalctl --no-pager -q -o cat -u orderfeed --after-cursor="$1" | grep -F -m 1 -- "$2" >/dev/null && echo yes; }
told_since() { becomes "the journal's '$2'" yes told "$1" "$2"; }

# enqueue COUNT: the producer, a user of its own, with SQLite alone.
next=1
enqueue() {
    local count=$1
    runuser -u shop -- sqlite3 -bail "$queue" ".timeout 5000" "PRAGMA synchronous=FULL" "PRAGMA wal_autocheckpoint=0" \
        "WITH RECURSIVE n(i) AS (VALUES ($next) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $((next + count)))
         INSERT INTO orders (order_type, body) SELECT 'purchase_order', json_object('TrackingNumber', i) FROM n" >/dev/null ||
        return
    next=$((next + count))
}

# The orders that arrived, each once.
arrived() { grep -o '"tracking_numbers":\[[^]]*\]' "$taken" | grep -o '[0-9]\+' | sort -nu | wc -l; }
some_arrived() { (($(arrived) > $1)) && echo yes; }
# Waits for all; none of them came with other bytes under the same id, or under two ids, or otherwise wrong.
all_arrive() {
    becomes 'the number of orders that arrived' $((next - 1)) arrived
    equal 'the number of alarms' "$(grep -c '"verdict":"\(alarm\|bad\)"' "$taken" || true)" 0
}
