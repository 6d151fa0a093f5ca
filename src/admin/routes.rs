//! The calls: their paths, the role that each needs, and what is told of them.
//!
//! Each is admitted here before it is done, and each change and each refusal leaves one line in the
//! log. What a caller sent is escaped in it, so that it can't look like another line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Grants;
use super::api::{self, Error};
use super::caller::Caller;
use super::desk::Desk;
use super::{acts, metrics, orders, questions, stream};
use crate::config::Role;
use crate::feed::order::{Action, OrderType};

/// A request's body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a call may take, from its head to its answer.
const CALL_PATIENCE: Duration = Duration::from_mins(2);

/// All calls.
pub(super) fn router(desk: Desk, granted: Grants, stopping: watch::Receiver<bool>) -> Router {
    let (get, post) = (Method::GET, Method::POST);
    let calls = Calls::default()
        .call(&get, "/v1/health", Role::Viewer, health)
        .call(&get, "/metrics", Role::Viewer, metrics::metrics)
        .call(&get, "/v1/events", Role::Viewer, events)
        .call(&get, OPENAPI, Role::Viewer, openapi)
        .call(&get, "/v1/status", Role::Viewer, questions::status)
        .call(&get, "/v1/webhooks", Role::Viewer, questions::webhooks)
        .call(
            &get,
            "/v1/webhooks/{name}",
            Role::Viewer,
            questions::webhook,
        )
        .call(&get, "/v1/payloads", Role::Viewer, questions::payloads)
        .call(
            &get,
            "/v1/payloads/{payload_id}",
            Role::Viewer,
            questions::payload,
        )
        .call(
            &get,
            "/v1/payloads/{payload_id}/attempts",
            Role::Viewer,
            questions::attempts,
        )
        .call(
            &get,
            "/v1/payloads/{payload_id}/body",
            Role::Viewer,
            questions::body,
        )
        .call(
            &get,
            "/v1/orders/{tracking_number}",
            Role::Viewer,
            questions::orders,
        )
        .call(&get, "/v1/reconcile", Role::Viewer, questions::reconcile)
        .call(&get, stream::PATH, Role::Viewer, stream::stream)
        .call(&post, "/v1/orders", Role::Producer, orders::enqueue)
        .call(
            &post,
            "/v1/orders/{tracking_number}/withdraw",
            Role::Producer,
            acts::withdraw,
        )
        .call(&post, "/v1/resend", Role::Operator, acts::resend)
        .call(
            &post,
            "/v1/payloads/{payload_id}/discard",
            Role::Operator,
            acts::discard,
        )
        .call(
            &post,
            "/v1/webhooks/{name}/pause",
            Role::Operator,
            acts::pause,
        )
        .call(
            &post,
            "/v1/webhooks/{name}/resume",
            Role::Operator,
            acts::resume,
        )
        .call(
            &post,
            "/v1/webhooks/{name}/retry-now",
            Role::Operator,
            acts::retry_now,
        )
        .call(
            &post,
            "/v1/webhooks/{name}/test",
            Role::Operator,
            acts::test,
        )
        .call(&post, "/v1/reload", Role::Admin, reload)
        .call(&post, "/v1/backup", Role::Admin, back_up)
        .call(&post, "/v1/adopt-queue", Role::Admin, adopt_queue);
    let gate = Gate {
        calls: Arc::new(calls.known),
        granted,
    };
    calls
        .router
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(gate, admit))
        .layer(Extension(stream::Until(stopping)))
        .layer(Extension(questions::Turn::default()))
        .layer(Extension(orders::Turns::default()))
        .with_state(desk)
}

async fn health(State(desk): State<Desk>) -> Result<Answer, Error> {
    let health = desk.ask(async |operator| operator.health().await).await?;
    Ok(Answer::of(&health))
}

async fn reload(State(desk): State<Desk>, Sent(asked): Sent<api::Reload>) -> Result<Answer, Error> {
    let dry_run = asked.dry_run;
    let reloaded = desk
        .ask(async move |operator| operator.reload(dry_run).await)
        .await?;
    let told = if dry_run { "would reload" } else { "reloaded" };
    Ok(Answer::of(&reloaded).told(told))
}

async fn back_up(
    State(desk): State<Desk>,
    Sent(acts::Nothing {}): Sent<acts::Nothing>,
) -> Result<Answer, Error> {
    let backup = desk.ask(async |operator| operator.back_up().await).await?;
    Ok(Answer::of(&backup).told(format!("backed up to {}", backup.folder)))
}

