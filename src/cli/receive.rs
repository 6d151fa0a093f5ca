//! `orderfeed receive`: a receiver to try things with.
//!
//! It takes what a webhook sends, shows it, and misbehaves if asked to. What comes is held
//! against what came before ([`memory`]); nothing is kept, unless in a folder. It speaks plain
//! HTTP, and bounds what a sender may take of its memory and time.

pub mod arrival;
mod memory;
mod print;

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::arrival::{Arrival, BODY_BYTES_MAX, Locks, Refusal};
use self::memory::{Memory, Novelty};
use self::print::{Printer, Sums, Told, Verdict};
use super::{Exit, Failure};
use crate::clock::WallTime;
use crate::feed::payload::PayloadId;
use crate::sender::secret::Secret;
use crate::sender::signature::SigningSecret;

/// Receive orders and show them: a receiver to try things with
///
/// It takes what a webhook sends to it, on any path, until Ctrl-C, and sums up. A payload that
/// comes twice with the same body is fine. Other bytes under a known payload id, and an order
/// that comes again unchanged under another id for no stated reason, are alarms. It ends with 1
/// if there was an alarm, or a request that orderfeed would not send.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one, and the url is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// Answer with this status
    #[arg(long, default_value = "200", value_parser = status)]
    status: StatusCode,
    /// Answer only after so long: 2s, 500ms
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Refuse every N-th request
    #[arg(long, value_name = "N")]
    fail_every: Option<NonZeroU64>,
    /// The status with which every N-th request is refused
    #[arg(long, value_name = "STATUS", default_value = "503", value_parser = status)]
    fail_status: StatusCode,
    /// Expect signatures by the secret in this file (whsec_...); several files: by any of them
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// Expect the header authorization to be what is in this file
    #[arg(long, value_name = "FILE")]
    authorization_file: Option<PathBuf>,
    /// Print the orders, too
    #[arg(long)]
    bodies: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Write each payload's body to a file in this folder, named by its id
    #[arg(long, value_name = "FOLDER")]
    write_to: Option<PathBuf>,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
}

/// Connections at a time; others wait.
const CONNECTIONS_MAX: usize = 16;

/// The bodies that are read at a time have so many bytes together, by their announced lengths;
/// others wait.
const READING_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// A request's head, and the pause before it, may take so long, and
const HEAD_TIME: Duration = Duration::from_secs(30);

/// be so large.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A request's body may take so long.
const BODY_TIME: Duration = Duration::from_mins(1);

/// When it ends, answers under way have so long to leave.
const LEAVE_TIME: Duration = Duration::from_secs(2);

fn address(text: &str) -> Result<SocketAddr, String> {
    let allowed = "must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
    text.parse().map_err(|_error| allowed.to_owned())
}

fn status(text: &str) -> Result<StatusCode, String> {
    text.parse()
        .ok()
        .filter(|status: &StatusCode| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| "must be an HTTP status from 200 to 599".to_owned())
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let locks = Locks {
        authorization: args
            .authorization_file
            .as_deref()
            .map(read_secret)
            .transpose()?,
        signing_secrets: args
            .secret_file
            .iter()
            .map(|file| signing_secret(file))
            .collect::<Result<_, _>>()?,
    };
    if let Some(folder) = &args.write_to {
        make_ready(folder).map_err(|error| at(folder, &error))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(receive(args, locks))
}

/// What a file holds, without the line's end.
fn read_secret(file: &Path) -> Result<Secret, Failure> {
    let mut text = fs::read_to_string(file).map_err(|error| at(file, &error))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(Secret::new(text))
}

fn signing_secret(file: &Path) -> Result<SigningSecret, Failure> {
    SigningSecret::parse(read_secret(file)?.expose()).map_err(|error| {
        let message = format!("{}: is no signing secret: {error}", file.display());
        Failure::new(Exit::Usage, message)
    })
}

/// An argument names what can't be used.
fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
}

