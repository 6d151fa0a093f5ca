#!/bin/bash
# After a reboot in good order.
source /srv/lib.sh
next=$(</srv/next)

step 'all that waited arrives'
equal 'the service' "$(show ActiveState)" active
all_arrive

# on_a_disk FOLDER: moves what is in there to a small disk of its own; off_it moves it back.
on_a_disk() {
    cp -a "$1" /srv/moved
    mount -t tmpfs -o "size=64m,mode=$(stat -c %a "$1"),uid=$(stat -c %u "$1"),gid=$(stat -c %g "$1")" tmpfs "$1"
    cp -a /srv/moved/. "$1"
}
off_it() {
    rm -r /srv/moved
    cp -a "$1" /srv/moved
    umount "$1"
    cp -a /srv/moved/. "$1"
    rm -r /srv/moved
}
fill() { dd if=/dev/zero of="$1/filler" bs=64k status=none 2>/dev/null && fail "$1 is not full" || true; }

step "the ledger's disk is full at the start: it waits, says so, and goes on when there is room"
systemctl stop orderfeed
on_a_disk /var/lib/orderfeed
enqueue 100
before=$(arrived)
fill /var/lib/orderfeed
systemctl start --no-block orderfeed
becomes 'the status' '*ledger.db: *disk is full*' show StatusText
equal 'the service' "$(show ActiveState)" activating
equal 'the number of orders that arrived' "$(arrived)" "$before"
rm /var/lib/orderfeed/filler
becomes 'the service' active show ActiveState
all_arrive
systemctl stop orderfeed
off_it /var/lib/orderfeed

step "the queue's disk is full: a producer is told, and all goes on when there is room"
on_a_disk /var/spool/orderfeed
systemctl start orderfeed
enqueue 20
fill /var/spool/orderfeed
# More than the WAL still takes.
refused=$( (enqueue 100000) 2>&1) && fail 'a queue without room takes orders'
[[ $refused == *'disk is full'* ]] || fail "a producer is told '$refused'"
all_arrive
equal 'the service' "$(show ActiveState) $(show NRestarts)" 'active 0'
rm /var/spool/orderfeed/filler
enqueue 20
all_arrive
systemctl stop orderfeed
off_it /var/spool/orderfeed
systemctl start orderfeed
enqueue 20
all_arrive

step 'the power goes while orders come and go'
before=$(arrived)
enqueue 300
becomes 'whether some arrived' yes some_arrived "$before"
echo "$next" >/srv/next
sync -f /srv/next
