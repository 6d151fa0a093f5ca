//! What systemd is told, by a socket in its place: ready, alive, how it fares, stopping.

use std::fs;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use insta::assert_snapshot;

use crate::admin::replace_queue;
use crate::support::{Answer, Daemon, Gate, PATIENCE, Receiver, Site};

/// What stands in systemd's place.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn of(site: &Site) -> Self {
        let path = site.file("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// Starts the daemon as systemd does, with a watchdog of two seconds.
    fn start(&self, site: &Site) -> Daemon {
        site.spawn(&[
            ("NOTIFY_SOCKET", self.path.to_str().unwrap()),
            ("WATCHDOG_USEC", "2000000"),
        ])
    }

    fn next(&self) -> String {
        let mut message = [0; 1_024];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) => return String::from_utf8(message[..length].to_vec()).unwrap(),
                // The test was stopped, and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing is told: {error}"),
            }
        }
    }

    /// The next message with this text.
    fn wait_for(&self, text: &str) -> String {
        let began = Instant::now();
        let mut told = Vec::new();
        while began.elapsed() < PATIENCE {
            let message = self.next();
            if message.contains(text) {
                return message;
            }
            told.push(message);
        }
        panic!("no {text} in {told:?}");
    }
}

#[test]
fn it_is_ready_alive_while_a_lane_waits_and_says_what_for() {
    let receiver = Receiver::new(|_, _| Answer::Status(500, ""));
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 2\nretry_gap = \"1h\""));
    site.enqueue("purchase_order", 1..=3);
    let manager = Manager::of(&site);
    let daemon = manager.start(&site);
    assert_snapshot!(manager.next(), @"READY=1");
    let status = manager.wait_for("retries at");
    // With the date, if it is not today's.
    let (what, when) = status.trim_end().split_once(" at ").unwrap();
    assert_snapshot!(what, @"STATUS=delivering to 1 webhook, 3 orders wait, erp retries");
    assert!(when.ends_with(|end: char| end.is_ascii_digit()), "{when}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log:?}");
    assert_snapshot!(manager.wait_for("STOPPING=1"), @"
    STOPPING=1
    STATUS=stopping
    EXTEND_TIMEOUT_USEC=15000000
    ");
}

#[test]
fn a_stop_asks_for_as_long_as_the_request_in_flight_may_take() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200));
    let site = Site::new(&receiver.webhook("erp", "timeout = \"10m\""));
    site.enqueue("purchase_order", 1..=1);
    let manager = Manager::of(&site);
    let daemon = manager.start(&site);
    receiver.wait_for(1);
    daemon.signal(rustix::process::Signal::TERM);
    let told = manager.wait_for("STOPPING=1");
    let (told, extended) = told.trim_end().rsplit_once('=').unwrap();
    assert_snapshot!(told, @"
    STOPPING=1
    STATUS=stopping: a request in flight may finish
    EXTEND_TIMEOUT_USEC
    ");
    let extended: u64 = extended.parse().unwrap();
    assert!((550_000_000..650_000_000).contains(&extended), "{extended}");
    gate.open();
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log:?}");
}

#[test]
fn it_is_never_ready_with_a_damaged_file() {
    let site = Site::new(&Receiver::ok().webhook("erp", ""));
    let mut ledger = fs::File::options().write(true).open(site.ledger()).unwrap();
    ledger.seek(SeekFrom::Start(0)).unwrap();
    ledger.write_all(&[7; 512]).unwrap();
    let manager = Manager::of(&site);
    let (status, log) = manager.start(&site).wait();
    assert_eq!(status.code(), Some(5), "{log:?}");
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0]).is_err(), "something was told");
}

/// Whoever is to adopt the queue needs the socket: the service has started, and lives.
#[test]
fn it_is_ready_and_alive_in_a_standstill_and_says_what_it_waits_for() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.start().stop();
    replace_queue(&site);
    let manager = Manager::of(&site);
    let daemon = manager.start(&site);
    assert_snapshot!(manager.next(), @"READY=1");
    assert_snapshot!(manager.next(), @"STATUS=standing still: queue and ledger do not belong together, and nothing is sent until `orderfeed adopt-queue` says how to go on");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let (status, told) = site.run(&["adopt-queue", "--all-new"]);
    assert!(status.success(), "{told}");
    assert_snapshot!(manager.wait_for("STATUS="), @"STATUS=delivering to 1 webhook, no order waits");
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log:?}");
}

#[test]
fn it_is_never_ready_without_its_admin_socket() {
    let site = Site::new("");
    fs::write(site.file("admin.sock"), "not a socket").unwrap();
    let manager = Manager::of(&site);
    let (status, log) = manager.start(&site).wait();
    assert_eq!(status.code(), Some(1), "{log:?}");
    assert!(
        log.iter()
            .any(|line| line.contains("there is no admin socket"))
    );
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0]).is_err(), "something was told");
}