async fn receive(args: Args, locks: Locks) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        let message = format!(
            "{}: {error}; --listen names another address and port",
            args.listen
        );
        Failure::new(Exit::Failed, message)
    })?;
    let receiver = Arc::new(Receiver {
        printer: Printer::new(args.json, args.bodies),
        args,
        locks,
        stop: watch::Sender::new(false),
        reading: Semaphore::new(READING_BYTES_MAX),
        state: Mutex::default(),
    });
    receiver.printer.introduce(listener.local_addr()?)?;
    tokio::select! {
        () = serve(listener, Arc::clone(&receiver)) => {}
        () = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            receiver.stop.send_replace(true);
            // A second one ends it at once.
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        } => {}
    }
    let mut state = receiver.state();
    if let Some(error) = state.unprinted.take() {
        return Err(error.into());
    }
    receiver.printer.sum_up(&state.sums, &state.memory)?;
    let Sums { alarms, bad, .. } = state.sums;
    if alarms > 0 || bad > 0 {
        let message = format!("alarms: {alarms}, bad requests: {bad}; each is told above");
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(())
}

/// Takes connections until it is to stop, and lets those go that it has.
async fn serve(listener: TcpListener, receiver: Arc<Receiver>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(stream, Arc::clone(&receiver));
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                    while connections.try_join_next().is_some() {}
                }
                // Most often too many files are open; it passes.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = receiver.stopped() => {}
    }
    let leaving = async { while connections.join_next().await.is_some() {} };
    drop(timeout(LEAVE_TIME, leaving).await);
}

async fn connection(stream: TcpStream, receiver: Arc<Receiver>) {
    let service = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&receiver));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = receiver.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended
        && error.is_parse()
    {
        let words = format!("no HTTP/1.1: {error} (does the url say https?)");
        receiver.tell_broken(&words);
    }
}

async fn answer(State(receiver): State<Arc<Receiver>>, request: Request) -> (StatusCode, String) {
    let (head, body) = request.into_parts();
    let read = if head.method == Method::POST {
        whole(&head.headers, body, &receiver.reading).await
    } else {
        let message = format!("{}: must be POST", head.method);
        Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
    };
    // From here on it has arrived, whether or not the sender waits for the answer. On the one
    // thread nobody reads another body before this one is gone.
    let answer = receiver.meet(&head.headers, read);
    tokio::select! {
        () = sleep(receiver.args.delay) => {}
        () = receiver.stopped() => {}
    }
    answer
}

/// The request's body, if it comes in time and is not too large.
async fn whole(headers: &HeaderMap, body: Body, reading: &Semaphore) -> Result<Bytes, Refusal> {
    let announced = headers.get("content-length");
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let length = announced.unwrap_or(BODY_BYTES_MAX as u64);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if length as usize > BODY_BYTES_MAX {
        return Err(arrival::too_large());
    }
    let _room = reading.acquire_many(length).await;
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_error| {
                Refusal::new(StatusCode::BAD_REQUEST, "the body ended before its end")
            })?;
            if whole.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(arrival::too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match timeout(BODY_TIME, reading).await {
        Ok(read) => read.map(|()| whole.freeze()),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come within a minute",
        )),
    }
}

/// What takes the requests, one after another.
struct Receiver {
    args: Args,
    locks: Locks,
    printer: Printer,
    stop: watch::Sender<bool>,
    /// A permit for each byte of [`READING_BYTES_MAX`].
    reading: Semaphore,
    state: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    memory: Memory,
    sums: Sums,
    /// Why a line could not be printed.
    unprinted: Option<io::Error>,
}

