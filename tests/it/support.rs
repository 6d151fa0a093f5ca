//! A site to try things at: a folder with a configuration, a daemon, a receiver, a producer.
//!
//! Everything waits for events, and no longer than [`PATIENCE`]; no port and no path is fixed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Nothing here takes so long, unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with a configuration; all of it vanishes with the test.
pub(crate) struct Site {
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Site {
    /// A site with queue and ledger, and this configuration for its webhooks.
    pub(crate) fn new(webhooks: &str) -> Self {
        let site = Self::bare(webhooks);
        site.initialise();
        site
    }

    /// A site in a folder that is somebody else's.
    pub(crate) fn within(folder: &Path, webhooks: &str) -> Self {
        let site = Self {
            folder: folder.to_owned(),
            _temporary: None,
        };
        site.configure(webhooks);
        // The power may go at any time.
        fs::File::open(site.config()).unwrap().sync_all().unwrap();
        fs::File::open(&site.folder).unwrap().sync_all().unwrap();
        site.initialise();
        site
    }

    /// Makes queue and ledger.
    pub(crate) fn initialise(&self) {
        let (status, output) = self.run(&["init"]);
        assert!(status.success(), "{output}");
    }

    /// A site without queue and ledger.
    pub(crate) fn bare(webhooks: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let site = Self {
            folder: temporary.path().to_owned(),
            _temporary: Some(temporary),
        };
        site.configure(webhooks);
        site
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, webhooks: &str) {
        self.configure_polling(webhooks, "20ms");
    }

    /// Replaces the configuration, with another poll interval.
    pub(crate) fn configure_polling(&self, webhooks: &str, poll_interval: &str) {
        // Nothing is put anywhere else.
        let maintenance = if webhooks.contains("[maintenance]") {
            ""
        } else {
            "[maintenance]\nbackup_dir = \"backups\"\n"
        };
        let text = format!(
            "[queue]\npath = \"q/queue.db\"\npoll_interval = \"{poll_interval}\"\n[ledger]\npath = \"l/ledger.db\"\n[admin]\nsocket = \"admin.sock\"\n{webhooks}\n{maintenance}"
        );
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the site's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    pub(crate) fn queue(&self) -> PathBuf {
        self.folder.join("q/queue.db")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.join("l/ledger.db")
    }

    /// The binary with this site's configuration, and nothing of ours in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderfeed"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ORDERFEED_CONFIG", self.config())
            .current_dir(&self.folder)
            .args(args);
        command
    }

