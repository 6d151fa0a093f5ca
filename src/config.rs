//! The configuration: one TOML file, overridden by environment variables.
//!
//! [`Config::load`] is the door: whoever holds a [`Config`] holds a valid one, with every
//! default filled in and every secret read. What is wrong is told all at once ([`Errors`]), each
//! with its place, what was found and what is allowed, and never with a secret in it.
//!
//! This module reads the file, the environment and the files of secrets, certificates and keys. It opens no
//! queue and no ledger, sends nothing, and does not know what is stored.
//!
//! Reading order: `sources` (the layers), `reader` (asks for the keys), `values`, `secrets` and `tls`
//! (what they may hold), `problem` (what is told), and here: which keys there are.

mod grants;
mod problem;
mod reader;
mod schedule;
mod secrets;
mod sources;
mod tls;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::ImDocument;
use tracing::Level;

pub use self::problem::{Errors, Place, Problem};
use self::reader::{Reader, Section};
pub use self::schedule::Schedule;
use self::schedule::schedule_or_off;
use self::sources::{DEFAULTS, Sources};
use self::values::{duration, one_of, whole};
use crate::feed::order::PerType;
use crate::feed::policy::{OnTimeout, Policy, Sequence};
use crate::feed::selection::Selection;
use crate::feed::webhook::WebhookName;
use crate::sender::Endpoint;
use crate::sender::content::Compression;
use crate::sender::headers::Header;
use crate::sender::proxy::Proxy;
use crate::sender::secret::Secret;
use crate::sender::signature::SigningSecret;
use crate::sender::tls::Tls;
use crate::store::ledger::configure::Configured;
pub use crate::store::ledger::configure::Start;

/// Where the file is, unless `--config` or `ORDERFEED_CONFIG` name another.
pub const DEFAULT_FILE: &str = "/etc/orderfeed/config.toml";

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The whole configuration, valid and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[queue]`
    pub queue: QueueConfig,
    /// `[ledger]`
    pub ledger: LedgerConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[maintenance]`
    pub maintenance: Maintenance,
    /// Each `[webhook.NAME]`, by name; there may be none.
    pub webhooks: Vec<Webhook>,
}

/// `[queue]`: the file that producers write orders into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// `path`
    pub path: PathBuf,
    /// `poll_interval`: how often to look for new orders that no event told of; 10ms to 1m.
    pub poll_interval: Duration,
}

/// `[ledger]`: the file that the daemon alone writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    /// `path`
    pub path: PathBuf,
}

/// `[admin]`: the socket over which the daemon is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// `socket`
    pub socket: PathBuf,
    /// `[[admin.grant]]`: who may do what, beside root and the daemon's own user.
    pub grants: Vec<Grant>,
}

/// `[[admin.grant]]`: what somebody may do over the admin socket. Grants add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `user` or `group`
    pub who: Grantee,
    /// `role`
    pub role: Role,
    /// `order_types`: of which orders.
    pub order_types: PerType<bool>,
}

/// Whom a grant is for, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// `user`
    User(String),
    /// `group`: who is in it, whether as the first group or as a further one.
    Group(String),
}

/// What a caller of the admin socket may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `viewer`: see.
    Viewer,
    /// `producer`: queue and withdraw orders.
    Producer,
    /// `operator`: see, and act on payloads and webhooks.
    Operator,
    /// `admin`: all.
    Admin,
}

/// `[log]`: what is told on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `level`: the least important that is still told.
    pub level: Level,
    /// `format`
    pub format: LogFormat,
}

/// `[maintenance]`: what the daemon does for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Maintenance {
    /// `retention`: what is done with is kept for so long.
    pub retention: Duration,
    /// `prune_at`: when what is older goes; `None`: never.
    pub prune_at: Option<Schedule>,
    /// `backup_at`: when both files are copied; `None`: only when somebody asks.
    pub backup_at: Option<Schedule>,
    /// `backup_dir`: where to.
    pub backup_dir: PathBuf,
    /// `backup_keep`: so many copies are kept, the newest.
    pub backup_keep: usize,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `auto`: with colour on a terminal, plain elsewhere, without times where the journal adds
    /// them.
    Auto,
    /// `pretty`: for people, with colour.
    Pretty,
    /// `json`: one object a line.
    Json,
}

/// `[webhook.NAME]`: one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub name: WebhookName,
    /// `triggers` and `filter`: which orders are its own (D25, D26).
    pub selection: Selection,
    /// `start`: where it begins when it comes to a ledger that others were in before (D27).
    pub start: Option<Start>,
    /// `renamed_from`: whose place it takes over (D27).
    pub renamed_from: Option<WebhookName>,
    /// `url`, `timeout`, `authorization`, `headers`, `signing_secrets`, `compression`, `tls`,
    /// `proxy`: where its requests go, and with what.
    pub endpoint: Endpoint,
    /// Everything that its decisions obey.
    pub policy: Policy,
}

impl Config {
    /// Reads the file and the environment.
    pub fn load(file: &Path) -> Result<Self, Errors> {
        let in_file = |file: &Path, message| {
            Errors::from(Problem {
                place: Place::File {
                    file: file.to_owned(),
                    line: None,
                    column: None,
                },
                message,
            })
        };
        let file = &std::path::absolute(file)
            .map_err(|error| in_file(file, format!("has no absolute path: {error}")))?;
        let text = std::fs::read_to_string(file).map_err(|error| {
            let hint = "--config FILE or ORDERFEED_CONFIG name another file";
            in_file(file, format!("can't be read: {error}; {hint}"))
        })?;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::read(file, &text, std::env::vars_os(), credentials.as_deref())
    }

    /// Reads a file's text and an environment; `file` says where the text stands, `credentials`
    /// the folder of the service's credentials. Opens nothing but the files of secrets, certificates
    /// and keys.
    pub fn read(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        credentials: Option<&Path>,
    ) -> Result<Self, Errors> {
        let (sources, problems) = Sources::new(file, text, environment, credentials)?;
        let mut reader = Reader::new(&sources, problems);
        let config = everything(&mut reader, file);
        let problems = reader.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Errors::new(problems)),
        }
    }
}

/// Where the admin socket is, for who only wants to ask the daemon: nothing else of the file counts,
/// and nothing else need be right in it. `None` if this user may not read the file.
pub fn admin_socket(file: &Path) -> Result<Option<PathBuf>, Errors> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (text, unread) = match std::fs::read_to_string(&absolute) {
        Ok(text) => (text, false),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => (String::new(), true),
        Err(_) => return Config::load(file).map(|config| Some(config.admin.socket)),
    };
    let (sources, problems) = Sources::new(&absolute, &text, std::env::vars_os(), None)?;
    let of_others = problems.len();
    let mut reader = Reader::new(&sources, problems);
    let socket = reader.section(&["admin"]).get("socket", values::socket);
    let is_default = std::env::var_os("ORDERFEED_ADMIN__SOCKET").is_none();
    match socket {
        Some(_) if unread && is_default => Ok(None),
        Some(socket) => Ok(Some(socket)),
        None => Err(Errors::new(reader.into_problems().split_off(of_others))),
    }
}