impl Receiver {
    fn state(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when it is to end.
    async fn stopped(&self) {
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    /// Takes or refuses a request, and tells it.
    fn meet(&self, headers: &HeaderMap, body: Result<Bytes, Refusal>) -> (StatusCode, String) {
        let mut state = self.state();
        let count = self.args.count.map(NonZeroU64::get);
        if count.is_some_and(|count| state.sums.requests >= count) {
            let message = "the receiver has ended".to_owned();
            return (StatusCode::SERVICE_UNAVAILABLE, message);
        }
        state.sums.requests += 1;
        let at = WallTime::now();
        let read =
            body.and_then(|body| arrival::read(headers, body, &self.locks, at.unix_seconds()));
        let (status, verdict, wrong) = match &read {
            Ok(arrival) => self.judge(arrival, &mut state),
            Err(refusal) => (refusal.status, Verdict::Bad, vec![refusal.message.clone()]),
        };
        match verdict {
            Verdict::Bad => state.sums.bad += 1,
            Verdict::Alarm => state.sums.alarms += 1,
            Verdict::New | Verdict::Again | Verdict::Repeat | Verdict::Test => {}
        }
        let told = Told {
            at,
            status: status.as_u16(),
            verdict,
            arrival: read.as_ref().ok(),
            wrong: &wrong,
        };
        let printed = self.printer.tell(&told);
        self.keep_error(&mut state, printed);
        if count.is_some_and(|count| state.sums.requests >= count) {
            self.stop.send_replace(true);
        }
        let words = match wrong.first() {
            Some(wrong) => format!("{wrong}\n"),
            None if status.is_success() => "taken\n".to_owned(),
            None => "refused, as asked for\n".to_owned(),
        };
        (status, words)
    }

    fn judge(&self, arrival: &Arrival, state: &mut Standing) -> (StatusCode, Verdict, Vec<String>) {
        let novelty = state.memory.meet(arrival);
        let mut wrong = Vec::new();
        // One that came before was not written if it was the disk that refused it.
        if matches!(novelty, Novelty::New | Novelty::Again)
            && let Some(folder) = &self.args.write_to
        {
            match write(folder, arrival.payload_id, &arrival.body) {
                Ok(None) => {}
                Ok(Some(other)) => {
                    wrong.push(format!("{} holds another body", other.display()));
                    return (StatusCode::CONFLICT, Verdict::Alarm, wrong);
                }
                Err(error) => {
                    wrong.push(format!("can't be written to {}: {error}", folder.display()));
                    return (StatusCode::INTERNAL_SERVER_ERROR, Verdict::Bad, wrong);
                }
            }
        }
        if novelty == Novelty::OtherBody {
            wrong.push("this id came before with another body".to_owned());
            return (StatusCode::CONFLICT, Verdict::Alarm, wrong);
        }
        let fails = self
            .args
            .fail_every
            .is_some_and(|every| state.sums.requests.is_multiple_of(every.get()));
        let status = if fails {
            self.args.fail_status
        } else {
            self.args.status
        };
        if !status.is_success() {
            state.sums.refused += 1;
        } else if novelty == Novelty::Repeat {
            state.sums.repeats += 1;
        } else {
            state.sums.taken += 1;
            wrong = state.memory.take(arrival);
        }
        let verdict = match novelty {
            _ if !wrong.is_empty() => Verdict::Alarm,
            _ if arrival.is_test => Verdict::Test,
            Novelty::New => Verdict::New,
            Novelty::Again => Verdict::Again,
            Novelty::Repeat => Verdict::Repeat,
            Novelty::OtherBody => Verdict::Alarm,
        };
        (status, verdict, wrong)
    }

    fn tell_broken(&self, message: &str) {
        let mut state = self.state();
        state.sums.bad += 1;
        state.sums.requests += 1;
        let printed = self.printer.tell_broken(message);
        self.keep_error(&mut state, printed);
    }

    /// Who can't be told anything any more needs no receiver.
    fn keep_error(&self, state: &mut Standing, printed: io::Result<()>) {
        if let Err(error) = printed {
            state.unprinted = Some(error);
            self.stop.send_replace(true);
        }
    }
}

/// Makes the folder, and sees whether it can be written to before anything comes.
fn make_ready(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let part = folder.join(".part");
    fs::File::create(&part)?;
    fs::remove_file(&part)
}

/// Writes a payload's body to a file of its own, whole or not at all; what exists is left as it
/// is. Returns its path if it holds something else.
fn write(folder: &Path, id: PayloadId, body: &[u8]) -> io::Result<Option<PathBuf>> {
    let path = folder.join(format!("{id}.json"));
    let part = folder.join(format!(".{id}.part"));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?
        .write_all(body)?;
    // Unlike a rename, a link replaces nothing.
    let linked = fs::hard_link(&part, &path);
    fs::remove_file(&part)?;
    match linked {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let differs = fs::read(&path)? != body;
            Ok(differs.then_some(path))
        }
        Err(error) => Err(error),
    }
}
