//! Bad receivers: what the administrator reads of each, in the log and in the ledger, and that none of them holds up
//! another webhook.
//!
//! - `answers`: statuses, lengths, redirects, interim answers
//! - `connections`: refused, reset, cut off, silent, slow, closing
//! - `retry_after`: how long the receiver asks to wait
//! - `tls`: certificates and handshakes

mod answers;
mod connections;
mod retry_after;
mod tls;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::support::{Arrived, Daemon, Gate, PATIENCE, Receiver, Site, read_request};

/// Beyond what the daemon needs to start, and all its bad receivers together may make it take.
const MEMORY_KIB_MAX: u64 = 32 * 1024;

/// A daemon, a webhook to each of some bad receivers, and one more to a good one.
struct Trial {
    /// So many purchase orders for each bad receiver, a payload each.
    orders: u64,
    /// At least so long.
    order_bytes: usize,
    /// The certificates that the daemon trusts, where it is not the system's.
    trusted: Option<String>,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            orders: 1,
            order_bytes: 0,
            trusted: None,
        }
    }
}

impl Trial {
    /// Runs the daemon until each webhook came to the attempts that were asked for; what is told of them then, and
    /// the site with its ledger.
    fn run(self, cases: &[Bad]) -> (String, Site) {
        let good = Receiver::ok();
        let mut webhooks = "[defaults]\nretry_gap = \"1h\"\npayload_max_items = 1\n".to_owned();
        webhooks += &good.webhook("good", "triggers = [\"work_order\"]");
        let scenes: Vec<_> = cases.iter().map(Bad::listen).collect();
        for (number, (case, scene)) in cases.iter().zip(&scenes).enumerate() {
            write!(
                webhooks,
                "[webhook.bad_{number}]\nurl = \"{}\"\ntriggers = [\"purchase_order\"]\n{}\n",
                case.url(scene),
                case.more
            )
            .unwrap();
        }
        let site = Site::new(&webhooks);
        let mut environment = Vec::new();
        let trusted = self.trusted.map(|pem| {
            let path = site.config().with_file_name("trusted.pem");
            fs::write(&path, pem).unwrap();
            path.into_os_string().into_string().unwrap()
        });
        if let Some(trusted) = &trusted {
            environment.push(("SSL_CERT_FILE", trusted.as_str()));
        }
        let daemon = site.start_with(&environment);
        let memory = peak_memory_kib(&daemon);
        for number in 1..=self.orders {
            let order = format!(
                "{{\"TrackingNumber\":{number},\"Note\":\"{}\"}}",
                "x".repeat(self.order_bytes)
            );
            site.producer()
                .execute(
                    "INSERT INTO orders (order_type, body) VALUES ('purchase_order', ?1)",
                    [order],
                )
                .unwrap();
        }

        // D3: each of them is at it, and the good one gets its orders.
        for scene in &scenes {
            scene.wait_until_met();
        }
        for number in 1..=3 {
            site.enqueue("work_order", [number]);
            good.wait_for(usize::try_from(number).unwrap());
        }
        for scene in &scenes {
            scene.meanwhile.open();
        }

        let told: Vec<_> = cases
            .iter()
            .enumerate()
            .map(|(number, case)| {
                wait_for_verdicts(&daemon, &format!("bad_{number}"), case.verdicts)
            })
            .collect();
        let grown = peak_memory_kib(&daemon) - memory;
        // Each has its order in hand, which was copied from the queue, into the payload, and to the wire.
        let orders = 3 * cases.len() * self.order_bytes / 1024;
        assert!(
            grown < MEMORY_KIB_MAX + orders as u64,
            "it grew by {grown} KiB"
        );
        daemon.stop();
        for scene in &scenes {
            scene.over.open();
        }

        let mut text = String::new();
        for (number, (case, scene)) in cases.iter().zip(&scenes).enumerate() {
            scene.assert_nothing_sent_twice();
            let attempts = site.ledger_rows(&format!(
                "SELECT phase, outcome, status, error FROM attempts JOIN payloads USING (payload_id)
                 JOIN webhooks USING (webhook_id) WHERE name = 'bad_{number}' ORDER BY payload_id, number
                 LIMIT {}",
                case.verdicts
            ));
            writeln!(text, "{}", case.label).unwrap();
            for line in attempts.lines() {
                writeln!(text, "    {}", scene.neutral(line)).unwrap();
            }
            for line in &told[number] {
                let line = line.replace(&format!("bad_{number}: "), "");
                writeln!(text, "    {}", scene.neutral(&line)).unwrap();
            }
        }
        (text, site)
    }
}