/// Where the admin socket is, unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/orderfeed/admin.sock";

impl Config {
    /// What the ledger needs to know of its webhooks.
    pub fn configured(&self) -> Vec<Configured> {
        let configured = |webhook: &Webhook| Configured {
            name: webhook.name.clone(),
            selection: webhook.selection.clone(),
            start: webhook.start,
            renamed_from: webhook.renamed_from.clone(),
        };
        self.webhooks.iter().map(configured).collect()
    }
}

/// A key that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// Its name with its tables': `queue.path`, `defaults.retry_gap`, `webhook.NAME.url`. A key
    /// of `defaults` is a key of each webhook too, and stands here once.
    pub name: String,
    /// Its default as it is written in the file, if it has one.
    pub default: Option<String>,
}

/// All keys that exist, in alphabetical order.
pub fn known_keys() -> Vec<KnownKey> {
    let file = Path::new("known_keys.toml");
    let Ok((sources, problems)) = Sources::new(file, "[webhook.NAME]", [], None) else {
        return Vec::new();
    };
    let mut reader = Reader::new(&sources, problems);
    everything(&mut reader, file);
    let defaults = ImDocument::parse(DEFAULTS);
    let default_of = |path: &[String]| {
        let mut item = defaults.as_ref().ok()?.as_item();
        for name in path {
            item = item.get(name)?;
        }
        Some(DEFAULTS.get(item.span()?)?.to_owned())
    };
    let common: Vec<&[String]> = reader
        .known_keys()
        .filter_map(|path| path.strip_prefix(&["defaults".to_owned()]))
        .collect();
    reader
        .known_keys()
        .filter(|path| match path {
            [webhook, _, key @ ..] if webhook == "webhook" => !common.contains(&key),
            _ => true,
        })
        .map(|path| KnownKey {
            name: path.join("."),
            default: default_of(path),
        })
        .collect()
}

/// Asks for every key there is. `None` where something is wrong, which the reader has noted.
fn everything(reader: &mut Reader<'_>, file: &Path) -> Option<Config> {
    let queue = queue(&mut reader.section(&["queue"]));
    let ledger = ledger(&mut reader.section(&["ledger"]));
    if let (Some(queue), Some(ledger)) = (&queue, &ledger)
        && queue.path == ledger.path
    {
        let mut ledger = reader.section(&["ledger"]);
        ledger.complain("path", "is the queue's path too; they are two files");
    }
    let admin = admin(&mut reader.section(&["admin"]));
    let log = log(&mut reader.section(&["log"]));
    let maintenance = maintenance(&mut reader.section(&["maintenance"]));
    let base = Common::default();
    let defaults = common(&mut reader.section(&["defaults"]), &base);
    let names = reader.section(&["webhook"]).names();
    let mut renames = Vec::new();
    let webhooks: Vec<Option<Webhook>> = names
        .iter()
        .map(|name| {
            let mut section = reader.section(&["webhook", name]);
            webhook(&mut section, name, &defaults, &mut renames)
        })
        .collect();
    check_renames(reader, &names, &renames);
    Some(Config {
        file: file.to_owned(),
        queue: queue?,
        ledger: ledger?,
        admin: admin?,
        log: log?,
        maintenance: maintenance?,
        webhooks: webhooks.into_iter().collect::<Option<_>>()?,
    })
}

fn queue(section: &mut Section<'_, '_>) -> Option<QueueConfig> {
    let path = section.get("path", values::path);
    let poll_interval = section.get(
        "poll_interval",
        duration(Duration::from_millis(10)..=MINUTE),
    );
    Some(QueueConfig {
        path: path?,
        poll_interval: poll_interval?,
    })
}

fn ledger(section: &mut Section<'_, '_>) -> Option<LedgerConfig> {
    let path = section.get("path", values::path)?;
    Some(LedgerConfig { path })
}

fn admin(section: &mut Section<'_, '_>) -> Option<AdminConfig> {
    let socket = section.get("socket", values::socket);
    let grants = section.get("grant", grants::grants);
    Some(AdminConfig {
        socket: socket?,
        grants: grants?,
    })
}

fn maintenance(section: &mut Section<'_, '_>) -> Option<Maintenance> {
    let retention = section.get("retention", duration(Duration::from_secs(1)..=DAY * 3_650));
    let prune_at = section.get("prune_at", schedule_or_off);
    let backup_at = section.get("backup_at", schedule_or_off);
    let backup_dir = section.get("backup_dir", values::path);
    let backup_keep = section.get("backup_keep", whole(1..=1_000));
    Some(Maintenance {
        retention: retention?,
        prune_at: prune_at?,
        backup_at: backup_at?,
        backup_dir: backup_dir?,
        backup_keep: usize::try_from(backup_keep?).ok()?,
    })
}

fn log(section: &mut Section<'_, '_>) -> Option<LogConfig> {
    let level = section.get(
        "level",
        one_of(&[
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ]),
    );
    let format = section.get(
        "format",
        one_of(&[
            ("auto", LogFormat::Auto),
            ("pretty", LogFormat::Pretty),
            ("json", LogFormat::Json),
        ]),
    );
    Some(LogConfig {
        level: level?,
        format: format?,
    })
}

/// The keys of a webhook that may stand in `[defaults]` as well. Those that may not are what
/// makes it that webhook: its url, and where it begins.
#[derive(Clone)]
struct Common {
    selection: Selection,
    policy: Policy,
    timeout: Duration,
    authorization: Option<Secret>,
    headers: Vec<Header>,
    signing_secrets: Vec<SigningSecret>,
    compression: Compression,
    tls: Tls,
    proxy: Option<Proxy>,
    allow_http: bool,
}

impl Default for Common {
    /// Only stands in for what is wrong, until all of it is told: the defaults that count are
    /// the lowest layer.
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            policy: Policy::default(),
            timeout: Duration::from_secs(90),
            authorization: None,
            headers: Vec::new(),
            signing_secrets: Vec::new(),
            compression: Compression::None,
            tls: Tls::default(),
            proxy: None,
            allow_http: false,
        }
    }
}

