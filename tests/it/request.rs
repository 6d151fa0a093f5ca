//! What a webhook adds to its requests, and by which way they go: signatures, compression, further
//! headers, certificates, proxies (contract, sections 4 and 5).

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use insta::assert_snapshot;
use orderfeed::sender::signature::{SignedHeaders, SigningSecret, verify};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::producers::{available, skip};
use crate::support::{Answer, Arrived, Gate, OK, PATIENCE, Receiver, Site, read_head};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "whsec_//////////////////////////////////////////8=";

fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since_1970.unwrap().as_secs()).unwrap()
}

fn secret(text: &str) -> SigningSecret {
    SigningSecret::parse(text).unwrap()
}

/// Whether a receiver that has this secret trusts the request, whose body was this.
fn trusts(secret_text: &str, request: &Arrived, body: &[u8]) -> bool {
    let headers = SignedHeaders {
        id: request.header("webhook-id"),
        timestamp: request.header("webhook-timestamp"),
        signature: request.header("webhook-signature"),
    };
    let tolerance = Duration::from_mins(5);
    verify(&[secret(secret_text)], headers, body, now(), tolerance).is_ok()
}

mod signatures {
    use super::*;

    /// Section 4: two, separated by a space, while a secret is rotated. Whichever side changes
    /// first, each request is trusted.
    #[test]
    fn a_secret_is_rotated_without_a_request_that_is_not_trusted() {
        let receiver = Receiver::ok();
        let webhook =
            |secrets: &str| receiver.webhook("erp", &format!("signing_secrets = [{secrets}]"));
        let site = Site::bare(&webhook("{ file = \"old\" }"));
        fs::write(site.file("old"), format!("{OLD}\n")).unwrap();
        fs::write(site.file("new"), format!("{NEW}\n")).unwrap();
        site.initialise();
        let daemon = site.start();
        let rotations = [
            "{ file = \"old\" }",
            "{ file = \"new\" }, { file = \"old\" }",
            "{ file = \"new\" }",
        ];
        let mut found = Vec::new();
        for (number, secrets) in (1..).zip(rotations) {
            site.configure(&webhook(secrets));
            daemon.reload();
            site.enqueue("purchase_order", [number]);
            let request = receiver.wait_for(usize::try_from(number).unwrap());
            let request = request.last().unwrap();
            let signatures = request.header("webhook-signature").split(' ').count();
            let body = &request.body;
            let (old, new) = (trusts(OLD, request, body), trusts(NEW, request, body));
            found.push((signatures, old, new));
            assert!(!trusts(OTHER, request, body));
        }
        assert_eq!(found, [(1, true, false), (2, true, true), (1, false, true)]);
    }

    /// What the libraries that others verify with say of secret, headers and body.
    const PYTHON: &str = r#"
import json, sys
from standardwebhooks import Webhook
secret, headers, body = json.load(sys.stdin)
try:
    Webhook(secret).verify(body, headers)
    print("trusted")
except Exception as error:
    print(type(error).__name__)
"#;
    const NODE: &str = r#"
const { Webhook } = require("standardwebhooks");
const [secret, headers, body] = JSON.parse(require("fs").readFileSync(0, "utf8"));
try {
    new Webhook(secret).verify(body, headers);
    console.log("trusted");
} catch (error) {
    console.log(error.constructor.name);
}
"#;