async fn adopt_queue(
    State(desk): State<Desk>,
    Sent(asked): Sent<api::AdoptQueue>,
) -> Result<Answer, Error> {
    let adopted = desk
        .ask(async move |operator| operator.adopt_queue(asked).await)
        .await?;
    let told = match asked.resend_from {
        Some(seq) => format!("the queue is adopted, from order {seq} on"),
        None => "the queue is adopted, with all orders in it".to_owned(),
    };
    Ok(Answer::of(&adopted).told(told))
}

const OPENAPI: &str = "/v1/openapi.json";

/// What the calls are, for programs.
async fn openapi() -> Answer {
    Answer::of_bytes(include_bytes!("../../docs/openapi.json").to_vec())
}

/// The triggers that a configuration may hold.
async fn events() -> Answer {
    let kind = |trigger: String, orders: String| api::TriggerKind { trigger, orders };
    let types = OrderType::ALL.map(|order_type| order_type.to_string());
    let mut triggers = Vec::new();
    for name in &types {
        triggers.push(kind(
            name.clone(),
            format!("all {name}s, whatever happened to them"),
        ));
        triggers.push(kind(
            format!("{name}.ACTION"),
            format!("{name}s to which this happened"),
        ));
    }
    triggers.push(kind(
        "*.ACTION".to_owned(),
        "orders of all types to which this happened".to_owned(),
    ));
    Answer::of(&api::Triggers {
        triggers,
        types: types.into(),
        default_action: Action::SUBMIT.to_owned(),
        action_pattern: "^[A-Za-z0-9_-]{1,64}$".to_owned(),
    })
}

/// No call has this path.
async fn unknown(request: Request) -> Error {
    let path = request.uri().path();
    Error::not_found(format!(
        "there is nothing at {path}; GET /v1/openapi.json describes what there is"
    ))
}

/// The paths with the methods that they know, and the role that each of these needs.
type Known = BTreeMap<&'static str, Vec<(Method, Role)>>;

#[derive(Default)]
struct Calls {
    router: Router<Desk>,
    known: Known,
}

impl Calls {
    fn call<T: 'static>(
        mut self,
        method: &Method,
        path: &'static str,
        role: Role,
        handler: impl Handler<T, Desk>,
    ) -> Self {
        let filter = if method == Method::GET {
            MethodFilter::GET
        } else {
            MethodFilter::POST
        };
        self.router = self.router.route(path, on(filter, handler));
        self.known
            .entry(path)
            .or_default()
            .push((method.clone(), role));
        self
    }
}

/// What is to be known for admitting a call.
#[derive(Clone)]
struct Gate {
    calls: Arc<Known>,
    granted: Grants,
}

/// Has the call done; what reads the queue is on a thread beside.
async fn run(path: Option<&str>, method: &Method, request: Request, next: Next) -> Response {
    let waits_for_nobody = matches!(
        path,
        None | Some("/v1/health" | "/v1/events" | OPENAPI | stream::PATH)
    );
    if method != Method::GET || waits_for_nobody {
        return next.run(request).await;
    }
    let handle = Handle::current();
    let answering = tokio::task::spawn_blocking(move || handle.block_on(next.run(request)));
    answering.await.unwrap_or_else(|_panicked| {
        Error::new(500, "internal", "answering broke off; the log says more").into_response()
    })
}

/// Lets the call pass if it exists and its caller may make it, bounds its time, and tells of it.
async fn admit(
    State(gate): State<Gate>,
    Extension(caller): Extension<Arc<Caller>>,
    mut request: Request,
    next: Next,
) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref method => method.clone(),
    };
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map(|path| path.as_str().to_owned());
    let methods = path.as_deref().and_then(|path| gate.calls.get(path));
    let role = methods.map(|methods| methods.iter().find(|(known, _)| *known == method));
    let rights = caller.rights(&gate.granted.borrow());
    request.extensions_mut().insert(rights);
    let response = match role {
        Some(None) => {
            let allowed = methods.into_iter().flatten();
            let allowed: Vec<&str> = allowed.map(|(method, _)| method.as_str()).collect();
            let allowed = allowed.join(" and ");
            let message = format!("{method} is not known here; allowed is {allowed}");
            Error::new(405, "method_not_allowed", message).into_response()
        }
        Some(Some((_, role))) if !rights.allow(*role) => forbidden(&caller, *role).into_response(),
        Some(Some(_)) | None => {
            match timeout(CALL_PATIENCE, run(path.as_deref(), &method, request, next)).await {
                Ok(response) => response,
                Err(_elapsed) => Error::unavailable(
                    "timeout",
                    format!(
                        "no answer within {} s; what was asked may still be done",
                        CALL_PATIENCE.as_secs()
                    ),
                )
                .into_response(),
            }
        }
    };
    let is_health = path.as_deref() == Some("/v1/health");
    let failed = !response.status().is_success();
    if (failed && !is_health) || method != Method::GET {
        tell(&caller, &call, &response);
    }
    response
}

