//! `GET /metrics`: what a monitor watches, in Prometheus's text format (docs/monitoring.md).
//!
//! What was counted since the start comes from [`super::meters`]; all else is asked of the ledger and the
//! queue at the moment, as `GET /v1/status` is, and is the same after a restart. Points in time are told
//! as such, not as ages, so that they stay true in a file that is read later. While there is nothing to
//! ask (queue and ledger do not belong together), the answer says that, and leaves out the rest.

use std::path::Path;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};

use super::api::Error;
use super::desk::Desk;
use super::explain::{self, Ground, Measured};
use super::meters::{Meters, register};
use crate::clock::WallTime;
use crate::config::Config;
use crate::store::files;
use crate::store::ledger::chores::Chore;

/// The contract's words for where a webhook may stand.
const STATES: [&str; 11] = [
    "idle",
    "sending",
    "pacing",
    "retrying",
    "quiet",
    "held",
    "down",
    "unconfirmed",
    "paused",
    "deactivated",
    "inactive",
];

pub(super) async fn metrics(State(desk): State<Desk>) -> Response {
    let meters = desk.meters();
    let health = desk.ask(async |operator| operator.health().await).await;
    let measured = measure(&desk).await;
    let page = Page::default();
    page.process(&meters, health.is_ok() && measured.is_ok());
    if let Ok((config, measured)) = &measured {
        page.files(config);
        page.queue(measured);
        page.webhooks(measured);
        page.chores(measured);
    }
    let mut families = meters.gather();
    families.extend(page.0.gather());
    let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    (kind, in_text(&families)).into_response()
}

async fn measure(desk: &Desk) -> Result<(std::sync::Arc<Config>, Measured), Error> {
    let ground = Ground::of(desk).await?;
    let mut queue = ground.queue()?;
    let measured = explain::measured(desk, &ground, &mut queue).await?;
    Ok((ground.config, measured))
}

fn in_text(families: &[MetricFamily]) -> Vec<u8> {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(families, &mut text)
        .expect("a vector takes all, and no family is empty");
    text
}

/// What is measured at the moment.
#[derive(Default)]
struct Page(Registry);