    /// What a program that reads secret, headers and body thinks of them.
    fn judged(command: &mut Command, secret: &str, request: &Arrived) -> String {
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| (name.to_owned(), request.header(name).into()));
        let headers: serde_json::Map<String, serde_json::Value> = headers.into_iter().collect();
        let input = serde_json::json!([secret, headers, request.text()]).to_string();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A request with two signatures, and one that was tampered with; each judged with the secrets
    /// that a receiver may have.
    fn judgements(judge: impl Fn(&str, &Arrived) -> String) -> String {
        let receiver = Receiver::ok();
        let secrets = format!("signing_secrets = [\"{NEW}\", \"{OLD}\"]");
        let site = Site::new(&receiver.webhook("erp", &secrets));
        let body = r#"{"TrackingNumber": 1, "Note": "für Köln"}"#;
        let insert = "INSERT INTO orders (order_type, body) VALUES ('purchase_order', ?1)";
        site.producer().execute(insert, [body]).unwrap();
        let _daemon = site.start();
        let request = receiver.wait_for(1).remove(0);
        let mut tampered = request.clone();
        tampered.body = request.text().replace('1', "2").into_bytes();
        [
            ("old", judge(OLD, &request)),
            ("new", judge(NEW, &request)),
            ("other", judge(OTHER, &request)),
            ("tampered", judge(NEW, &tampered)),
        ]
        .map(|(what, said)| format!("{what}: {said}"))
        .join("\n")
    }