    /// Runs a command to its end: its status, and what it printed, with the site's folder as `.`.
    pub(crate) fn run(&self, args: &[&str]) -> (ExitStatus, String) {
        let output = self.command(args).stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).replace(self.folder.to_str().unwrap(), ".");
        (output.status, text)
    }

    /// What a command prints, and its exit code, in one text.
    pub(crate) fn told(&self, args: &[&str]) -> String {
        let (status, output) = self.run(args);
        format!("{output}[exit {}]", status.code().unwrap_or(-1))
    }

    /// Starts the daemon, and returns when it runs.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// Starts the daemon with more in its environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let daemon = self.spawn(environment);
        daemon.wait_for_line(" runs");
        daemon
    }

    /// Starts the daemon, and does not wait.
    pub(crate) fn spawn(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.command(&["run"]);
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Log::default());
        let reader = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                reader.lines.lock().unwrap().push(line);
                reader.grew.notify_all();
            }
            *reader.ended.lock().unwrap() = true;
            reader.grew.notify_all();
        });
        Daemon { child, log }
    }

    /// What the daemon says when it finds that queue and ledger do not belong together; it is
    /// stopped then.
    pub(crate) fn standstill(&self) -> String {
        let daemon = self.spawn(&[]);
        daemon.wait_for_line("The daemon stands still");
        let (status, log) = daemon.stop();
        assert!(status.success(), "{log:#?}");
        let last = log.iter().position(|line| line.contains("stands still"));
        let told = log[..=last.unwrap()].join("\n");
        // Without the time of day.
        let told = told
            .split_once(" ERROR ")
            .map_or(told.as_str(), |(_, told)| told);
        told.replace(self.folder.to_str().unwrap(), ".")
    }

    /// A producer's own connection.
    pub(crate) fn producer(&self) -> Connection {
        let conn = Connection::open(self.queue()).unwrap();
        conn.busy_timeout(PATIENCE).unwrap();
        conn
    }

    /// Queues orders with these tracking numbers, as a producer does.
    pub(crate) fn enqueue(
        &self,
        order_type: &str,
        tracking_numbers: impl IntoIterator<Item = u64>,
    ) {
        let mut conn = self.producer();
        let transaction = conn.transaction().unwrap();
        for number in tracking_numbers {
            transaction
                .execute(
                    "INSERT INTO orders (order_type, body) VALUES (?1, ?2)",
                    [order_type, &format!("{{\"TrackingNumber\":{number}}}")],
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Rows of the ledger, a line each; the daemon must have ended.
    pub(crate) fn ledger_rows(&self, sql: &str) -> String {
        let conn = Connection::open(self.ledger()).unwrap();
        let mut statement = conn.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut text = String::new();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns)
                .map(|column| match row.get_ref(column).unwrap() {
                    rusqlite::types::ValueRef::Null => "-".to_owned(),
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str().unwrap_or("?").to_owned(),
                })
                .collect();
            writeln!(text, "{}", values.join(" ")).unwrap();
        }
        text
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    ended: Mutex<bool>,
    grew: Condvar,
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Log>,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGSTOP, and waits until none of its threads runs any more.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        let runs = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with(['T', 't']))
        };
        let deadline = Instant::now() + PATIENCE;
        while fs::read_dir(&tasks).unwrap().map(Result::unwrap).any(runs) {
            assert!(Instant::now() < deadline, "it does not stop");
            thread::yield_now();
        }
    }

    /// Waits for a line of the log that holds this text, and returns it.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !*self.log.ended.lock().unwrap(),
                "no line with {text:?} in: {lines:#?}"
            );
            lines = self
                .log
                .grew
                .wait_timeout(lines, left.min(Duration::from_millis(100)))
                .unwrap()
                .0;
        }
    }

    /// SIGHUP, and waits until the configuration is reloaded, or refused.
    pub(crate) fn reload(&self) {
        let reloads = || {
            self.log()
                .iter()
                .filter(|line| line.contains(" reloaded"))
                .count()
        };
        let before = reloads();
        self.signal(Signal::HUP);
        let deadline = Instant::now() + PATIENCE;
        while reloads() == before {
            assert!(Instant::now() < deadline, "not reloaded: {:#?}", self.log());
            thread::yield_now();
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !*self.log.ended.lock().unwrap() && Instant::now() < deadline {
            thread::yield_now();
        }
        (status, self.log())
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(self) -> (ExitStatus, Vec<String>) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A request that arrived.
#[derive(Clone)]
pub(crate) struct Arrived {
    /// Request line and headers, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// When its last byte had arrived.
    pub(crate) at: Instant,
}

impl Arrived {
    pub(crate) fn header(&self, name: &str) -> &str {
        let of_name = |line: &str| {
            let (found, _) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(found.len() + 2)
        };
        self.head
            .lines()
            .find_map(|line| Some(&line[of_name(line)?..]))
            .unwrap_or("")
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The order type, and the tracking numbers of its orders.
    pub(crate) fn orders(&self) -> (String, Vec<u64>) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let numbers = body["Data"].as_array().unwrap().iter();
        let numbers = numbers
            .map(|order| order["TrackingNumber"].as_u64().unwrap())
            .collect();
        (body["DataType"].as_str().unwrap().to_owned(), numbers)
    }

    /// [`Arrived::orders`] in a line.
    pub(crate) fn summary(&self) -> String {
        let (data_type, numbers) = self.orders();
        let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
        format!("{data_type} {}", numbers.join(","))
    }
}

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.header("webhook-id");
        write!(f, "{id} {}", String::from_utf8_lossy(&self.body))
    }
}

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Answers with this status, and the headers and body after it.
    Status(u16, &'static str),
    /// Answers so, when the gate is opened.
    Gated(Arc<Gate>, u16),
    /// Closes the connection without a word.
    HangUp,
    /// Says nothing, and keeps the connection.
    Silence,
    /// Sends these bytes, and keeps the connection open.
    Bytes(Vec<u8>),
}

/// Something to wait for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(
            self.opened
                .wait_timeout_while(open, PATIENCE, |open| !*open)
                .unwrap(),
        );
    }
}

pub(crate) const OK: Answer = Answer::Status(200, "");

type Script = dyn Fn(usize, &Arrived) -> Answer + Send + Sync;

/// A receiver: it answers as its script says, and remembers what arrived.
pub(crate) struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    arrived: Arc<(Mutex<Vec<Arrived>>, Condvar)>,
}