impl Page {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        register(&self.0, GaugeVec::new(Opts::new(name, help), labels))
    }

    fn number(&self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, &[])
            .with_label_values(&NO_LABELS)
            .set(value);
    }

    fn process(&self, meters: &Meters, is_healthy: bool) {
        self.gauge(
            "orderfeed_build_info",
            "Always 1; which version runs.",
            &["version"],
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1.0);
        self.number(
            "orderfeed_healthy",
            "1 if orders are noticed and recorded, 0 if GET /v1/health answers 503.",
            f64::from(is_healthy),
        );
        self.number(
            "orderfeed_process_start_time_seconds",
            "When the daemon started, in seconds since 1970.",
            seconds(meters.started_at()),
        );
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = prometheus::Counter::new(
            "orderfeed_process_cpu_seconds_total",
            "CPU time that the daemon took, in seconds.",
        );
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        register(&self.0, cpu)
            .inc_by(approximately(time.tv_sec.cast_unsigned()) + f64::from(nanos) / 1e9);
        if let Ok(process) = procfs::process::Process::myself() {
            if let Ok(memory) = process.statm() {
                self.number(
                    "orderfeed_process_resident_memory_bytes",
                    "Memory that the daemon holds.",
                    approximately(memory.resident * procfs::page_size()),
                );
            }
            if let Ok(count) = process.fd_count() {
                self.number(
                    "orderfeed_process_open_fds",
                    "Files and connections that the daemon has open.",
                    approximately(count as u64),
                );
            }
        }
    }

    fn files(&self, config: &Config) {
        let sizes = self.gauge(
            "orderfeed_file_size_bytes",
            "Size of the queue and the ledger, and of their write-ahead logs.",
            &["file"],
        );
        let available = self.gauge(
            "orderfeed_disk_available_bytes",
            "What the daemon may still use of the disk on which the file lies.",
            &["file"],
        );
        for (name, path) in [
            ("queue", &config.queue.path),
            ("ledger", &config.ledger.path),
        ] {
            let wal = files::with_suffix(path, "-wal");
            for (name, path) in [(name.to_owned(), path), (format!("{name}_wal"), &wal)] {
                // Where a WAL is not there, there is nothing in it.
                let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
                sizes.with_label_values(&[name]).set(approximately(bytes));
            }
            if let Some(bytes) = bytes_available(path) {
                available
                    .with_label_values(&[name])
                    .set(approximately(bytes));
            }
        }
    }

    fn queue(&self, measured: &Measured) {
        let waiting = self.gauge(
            "orderfeed_queue_waiting_orders",
            "Orders that are yet to be put into a payload for some webhook; not counted beyond 100000.",
            &["type"],
        );
        let oldest = self.gauge(
            "orderfeed_queue_oldest_waiting_timestamp_seconds",
            "When the oldest of them was queued, in seconds since 1970; absent while none waits.",
            &["type"],
        );
        for order_type in crate::feed::order::OrderType::ALL {
            let of_type = measured.status.queue.waiting.get(order_type.as_str());
            let count = of_type.map_or(0, |waiting| waiting.count);
            let labels = [order_type.as_str()];
            waiting.with_label_values(&labels).set(approximately(count));
            if let Some(at) = of_type.and_then(|waiting| waiting.oldest_at) {
                oldest.with_label_values(&labels).set(seconds(at));
            }
        }
        self.number(
            "orderfeed_queue_set_aside_orders",
            "Orders that can't be delivered to anyone; not counted beyond 100000.",
            approximately(measured.status.queue.set_aside),
        );
        self.number(
            "orderfeed_queue_unclaimed_orders",
            "Orders that no webhook takes; not counted beyond 100000.",
            approximately(measured.status.queue.unclaimed),
        );
    }

    fn webhooks(&self, measured: &Measured) {
        let state = self.gauge(
            "orderfeed_webhook_state",
            "1 for the state in which the webhook is, 0 for all others.",
            &["webhook", "state"],
        );
        let parked = self.gauge(
            "orderfeed_webhook_parked_orders",
            "Orders that the webhook collected and no longer selects; not counted beyond 100000.",
            &["webhook"],
        );
        let failed = self.gauge(
            "orderfeed_webhook_failed_payloads",
            "Payloads that failed for good, and wait for somebody to resend or discard them; not counted beyond 100000.",
            &["webhook"],
        );
        let last_success = self.gauge(
            "orderfeed_webhook_last_success_timestamp_seconds",
            "When a receiver last took a payload, in seconds since 1970; absent before the first.",
            &["webhook"],
        );
        let waiting = self.gauge(
            "orderfeed_webhook_waiting_orders",
            "Orders that the webhook is yet to put into a payload; not counted beyond 100000.",
            &["webhook", "type"],
        );
        let oldest = self.gauge(
            "orderfeed_webhook_oldest_waiting_timestamp_seconds",
            "When the oldest of them was queued, in seconds since 1970; absent while none waits.",
            &["webhook", "type"],
        );
        let pending = self.gauge(
            "orderfeed_webhook_pending_payload_timestamp_seconds",
            "When the payload was composed that is in flight or waits for its retry, in seconds since 1970; absent while there is none.",
            &["webhook"],
        );
        for webhook in &measured.status.webhooks {
            let name = webhook.name.as_str();
            for word in STATES {
                let is_in = f64::from(webhook.state == word);
                state.with_label_values(&[name, word]).set(is_in);
            }
            parked
                .with_label_values(&[name])
                .set(approximately(webhook.parked));
            failed
                .with_label_values(&[name])
                .set(approximately(webhook.failed));
            if let Some(at) = webhook.last_success_at {
                last_success.with_label_values(&[name]).set(seconds(at));
            }
        }
        for lane in &measured.lanes {
            for (order_type, of_type) in lane.waiting.iter() {
                let labels = [lane.webhook.as_str(), order_type.as_str()];
                waiting
                    .with_label_values(&labels)
                    .set(approximately(of_type.count));
                if let Some(at) = of_type.oldest_at {
                    oldest.with_label_values(&labels).set(seconds(at));
                }
            }
            if let Some(at) = lane.pending_since {
                pending.with_label_values(&[&lane.webhook]).set(seconds(at));
            }
        }
    }

    fn chores(&self, measured: &Measured) {
        let failed = self.gauge(
            "orderfeed_chore_failed",
            "1 if the chore (prune, backup) failed when it was last done, else 0.",
            &["chore"],
        );
        let last_success = self.gauge(
            "orderfeed_chore_last_success_timestamp_seconds",
            "When the chore last succeeded, in seconds since 1970; absent before the first time.",
            &["chore"],
        );
        for chore in Chore::ALL {
            failed.with_label_values(&[chore.as_str()]).set(0.0);
        }
        for chore in &measured.status.maintenance.chores {
            let labels = [&chore.chore];
            let has_failed = f64::from(chore.failure.is_some());
            failed.with_label_values(&labels).set(has_failed);
            if let Some(at) = chore.success_at {
                last_success.with_label_values(&labels).set(seconds(at));
            }
        }
    }
}

const NO_LABELS: [&str; 0] = [];

/// What others than root may still write there.
fn bytes_available(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(files::folder_of(path)).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn seconds(at: WallTime) -> f64 {
    approximately(at.0.max(0).cast_unsigned()) / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts so far")]
const fn approximately(count: u64) -> f64 {
    count as f64
}
