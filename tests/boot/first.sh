#!/bin/bash
# The first boot: a fresh install, and all that may happen to a service.
source /srv/lib.sh

step 'a fresh install'
dpkg -i /srv/old.deb
equal 'the service' "$(systemctl is-enabled orderfeed || true) $(systemctl is-active orderfeed || true)" 'disabled inactive'
equal 'the files' "$(stat -c '%a %U %G %n' /var/spool/orderfeed $queue /var/lib/orderfeed $config)" \
    "2770 orderfeed orderfeed-producers /var/spool/orderfeed
660 orderfeed orderfeed-producers $queue
700 orderfeed orderfeed /var/lib/orderfeed
640 root orderfeed $config"
ls /usr/share/man/man1/orderfeed{,-run,-resend}.1.gz /usr/share/zsh/vendor-completions/_orderfeed \
    /usr/share/fish/vendor_completions.d/orderfeed.fish
bash -n /usr/share/bash-completion/completions/orderfeed

step 'a producer, and a stranger'
useradd --groups orderfeed-producers shop
useradd stranger
enqueue 3
refused=$(runuser -u stranger -- sqlite3 $queue 'SELECT count(*) FROM orders' 2>&1) && fail 'a stranger reads the queue'
[[ $refused == *'unable to open'* ]] || fail "a stranger is told '$refused'"
runuser -u shop -- ls /var/lib/orderfeed 2>/dev/null && fail 'the producer sees the ledger'