/// What the section says, and where it says nothing, what `base` says.
fn common(section: &mut Section<'_, '_>, base: &Common) -> Common {
    let base = base.clone();
    let policy = base.policy;
    let any_interval = Duration::ZERO..=DAY * 7;
    for name in ["authorization", "headers", "signing_secrets", "proxy"] {
        let given = section.given(name);
        for variable in given.iter().flat_map(secrets::variables_named) {
            section.uses_variable(variable);
        }
    }
    Common {
        selection: Selection {
            triggers: section
                .get("triggers", values::triggers)
                .unwrap_or(base.selection.triggers),
            filter: section
                .get("filter", values::filter)
                .unwrap_or(base.selection.filter),
        },
        policy: Policy {
            active: section
                .get("active", values::switch)
                .unwrap_or(policy.active),
            sequence: section
                .get(
                    "sequence",
                    one_of(&[
                        ("po_first", Sequence::PoFirst),
                        ("rotate", Sequence::Rotate),
                        ("fifo", Sequence::Fifo),
                    ]),
                )
                .unwrap_or(policy.sequence),
            payload_max_items: section
                .get("payload_max_items", whole(1..=10_000))
                .map_or(policy.payload_max_items, |items| items as usize),
            payload_max_bytes: section
                .get("payload_max_bytes", values::size((1 << 10)..=(64 << 20)))
                .unwrap_or(policy.payload_max_bytes),
            payload_interval: section
                .get("payload_interval", duration(any_interval.clone()))
                .unwrap_or(policy.payload_interval),
            payload_linger: section
                .get("payload_linger", duration(any_interval))
                .unwrap_or(policy.payload_linger),
            retry_attempts: section
                .get("retry_attempts", values::attempts(0..=1_000_000))
                .unwrap_or(policy.retry_attempts),
            retry_gap: section
                .get("retry_gap", duration(Duration::from_millis(10)..=DAY * 30))
                .unwrap_or(policy.retry_gap),
            hold_on: section
                .get("hold_on", values::hold_on)
                .unwrap_or(policy.hold_on),
            deactivate_after: section
                .get(
                    "deactivate_after",
                    values::duration_or_off(Duration::from_secs(1)..=DAY * 365),
                )
                .unwrap_or(policy.deactivate_after),
            on_timeout: section
                .get(
                    "on_timeout",
                    one_of(&[
                        ("retry", OnTimeout::Retry),
                        ("delivered", OnTimeout::Delivered),
                    ]),
                )
                .unwrap_or(policy.on_timeout),
            success_status: section
                .get("success_status", values::success_status)
                .unwrap_or(policy.success_status),
        },
        timeout: section
            .get("timeout", duration(Duration::from_millis(100)..=HOUR))
            .unwrap_or(base.timeout),
        authorization: section
            .get("authorization", secrets::header_value)
            .or(base.authorization),
        headers: section
            .get("headers", secrets::headers)
            .unwrap_or(base.headers),
        signing_secrets: section
            .get("signing_secrets", secrets::signing_secrets)
            .unwrap_or(base.signing_secrets),
        compression: section
            .get(
                "compression",
                one_of(&[("none", Compression::None), ("gzip", Compression::Gzip)]),
            )
            .unwrap_or(base.compression),
        tls: tls::tls(&mut section.section("tls"), &base.tls),
        proxy: section.get("proxy", secrets::proxy).unwrap_or(base.proxy),
        allow_http: section
            .get("allow_http", values::switch)
            .unwrap_or(base.allow_http),
    }
}

fn webhook(
    section: &mut Section<'_, '_>,
    name: &str,
    defaults: &Common,
    renames: &mut Vec<Rename>,
) -> Option<Webhook> {
    let common = common(section, defaults);
    let url = section.require("url", values::URL, |given| {
        let url = values::url(given)?;
        if url.scheme() == "https" || values::is_loopback(&url) || common.allow_http {
            Ok(url)
        } else {
            Err(values::plain_http(given))
        }
    });
    let start = section.get(
        "start",
        one_of(&[("oldest", Start::Oldest), ("now", Start::Now)]),
    );
    let renamed_from = section.get("renamed_from", values::webhook_name);
    if start.is_some() && renamed_from.is_some() {
        section.complain(
            "start",
            "can't stand beside renamed_from, which begins where the other webhook stood",
        );
    }
    renames.extend(renamed_from.clone().map(|from| Rename {
        from,
        to: name.to_owned(),
    }));
    let parsed = name.parse::<WebhookName>();
    if parsed.is_err() {
        section.complain_of_itself(&format!("a webhook's name is {}", WebhookName::ALLOWED));
    }
    Some(Webhook {
        name: parsed.ok()?,
        selection: common.selection,
        start,
        renamed_from,
        endpoint: Endpoint {
            url: url?,
            timeout: common.timeout,
            authorization: common.authorization,
            headers: common.headers,
            signing_secrets: common.signing_secrets,
            compression: common.compression,
            tls: common.tls,
            proxy: common.proxy,
        },
        policy: common.policy,
    })
}

/// That one webhook takes over the place of another.
struct Rename {
    from: WebhookName,
    to: String,
}