/// [`Trial::run`], where nothing is out of the ordinary but the receivers.
fn trial(cases: &[Bad]) -> String {
    Trial::default().run(cases).0
}

/// A bad receiver.
struct Bad {
    label: String,
    /// Further keys of its webhook.
    more: &'static str,
    /// What it does with a connection; `None` where it listens to none.
    act: Option<Arc<Act>>,
    /// The url, but for the port.
    host: &'static str,
    /// It is tried until so many verdicts were told.
    verdicts: usize,
    /// The size of its receive buffer.
    takes_bytes: Option<usize>,
}

type Act = dyn Fn(&mut Peer) + Send + Sync;

impl Bad {
    fn new(label: impl Into<String>, act: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self {
            label: label.into(),
            more: "",
            act: Some(Arc::new(act)),
            host: "http://127.0.0.1",
            verdicts: 1,
            takes_bytes: None,
        }
    }

    /// Listens to no connection.
    fn refusing() -> Self {
        Self {
            act: None,
            ..Self::new("refuses", |_| {})
        }
    }

    /// Answers each request with these bytes, and keeps the connection.
    fn answering(label: impl Into<String>, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(label, move |peer| {
            while peer.request().is_some() {
                peer.meanwhile();
                if !peer.say(&answer) {
                    return;
                }
            }
        })
    }

    /// Answers with these bytes, and closes.
    fn closing_after(label: impl Into<String>, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(label, move |peer| {
            peer.request();
            peer.meanwhile();
            peer.say(&answer);
        })
    }

    fn with(self, more: &'static str) -> Self {
        Self { more, ..self }
    }

    fn until(self, verdicts: usize) -> Self {
        Self { verdicts, ..self }
    }

    fn at(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    fn taking(self, bytes: usize) -> Self {
        Self {
            takes_bytes: Some(bytes),
            ..self
        }
    }

    fn url(&self, scene: &Scene) -> String {
        format!("{}:{}/orders", self.host, scene.port)
    }

    fn listen(&self) -> Arc<Scene> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Some(bytes) = self.takes_bytes {
            set_socket_recv_buffer_size(&socket, bytes).unwrap();
        }
        let socket = TcpListener::from(socket);
        let scene = Arc::new(Scene {
            port: socket.local_addr().unwrap().port(),
            meanwhile: Gate::default(),
            over: Gate::default(),
            connections: Mutex::new(0),
            met: Condvar::new(),
            unused: Mutex::default(),
            requests: Mutex::default(),
        });
        let Some(act) = self.act.clone() else {
            scene.meet();
            // Bound for as long as it matters, so that nobody else listens there.
            *scene.unused.lock().unwrap() = Some(socket);
            return scene;
        };
        listen(&socket, 16).unwrap();
        let (listener, shared) = (socket, Arc::clone(&scene));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (act, scene) = (Arc::clone(&act), Arc::clone(&shared));
                thread::spawn(move || {
                    let number = scene.meet();
                    stream.set_nodelay(true).unwrap();
                    let reader = BufReader::new(stream.try_clone().unwrap());
                    act(&mut Peer {
                        stream,
                        reader,
                        number,
                        scene,
                    });
                });
            }
        });
        scene
    }
}

