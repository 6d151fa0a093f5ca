//! Asks the daemon, over its admin socket.
//!
//! The socket is found by the configuration, of which nothing else is read: whoever asks need not be
//! able to read the secrets in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{ConfigPlace, Exit, Failure};
use crate::admin::api::Error;
use crate::config;

/// A little longer than the daemon takes at most.
const PATIENCE: Duration = Duration::from_secs(130);

/// A way to the daemon.
pub(super) struct Client {
    runtime: Runtime,
    socket: PathBuf,
    patience: Duration,
    /// Whether the configuration could not be read, and so the default is assumed.
    assumed: bool,
}

/// Why nobody answered.
enum Unreached {
    /// Nobody listens there: no daemon runs.
    NotRunning(String),
    /// This user may not.
    NotAllowed(String),
    /// It broke off.
    Broken(String),
}

impl Client {
    /// A client of the daemon that the configuration is of; it is not reached for yet.
    pub(super) fn new(place: &ConfigPlace) -> Result<Self, Failure> {
        let found = config::admin_socket(&place.path())?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            patience: PATIENCE,
            assumed: found.is_none(),
            socket: found.unwrap_or_else(|| PathBuf::from(config::DEFAULT_SOCKET)),
        })
    }

    /// One that waits only so long for each answer.
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether a daemon runs, as far as its socket says so: somebody listens there, or nobody can
    /// tell.
    pub(super) fn is_running(&self) -> bool {
        let connected = self.runtime.block_on(self.connect());
        !matches!(connected, Err(Unreached::NotRunning(_)))
    }

    /// Asks for something.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.call(Method::GET, path, Bytes::new())?;
        self.read(&answer)
    }

    /// Asks for something, as it goes over the wire.
    pub(super) fn get_bytes(&self, path: &str) -> Result<Bytes, Failure> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// Has something done.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        asked: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(asked).expect("our types have text for keys");
        let answer = self.call(Method::POST, path, body.into())?;
        self.read(&answer)
    }

    /// Reads server-sent events until there are no more: the data of each.
    pub(super) fn events(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let answer = self.begin(Method::GET, path, Bytes::new()).await;
            let answer = answer.map_err(|unreached| self.unreached(unreached))?;
            let status = answer.status().as_u16();
            let mut body = answer.into_body();
            if status != 200 {
                let body = body.collect().await;
                let body = body.map(http_body_util::Collected::to_bytes);
                return Err(self.refused(status, &body.unwrap_or_default()));
            }
            let mut unread = Vec::new();
            // However it ends, there is nothing more to read.
            while let Some(Ok(frame)) = body.frame().await {
                unread.extend(frame.into_data().unwrap_or_default());
                while let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
                    let event: Vec<u8> = unread.drain(..end + 2).collect();
                    let event = String::from_utf8_lossy(&event);
                    for data in event.lines().filter_map(|line| line.strip_prefix("data: ")) {
                        each(data)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(answer).map_err(|error| {
            let message = format!(
                "what the daemon at {} answered is not understood ({error}); is it of another version than this program?",
                self.socket.display()
            );
            Failure::new(Exit::Failed, message)
        })
    }

    /// One call, and its answer; a refusal is a failure.
    fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let called = async {
            let (status, body) = self.send(method, path, body).await?;
            Ok((status, body))
        };
        let called = self
            .runtime
            .block_on(async { timeout(self.patience, called).await });
        let late = |_| {
            let seconds = self.patience.as_secs();
            Unreached::Broken(format!("it has not answered within {seconds} s"))
        };
        match called.map_err(late).and_then(|called| called) {
            Ok((200..=299, body)) => Ok(body),
            Ok((status, body)) => Err(self.refused(status, &body)),
            Err(unreached) => Err(self.unreached(unreached)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes), Unreached> {
        let answer = self.begin(method, path, body).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(broken)?;
        Ok((status, body.to_bytes()))
    }

    /// Sends a request, and returns when its answer begins.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Unreached> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // How it ends is known from the answer.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "orderfeed");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(broken)?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn connect(&self) -> Result<UnixStream, Unreached> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => Unreached::NotRunning("there is no socket".to_owned()),
                ErrorKind::ConnectionRefused => {
                    Unreached::NotRunning("nobody answers there".to_owned())
                }
                ErrorKind::PermissionDenied => Unreached::NotAllowed(whose(&self.socket)),
                _ => Unreached::Broken(error.to_string()),
            })
    }

    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let Some(error) = Error::from_json(status, body) else {
            let message = format!(
                "whoever answers at {} is no orderfeed: it answered {status}; set admin.socket",
                self.socket.display()
            );
            return Failure::new(Exit::Failed, message);
        };
        let exit = match (status, error.code.as_str()) {
            (403, _) => Exit::NotAllowed,
            (_, "bad_config") => Exit::Usage,
            (_, "starting" | "stopping" | "too_many") => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let mut message = error.message;
        for candidate in &error.candidates {
            message.push_str("\n    ");
            message.push_str(&in_words(candidate));
        }
        match error.code.as_str() {
            "queue_mismatch" => Failure::outage(exit, message),
            _ => Failure::new(exit, message),
        }
    }

    fn unreached(&self, unreached: Unreached) -> Failure {
        let socket = self.socket.display();
        let assumed = if self.assumed {
            "; this user may not read the configuration, so that is where the socket usually is (ORDERFEED_ADMIN__SOCKET names another place)"
        } else {
            ""
        };
        match unreached {
            Unreached::NotRunning(why) => Failure::new(
                Exit::Unreachable,
                format!(
                    "the daemon can't be reached at {socket}: {why}{assumed}; does it run? (`systemctl status orderfeed`, or start it with `orderfeed run`)"
                ),
            ),
            Unreached::NotAllowed(whose) => Failure::new(
                Exit::NotAllowed,
                format!(
                    "this user may not open the admin socket {socket}{whose}{assumed}; become a member of its group, or ask an administrator"
                ),
            ),
            Unreached::Broken(why) => Failure::outage(
                Exit::Unreachable,
                format!(
                    "the daemon at {socket} broke off: {why}{assumed}; whether it did what was asked, its log tells"
                ),
            ),
        }
    }
}

/// A text as a part of a path.
pub(super) fn escaped(text: &str) -> impl std::fmt::Display {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');
    utf8_percent_encode(text, PLAIN)
}

fn broken(error: impl std::error::Error) -> Unreached {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Unreached::Broken(text)
}

/// Whose a socket is, as far as that can be told.
fn whose(socket: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = std::fs::metadata(socket) else {
        return String::new();
    };
    let group = nix::unistd::Group::from_gid(about.gid().into())
        .ok()
        .flatten()
        .map_or_else(|| about.gid().to_string(), |group| group.name);
    format!(", which is of the group {group}")
}

/// A JSON object as `name value, name value`.
fn in_words(value: &Value) -> String {
    let plain = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    match value.as_object() {
        Some(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| format!("{name} {}", plain(value)))
                .collect();
            fields.join(", ")
        }
        None => plain(value),
    }
}