/// A webhook takes over the place of one that is gone, and no two take over the same.
fn check_renames(reader: &mut Reader<'_>, names: &[String], renames: &[Rename]) {
    for (index, Rename { from, to }) in renames.iter().enumerate() {
        let mut section = reader.section(&["webhook", to]);
        let from_name = from.as_str();
        if names.iter().any(|name| name == from_name) {
            section.complain(
                "renamed_from",
                &format!("{from_name:?} is still a webhook of its own"),
            );
        }
        if let Some(first) = renames[..index].iter().find(|first| first.from == *from) {
            section.complain(
                "renamed_from",
                &format!("{from_name:?} is taken over by {:?} already", first.to),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    const FILE: &str = "/etc/orderfeed/config.toml";

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, Errors> {
        let environment = environment
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::read(Path::new(FILE), text, environment, None)
    }

    /// The part of the configuration that is asked for, or all errors, without the file's folder.
    #[track_caller]
    fn check<T: Debug>(
        text: &str,
        environment: &[(&str, &str)],
        part: impl Fn(&Config) -> T,
        expected: &str,
    ) {
        let found = match read(text, environment) {
            Ok(config) => format!("{:?}", part(&config)),
            Err(errors) => errors.to_string().replace("/etc/orderfeed/", ""),
        };
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn refuses(text: &str, environment: &[(&str, &str)], expected: &[&str]) {
        check(text, environment, |_| "valid", &expected.join("\n"));
    }

    const WEBHOOK: &str = "[webhook.erp]\nurl = \"https://erp.example.com/\"\n";

    #[test]
    fn an_empty_file_holds_the_defaults() {
        check(
            "",
            &[],
            |config| {
                (
                    config.queue.clone(),
                    config.ledger.clone(),
                    config.log.clone(),
                )
            },
            "(QueueConfig { path: \"/var/spool/orderfeed/queue.db\", poll_interval: 1s }, \
             LedgerConfig { path: \"/var/lib/orderfeed/ledger.db\" }, \
             LogConfig { level: Level(Info), format: Auto })",
        );
        check("", &[], |config| config.webhooks.len(), "0");
    }

    #[test]
    fn a_webhook_has_the_policys_defaults() {
        let config = read(WEBHOOK, &[]).expect("a valid configuration");
        let [webhook] = config.webhooks.as_slice() else {
            panic!("one webhook");
        };
        assert_eq!(webhook.policy, Policy::default());
        assert_eq!(webhook.selection, Selection::default());
        assert_eq!(webhook.endpoint.timeout, Common::default().timeout);
        assert_eq!(webhook.endpoint.authorization, None);
        assert_eq!((webhook.start, &webhook.renamed_from), (None, &None));
    }

    #[test]
    fn all_keys_of_a_webhook_are_read() {
        check(
            r#"
            [webhook.erp]
            url = "http://127.8.9.1:8080/orders?plant=1"
            active = false
            triggers = ["purchase_order", "work_order.update", "*.destroy"]
            filter = { Site = ["10", 20, true] }
            start = "oldest"
            sequence = "fifo"
            payload_max_items = 10000
            payload_max_bytes = "64KiB"
            payload_interval = "1m 30s"
            payload_linger = "2s"
            retry_attempts = "unlimited"
            retry_gap = "100ms"
            hold_on = ["dns", "timeout", "5xx", 429]
            deactivate_after = "3d"
            timeout = "100ms"
            on_timeout = "delivered"
            success_status = ["2xx", 302]
            authorization = "Bearer 123"
            headers = { X-Api-Key = "12345678", X-Plant = "10" }
            signing_secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
            compression = "gzip"
            proxy = "http://me:password@proxy:3128"
            "#,
            &[],
            |config| config.webhooks.clone(),
            "[Webhook { name: WebhookName(\"erp\"), selection: Selection { triggers: [\
             Trigger { order_type: Some(PurchaseOrder), action: None }, \
             Trigger { order_type: Some(WorkOrder), action: Some(Action(\"update\")) }, \
             Trigger { order_type: None, action: Some(Action(\"destroy\")) }], \
             filter: Filter({\"Site\": [\"10\", \"20\", \"true\"]}) }, \
             start: Some(Oldest), renamed_from: None, endpoint: Endpoint { \
             url: Url { scheme: \"http\", cannot_be_a_base: false, username: \"\", password: None, \
             host: Some(Ipv4(127.8.9.1)), port: Some(8080), path: \"/orders\", \
             query: Some(\"plant=1\"), fragment: None }, \
             timeout: 100ms, authorization: Some(***), \
             headers: [Header { name: \"x-api-key\", value: ***, masked: true }, \
             Header { name: \"x-plant\", value: ***, masked: false }], \
             signing_secrets: [***], compression: Gzip, \
             tls: Tls { authorities: Authorities(0), identity: None }, \
             proxy: Some(Proxy { url: Url { scheme: \"http\", cannot_be_a_base: false, username: \"\", \
             password: None, host: Some(Domain(\"proxy\")), port: Some(3128), path: \"/\", query: None, \
             fragment: None }, login: Some(Login { header: ***, password: *** }) }) }, \
             policy: Policy { active: false, sequence: Fifo, payload_max_items: 10000, \
             payload_max_bytes: 65536, payload_interval: 90s, payload_linger: 2s, \
             retry_attempts: Unlimited, retry_gap: 100ms, \
             hold_on: [Dns, Timeout, Status(Class(5)), Status(Exactly(429))], \
             deactivate_after: Some(259200s), on_timeout: Delivered, \
             success_status: Of([Class(2), Exactly(302)]) } }]",
        );
    }

    #[test]
    fn any_alone_is_any_answer() {
        for any in ["\"any\"", "[\"any\"]"] {
            let text = format!("{WEBHOOK}success_status = {any}");
            check(
                &text,
                &[],
                |config| config.webhooks[0].policy.success_status.clone(),
                "Any",
            );
        }
    }

    #[test]
    fn a_webhook_overrides_the_defaults_of_all() {
        check(
            r#"
            [defaults]
            retry_attempts = 7
            retry_gap = "1m"
            deactivate_after = "1d"
            filter = { Site = ["10"] }
            [webhook.a]
            url = "https://a.example.com/"
            [webhook.b]
            url = "https://b.example.com/"
            retry_gap = "2m"
            deactivate_after = "off"
            filter = { Plant = [1] }
            "#,
            &[("ORDERFEED_DEFAULTS__RETRY_ATTEMPTS", "8")],
            |config| {
                config
                    .webhooks
                    .iter()
                    .map(|webhook| {
                        let policy = &webhook.policy;
                        (
                            policy.retry_attempts,
                            policy.retry_gap,
                            policy.deactivate_after,
                            webhook.selection.filter.clone(),
                        )
                    })
                    .collect::<Vec<_>>()
            },
            "[(Times(8), 60s, Some(86400s), Filter({\"Site\": [\"10\"]})), \
             (Times(8), 120s, None, Filter({\"Plant\": [\"1\"]}))]",
        );
    }

    #[test]
    fn paths_are_taken_from_the_files_folder() {
        check(
            "queue.path = \"../queue.db\"\nledger.path = \"/ledger.db\"",
            &[],
            |config| (config.queue.path.clone(), config.ledger.path.clone()),
            "(\"/etc/orderfeed/../queue.db\", \"/ledger.db\")",
        );
    }

    #[test]
    fn the_environment_overrides_scalars_as_their_keys_mean_them() {
        check(
            WEBHOOK,
            &[
                ("ORDERFEED_CONFIG", "/etc/orderfeed/config.toml"),
                ("ORDERFEED_QUEUE__PATH", "007"),
                ("ORDERFEED_WEBHOOK__ERP__ACTIVE", "false"),
                ("ORDERFEED_WEBHOOK__ERP__PAYLOAD_MAX_ITEMS", "7"),
                ("ORDERFEED_WEBHOOK__ERP__PAYLOAD_MAX_BYTES", "2048"),
                ("ORDERFEED_WEBHOOK__ERP__RETRY_GAP", "1s"),
                ("ORDERFEED_WEBHOOK__ERP__SUCCESS_STATUS", "any"),
                ("ORDERFEED_WEBHOOK__ERP__AUTHORIZATION", "true"),
                ("ORDERFEED_WEBHOOK__MADE_HERE__URL", "https://example.com/"),
                ("ORDERFEEDER", "another program"),
            ],
            |config| {
                let [erp, made_here] = config.webhooks.as_slice() else {
                    panic!("two webhooks");
                };
                let policy = &erp.policy;
                (
                    config.queue.path.clone(),
                    (
                        policy.active,
                        policy.payload_max_items,
                        policy.payload_max_bytes,
                    ),
                    (policy.retry_gap, policy.success_status.clone()),
                    erp.endpoint
                        .authorization
                        .as_ref()
                        .map(|secret| secret.expose().to_owned()),
                    (
                        made_here.name.to_string(),
                        made_here.endpoint.url.to_string(),
                    ),
                )
            },
            "(\"/etc/orderfeed/007\", (false, 7, 2048), (1s, Any), Some(\"true\"), \
             (\"made_here\", \"https://example.com/\"))",
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_in_its_place() {
        refuses(
            r#"[queue]
poll_intervall = "1s"
poll_interval = 15

[webhook.erp]
url = "http://erp.example.com/"
retry_gap = "15"
triggers = [
    "purchase_order",
    "order",
]
PayloadMaxItems = 5

[webhook.Erp]
payload_interval = "8d"
"#,
            &[
                ("ORDERFEED_LOG__LEVEL", "loud"),
                ("ORDERFEED_WEBHOOK__ERP__TRIGGERS", "purchase_order"),
                ("ORDERFEED_WEBHOOK__ERP__FILTER__SITE", "10"),
                ("ORDERFEED_WEBHOOK", "erp"),
                ("ORDERFEED_WEBHOOK__ERP", "x"),
                ("ORDERFEED_QUEU__PATH", "x"),
                ("ORDERFEED_QUEUE__PATH__DEEPER", "x"),
                ("ORDERFEED_WEBHOOK__ENV__TIMEOUT", "10s"),
                ("ORDERFEED_", "x"),
            ],
            &[
                "config.toml:2: queue.poll_intervall: unknown key; did you mean \"poll_interval\"?",
                "config.toml:3: queue.poll_interval: found 15, allowed is a duration with a unit (\"5s\", \"15m\") from 10ms to 1m",
                "config.toml:6: webhook.erp.url: found \"http://erp.example.com/\", allowed is https://, http:// to this machine (127.0.0.0/8, ::1, localhost), or http:// with allow_http = true",
                "config.toml:7: webhook.erp.retry_gap: found \"15\", allowed is a duration with a unit (\"5s\", \"15m\") from 10ms to 30d",
                "config.toml:12: webhook.erp.PayloadMaxItems: unknown key; did you mean \"payload_max_items\"?",
                "config.toml:14: webhook.Erp.url: is missing; it must be a url such as \"https://erp.example.com/orders\"",
                "config.toml:14: webhook.Erp: a webhook's name is 1 to 32 of a-z 0-9 _, beginning with a letter, without a double underscore",
                "config.toml:15: webhook.Erp.payload_interval: found \"8d\", allowed is a duration with a unit (\"5s\", \"15m\") from 0s to 7d",
                "environment variable ORDERFEED_: \"\": unknown key; known here: admin, defaults, ledger, log, maintenance, queue, webhook",
                "environment variable ORDERFEED_LOG__LEVEL: log.level: found \"loud\", allowed is one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
                "environment variable ORDERFEED_QUEUE__PATH__DEEPER: queue.path: found a table, allowed is a file's path, absolute or from this file's folder",
                "environment variable ORDERFEED_QUEU__PATH: queu: unknown key; did you mean \"queue\"?",
                "environment variable ORDERFEED_WEBHOOK: webhook: a variable can't set a list or a table; set it in the file",
                "environment variable ORDERFEED_WEBHOOK__ENV__TIMEOUT: webhook.env.url: is missing; it must be a url such as \"https://erp.example.com/orders\"",
                "environment variable ORDERFEED_WEBHOOK__ERP: webhook.erp: a variable can't set a list or a table; set it in the file",
                "environment variable ORDERFEED_WEBHOOK__ERP__FILTER__SITE: webhook.erp.filter.site: a variable can't set a list or a table; set it in the file",
                "environment variable ORDERFEED_WEBHOOK__ERP__TRIGGERS: webhook.erp.triggers: a variable can't set a list or a table; set it in the file",
            ],
        );
    }

    #[test]
    fn each_wrong_item_of_a_list_is_told_on_its_line() {
        let text = format!("{WEBHOOK}hold_on = [\n\"dns\",\n\"2xx\", 99,\n\"tsl\"]");
        let allowed = "allowed is a list of \"dns\", \"connect\", \"tls\", \"timeout\", \"3xx\", \"4xx\", \"5xx\" and numbers from 200 to 599";
        refuses(
            &text,
            &[],
            &[
                &format!("config.toml:5: webhook.erp.hold_on: found \"2xx\", {allowed}"),
                &format!("config.toml:5: webhook.erp.hold_on: found 99, {allowed}"),
                &format!("config.toml:6: webhook.erp.hold_on: found \"tsl\", {allowed}"),
            ],
        );
    }

    #[test]
    fn what_a_variable_overrides_is_told_of_the_variable() {
        let renamed = format!("{WEBHOOK}start = \"now\"\nrenamed_from = \"old\"");
        let beside = "webhook.erp.start: can't stand beside renamed_from, which begins where the other webhook stood";
        refuses(&renamed, &[], &[&format!("config.toml:3: {beside}")]);
        let start = [("ORDERFEED_WEBHOOK__ERP__START", "oldest")];
        let variable = "environment variable ORDERFEED_WEBHOOK__ERP__START";
        refuses(&renamed, &start, &[&format!("{variable}: {beside}")]);
    }

    #[test]
    fn what_was_found_is_shown_in_few_words() {
        let check = |value: &str, expected: &str| {
            let errors = read(&format!("queue.poll_interval = {value}\r\n"), &[]);
            let errors = errors.expect_err("no duration").to_string();
            let found = errors
                .strip_prefix("/etc/orderfeed/config.toml:1: queue.poll_interval: found ")
                .and_then(|rest| rest.split_once(", allowed is "))
                .map(|(found, _)| found);
            assert_eq!(found, Some(expected), "{errors}");
        };
        check("0", "0");
        check("\"0\"", "\"0\"");
        check("1.50", "1.5");
        check("9223372036854775807", "9223372036854775807");
        check("true", "true");
        check("2026-11-22", "a date or time");
        check("[1, 2]", "a list");
        check("{ s = 1 }", "a table");
        check("\"\\u0007ä\"", "\"\\u{7}ä\"");
        let long = "x".repeat(101);
        check(&format!("{long:?}"), &format!("{:?}…", &long[1..]));
    }

    #[test]
    fn unknown_keys_learn_where_they_belong() {
        refuses(
            &format!(
                "payload_interval = \"5s\"\n[webhooks]\n[defaults]\nurl = 1\nstart = 1\nconfirm = 1\n{WEBHOOK}[queue]\nlevel = 1\n\"a.b\" = 1"
            ),
            &[],
            &[
                "config.toml:1: payload_interval: unknown key; there is \"payload_interval\" in [defaults] and [webhook.NAME]",
                "config.toml:2: webhooks: unknown key; did you mean \"webhook\"?",
                "config.toml:4: defaults.url: unknown key; there is \"url\" in [webhook.NAME]",
                "config.toml:5: defaults.start: unknown key; there is \"start\" in [webhook.NAME]",
                "config.toml:6: defaults.confirm: unknown key; known here: active, allow_http, authorization, compression, deactivate_after, filter, headers, hold_on, on_timeout, payload_interval, payload_linger, payload_max_bytes, payload_max_items, proxy, retry_attempts, retry_gap, sequence, signing_secrets, success_status, timeout, tls, triggers",
                "config.toml:10: queue.level: unknown key; there is \"level\" in [log]",
                "config.toml:11: queue.\"a.b\": unknown key; known here: path, poll_interval",
            ],
        );
    }

    #[test]
    fn later_keys_are_unknown_still() {
        for key in ["quiet = []", "format = \"event\"", "isolate_rejects = true"] {
            let errors = read(&format!("{WEBHOOK}{key}"), &[]).expect_err("an unknown key");
            assert!(errors.to_string().contains("unknown key"), "{errors}");
        }
        for table in ["[alerts.email]", "[maintenance]\ndigest_at = \"0 7 * * *\""] {
            let errors = read(table, &[]).expect_err("an unknown key");
            assert!(errors.to_string().contains("unknown key"), "{errors}");
        }
    }

    #[test]
    fn what_is_not_toml_is_told_with_line_and_column_but_not_quoted() {
        refuses(
            "[webhook.erp]\nauthorization = \"secret\nurl = 1",
            &[],
            &["config.toml:2:24: not TOML: invalid basic string"],
        );
        refuses(
            "a = 1\na = 2",
            &[],
            &["config.toml:2:1: not TOML: duplicate key `a` in document root"],
        );
        refuses("a", &[], &["config.toml:1:2: not TOML: expected `.`, `=`"]);
    }

    #[test]
    fn tables_are_tables() {
        refuses(
            "queue = 5\n[[webhook]]\nurl = \"https://example.com/\"",
            &[("ORDERFEED_LOG", "debug")],
            &[
                "config.toml:1: queue: found 5, allowed is a table, [queue]",
                "config.toml:2: webhook: found a list, allowed is a table, [webhook.NAME]",
                "environment variable ORDERFEED_LOG: log: a variable can't set a list or a table; set it in the file",
            ],
        );
    }

    #[test]
    fn urls_lead_to_a_host_and_hold_no_secret() {
        let check = |url: &str, more: &str, expected: &str| {
            let text = format!("[webhook.erp]\nurl = {url:?}\n{more}");
            let found = match read(&text, &[]) {
                Ok(config) => config.webhooks[0].endpoint.url.to_string(),
                Err(errors) => errors.to_string(),
            };
            let found = found.replace("/etc/orderfeed/config.toml:2: webhook.erp.url: ", "");
            assert_eq!(found, expected);
        };
        for url in [
            "https://example.com/",
            "http://localhost:80/",
            "http://[::1]/",
            "http://127.0.0.2/",
        ] {
            check(url, "", &url.replace(":80/", "/"));
        }
        check(
            "http://example.com",
            "allow_http = true",
            "http://example.com/",
        );
        check(
            "https://example.com",
            "allow_http = false",
            "https://example.com/",
        );
        let plain = |shown: &str| {
            format!(
                "found {shown:?}, allowed is https://, http:// to this machine (127.0.0.0/8, ::1, localhost), or http:// with allow_http = true"
            )
        };
        check(
            "http://localhost.example.com/?key=1",
            "",
            &plain("http://localhost.example.com/?***"),
        );
        check("http://128.0.0.1/", "", &plain("http://128.0.0.1/"));
        let no_url = |shown: &str| {
            format!("found {shown:?}, allowed is a url such as \"https://erp.example.com/orders\"")
        };
        check("example.com", "", &no_url("example.com"));
        check(
            "ftp://me:key@example.com/",
            "",
            &no_url("ftp://***@example.com/"),
        );
        check(
            "https://exam ple.com/",
            "",
            &no_url("https://exam ple.com/"),
        );
        check(
            "https://example.com/a b",
            "",
            &no_url("https://example.com/a b"),
        );
        check("", "", &no_url(""));
        check(
            "https://me:key@example.com/",
            "",
            "found \"https://***@example.com/\", allowed is a url without user and password; the key authorization takes them",
        );
        check(
            "https://example.com/#key",
            "",
            "found \"https://example.com/#***\", allowed is a url without \"#\" and what follows it",
        );
    }

    #[test]
    fn a_webhook_takes_over_one_that_is_gone() {
        refuses(
            r#"[webhook.a]
url = "https://a.example.com/"
renamed_from = "old"
[webhook.b]
url = "https://b.example.com/"
renamed_from = "old"
[webhook.c]
url = "https://c.example.com/"
renamed_from = "a"
start = "now"
[webhook.d]
url = "https://d.example.com/"
renamed_from = "d"
[webhook.e]
url = "https://e.example.com/"
renamed_from = "E"
"#,
            &[],
            &[
                "config.toml:6: webhook.b.renamed_from: \"old\" is taken over by \"a\" already",
                "config.toml:9: webhook.c.renamed_from: \"a\" is still a webhook of its own",
                "config.toml:10: webhook.c.start: can't stand beside renamed_from, which begins where the other webhook stood",
                "config.toml:13: webhook.d.renamed_from: \"d\" is still a webhook of its own",
                "config.toml:16: webhook.e.renamed_from: found \"E\", allowed is the name of a webhook: 1 to 32 of a-z 0-9 _, beginning with a letter, without a double underscore",
            ],
        );
    }

    #[test]
    fn a_secret_is_text_or_where_to_find_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        };
        write("line", b"Bearer 1\n");
        write("windows", b"Bearer 2\r\n");
        write("lines", b"Bearer\n3\n\n");
        write("empty", b"\n");
        write("bytes", b"\xff");
        write("long", "x".repeat(16 * 1024 + 1).as_bytes());
        let check = |authorization: &str, expected: &str| {
            let text = format!("{WEBHOOK}authorization = {authorization}");
            let environment = [("TOKEN", "Basic 4"), ("KEY", "Basic\n5")]
                .map(|(name, value)| (OsString::from(name), OsString::from(value)));
            let file = folder.path().join("config.toml");
            let found = match Config::read(&file, &text, environment, Some(folder.path())) {
                Ok(config) => config.webhooks[0]
                    .endpoint
                    .authorization
                    .as_ref()
                    .map(|secret| secret.expose().to_owned())
                    .unwrap_or_default(),
                Err(errors) => errors
                    .to_string()
                    .replace(&format!("{}", folder.path().display()), "FOLDER"),
            };
            let found = found.replace("FOLDER/config.toml:3: webhook.erp.authorization: ", "");
            assert_eq!(found, expected);
        };
        check("{ file = \"line\" }", "Bearer 1");
        check("{ file = \"windows\" }", "Bearer 2");
        check("{ credential = \"line\" }", "Bearer 1");
        check("{ env = \"TOKEN\" }", "Basic 4");
        let bad = "found a value that is not shown, allowed is one line of printable ASCII characters, without blanks at its ends";
        check("{ file = \"lines\" }", bad);
        check("{ file = \"empty\" }", bad);
        check(
            "{ file = \"bytes\" }",
            "the file FOLDER/bytes can't be read: stream did not contain valid UTF-8",
        );
        check(
            "{ file = \"long\" }",
            "the file FOLDER/long can't be read: it is longer than 16 KiB",
        );
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a pipe");
        check(
            "{ file = \"pipe\" }",
            "the file FOLDER/pipe can't be read: it is a pipe",
        );
        check("{ env = \"KEY\" }", bad);
        check("\"Bücher\"", bad);
        check("\"\"", bad);
        check("\" x\"", bad);
        check(
            "{ file = \"none\" }",
            "the file FOLDER/none can't be read: No such file or directory (os error 2)",
        );
        check(
            "{ env = \"NONE\" }",
            "the environment variable NONE is not set",
        );
        check(
            "{ credential = \"../line\" }",
            "a credential's name is that of a file, without its folder",
        );
        check(
            "{ credential = \"none\" }",
            "the file FOLDER/none can't be read: No such file or directory (os error 2); is it in the unit's LoadCredential=?",
        );
        for (kind, secret) in [
            ("file", "whsec_1"),
            ("file", "Bearer 8"),
            ("file", "Basic OQ=="),
            ("env", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("credential", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ] {
            check(
                &format!("{{ {kind} = \"{secret}\" }}"),
                &format!(
                    "what follows {kind} = is the secret itself, which is not shown; write it alone, in quotes, or name where it is"
                ),
            );
        }
        check(
            "{ env = \"whsec_erp\" }",
            "the environment variable whsec_erp is not set",
        );
        let other = "found something else that is not shown, allowed is the text itself, { file = \"/path\" }, { env = \"VARIABLE\" } or { credential = \"name\" }";
        for wrong in [
            "1234",
            "[\"Bearer 6\"]",
            "{}",
            "{ text = \"Bearer 7\" }",
            "{ file = 1 }",
            "{ file = \"line\", env = \"KEY\" }",
        ] {
            check(wrong, other);
        }
    }

    #[test]
    fn headers_are_named_rightly_and_not_those_of_the_request() {
        let value = "1234";
        refuses(
            &format!(
                "{WEBHOOK}[webhook.erp.headers]\nX-Key = \"{value}\"\nx-key = \"{value}\"\nAuthorization = \"{value}\"\nWebhook-Signature = \"{value}\"\nContent-Length = \"{value}\"\n\"X Key\" = \"{value}\"\nX-Number = 1234\nX-Line = \"12\\n34\"\nX-File = {{ file = \"/nowhere/key\" }}"
            ),
            &[],
            &[
                "config.toml:5: webhook.erp.headers.x-key: is there already; upper and lower case are the same",
                "config.toml:6: webhook.erp.headers.Authorization: can't be set here: the key authorization sets it",
                "config.toml:7: webhook.erp.headers.Webhook-Signature: can't be set here: orderfeed sets it itself",
                "config.toml:8: webhook.erp.headers.Content-Length: can't be set here: it belongs to HTTP itself, or says how the body is sent",
                "config.toml:9: webhook.erp.headers.\"X Key\": is no header's name, which is of A-Z a-z 0-9 and -",
                "config.toml:10: webhook.erp.headers.X-Number: found something else that is not shown, allowed is the text itself, { file = \"/path\" }, { env = \"VARIABLE\" } or { credential = \"name\" }",
                "config.toml:11: webhook.erp.headers.X-Line: found a value that is not shown, allowed is one line of printable ASCII characters, without blanks at its ends",
                "config.toml:12: webhook.erp.headers.X-File: the file /nowhere/key can't be read: No such file or directory (os error 2)",
            ],
        );
        refuses(
            &format!("{WEBHOOK}headers = \"X-Key: {value}\""),
            &[],
            &[
                "config.toml:3: webhook.erp.headers: found something else that is not shown, allowed is a table of headers with their values, such as { X-Api-Key = { file = \"/path\" } }",
            ],
        );
    }

    #[test]
    fn signing_secrets_and_proxies_are_refused_without_being_shown() {
        let check = |line: &str, expected: &str| {
            let key = line.split(' ').next().expect("a key");
            let expected = format!("config.toml:3: webhook.erp.{key}: {expected}");
            refuses(&format!("{WEBHOOK}{line}"), &[], &[&expected]);
        };
        let allowed = "allowed is whsec_ and the base64 of 24 to 64 random bytes, which openssl rand -base64 32 makes";
        check(
            "signing_secrets = [\"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]",
            &format!(
                "found a value that is not shown, and it does not begin with whsec_, {allowed}"
            ),
        );
        check(
            "signing_secrets = [\"whsec_MfKQ9r8G\"]",
            &format!(
                "found a value that is not shown, and it holds 6 bytes, not 24 to 64, {allowed}"
            ),
        );
        check(
            "signing_secrets = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
            "found something else that is not shown, allowed is a list of secrets, such as [{ file = \"/path\" }] or [\"whsec_...\"]",
        );
        check(
            "proxy = \"https://me:password@proxy:3128\"",
            "found a value that is not shown, allowed is \"none\", or an http:// url of host and port, such as \"http://proxy.example.com:3128\" or \"http://user:password@proxy.example.com:3128\"",
        );
        check(
            "compression = \"br\"",
            "found \"br\", allowed is one of \"none\", \"gzip\"",
        );
    }

    #[test]
    fn a_webhook_can_do_without_what_the_defaults_have() {
        let text = "[defaults]\nproxy = \"http://proxy:3128\"\nheaders = { X-Key = \"1\" }\nsigning_secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\ncompression = \"gzip\"\n[webhook.a]\nurl = \"https://a.example.com/\"\n[webhook.b]\nurl = \"https://b.example.com/\"\nproxy = \"none\"\nheaders = {}\nsigning_secrets = []\ncompression = \"none\"";
        let part = |config: &Config| {
            let of = |endpoint: &Endpoint| {
                (
                    endpoint.proxy.is_some(),
                    endpoint.headers.len(),
                    endpoint.signing_secrets.len(),
                    endpoint.compression,
                )
            };
            let [a, b] = config.webhooks.as_slice() else {
                panic!("two webhooks");
            };
            (of(&a.endpoint), of(&b.endpoint))
        };
        check(text, &[], part, "((true, 1, 1, Gzip), (false, 0, 0, None))");
    }

    /// A certificate and its key, both PEM.
    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["client.example.com".to_owned()]);
        let made = made.expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_and_keys_are_read_with_the_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file");
        };
        let (certificate, key) = certificate();
        let (other_certificate, other_key) = self::certificate();
        write("ca.pem", &format!("{certificate}{other_certificate}"));
        write("client.pem", &certificate);
        write("client.key", &key);
        write("both.pem", &format!("{key}{certificate}"));
        write("other.key", &other_key);
        write("empty", "");
        write("cut.pem", &certificate[..100]);
        write("cut.key", &key[..60]);
        write(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        write(
            "broken.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        );
        write(
            "encrypted.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let check = |keys: &str, expected: &str| {
            let text = format!("{WEBHOOK}{keys}");
            let file = folder.path().join("config.toml");
            let found = match Config::read(&file, &text, [], Some(folder.path())) {
                Ok(config) => format!("{:?}", config.webhooks[0].endpoint.tls),
                Err(errors) => errors.to_string(),
            };
            let found = found
                .replace(&format!("{}", folder.path().display()), "FOLDER")
                .replace("FOLDER/config.toml:3: webhook.erp.tls.", "");
            assert_eq!(found, expected);
        };
        check(
            "tls.ca_file = \"ca.pem\"",
            "Tls { authorities: Authorities(2), identity: None }",
        );
        let one = "Tls { authorities: Authorities(0), identity: Some(Identity(1)) }";
        check(
            "tls = { client_certificate = \"client.pem\", client_key = \"client.key\" }",
            one,
        );
        check(
            "tls = { client_certificate = \"both.pem\", client_key = \"both.pem\" }",
            one,
        );
        check(
            "tls = { client_certificate = \"client.pem\", client_key = { credential = \"client.key\" } }",
            one,
        );
        check(
            "tls.client_certificate = \"client.pem\"",
            "client_key: is missing; client_certificate needs it",
        );
        check(
            "tls.client_key = \"client.key\"",
            "client_certificate: is missing; client_key needs it",
        );
        let no_certificate = "holds no certificate (PEM, -----BEGIN CERTIFICATE-----)";
        let cases = [
            (
                "none",
                "can't be read: No such file or directory (os error 2)",
            ),
            ("empty", no_certificate),
            ("client.key", no_certificate),
            (
                "cut.pem",
                "holds a certificate that can't be used: it is no whole PEM",
            ),
            (
                "broken.pem",
                "holds a certificate that can't be used: invalid peer certificate: BadEncoding",
            ),
        ];
        for (name, what) in cases {
            check(
                &format!("tls.ca_file = \"{name}\""),
                &format!("ca_file: the file FOLDER/{name} {what}"),
            );
        }
        let no_key = "holds no private key (PEM, -----BEGIN PRIVATE KEY-----)";
        for (name, what) in [
            (
                "none",
                "can't be read: No such file or directory (os error 2)",
            ),
            ("empty", no_key),
            ("client.pem", no_key),
            (
                "cut.key",
                "holds a private key that can't be used: it is no whole PEM",
            ),
            (
                "broken.key",
                "holds a private key that can't be used: unexpected error: failed to parse private key as RSA, ECDSA, or EdDSA",
            ),
            (
                "encrypted.key",
                "holds an encrypted private key; openssl pkey decrypts it, into a file that the daemon alone may read",
            ),
            ("other.key", "holds the private key of another certificate"),
        ] {
            check(
                &format!(
                    "tls = {{ client_certificate = \"client.pem\", client_key = \"{name}\" }}"
                ),
                &format!("client_key: the file FOLDER/{name} {what}"),
            );
        }
        for name in ["ca_file", "client_certificate", "client_key"] {
            let text = format!("{WEBHOOK}tls.{name} = \"\"\"\n{key}\"\"\"");
            let file = folder.path().join("config.toml");
            let errors =
                Config::read(&file, &text, [], None).expect_err("a key in the wrong place");
            let said = "holds PEM, which is not shown; write it to a file, and name that";
            assert!(errors.to_string().contains(said), "{name}: {errors}");
            let secret = key.lines().nth(1).expect("a key's line");
            assert!(!errors.to_string().contains(secret), "{name}");
        }
        check(
            "tls = { client_certificate = \"broken.pem\", client_key = \"client.key\" }",
            "client_certificate: the file FOLDER/broken.pem holds a certificate that can't be used: invalid peer certificate: BadEncoding",
        );
        check(
            "tls = { ca_files = 1, client_certificate = 1, client_key = { file = \"client.key\" } }",
            "client_certificate: found 1, allowed is a file's path, absolute or from this file's folder\nclient_key: found a table, allowed is a file's path, absolute or from this file's folder, or { credential = \"name\" }\nca_files: unknown key; did you mean \"ca_file\"?",
        );
    }

    #[test]
    fn a_variable_of_a_secret_is_no_unknown_key() {
        let text = format!("{WEBHOOK}authorization = {{ env = \"ORDERFEED_KEY\" }}");
        check(&text, &[("ORDERFEED_KEY", "x")], |_| "valid", "\"valid\"");
        let text = format!("{WEBHOOK}headers = {{ X-Key = {{ env = \"ORDERFEED_KEY\" }} }}");
        check(&text, &[("ORDERFEED_KEY", "x")], |_| "valid", "\"valid\"");
        let text = format!("{WEBHOOK}signing_secrets = [{{ env = \"ORDERFEED_KEY\" }}]");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        check(
            &text,
            &[("ORDERFEED_KEY", secret)],
            |_| "valid",
            "\"valid\"",
        );
        refuses(
            WEBHOOK,
            &[("ORDERFEED_KEY", "x")],
            &[
                "environment variable ORDERFEED_KEY: key: unknown key; known here: admin, defaults, ledger, log, maintenance, queue, webhook",
            ],
        );
        let variable = [
            ("ORDERFEED_WEBHOOK__ERP__AUTHORIZATION__ENV", "TOKEN"),
            ("TOKEN", "x"),
        ];
        check(WEBHOOK, &variable, |_| "valid", "\"valid\"");
    }

    #[test]
    fn no_secret_shows_in_a_configuration_or_its_errors() {
        let text = "[webhook.erp]\nurl = \"https://me:s3cret@example.com/\"\nauthorisation = \"s3cret\"\nauthorization = [\"s3cret\"]\nretry_gap = 5";
        let errors = read(text, &[]).expect_err("errors").to_string();
        assert!(!errors.contains("s3cret"), "{errors}");
        assert_eq!(errors.lines().count(), 4, "{errors}");
        let text = format!("{WEBHOOK}authorization = \"s3cret\"");
        let shown = format!("{:?}", read(&text, &[]).expect("a configuration"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_missing_file_says_how_to_name_another() {
        let errors = Config::load(Path::new("/nowhere/config.toml")).expect_err("no file");
        assert_eq!(
            errors.to_string(),
            "/nowhere/config.toml: can't be read: No such file or directory (os error 2); --config FILE or ORDERFEED_CONFIG name another file"
        );
    }

    #[test]
    fn queue_and_ledger_are_two_files() {
        refuses(
            "[queue]\npath = \"/a.db\"\n[ledger]\npath = \"/a.db\"",
            &[],
            &["config.toml:4: ledger.path: is the queue's path too; they are two files"],
        );
    }

    #[test]
    fn every_default_belongs_to_a_key() {
        let keys = known_keys();
        let without: Vec<&str> = keys
            .iter()
            .filter(|key| key.default.is_none())
            .map(|key| key.name.as_str())
            .collect();
        assert_eq!(
            without,
            [
                "defaults.authorization",
                "defaults.tls.ca_file",
                "defaults.tls.client_certificate",
                "defaults.tls.client_key",
                "webhook.NAME.renamed_from",
                "webhook.NAME.start",
                "webhook.NAME.url"
            ]
        );
        assert_eq!(keys.len(), 39);
    }
}