    #[test]
    fn pythons_standardwebhooks_trusts_them() {
        let python =
            std::env::var("STANDARDWEBHOOKS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        if !available(&python, &["-c", "import standardwebhooks"]) {
            return;
        }
        let judge = |secret: &str, request: &Arrived| {
            judged(Command::new(&python).args(["-c", PYTHON]), secret, request)
        };
        assert_snapshot!(judgements(judge), @"
        old: trusted
        new: trusted
        other: WebhookVerificationError
        tampered: WebhookVerificationError
        ");
    }

    #[test]
    fn nodes_standardwebhooks_trusts_them() {
        let modules = std::env::var_os("STANDARDWEBHOOKS_NODE_MODULES").unwrap_or_default();
        let node = |script: &str| {
            let mut command = Command::new("node");
            command.env("NODE_PATH", &modules).args(["-e", script]);
            command
        };
        let has_it = node("require('standardwebhooks')")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !has_it {
            return skip("node can't be run, or lacks standardwebhooks");
        }
        let judge = |secret: &str, request: &Arrived| judged(&mut node(NODE), secret, request);
        assert_snapshot!(judgements(judge), @"
        old: trusted
        new: trusted
        other: WebhookVerificationError
        tampered: WebhookVerificationError
        ");
    }
}

mod compression {
    use super::*;

    fn unpacked(body: &[u8]) -> Vec<u8> {
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(body);
        decoder.read_to_end(&mut unpacked).unwrap();
        unpacked
    }

    /// The signature is over what was not compressed; a retry has the same bytes (D9).
    #[test]
    fn a_body_is_compressed_and_its_signature_is_not_over_that() {
        let receiver = Receiver::new(|number, _| match number {
            1 => Answer::Status(503, ""),
            _ => OK,
        });
        let more =
            format!("compression = \"gzip\"\nretry_gap = \"20ms\"\nsigning_secrets = [\"{OLD}\"]");
        let site = Site::new(&receiver.webhook("erp", &more));
        site.enqueue("purchase_order", 1..=100);
        let _daemon = site.start();
        let arrived = receiver.wait_for(2);
        let body = unpacked(&arrived[0].body);
        assert!(body.starts_with(br#"{"DataType":"purchase_order","Data":[{"TrackingNumber":1},"#));
        let request = &arrived[0];
        assert_eq!(request.header("content-encoding"), "gzip");
        let length = request.body.len();
        assert_eq!(request.header("content-length"), length.to_string());
        assert!(length * 4 < body.len(), "{length} of {} bytes", body.len());
        assert!(trusts(OLD, request, &body));
        assert!(!trusts(OLD, request, &request.body));
        assert_eq!(arrived[1].body, request.body);
        assert_eq!(arrived[1].header("orderfeed-attempt"), "2");
    }
}

mod headers {
    use super::*;

    #[test]
    fn further_headers_arrive_and_secret_ones_are_masked_where_echoed() {
        let receiver = Receiver::new(|_, request| {
            let echo = format!(
                "you sent {} and {} and {}, signed with {OLD}",
                request.header("x-api-key"),
                request.header("x-token"),
                request.header("x-plant")
            );
            let length = echo.len();
            let answer = format!("HTTP/1.1 400 X\r\ncontent-length: {length}\r\n\r\n{echo}");
            Answer::Bytes(answer.into_bytes())
        });
        let more = format!(
            "retry_attempts = 0\nsigning_secrets = [\"{OLD}\"]\nheaders = {{ X-Api-Key = {{ file = \"key\" }}, X-Token = {{ env = \"ORDERFEED_TOKEN\" }}, X-Plant = \"10\" }}"
        );
        let site = Site::bare(&receiver.webhook("erp", &more));
        fs::write(site.file("key"), "k3y\n").unwrap();
        let token = [("ORDERFEED_TOKEN", "t0ken/with\"quotes")];
        let made = site.command(&["init"]).envs(token).output().unwrap();
        assert!(made.status.success());
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start_with(&token);
        daemon.wait_for_line("failed for good");
        let (_, log) = daemon.stop();
        assert_snapshot!(site.ledger_rows("SELECT status, answer FROM attempts"), @"400 you sent *** and *** and 10, signed with ***");
        let log = log.join("\n");
        for secret in ["k3y", "t0ken", OLD] {
            assert!(!log.contains(secret), "{log}");
        }
    }

    /// D9: a retry goes with the headers of the moment.
    #[test]
    fn a_reload_changes_headers_and_cuts_off_no_request_in_flight() {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let receiver = Receiver::new(move |number, _| match number {
            1 => Answer::Gated(Arc::clone(&held), 503),
            _ => OK,
        });
        let webhook = |key: &str| {
            let more = format!("retry_gap = \"20ms\"\nheaders.X-Key = \"{key}\"");
            receiver.webhook("erp", &more)
        };
        let site = Site::new(&webhook("old-key"));
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        receiver.wait_for(1);
        site.configure(&webhook("new-key"));
        daemon.reload();
        gate.open();
        let arrived = receiver.wait_for(2);
        let keys: Vec<_> = arrived
            .iter()
            .map(|request| request.header("x-key"))
            .collect();
        assert_eq!(keys, ["old-key", "new-key"]);
        daemon.stop();
        assert_snapshot!(site.ledger_rows("SELECT number, outcome, status FROM attempts ORDER BY number"), @"
        1 failed 503
        2 delivered 200
        ");
    }
}

/// A private authority.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// A certificate and its key, both PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let common_name = rcgen::DnType::CommonName;
        params.distinguished_name.push(common_name, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    /// A certificate for a program of this name on this machine.
    fn issue(&self, name: &str) -> Issued {
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let common_name = rcgen::DnType::CommonName;
        params.distinguished_name.push(common_name, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A receiver with a certificate of this authority.
    fn receiver(
        &self,
        script: impl Fn(usize, &Arrived) -> Answer + Send + Sync + 'static,
    ) -> Receiver {
        let issued = self.issue("receiver");
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Receiver::tls(config, script)
    }
}

mod certificates {
    use super::*;

    const RETRY: &str = "retry_attempts = \"unlimited\"\nretry_gap = \"50ms\"";

    /// D16: what does not trust the receiver sends nothing. A file that is renewed in its place is
    /// read again at a reload.
    #[test]
    fn a_private_authority_is_trusted_once_it_is_in_the_file() {
        let authority = Authority::new("ours");
        let receiver = authority.receiver(|_, _| OK);
        let site =
            Site::bare(&receiver.webhook("erp", &format!("{RETRY}\ntls.ca_file = \"ca.pem\"")));
        fs::write(site.file("ca.pem"), Authority::new("other").pem()).unwrap();
        site.initialise();
        let port = receiver.address().port().to_string();
        let told = |site: &Site| site.told(&["check", "--connect"]).replace(&port, "PORT");
        assert_snapshot!(told(&site), @"
        ./config.toml is valid
        erp: nothing waits
        erp: not reached: the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority: invalid peer certificate: UnknownIssuer
        orderfeed: 1 of 1 webhooks can't be reached
        [exit 1]
        ");
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        daemon.wait_for_line("broke off while agreeing on TLS");
        assert_eq!(receiver.arrived().len(), 0);
        fs::write(site.file("ca.pem"), authority.pem()).unwrap();
        daemon.reload();
        receiver.wait_for(1);
        daemon.stop();
        assert_snapshot!(told(&site), @"
        ./config.toml is valid
        erp: nothing waits
        erp: reached: 127.0.0.1:PORT, TLSv1_3
        [exit 0]
        ");
        let attempts = "SELECT DISTINCT phase, outcome FROM attempts ORDER BY number";
        assert_snapshot!(site.ledger_rows(attempts), @"
        tls failed
        answered delivered
        ");
    }

    #[test]
    fn a_broken_key_changes_nothing_at_a_reload() {
        let receiver = Receiver::ok();
        let files = "tls = { client_certificate = \"client.pem\", client_key = \"client.key\" }";
        let site = Site::bare(&receiver.webhook("erp", files));
        let authority = Authority::new("ours");
        let (client, other) = (authority.issue("client"), authority.issue("other"));
        fs::write(site.file("client.pem"), &client.certificate).unwrap();
        fs::write(site.file("client.key"), &client.key).unwrap();
        site.initialise();
        let daemon = site.start();
        fs::write(site.file("client.key"), &other.key).unwrap();
        assert_snapshot!(site.told(&["check"]), @"
        orderfeed: ./config.toml:10: webhook.erp.tls.client_key: the file ./client.key holds the private key of another certificate
        [exit 2]
        ");
        daemon.reload();
        daemon.wait_for_line("client_key: the file");
        site.enqueue("purchase_order", 1..=1);
        receiver.wait_for(1);
    }

    /// nginx with a configuration of its own; ended when dropped.
    struct Nginx {
        child: Child,
        address: SocketAddr,
        log: PathBuf,
    }

    impl Nginx {
        /// One that asks for a certificate of this authority; `None` where there is no nginx.
        fn start(folder: &Path, authority: &Authority) -> Option<Self> {
            // It says its version on standard error.
            if !available("nginx", &["-v"]) {
                return None;
            }
            let server = authority.issue("nginx");
            fs::write(folder.join("server.pem"), server.certificate).unwrap();
            fs::write(folder.join("server.key"), server.key).unwrap();
            fs::write(folder.join("clients.pem"), authority.pem()).unwrap();
            let address = free_address();
            let folder_text = folder.to_str().unwrap();
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {folder_text}/nginx-{name};"))
                .concat();
            let config = format!(
                "daemon off; master_process off; pid {folder_text}/nginx.pid;
                 error_log {folder_text}/nginx-error.log;
                 events {{}}
                 http {{
                     {temporary}
                     log_format who '$status $ssl_client_verify $ssl_client_s_dn $http_webhook_id';
                     access_log {folder_text}/nginx.log who;
                     server {{
                         listen {address} ssl;
                         ssl_certificate {folder_text}/server.pem;
                         ssl_certificate_key {folder_text}/server.key;
                         ssl_client_certificate {folder_text}/clients.pem;
                         ssl_verify_client on;
                         location / {{ return 200; }}
                     }}
                 }}"
            );
            let file = folder.join("nginx.conf");
            fs::write(&file, config).unwrap();
            let child = Command::new("nginx")
                .args(["-e", "stderr", "-p", folder_text, "-c"])
                .arg(&file)
                .spawn()
                .unwrap();
            wait_for_listener(address);
            Some(Self {
                child,
                address,
                log: folder.join("nginx.log"),
            })
        }
    }

    impl Drop for Nginx {
        fn drop(&mut self) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    /// Mutual TLS, with nginx at the other end; the certificate is renewed in its place.
    #[test]
    fn nginx_knows_the_daemon_by_its_certificate() {
        let authority = Authority::new("ours");
        let site = Site::bare("");
        let Some(nginx) = Nginx::start(site.folder(), &authority) else {
            return;
        };
        let stranger = Authority::new("ours").issue("stranger");
        fs::write(site.file("ca.pem"), authority.pem()).unwrap();
        fs::write(site.file("client.pem"), &stranger.certificate).unwrap();
        fs::write(site.file("client.key"), &stranger.key).unwrap();
        let url = format!("url = \"https://{}/orders\"", nginx.address);
        site.configure(&format!(
            "[webhook.erp]\n{url}\n{RETRY}\n[webhook.erp.tls]\nca_file = \"ca.pem\"\nclient_certificate = \"client.pem\"\nclient_key = \"client.key\""
        ));
        site.initialise();
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        daemon.wait_for_line("answered 400");
        let known = authority.issue("orderfeed");
        fs::write(site.file("client.pem"), &known.certificate).unwrap();
        fs::write(site.file("client.key"), &known.key).unwrap();
        daemon.reload();
        daemon.wait_for_line("delivered 1 purchase_order");
        daemon.stop();
        let log = fs::read_to_string(&nginx.log).unwrap();
        let mut lines: Vec<&str> = log
            .lines()
            .map(|line| line.split(" pl_").next().unwrap())
            .collect();
        lines.dedup();
        assert_snapshot!(lines.join("\n"), @"
        400 FAILED:certificate signature failure CN=stranger
        200 SUCCESS CN=orderfeed
        ");
    }
}

/// An address on which nobody listens, and which nobody is given in the next moments.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn wait_for_listener(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {address}");
        thread::yield_now();
    }
}

mod proxies {
    use super::*;

    /// A proxy that notes what it is asked, and opens a tunnel, or says this instead.
    struct Proxy {
        address: SocketAddr,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Proxy {
        fn new(refusal: Option<&'static str>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let asked = Arc::<Mutex<Vec<String>>>::default();
            let noted = Arc::clone(&asked);
            thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let noted = Arc::clone(&noted);
                    thread::spawn(move || tunnel(client, refusal, &noted));
                }
            });
            Self { address, asked }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn tunnel(mut client: TcpStream, refusal: Option<&str>, noted: &Mutex<Vec<String>>) {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        let Some(head) = read_head(&mut reader) else {
            return;
        };
        let target = head.split(' ').nth(1).unwrap().to_owned();
        noted.lock().unwrap().push(head);
        if let Some(refusal) = refusal {
            client.write_all(refusal.as_bytes()).unwrap();
            return;
        }
        let mut server = TcpStream::connect(target).unwrap();
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            drop(std::io::copy(&mut back.0, &mut back.1));
            drop(back.1.shutdown(Shutdown::Write));
        });
        drop(std::io::copy(&mut reader, &mut server));
        drop(server.shutdown(Shutdown::Write));
    }

    /// A site whose webhook goes to an `https://` receiver by this proxy.
    fn site_behind(proxy: &str, authority: &Authority, receiver: &Receiver, more: &str) -> Site {
        let more = format!(
            "proxy = \"http://{proxy}\"\ntls.ca_file = \"ca.pem\"\nretry_gap = \"50ms\"\n{more}"
        );
        let site = Site::bare(&receiver.webhook("erp", &more));
        fs::write(site.file("ca.pem"), authority.pem()).unwrap();
        site.initialise();
        site
    }

    /// The text without the ports of these, which differ from run to run.
    fn without_ports(text: &str, ports: &[(&str, SocketAddr)]) -> String {
        ports.iter().fold(text.to_owned(), |text, (name, address)| {
            text.replace(&format!(":{}", address.port()), &format!(":{name}"))
        })
    }

    #[test]
    fn https_goes_through_a_tunnel_that_sees_nothing_of_it() {
        let authority = Authority::new("ours");
        let receiver = authority.receiver(|_, _| OK);
        let proxy = Proxy::new(None);
        let address = format!("me:pass%2Fword@{}", proxy.address);
        let site = site_behind(
            &address,
            &authority,
            &receiver,
            "authorization = \"Bearer 123\"",
        );
        let ports = [("PROXY", proxy.address), ("RECEIVER", receiver.address())];
        let told = site.told(&["check", "--connect"]);
        assert_snapshot!(without_ports(&told, &ports), @"
        ./config.toml is valid
        erp: nothing waits
        erp: reached: 127.0.0.1:PROXY (the proxy), TLSv1_3
        [exit 0]
        ");
        site.enqueue("purchase_order", 1..=1);
        let _daemon = site.start();
        let arrived = receiver.wait_for(1);
        assert_eq!(arrived[0].header("authorization"), "Bearer 123");
        assert_eq!(arrived[0].header("proxy-authorization"), "");
        let asked = proxy.asked().join("").to_lowercase().replace("\r\n", "\n");
        assert_snapshot!(without_ports(&asked, &ports), @"
        connect 127.0.0.1:RECEIVER http/1.1
        host: 127.0.0.1:RECEIVER
        proxy-authorization: basic bwu6cgfzcy93b3jk

        connect 127.0.0.1:RECEIVER http/1.1
        host: 127.0.0.1:RECEIVER
        proxy-authorization: basic bwu6cgfzcy93b3jk
        ");
    }

    /// D16: nothing was sent, certainly.
    #[test]
    fn a_proxy_that_refuses_means_nothing_was_sent() {
        let authority = Authority::new("ours");
        let receiver = authority.receiver(|_, _| OK);
        let proxy = Proxy::new(Some("HTTP/1.1 403 Not to bWU6cGFzcy93b3Jk\r\n\r\n"));
        let address = format!("me:pass%2Fword@{}", proxy.address);
        let site = site_behind(&address, &authority, &receiver, "retry_attempts = 0");
        let ports = [("PROXY", proxy.address), ("RECEIVER", receiver.address())];
        let told = site.told(&["check", "--connect"]);
        assert_snapshot!(without_ports(&told, &ports), @r#"
        ./config.toml is valid
        erp: nothing waits
        erp: not reached: the proxy 127.0.0.1:PROXY does not connect to 127.0.0.1:RECEIVER: it answered "HTTP/1.1 403 Not to ***"
        orderfeed: 1 of 1 webhooks can't be reached
        [exit 1]
        "#);
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        daemon.wait_for_line("failed for good");
        daemon.stop();
        assert_snapshot!(site.ledger_rows("SELECT phase, outcome, error FROM attempts"), @"connect failed the proxy does not connect to the receiver; `orderfeed check --connect` shows what the proxy says: tunnel error: unsuccessful");
        assert_eq!(receiver.arrived().len(), 0);
    }

    #[test]
    fn a_proxy_that_wants_a_password_is_told_of() {
        let authority = Authority::new("ours");
        let receiver = authority.receiver(|_, _| OK);
        let proxy = Proxy::new(Some("HTTP/1.1 407 X\r\n\r\n"));
        let address = proxy.address.to_string();
        let site = site_behind(&address, &authority, &receiver, "");
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        daemon.wait_for_line("broke off while connecting: the proxy asks for user and password");
    }

    /// D16: also behind a proxy.
    #[test]
    fn a_receiver_that_is_not_trusted_is_told_from_a_proxy_that_refuses() {
        let receiver = Authority::new("ours").receiver(|_, _| OK);
        let proxy = Proxy::new(None);
        let other = Authority::new("other");
        let address = proxy.address.to_string();
        let site = site_behind(&address, &other, &receiver, "retry_attempts = 0");
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        daemon.wait_for_line("failed for good");
        daemon.stop();
        assert_snapshot!(site.ledger_rows("SELECT phase, outcome, error FROM attempts"), @"tls failed the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority: invalid peer certificate: UnknownIssuer");
    }

    #[test]
    fn http_is_handed_to_the_proxy_as_a_whole() {
        // It answers itself.
        let proxy = Receiver::ok();
        let config = format!(
            "[webhook.erp]\nurl = \"http://erp.example.com/orders\"\nallow_http = true\nproxy = \"http://me:password@{}\"",
            proxy.address()
        );
        let site = Site::new(&config);
        site.enqueue("purchase_order", 1..=1);
        let _daemon = site.start();
        let request = &proxy.wait_for(1)[0];
        let line = request.head.lines().next().unwrap();
        assert_eq!(line, "POST http://erp.example.com/orders HTTP/1.1");
        assert_eq!(request.header("host"), "erp.example.com");
        let login = request.header("proxy-authorization");
        assert_eq!(login, "Basic bWU6cGFzc3dvcmQ=");
    }

    #[test]
    fn the_environments_proxies_are_not_used() {
        let authority = Authority::new("ours");
        let (https, http) = (authority.receiver(|_, _| OK), Receiver::ok());
        let proxy = Proxy::new(Some("HTTP/1.1 500 X\r\n\r\n"));
        let url = format!("http://{}", proxy.address);
        let site = Site::bare(
            &(https.webhook("https", "tls.ca_file = \"ca.pem\"") + &http.webhook("http", "")),
        );
        fs::write(site.file("ca.pem"), authority.pem()).unwrap();
        site.initialise();
        let environment: Vec<(&str, &str)> = ["http_proxy", "https_proxy", "all_proxy"]
            .into_iter()
            .chain(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
            .map(|name| (name, url.as_str()))
            .collect();
        let check = site
            .command(&["check", "--connect"])
            .envs(environment.iter().copied())
            .output();
        assert!(check.unwrap().status.success());
        site.enqueue("purchase_order", 1..=1);
        let _daemon = site.start_with(&environment);
        https.wait_for(1);
        http.wait_for(1);
        assert_eq!(proxy.asked(), [""; 0]);
    }

    /// tinyproxy with a configuration of its own; ended when dropped.
    struct TinyProxy(Child);

    impl Drop for TinyProxy {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn tinyproxy_lets_through_who_has_its_password() {
        if !available("tinyproxy", &["-v"]) {
            return;
        }
        let authority = Authority::new("ours");
        let receiver = authority.receiver(|_, _| OK);
        let address = free_address();
        let more = "retry_attempts = \"unlimited\"";
        let site = site_behind(&format!("me:wrong@{address}"), &authority, &receiver, more);
        let config = format!(
            "Port {}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth me password\nConnectPort {}\nLogFile \"{}\"\n",
            address.port(),
            receiver.address().port(),
            site.file("tinyproxy.log").display()
        );
        fs::write(site.file("tinyproxy.conf"), config).unwrap();
        let child = Command::new("tinyproxy")
            .args(["-d", "-c"])
            .arg(site.file("tinyproxy.conf"))
            .spawn();
        let _tinyproxy = TinyProxy(child.unwrap());
        wait_for_listener(address);
        site.enqueue("purchase_order", 1..=1);
        let daemon = site.start();
        daemon.wait_for_line("the proxy does not connect to the receiver");
        let config = fs::read_to_string(site.config()).unwrap();
        fs::write(site.config(), config.replace("me:wrong@", "me:password@")).unwrap();
        daemon.reload();
        receiver.wait_for(1);
        daemon.stop();
        let told = site.told(&["check", "--connect"]);
        let ports = [("PROXY", address), ("RECEIVER", receiver.address())];
        assert_snapshot!(without_ports(&told, &ports), @"
        ./config.toml is valid
        erp: nothing waits
        erp: reached: 127.0.0.1:PROXY (the proxy), TLSv1_3
        [exit 0]
        ");
    }
}