impl Receiver {
    /// The script is given the number of the request, from 1, and the request.
    pub(crate) fn new(script: impl Fn(usize, &Arrived) -> Answer + Send + Sync + 'static) -> Self {
        Self::over("http", Some, script)
    }

    /// One that speaks TLS.
    pub(crate) fn tls(
        config: rustls::ServerConfig,
        script: impl Fn(usize, &Arrived) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(config);
        let handshake = move |mut stream| {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // A sender that does not trust it, or is not trusted, goes away.
            while tls.is_handshaking() {
                tls.complete_io(&mut stream).ok()?;
            }
            Some(rustls::StreamOwned::new(tls, stream))
        };
        Self::over("https", handshake, script)
    }

    fn over<S: Read + Write>(
        scheme: &'static str,
        open: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        script: impl Fn(usize, &Arrived) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arc::<(Mutex<Vec<Arrived>>, Condvar)>::default();
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&arrived));
        let open = Arc::new(open);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_nodelay(true).unwrap();
                let (script, shared) = (Arc::clone(&script), Arc::clone(&shared));
                let open = Arc::clone(&open);
                thread::spawn(move || {
                    if let Some(stream) = open(stream) {
                        serve(stream, &*script, &shared);
                    }
                });
            }
        });
        Self {
            scheme,
            address,
            arrived,
        }
    }

    /// One that takes all.
    pub(crate) fn ok() -> Self {
        Self::new(|_, _| OK)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/orders", self.scheme, self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The configuration of a webhook that goes here.
    pub(crate) fn webhook(&self, name: &str, more: &str) -> String {
        format!("[webhook.{name}]\nurl = \"{}\"\n{more}\n", self.url())
    }

    /// What arrived, once that satisfies the condition.
    pub(crate) fn wait_until(&self, enough: impl Fn(&[Arrived]) -> bool) -> Vec<Arrived> {
        let (arrived, grew) = &*self.arrived;
        let arrived = arrived.lock().unwrap();
        let (arrived, timeout) = grew
            .wait_timeout_while(arrived, PATIENCE, |arrived| !enough(arrived))
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "waited in vain; arrived: {:#?}",
            *arrived
        );
        arrived.clone()
    }

    /// The first so many requests.
    pub(crate) fn wait_for(&self, requests: usize) -> Vec<Arrived> {
        self.wait_until(|arrived| arrived.len() >= requests)
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.0.lock().unwrap().clone()
    }

    /// Each order's tracking number with the ids of the payloads in which it arrived.
    pub(crate) fn payload_ids_by_order(&self) -> BTreeMap<u64, Vec<String>> {
        let mut ids = BTreeMap::<u64, Vec<String>>::new();
        for arrived in self.arrived() {
            for number in arrived.orders().1 {
                ids.entry(number)
                    .or_default()
                    .push(arrived.header("webhook-id").to_owned());
            }
        }
        ids
    }
}

fn serve(stream: impl Read + Write, script: &Script, shared: &(Mutex<Vec<Arrived>>, Condvar)) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let number = {
            let mut arrived = shared.0.lock().unwrap();
            arrived.push(request.clone());
            arrived.len()
        };
        shared.1.notify_all();
        let answer = match script(number, &request) {
            Answer::Status(status, rest) => answer_bytes(status, rest),
            Answer::Gated(gate, status) => {
                gate.pass();
                answer_bytes(status, "")
            }
            Answer::HangUp => return,
            Answer::Silence => {
                // Until the other side gives up.
                drop(reader.read(&mut [0]));
                return;
            }
            Answer::Bytes(bytes) => bytes,
        };
        let writer = reader.get_mut();
        if writer
            .write_all(&answer)
            .and_then(|()| writer.flush())
            .is_err()
        {
            return;
        }
    }
}

/// An answer; `rest` is header lines, and, after an empty line, the body.
fn answer_bytes(status: u16, rest: &str) -> Vec<u8> {
    let (headers, body) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for header in headers.lines() {
        write!(answer, "{header}\r\n").unwrap();
    }
    write!(answer, "\r\n{body}").unwrap();
    answer.into_bytes()
}

/// The next request, with its body; `None` at the connection's end.
pub(crate) fn read_request(reader: &mut impl BufRead) -> Option<Arrived> {
    let mut request = Arrived {
        head: read_head(reader)?,
        body: Vec::new(),
        at: Instant::now(),
    };
    let length = request.header("content-length").trim().parse().unwrap();
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    request.at = Instant::now();
    Some(request)
}

/// The next request's line and headers; `None` at the connection's end.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}
