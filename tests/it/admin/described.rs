//! `docs/openapi.json` and what the daemon really answers.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{Asked, read_until};
use crate::support::{Answer, OK, Receiver, Site};

/// The description, and which of its operations succeeded.
struct Described {
    whole: Value,
    succeeded: BTreeSet<(String, String)>,
}

impl Described {
    fn load() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        Self {
            whole: serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap(),
            succeeded: BTreeSet::new(),
        }
    }

    /// The operations that there are.
    fn operations(&self) -> BTreeSet<(String, String)> {
        let paths = self.whole["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&String, &Value)| {
            let methods: Vec<String> = methods.as_object().unwrap().keys().cloned().collect();
            let path = path.clone();
            methods
                .into_iter()
                .map(move |method| (method, path.clone()))
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// Holds a value against a schema of the description.
    #[track_caller]
    fn hold(&self, schema: &Value, value: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.whole["components"].clone();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}\nin {value:#}");
    }

    /// What the description says of an answer with this status.
    fn response(&self, method: &str, path: &str, status: u16) -> Value {
        let operation = &self.whole["paths"][path][method];
        let response = &operation["responses"][status.to_string()];
        assert!(
            !response.is_null(),
            "{method} {path} is not said to answer {status}"
        );
        match response["$ref"].as_str() {
            Some(name) => self.whole.pointer(&name[1..]).unwrap().clone(),
            None => response.clone(),
        }
    }

    /// Makes a call, and holds both its body and its answer against the description.
    #[track_caller]
    fn call(
        &mut self,
        asked: &Asked<'_>,
        (method, path): (&str, &str),
        real: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        if let Some(body) = body {
            let content = &self.whole["paths"][path][method]["requestBody"]["content"];
            self.hold(
                &content["application/json"]["schema"],
                body,
                "what is asked",
            );
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = asked.call(&method.to_uppercase(), real, &text);
        let response = self.response(method, path, status);
        let schema = &response["content"]["application/json"]["schema"];
        self.hold(schema, &answer, &format!("{method} {real}: {status}"));
        if status < 300 {
            self.succeeded.insert((method.to_owned(), path.to_owned()));
        }
        (status, answer)
    }

    /// Makes a call that succeeds.
    #[track_caller]
    fn succeeds(
        &mut self,
        asked: &Asked<'_>,
        (method, path): (&str, &str),
        real: &str,
        body: Option<&Value>,
    ) -> Value {
        let (status, answer) = self.call(asked, (method, path), real, body);
        assert!(status < 300, "{method} {real}: {status} {answer}");
        answer
    }
}

#[test]
fn each_call_answers_as_it_is_described() {
    let mut described = Described::load();
    let erp = Receiver::new(|number, _| match number {
        2 => Answer::Status(400, "\n\nno such plant"),
        _ => OK,
    });
    let site = Site::new(&erp.webhook(
        "erp",
        "retry_attempts = 0\ntriggers = [\"purchase_order\", \"work_order\"]",
    ));
    let daemon = site.start();
    let asked = Asked(&site);
    let all = &asked;

    // The stream is read from the beginning, so that all kinds of events come by.
    let mut stream = asked.connect();
    stream
        .write_all(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut events = String::new();
    read_until(&mut stream, &mut events, ": reading");

    for path in [
        "/v1/health",
        "/v1/events",
        "/v1/openapi.json",
        "/v1/status",
        "/v1/webhooks",
    ] {
        described.succeeds(all, ("get", path), path, None);
    }
    let order = |number: u64| {
        json!({ "type": "purchase_order", "dedup_key": format!("k{number}"),
                "order": { "TrackingNumber": number } })
    };
    described.succeeds(all, ("post", "/v1/orders"), "/v1/orders", Some(&order(1)));
    erp.wait_for(1);
    let two = json!([order(2), { "type": "transfer_order", "action": "create", "order": { "TrackingNumber": "T-1" } }]);
    described.succeeds(all, ("post", "/v1/orders"), "/v1/orders", Some(&two));
    daemon.wait_for_line("failed for good");
    let (status, _) = described.call(all, ("post", "/v1/orders"), "/v1/orders", Some(&order(2)));
    assert_eq!(status, 409);

    let listed = described.succeeds(
        all,
        ("get", "/v1/payloads"),
        "/v1/payloads?webhook=erp&state=failed&type=purchase_order&limit=5",
        None,
    );
    let failed = listed["payloads"][0]["payload_id"]
        .as_str()
        .unwrap()
        .to_owned();
    described.succeeds(
        all,
        ("get", "/v1/payloads"),
        "/v1/payloads?tracking_number=1",
        None,
    );
    described.succeeds(
        all,
        ("get", "/v1/webhooks/{name}"),
        "/v1/webhooks/erp",
        None,
    );
    for more in ["", "/attempts", "/body"] {
        described.succeeds(
            all,
            ("get", &format!("/v1/payloads/{{payload_id}}{more}")),
            &format!("/v1/payloads/{failed}{more}"),
            None,
        );
    }
    described.succeeds(
        all,
        ("get", "/v1/orders/{tracking_number}"),
        "/v1/orders/2",
        None,
    );
    described.succeeds(
        all,
        ("get", "/v1/orders/{tracking_number}"),
        "/v1/orders/T-1",
        None,
    );
    described.succeeds(all, ("get", "/v1/reconcile"), "/v1/reconcile", None);

    let webhook = |what: &str| {
        (
            format!("/v1/webhooks/{{name}}/{what}"),
            format!("/v1/webhooks/erp/{what}"),
        )
    };
    let resend = json!({ "payload_id": failed, "dry_run": true });
    described.succeeds(all, ("post", "/v1/resend"), "/v1/resend", Some(&resend));
    let resend = json!({ "payload_id": failed });
    described.succeeds(all, ("post", "/v1/resend"), "/v1/resend", Some(&resend));
    erp.wait_for(3);
    let (path, real) = webhook("test");
    described.succeeds(all, ("post", &path), &real, Some(&json!({ "now": true })));
    let (path, real) = webhook("pause");
    described.succeeds(all, ("post", &path), &real, Some(&json!({})));
    described.succeeds(all, ("post", "/v1/orders"), "/v1/orders", Some(&order(5)));
    described.succeeds(
        all,
        ("post", "/v1/orders/{tracking_number}/withdraw"),
        "/v1/orders/5/withdraw",
        Some(&json!({ "type": "purchase_order" })),
    );
    let (path, real) = webhook("resume");
    described.succeeds(all, ("post", &path), &real, Some(&json!({})));
    let dry = json!({ "dry_run": true });
    described.succeeds(all, ("post", "/v1/reload"), "/v1/reload", Some(&dry));

    described.succeeds(all, ("post", "/v1/backup"), "/v1/backup", Some(&json!({})));
    described.succeeds(all, ("get", "/v1/status"), "/v1/status", None);

    // A payload that waits for its retry can be tried at once, or given up.
    let mes = Receiver::new(|_, _| Answer::Status(503, ""));
    site.configure(&mes.webhook("erp", "retry_gap = \"1h\"\n"));
    described.succeeds(all, ("post", "/v1/reload"), "/v1/reload", Some(&json!({})));
    described.succeeds(all, ("post", "/v1/orders"), "/v1/orders", Some(&order(6)));
    daemon.wait_for_line("next attempt at");
    let (path, real) = webhook("retry-now");
    described.succeeds(all, ("post", &path), &real, Some(&json!({})));
    mes.wait_for(2);
    let pending = described.succeeds(
        all,
        ("get", "/v1/payloads"),
        "/v1/payloads?tracking_number=6",
        None,
    );
    let pending = pending["payloads"][0]["payload_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let discard = json!({ "reason": "the plant is closed" });
    loop {
        // While its second attempt is in flight it can't be.
        let (status, _) = described.call(
            all,
            ("post", "/v1/payloads/{payload_id}/discard"),
            &format!("/v1/payloads/{pending}/discard"),
            Some(&discard),
        );
        if status == 200 {
            break;
        }
        assert_eq!(status, 409);
    }

    daemon.stop();
    read_until(&mut stream, &mut events, "event: stopping");
    let schema = described.whole["paths"]["/v1/stream"]["get"]["responses"]["200"]["content"]
        ["text/event-stream"]["schema"]
        .clone();
    let mut kinds = BTreeSet::new();
    for data in events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
    {
        let event: Value = serde_json::from_str(data).unwrap();
        kinds.insert(event["event"].as_str().unwrap().to_owned());
        described.hold(&schema, &event, "an event");
    }
    let expected = ["attempt", "orders", "payload", "stopping", "webhook"];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    described
        .succeeded
        .insert(("get".into(), "/v1/stream".into()));
    // tests/it/monitoring.rs holds it against what Prometheus takes.
    described.response("get", "/metrics", 200);
    described
        .succeeded
        .insert(("get".into(), "/metrics".into()));

    // It needs a queue that the ledger does not know.
    super::replace_queue(&site);
    let daemon = site.spawn(&[]);
    daemon.wait_for_line("stands still");
    assert_eq!(
        described
            .call(all, ("get", "/v1/health"), "/v1/health", None)
            .0,
        503
    );
    let adopt = json!({ "all_new": true });
    described.succeeds(
        all,
        ("post", "/v1/adopt-queue"),
        "/v1/adopt-queue",
        Some(&adopt),
    );
    daemon.wait_for_line(" runs");
    let (status, _) = described.call(
        all,
        ("post", "/v1/adopt-queue"),
        "/v1/adopt-queue",
        Some(&adopt),
    );
    assert_eq!(status, 409);

    let operations = described.operations();
    let missing: Vec<_> = operations.difference(&described.succeeded).collect();
    assert!(missing.is_empty(), "never succeeded: {missing:?}");
}

/// Each refusal that it says a call may answer with, as far as one can bring it about.
#[test]
fn refusals_are_as_they_are_described() {
    let described = Described::load();
    let site = Site::new("");
    let _daemon = site.start();
    let asked = Asked(&site);
    let id = "pl_01K0ABCDEFGHJKMNPQRSTVWXYZ";
    let mut seen = BTreeSet::new();
    for (method, path) in described.operations() {
        // What they answer is no JSON.
        if path == "/v1/stream" || path == "/metrics" {
            continue;
        }
        let real = path
            .replace("{name}", "nowhere")
            .replace("{payload_id}", id)
            .replace("{tracking_number}", "4711");
        let responses = described.whole["paths"][&path][&method]["responses"].clone();
        let says = |status: &str| responses.get(status).is_some();
        let mut try_it = |body: &str, wanted: u16| {
            let (status, answer) = asked.call(&method.to_uppercase(), &real, body);
            assert_eq!(status, wanted, "{method} {real} {body:.40}: {answer}");
            let schema = json!({ "$ref": "#/components/schemas/Error" });
            described.hold(&schema, &answer, &real);
            seen.insert(status);
        };
        if says("400") {
            try_it("{", 400);
        }
        if says("413") {
            let large = if path == "/v1/orders" {
                21 << 20
            } else {
                70_000
            };
            try_it(&"x".repeat(large), 413);
        }
        if says("404") && method == "get" && path != "/v1/payloads" && !path.contains("/orders/") {
            try_it("", 404);
        }
        if method == "post" {
            try_it("{\"no_such_member\": 1}", 422);
        }
    }
    assert_eq!(seen, BTreeSet::from([400, 404, 413, 422]));
}