/// What trial and receiver know of each other.
struct Scene {
    port: u16,
    /// Opened when the good receiver has got its orders.
    meanwhile: Gate,
    /// Opened when its verdicts were told.
    over: Gate,
    connections: Mutex<usize>,
    met: Condvar,
    /// The socket of a receiver that does not listen.
    unused: Mutex<Option<TcpListener>>,
    /// Id and number of each attempt that arrived.
    requests: Mutex<Vec<(String, String)>>,
}

impl Scene {
    fn meet(&self) -> usize {
        let mut connections = self.connections.lock().unwrap();
        *connections += 1;
        self.met.notify_all();
        *connections
    }

    fn wait_until_met(&self) {
        let connections = self.connections.lock().unwrap();
        let (_connections, timeout) = self
            .met
            .wait_timeout_while(connections, PATIENCE, |connections| *connections == 0)
            .unwrap();
        assert!(!timeout.timed_out(), "nobody came");
    }

    /// An attempt is one request: the client sends none a second time by itself.
    fn assert_nothing_sent_twice(&self) {
        let requests = self.requests.lock().unwrap();
        let distinct: BTreeSet<_> = requests.iter().collect();
        assert_eq!(distinct.len(), requests.len(), "{requests:#?}");
    }

    /// The line without what differs from run to run.
    fn neutral(&self, line: &str) -> String {
        let line = line.replace(&format!(":{}", self.port), ":PORT");
        let line = match line.split_once("next attempt at ") {
            Some((before, _)) => format!("{before}next attempt at …"),
            None => line,
        };
        match (line.find(" in "), line.find(" ms ")) {
            (Some(from), Some(to)) if from < to => {
                format!("{} in … {}", &line[..from], &line[to + 1..])
            }
            _ => line,
        }
    }
}

/// A connection to a bad receiver.
struct Peer {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// Counts the connections, from 1.
    number: usize,
    scene: Arc<Scene>,
}

impl Peer {
    /// Reads a request; `None` if none comes any more.
    fn request(&mut self) -> Option<Arrived> {
        let request = read_request(&mut self.reader)?;
        self.scene.requests.lock().unwrap().push((
            request.header("webhook-id").to_owned(),
            request.header("orderfeed-attempt").to_owned(),
        ));
        Some(request)
    }

    /// Waits until the good receiver has got its orders.
    fn meanwhile(&self) {
        self.scene.meanwhile.pass();
    }

    /// Whether the other side still takes it.
    fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says this over and over, as fast as it goes or with a pause, until the other side closes; how much it was.
    fn say_endlessly(&mut self, bytes: &[u8], pause: Option<Duration>) -> usize {
        let mut said = 0;
        while self.say(bytes) {
            said += bytes.len();
            if let Some(pause) = pause {
                thread::sleep(pause);
            }
        }
        said
    }

    /// Waits until the other side closes; what it sends is dropped.
    fn until_closed(&mut self) {
        while self.reader.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
    }

    /// Closes with a reset, when dropped.
    fn reset(&self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    /// Reads what is there.
    fn read_something(&mut self) {
        drop(self.reader.read(&mut [0; 4096]));
    }

    /// Waits until the trial is over.
    fn until_the_end(&self) {
        self.scene.over.pass();
    }

    /// Waits until something of a request is there, and reads none of it.
    fn until_something_comes(&self) {
        drop(self.stream.peek(&mut [0]));
    }
}

/// The lines that tell what came of the webhook's first attempts.
fn wait_for_verdicts(daemon: &Daemon, name: &str, verdicts: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = daemon.log();
        let told: Vec<_> = log
            .iter()
            .filter(|line| line.contains(&format!("{name}: ")))
            .filter(|line| line.contains("delivered") || line.contains("failed for good"))
            .map(|line| {
                // Without the time before it and the fields after it.
                let line = line.split_once(' ').unwrap().1;
                line.split(" webhook=")
                    .next()
                    .unwrap()
                    .trim_start()
                    .to_owned()
            })
            .take(verdicts)
            .collect();
        if told.len() == verdicts {
            return told;
        }
        assert!(
            Instant::now() < deadline,
            "{name}: not enough verdicts in {log:#?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// The most memory that it took at a time.
fn peak_memory_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