fn forbidden(caller: &Caller, role: Role) -> Error {
    let who = &caller.user;
    let needed = match role {
        Role::Viewer => "viewer (or operator, or admin)",
        Role::Producer => "producer (or operator, or admin)",
        Role::Operator => "operator (or admin)",
        Role::Admin => "admin",
    };
    Error::new(
        403,
        "forbidden",
        format!(
            "{who} may not do this: it takes the role {needed}; an administrator grants it to a user or a group with [[admin.grant]] in the configuration"
        ),
    )
}

/// One line in the log.
fn tell(caller: &Caller, call: &str, response: &Response) {
    let status = response.status().as_u16();
    let outcome = response.extensions().get::<Told>();
    let outcome = outcome.map_or("", |told| told.0.as_str());
    let (user, uid) = (on_one_line(&caller.user), caller.uid);
    let pid = caller
        .pid
        .map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    let (call, outcome) = (on_one_line(call), on_one_line(outcome));
    if response.status().is_success() {
        info!(
            user,
            uid, pid, call, status, "admin: {user} (uid {uid}, pid {pid}): {call}: {outcome}"
        );
    } else {
        warn!(
            user,
            uid,
            pid,
            call,
            status,
            "admin: {user} (uid {uid}, pid {pid}): {call}: refused with {status}: {outcome}"
        );
    }
}

/// A text that stays on its line and does nothing to a terminal, and is not too long.
fn on_one_line(text: &str) -> String {
    const LONGEST: usize = 500;
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        let moves = matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}');
        if c.is_control() || moves {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// What is told of a call beside its status.
#[derive(Clone)]
pub(super) struct Told(pub(super) String);

/// An answer with 200, or another status of success.
pub(super) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    told: String,
}

impl Answer {
    pub(super) fn of(value: &impl Serialize) -> Self {
        Self {
            status: StatusCode::OK,
            body: serde_json::to_vec(value).expect("our types have text for keys"),
            told: "done".to_owned(),
        }
    }

    /// JSON that is there already.
    pub(super) fn of_bytes(body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            body,
            told: "done".to_owned(),
        }
    }

    pub(super) fn told(self, told: impl Into<String>) -> Self {
        Self {
            told: told.into(),
            ..self
        }
    }
}

impl Answer {
    /// 201: something is there that was not.
    pub(super) fn created(self) -> Self {
        Self {
            status: StatusCode::CREATED,
            ..self
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        (self.status, json, Extension(Told(self.told)), self.body).into_response()
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = [(header::CONTENT_TYPE, "application/json")];
        let body = self.to_json().to_string();
        (status, json, Extension(Told(self.message)), body).into_response()
    }
}

/// A request's body, as what it must be. An empty one is `{}`.
pub(super) struct Sent<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let body = read(request.into_body(), BODY_BYTES_MAX).await?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        // An array would pass for an object's members in their order.
        if text.trim_ascii_start().starts_with(b"[") {
            return Err(Error::invalid("the body must be a JSON object"));
        }
        parse(text).map(Self)
    }
}

/// What stands in a call's path, if it is text.
pub(super) struct InPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let found = Path::<String>::from_request_parts(parts, state).await;
        found.map(|Path(text)| Self(text)).map_err(|rejection| {
            let what = rejection.body_text();
            Error::new(
                400,
                "bad_request",
                format!("the path can't be read: {what}"),
            )
        })
    }
}

/// A body, if it is not too large.
pub(super) async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Error> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::new(
            413,
            "too_large",
            format!(
                "the body is larger than {} KiB, which is the most that this call takes",
                bytes_max / 1024
            ),
        )),
        Err(error) => Err(Error::new(
            400,
            "bad_request",
            format!("the body can't be read: {error}"),
        )),
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| {
        if error.is_data() {
            Error::invalid(format!("the body is not what this call takes: {error}"))
        } else {
            Error::new(400, "bad_json", format!("the body is not JSON: {error}"))
        }
    })
}
