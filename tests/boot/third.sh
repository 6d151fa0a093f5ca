#!/bin/bash
# After the power was cut: what was committed arrives. Then the package goes.
source /srv/lib.sh
next=$(</srv/next)

step 'nothing is lost'
equal 'the service' "$(show ActiveState)" active
becomes 'the status' 'delivering to 1 webhook, no order waits' show StatusText
systemctl stop orderfeed
equal 'the orders' "$(sqlite3 $queue 'SELECT count(*) FROM orders')" $((next - 1))
# What the receiver wrote down may be gone with the power: the ledger says what was delivered.
delivered=$(sqlite3 "file:$ledger?mode=ro" "SELECT sum(items) FROM payloads JOIN webhooks USING (webhook_id)
    WHERE name = 'erp' AND state = 'delivered'")
equal 'the orders that were delivered' "$delivered" $((next - 1))
systemctl start orderfeed

step 'removed: it stops, and its data stay'
apt-get -y -qq remove orderfeed >/dev/null
equal 'the service' "$(show ActiveState)" inactive
ls $queue $ledger $config
[[ ! -e /usr/bin/orderfeed ]] || fail 'the program is still there'

step 'installed again: it goes on'
dpkg -i /srv/new.deb >/dev/null
systemctl start orderfeed
enqueue 5
becomes 'the status' 'delivering to 1 webhook, no order waits' show StatusText

step 'purged: its data go, the user stays'
apt-get -y -qq purge orderfeed >/dev/null
for path in /var/spool/orderfeed /var/lib/orderfeed $config; do
    [[ ! -e $path ]] || fail "$path is still there"
done
getent passwd orderfeed
step 'done'