step 'configured and started'
cat >/etc/systemd/system/receiver.service <<'UNIT'
[Service]
Restart=always
ExecStart=/usr/bin/orderfeed receive --json --delay 20ms
StandardOutput=append:/var/lib/receiver/taken
[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
mkdir /var/lib/receiver
systemctl enable --quiet --now receiver
becomes 'the receiver' '*listening*' cat $taken
cat >>$config <<'CONFIG'
[webhook.erp]
url = "http://127.0.0.1:8080/orders"
payload_max_items = 10
retry_gap = "1s"
retry_attempts = "unlimited"
CONFIG
systemctl enable --quiet --now orderfeed
equal 'the type' "$(show Type) $(show ActiveState)" 'notify active'
all_arrive
becomes 'the status' 'delivering to 1 webhook, no order waits' show StatusText
systemctl status --no-pager --lines=3 orderfeed
equal 'the socket' "$(stat -c '%a %U %G' /run/orderfeed /run/orderfeed/admin.sock)" "750 orderfeed orderfeed
660 orderfeed orderfeed"

step 'an operator of a group resends, a viewer looks, and strangers are refused'
groupadd warehouse
useradd --groups orderfeed,warehouse wilma
useradd --groups orderfeed vera
useradd --groups orderfeed olaf
# Before the webhook: further keys of it are added at the end.
configured=$(<$config)
cat >$config <<CONFIG
[[admin.grant]]
group = "warehouse"
role = "operator"
[[admin.grant]]
user = "vera"
role = "viewer"
$configured
CONFIG
systemctl reload orderfeed
says vera 0 'ORDERFEED OK - *' orderfeed status --check
says vera 0 'orderfeed * runs since *erp *idle*' orderfeed status
says vera 0 'Order 1: purchase_order.submit*delivered*' orderfeed trace 1
payload_id=$(runuser -u vera -- orderfeed payloads --tracking-number 1 --json | grep -o 'pl_[0-9A-Z]*' | head -n 1)
times_taken() { grep -c "$payload_id" $taken || true; }
equal 'how often it was taken' "$(times_taken)" 1
says vera 4 '*operator*' orderfeed resend "$payload_id"
says olaf 4 '*viewer*' orderfeed status
says stranger 4 '*may not open the admin socket /run/orderfeed/admin.sock*' orderfeed resend "$payload_id"
says wilma 0 "erp: $payload_id goes to *" orderfeed resend "$payload_id"
becomes 'how often it was taken' 2 times_taken
all_arrive
journalctl --no-pager -q -o cat -u orderfeed | grep -E 'wilma|vera|olaf'

step 'a reload'
cursor=$(here)
cat >>$config <<'CONFIG'
[webhook.nobody]
url = "http://127.0.0.1:9/orders"
start = "now"
retry_gap = "1h"
CONFIG
systemctl reload orderfeed
told_since "$cursor" 'is reloaded'
enqueue 1
all_arrive
becomes 'the status' 'delivering to 2 webhooks, 1 order waits, nobody retries at *' show StatusText
show StatusText

step 'a reload of a broken configuration'
cp $config /srv/config.good
cursor=$(here)
echo 'retry_attempt = 3' >>$config
systemctl reload orderfeed && fail 'a broken configuration is reloaded'
told_since "$cursor" 'retry_attempt'
equal 'the service' "$(show ActiveState) $(show NRestarts)" 'active 0'
enqueue 1
all_arrive

step 'a start with a broken configuration: it fails, says why, and is not repeated'
cursor=$(here)
systemctl restart orderfeed && fail 'it starts with a broken configuration'
equal 'the service' "$(show ActiveState) $(show Result) $(show ExecMainStatus) $(show NRestarts)" 'failed exit-code 2 0'
told_since "$cursor" 'retry_attempt'
cp /srv/config.good $config
sed -i '/^\[webhook.nobody\]/,$d' $config

step 'a start with a damaged ledger: likewise'
cp $ledger /srv/ledger.good
cp $queue /srv/queue.old
dd if=/dev/urandom of=$ledger bs=512 count=1 conv=notrunc status=none
cursor=$(here)
systemctl start orderfeed && fail 'it starts with a damaged ledger'
equal 'the service' "$(show ActiveState) $(show Result) $(show ExecMainStatus) $(show NRestarts)" 'failed exit-code 5 0'
journalctl --no-pager -q -o cat -u orderfeed --after-cursor="$cursor" | grep -F ledger.db
cp /srv/ledger.good $ledger
enqueue 1
systemctl start orderfeed
all_arrive

step 'a queue that the ledger does not know: it is ready, says what it waits for, and lives'
systemctl stop orderfeed
cp $queue /srv/queue.good
cp /srv/queue.old $queue
mkdir -p /etc/systemd/system/orderfeed.service.d
printf '[Service]\nWatchdogSec=4s\n' >/etc/systemd/system/orderfeed.service.d/watchdog.conf
systemctl daemon-reload
systemctl start orderfeed
equal 'the service' "$(show ActiveState)" active
becomes 'the status' 'standing still: *adopt-queue*' show StatusText
for _ in 1 2 3; do
    fed=$(show WatchdogTimestampMonotonic)
    becomes 'when the watchdog was fed' "!($fed)" show WatchdogTimestampMonotonic
done
says vera 1 '*restored from an older copy*' orderfeed status
systemctl stop orderfeed
equal 'how it ended' "$(show Result) $(show ExecMainStatus)" 'success 0'
cp /srv/queue.good $queue
rm /etc/systemd/system/orderfeed.service.d/watchdog.conf
systemctl daemon-reload
systemctl start orderfeed
enqueue 1
all_arrive

step 'a secret as a credential'
install -m 600 /dev/null /etc/orderfeed/erp_authorization
echo 'Bearer 4711' >/etc/orderfeed/erp_authorization
mkdir -p /etc/systemd/system/orderfeed.service.d /etc/systemd/system/receiver.service.d
cat >/etc/systemd/system/orderfeed.service.d/secrets.conf <<'UNIT'
[Service]
LoadCredential=erp_authorization:/etc/orderfeed/erp_authorization
UNIT
cat >/etc/systemd/system/receiver.service.d/secrets.conf <<'UNIT'
[Service]
ExecStart=
ExecStart=/usr/bin/orderfeed receive --json --delay 20ms --authorization-file /etc/orderfeed/erp_authorization
UNIT
echo 'authorization = { credential = "erp_authorization" }' >>$config
systemctl daemon-reload
systemctl restart receiver orderfeed
enqueue 1
all_arrive

step 'killed: it comes back by itself'
enqueue 200
systemctl kill --signal=KILL --kill-whom=main orderfeed
becomes 'the restarts' 1 show NRestarts
all_arrive

step 'frozen: the watchdog restarts it'
cat >/etc/systemd/system/orderfeed.service.d/watchdog.conf <<'UNIT'
[Service]
WatchdogSec=4s
RestartSec=100ms
TimeoutStopSec=3s
UNIT
systemctl daemon-reload
systemctl restart orderfeed
pid=$(show MainPID)
cursor=$(here)
enqueue 20
kill -STOP "$pid"
told_since "$cursor" 'Watchdog timeout'
all_arrive
[[ $(show MainPID) != "$pid" ]] || fail 'it was not restarted'
journalctl --no-pager -q -u orderfeed --after-cursor="$cursor" | head -n 12

step 'its queue hangs: the watchdog restarts it'
pid=$(show MainPID)
cursor=$(here)
thread=$(grep -lx queue /proc/"$pid"/task/*/comm | cut -d/ -f5)
strace -qq -o /dev/null -e inject=all:delay_enter=600s -p "$thread" &
told_since "$cursor" 'Watchdog timeout'
kill $! 2>/dev/null || true
wait $! 2>/dev/null || true
enqueue 20
all_arrive
[[ $(show MainPID) != "$pid" ]] || fail 'it was not restarted'

step 'stopped while a request is in flight for longer than TimeoutStopSec= and WatchdogSec=: it may finish'
sed -i 's/--delay 20ms/--delay 7s/' /etc/systemd/system/receiver.service.d/secrets.conf
systemctl daemon-reload
systemctl restart receiver
enqueue 1
in_flight() { ss -Htn state established dport = :8080 | wc -l; }
becomes 'the requests in flight' 1 in_flight
systemctl stop --no-block orderfeed
becomes 'the status' 'stopping: a request in flight may finish' show StatusText
becomes 'the service' inactive show ActiveState
equal 'how it ended' "$(show Result) $(show ExecMainStatus)" 'success 0'
equal 'the last state' "$(sqlite3 "file:$ledger?mode=ro" 'SELECT state FROM payloads ORDER BY payload_id DESC LIMIT 1')" delivered
all_arrive
sed -i 's/--delay 7s/--delay 20ms/' /etc/systemd/system/receiver.service.d/secrets.conf
rm /etc/systemd/system/orderfeed.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart receiver
systemctl start orderfeed

step 'an upgrade in the middle of deliveries'
pid=$(show MainPID)
enqueue 500
dpkg -i /srv/new.deb
[[ $(show MainPID) != "$pid" ]] || fail 'the upgrade did not restart it'
equal 'the service' "$(systemctl is-enabled orderfeed) $(show ActiveState)" 'enabled active'
cmp -s $config <(cat /srv/config.good | sed '/^\[webhook.nobody\]/,$d'; echo 'authorization = { credential = "erp_authorization" }') ||
    fail 'the upgrade changed the configuration'
enqueue 100
all_arrive

step 'the next boot finds these waiting'
systemctl stop receiver
enqueue 50
becomes 'the status' '*, 50 orders wait, erp *' show StatusText
echo "$next" >/srv/next
step 'done'
