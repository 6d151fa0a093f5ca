//! The rules of this project that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use orderfeed::config::{Config, known_keys};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder whose name ends so, with its path from the project's root.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                // A crate of its own may have been built in there.
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.to_string_lossy().ends_with(ending) {
                found.insert(from_root(&path), lossy_text(&path));
            }
        }
    }
    found
}

fn lossy_text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned()
}

fn from_root(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("a path below the root");
    path.to_string_lossy().into_owned()
}

fn read_config(text: &str) -> Config {
    let file = Path::new("/etc/orderfeed/config.toml");
    match Config::read(file, text, [], None) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

mod example {
    use super::*;

    fn example() -> String {
        fs::read_to_string(root().join("config.toml.example")).expect("the example")
    }

    /// A line that shows a key with its default: `#retry_gap = "15m"`.
    fn default_line(line: &str) -> Option<&str> {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    }

    #[test]
    fn it_loads_as_it_stands() {
        let config = read_config(&example());
        let [webhook] = config.webhooks.as_slice() else {
            panic!("one webhook");
        };
        assert_eq!(webhook.name.as_str(), "erp");
    }

    #[test]
    fn its_default_lines_are_the_defaults() {
        let lines: Vec<String> = example()
            .lines()
            .map(|line| default_line(line).unwrap_or(line).to_owned())
            .collect();
        assert_eq!(read_config(&lines.join("\n")), read_config(&example()));
        let url_only = "webhook.erp.url = \"https://erp.example.com/orders\"";
        assert_eq!(read_config(url_only), read_config(&example()));
    }

    #[test]
    fn it_names_every_key_with_its_default() {
        let example = example();
        let mut table = String::new();
        let mut shown = BTreeSet::new();
        for line in example.lines() {
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']').replace("erp", "NAME");
            }
            let line = default_line(line)
                .or_else(|| line.strip_prefix("#   "))
                .unwrap_or(line);
            if let Some((key, value)) = line.split_once(" = ") {
                shown.insert((format!("{table}.{key}"), value.to_owned()));
            }
        }
        for key in known_keys() {
            let has_it = match &key.default {
                Some(default) => shown.contains(&(key.name.clone(), default.clone())),
                None => shown.iter().any(|(name, _)| *name == key.name),
            };
            assert!(has_it, "config.toml.example lacks {key:?}");
        }
    }

    #[test]
    fn its_default_lines_name_known_keys_alone() {
        let known: BTreeSet<String> = known_keys().into_iter().map(|key| key.name).collect();
        let mut table = String::new();
        for line in example().lines() {
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']').to_owned();
            }
            if let Some((key, _)) = default_line(line).and_then(|line| line.split_once(" = ")) {
                assert!(known.contains(&format!("{table}.{key}")), "{table}.{key}");
            }
        }
    }
}

mod documents {
    use super::*;

    fn pages() -> BTreeMap<String, String> {
        let pages = files("docs", ".md");
        assert!(pages.len() >= 5, "{:?}", pages.keys());
        pages
    }

    /// The blocks of a page that are in a programming language, each with the last program of
    /// docs/examples that was linked before.
    fn quotations(page: &str) -> Vec<(String, String)> {
        let (mut quotations, mut linked, mut block) = (Vec::new(), None, None::<String>);
        for line in page.lines() {
            match &mut block {
                Some(text) if line == "```" => {
                    let program = linked.clone().expect("a program is linked before");
                    quotations.push((program, std::mem::take(text)));
                    block = None;
                }
                Some(text) => {
                    text.push_str(line);
                    text.push('\n');
                }
                None if line.starts_with("```") => block = Some(String::new()),
                None => {
                    for (at, _) in line.match_indices("](examples/") {
                        let name = &line[at + "](examples/".len()..];
                        linked = name.split_once(')').map(|(name, _)| name.to_owned());
                    }
                }
            }
        }
        quotations
    }

    #[test]
    fn they_quote_the_programs_that_are_tested() {
        let tests = fs::read_to_string(root().join("tests/it/examples.rs")).expect("the tests");
        let programs = files("docs/examples", "");
        let mut quoted = BTreeSet::new();
        for (path, page) in pages() {
            for (name, quotation) in quotations(&page) {
                let program = programs.get(&format!("docs/examples/{name}"));
                let program = program.unwrap_or_else(|| panic!("{path}: there is no {name}"));
                assert!(
                    program.contains(&quotation),
                    "{path}: {name} has not:\n{quotation}"
                );
                quoted.insert(name);
            }
        }
        for path in programs.keys() {
            let name = path.trim_start_matches("docs/examples/");
            assert!(quoted.contains(name), "{name} is quoted nowhere");
            assert!(
                tests.contains(&format!("\"{name}\"")),
                "{name} is not tested"
            );
        }
    }

    #[test]
    fn the_readme_lists_them_all() {
        let readme = fs::read_to_string(root().join("README.md")).expect("the README");
        let list: String = readme
            .lines()
            .skip_while(|line| *line != "| you want to | read |")
            .take_while(|line| line.starts_with('|'))
            .collect();
        for path in pages().into_keys() {
            assert!(
                list.contains(&format!("]({path})")),
                "{path} is not in the list"
            );
        }
    }
}

mod refusals {
    use super::*;

    const DOCS: &str = "docs/refusals.md";

    /// The messages that the page's part about the configuration lists: what stands in the first
    /// cell of each row of its tables, word for word.
    fn listed() -> Vec<String> {
        let page = fs::read_to_string(root().join(DOCS)).expect("the page");
        page.lines()
            .skip_while(|line| *line != "## The configuration")
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split_once("` |"))
            .map(|(message, _)| message.to_owned())
            .collect()
    }

    /// Configurations with everything wrong that can be: what each of them makes is on the page.
    fn produced() -> Vec<String> {
        let variables = |names: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            let pair = |&(name, value): &(&str, &str)| (name.into(), value.into());
            names.iter().map(pair).collect()
        };
        let mut messages = Vec::new();
        let mut read = |text: &str, environment: Vec<(OsString, OsString)>, credentials: bool| {
            let file = Path::new("/etc/orderfeed/config.toml");
            let credentials =
                credentials.then_some(Path::new("/run/credentials/orderfeed.service"));
            let errors =
                Config::read(file, text, environment, credentials).expect_err("a wrong one");
            messages.extend(errors.iter().map(ToString::to_string));
        };
        let erp = "[webhook.erp]\nurl = \"https://erp.example.com/orders\"\n";
        read(
            r#"
            [queue]
            path = 1
            poll_interval = "5m"
            [ledger]
            path = ""
            [log]
            level = "verbose"
            format = "text"
            [webhook.erp]
            url = "erp.example.com"
            active = "yes"
            triggers = ["order"]
            filter = ["Site"]
            start = "newest"
            renamed_from = "Old-ERP"
            sequence = "lifo"
            payload_max_items = 0
            payload_max_bytes = "1"
            payload_interval = 5
            payload_linger = "5"
            retry_attempts = -1
            retry_gap = "15"
            hold_on = ["2xx"]
            deactivate_after = "never"
            timeout = "0s"
            on_timeout = "ignore"
            success_status = 200
            authorization = 1
            allow_http = 1
            "#,
            Vec::new(),
            false,
        );
        read(
            r#"
            queue = "queue.db"
            retry_gaps = 1
            retry_gap = "15m"
            [ledger]
            file = 1
            [defaults]
            url = "https://erp.example.com/"
            [webhook.a]
            url = "http://erp.example.com/"
            triggers = []
            filter = { Site = "10", Plant = [] }
            renamed_from = "b"
            start = "now"
            authorization = "Bearer\n1"
            success_status = []
            retrygap = "5s"
            [webhook.b]
            url = "https://user:password@erp.example.com/"
            renamed_from = "old"
            [webhook.c]
            url = "https://erp.example.com/#orders"
            renamed_from = "old"
            [webhook.ERP]
            "#,
            variables(&[
                ("ORDERFEED_WEBHOOK__A__HOLD_ON", "dns"),
                ("ORDERFEED_LEVEL", "debug"),
            ]),
            false,
        );
        read(
            "queue.path = \"/a.db\"\nledger.path = \"/a.db\"",
            Vec::new(),
            false,
        );
        read("[queue]\npath = \"/var/spool", Vec::new(), false);
        for (authorization, credentials) in [
            ("{ file = \"erp.secret\" }", false),
            ("{ env = \"ERP_AUTHORIZATION\" }", false),
            ("{ env = \"ERP-AUTHORIZATION\" }", false),
            ("{ file = \"whsec_x\" }", false),
            ("{ credential = \"/erp\" }", false),
            ("{ credential = \"erp\" }", false),
            ("{ credential = \"erp\" }", true),
        ] {
            let text = format!("{erp}authorization = {authorization}");
            read(&text, Vec::new(), credentials);
        }
        let text = format!("{erp}authorization = {{ env = \"ERP_AUTHORIZATION\" }}");
        let not_utf8 = || -> OsString {
            use std::os::unix::ffi::OsStringExt;
            OsString::from_vec(vec![0xff])
        };
        let environment = vec![
            ("ERP_AUTHORIZATION".into(), not_utf8()),
            ("ORDERFEED_LOG__LEVEL".into(), not_utf8()),
        ];
        read(&text, environment, false);
        read(
            r#"
            [webhook.erp]
            url = "https://erp.example.com/orders"
            compression = "br"
            signing_secrets = ["x", "whsec_x", "whsec_TWZL"]
            headers = ["X-Api-Key"]
            proxy = "https://proxy.example.com:3128"
            tls.ca_file = 1
            tls.client_certificate = "client.pem"
            tls.client_key = 1
            [webhook.a]
            url = "https://erp.example.com/orders"
            signing_secrets = "whsec_x"
            tls.client_certificate = 1
            [webhook.a.headers]
            Authorization = "x"
            Proxy-Authorization = "x"
            User-Agent = "x"
            Content-Length = "1"
            "X Key" = "x"
            X-Key = "x"
            x-key = "x"
            [webhook.b]
            url = "https://erp.example.com/orders"
            tls.client_key = "client.key"
            "#,
            Vec::new(),
            false,
        );
        messages.extend(of_certificates());
        let missing = Path::new("/etc/orderfeed/none/config.toml");
        let errors = Config::load(missing).expect_err("no file");
        messages.extend(errors.iter().map(ToString::to_string));
        messages
    }

    /// What is said of files of certificates and keys that are there and of no use.
    fn of_certificates() -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("a file");
        };
        let made = || {
            let names = ["client.example.com".to_owned()];
            let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let ((certificate, key), (_, other_key)) = (made(), made());
        write("client.pem", &certificate);
        write("cut.pem", &certificate[..100]);
        write("client.key", &key);
        write("cut.key", &key[..60]);
        write("other.key", &other_key);
        write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        let webhook = |name: &str, keys: &str| {
            let url = "url = \"https://erp.example.com/orders\"";
            format!("[webhook.{name}]\n{url}\n[webhook.{name}.tls]\n{keys}\n")
        };
        let pair =
            |key: &str| format!("client_certificate = \"client.pem\"\nclient_key = \"{key}\"");
        let text = [
            webhook("a", "ca_file = \"client.key\""),
            webhook("b", "ca_file = \"cut.pem\""),
            webhook("c", &pair("client.pem")),
            webhook("d", &pair("encrypted.key")),
            webhook("e", &pair("cut.key")),
            webhook("f", &pair("other.key")),
            webhook("erp", &pair("-----BEGIN PRIVATE KEY-----")),
        ]
        .concat();
        let file = folder.path().join("config.toml");
        let errors = Config::read(&file, &text, [], None).expect_err("a wrong one");
        let folder = folder.path().to_string_lossy().into_owned();
        let message = |text: String| text.replace(&folder, "/etc/orderfeed");
        errors
            .iter()
            .map(ToString::to_string)
            .map(message)
            .collect()
    }

    /// A message without its place, which differs from file to file.
    fn without_place(message: &str) -> String {
        let from_file = message.strip_prefix("/etc/orderfeed/");
        let rest = from_file.unwrap_or(message);
        rest.split_once(": ")
            .map_or(rest, |(_, rest)| rest)
            .to_owned()
    }

    #[test]
    fn the_page_lists_the_messages_word_for_word() {
        let listed: BTreeSet<String> = listed().into_iter().collect();
        let produced: BTreeSet<String> =
            produced().iter().map(|text| without_place(text)).collect();
        let missing: Vec<&String> = produced.difference(&listed).collect();
        let stale: Vec<&String> = listed.difference(&produced).collect();
        assert!(
            missing.is_empty() && stale.is_empty(),
            "{DOCS} lacks {missing:#?} and has {stale:#?}"
        );
    }
}

mod command_line {
    use super::*;

    /// The part of the page from a heading on, up to the next of its rank; white space as one
    /// blank.
    fn part() -> String {
        let page = fs::read_to_string(root().join("docs/refusals.md")).expect("the page");
        let lines: Vec<&str> = page
            .lines()
            .skip_while(|line| *line != "## The command line")
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .collect();
        one_line(&lines.join("\n"))
    }

    fn one_line(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The string literals of a file that are sentences, with what stands before each, from the
    /// last literal on. Comments are left out, and what follows `#[cfg(test)]`.
    fn sentences(text: &str) -> Vec<(String, String)> {
        let code: Vec<&str> = text
            .lines()
            .take_while(|line| !line.contains("#[cfg(test)]"))
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let code = code.join("\n");
        let mut found = Vec::new();
        let mut rest = code.as_str();
        let mut before = String::new();
        while let Some((outside, after)) = rest.split_once('"') {
            before.push_str(outside);
            let (end, delimiter) = if outside.ends_with('\'') && after.starts_with('\'') {
                // A character.
                (0, "")
            } else if outside.ends_with("r#") {
                let end = after.find("\"#");
                (end.expect("the end of a raw string"), "\"#")
            } else {
                (end_of_literal(after), "\"")
            };
            let literal = after[..end].replace("\\\"", "\"").replace("\\n", "\n");
            if literal.split_whitespace().count() > 4 {
                found.push((before.trim_end().to_owned(), literal));
            }
            before.clear();
            rest = &after[end + delimiter.len()..];
        }
        found
    }

    fn end_of_literal(text: &str) -> usize {
        let mut escaped = false;
        let ends = |c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        };
        text.find(ends).expect("the end of a string")
    }

    /// What stands between the placeholders of a format.
    fn fixed_parts(format: &str) -> Vec<String> {
        let mut parts = Vec::new();
        let mut rest = format;
        while let Some((part, after)) = rest.split_once('{') {
            parts.push(one_line(part));
            rest = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        parts.push(one_line(rest));
        parts.retain(|part| part.split(' ').count() > 2);
        parts
    }

    /// Never printed: `init`, which meets it, has words of its own.
    const NO_REFUSAL: &str = "exists already and is left as it is";

    #[test]
    fn the_page_has_what_the_stores_refuse() {
        let part = part();
        let mut stores = files("src/store", ".rs");
        stores.insert(
            "src/store.rs".to_owned(),
            lossy_text(&root().join("src/store.rs")),
        );
        let mut seen = 0;
        let mut lacking = Vec::new();
        for (path, text) in stores {
            for (before, literal) in sentences(&text) {
                let sql = [
                    "SELECT ", "INSERT ", "UPDATE ", "DELETE ", "PRAGMA ", "WITH ", "CREATE ",
                    "WHERE ",
                ]
                .iter()
                .any(|word| literal.contains(word));
                let doing = ["during(", "doing:", "doing ="]
                    .iter()
                    .any(|place| before.ends_with(place));
                if sql || doing {
                    continue;
                }
                for fixed in fixed_parts(&literal) {
                    seen += 1;
                    if !part.contains(&fixed) && fixed != NO_REFUSAL {
                        lacking.push(format!("{path}: {fixed}"));
                    }
                }
            }
        }
        assert!(lacking.is_empty(), "docs/refusals.md lacks {lacking:#?}");
        assert!(seen > 30, "only {seen} found: the scan is out of order");
    }

    #[test]
    fn the_page_has_what_the_commands_refuse() {
        let part = part();
        let mut seen = 0;
        let mut lacking = Vec::new();
        for (path, text) in files("src/cli", ".rs") {
            for (before, literal) in sentences(&text) {
                let refuses = ["Failure::new(", "let message =", "misfit(", "wrong("]
                    .iter()
                    .any(|begin| {
                        before
                            .rsplit(';')
                            .next()
                            .is_some_and(|last| last.contains(begin))
                    });
                if !refuses {
                    continue;
                }
                for fixed in fixed_parts(&literal) {
                    seen += 1;
                    if !part.contains(&fixed) {
                        lacking.push(format!("{path}: {fixed}"));
                    }
                }
            }
        }
        assert!(lacking.is_empty(), "docs/refusals.md lacks {lacking:#?}");
        assert!(seen > 10, "only {seen} found: the scan is out of order");
    }

    #[test]
    fn the_scan_sees_what_it_must() {
        let text = "// \"not this one, it is a comment\"\nfoo(\"a \\\"b\\\" c {d} e f g h\", 1);\nbar(\"short\");";
        let found = sentences(text);
        assert_eq!(
            found,
            [("foo(".to_owned(), "a \"b\" c {d} e f g h".to_owned())]
        );
        assert_eq!(fixed_parts(&found[0].1), ["a \"b\" c", "e f g h"]);
    }
}

mod readme {
    use super::*;

    fn readme() -> String {
        fs::read_to_string(root().join("README.md")).expect("the README")
    }

    /// Lines that are set in, as code.
    fn code_lines(text: &str) -> Vec<&str> {
        text.lines()
            .filter_map(|line| line.strip_prefix("    "))
            .collect()
    }

    #[test]
    fn its_two_commands_come_first_and_are_checked() {
        let readme = readme();
        let code = code_lines(&readme);
        assert_eq!(code[..2], ["cargo run --release -- demo", "cargo test"]);
        let checks = fs::read_to_string(root().join(".ci/run")).expect("the checks");
        let runs_tests = checks.lines().any(|line| line.ends_with(" cargo test"));
        assert!(runs_tests, ".ci/run does not run `cargo test` as it stands");
        for command in [
            "cargo build --locked --release",
            "target/release/orderfeed demo",
        ] {
            assert!(checks.contains(command), ".ci/run lacks `{command}`");
        }
    }

    #[test]
    fn it_names_the_rust_version() {
        let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
        let version = manifest
            .lines()
            .find_map(|line| line.strip_prefix("rust-version = \""))
            .map(|rest| rest.trim_end_matches('"'))
            .expect("a rust-version");
        assert!(readme().contains(&format!("Rust {version} ")), "{version}");
    }

    #[test]
    fn it_names_every_command() {
        let readme = readme();
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_orderfeed"))
            .arg("--help")
            .output()
            .expect("the program");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let commands = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
            .filter(|name| !name.is_empty() && *name != "help");
        for command in commands {
            assert!(
                readme.contains(&format!("| `orderfeed {command}")),
                "README.md lacks {command}"
            );
        }
    }

    #[test]
    fn its_links_lead_somewhere() {
        for page in [
            "README.md",
            "CHANGELOG.md",
            "docs/refusals.md",
            "docs/install.md",
        ] {
            let text = fs::read_to_string(root().join(page)).expect("a page");
            let folder = root().join(page);
            let folder = folder.parent().expect("a folder");
            for (at, _) in text.match_indices("](") {
                let target = text[at + 2..].split(')').next().unwrap_or_default();
                let file = target.split('#').next().unwrap_or_default();
                if !file.contains("://") && !file.is_empty() {
                    assert!(folder.join(file).exists(), "{page}: {target}");
                }
            }
        }
    }
}

mod service {
    use super::*;

    const UNIT: &str = "systemd/orderfeed.service";

    /// The unit's settings, in their order.
    fn settings() -> Vec<(String, String)> {
        let unit = fs::read_to_string(root().join(UNIT)).expect("the unit");
        unit.lines()
            .filter(|line| !line.starts_with(['#', '[']))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn values(name: &str) -> Vec<String> {
        let of_name = |setting: &(String, String)| setting.0 == name;
        settings()
            .into_iter()
            .filter(of_name)
            .map(|(_, value)| value)
            .collect()
    }

    fn example() -> Config {
        read_config(&fs::read_to_string(root().join("config.toml.example")).expect("the example"))
    }

    fn folder_of(path: &Path) -> String {
        path.parent()
            .expect("a folder")
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn its_folders_are_those_of_the_example() {
        let config = example();
        let queue = folder_of(&config.queue.path);
        assert_eq!(values("ReadWritePaths"), [format!("-{queue}")]);
        let ledger = folder_of(&config.ledger.path);
        let state: Vec<String> = values("StateDirectory")
            .iter()
            .map(|name| format!("/var/lib/{name}"))
            .collect();
        assert_eq!(state, [ledger.as_str()]);
        let tmpfiles = fs::read_to_string(root().join("systemd/orderfeed.tmpfiles")).expect("it");
        for folder in [queue, ledger] {
            let made = |line: &str| line.starts_with(&format!("d {folder} "));
            assert!(tmpfiles.lines().any(made), "{folder} is not made");
        }
    }

    #[test]
    fn it_reads_the_configuration_where_the_example_says() {
        let example = fs::read_to_string(root().join("config.toml.example")).expect("the example");
        assert!(example.contains("/etc/orderfeed/config.toml"));
        // No --config: the default it is.
        assert_eq!(values("ExecStart"), ["/usr/bin/orderfeed run"]);
        assert_eq!(values("Environment"), [""; 0]);
    }

    #[test]
    fn a_request_in_flight_may_end() {
        let timeout = example().webhooks[0].endpoint.timeout.as_secs();
        let values = values("TimeoutStopSec");
        let seconds = values[0]
            .strip_suffix('s')
            .and_then(|seconds| seconds.parse::<u64>().ok());
        // After it, its answer is read, and its outcome recorded.
        assert!(seconds >= Some(timeout + 15), "{values:?}");
    }

    #[test]
    fn the_credential_it_shows_is_the_one_of_the_example() {
        let unit = fs::read_to_string(root().join(UNIT)).expect("the unit");
        let example = fs::read_to_string(root().join("config.toml.example")).expect("the example");
        let shown = unit
            .lines()
            .find_map(|line| line.strip_prefix("#LoadCredential="))
            .and_then(|value| value.split(':').next())
            .expect("a credential");
        assert!(example.contains(&format!("credential = \"{shown}\"")));
    }
}

mod source {
    use super::*;

    #[test]
    fn every_file_says_what_it_is() {
        let folders = ["src", "tests", "fuzz"];
        for (path, text) in folders.iter().flat_map(|folder| files(folder, ".rs")) {
            assert!(text.starts_with("//! "), "{path} does not begin with //!");
        }
    }

    #[test]
    fn no_file_knows_the_machine_it_was_written_on() {
        let folders = [
            "src", "tests", "docs", "systemd", "benches", "examples", "fuzz",
        ];
        let mut all: BTreeMap<String, String> = folders
            .into_iter()
            .flat_map(|folder| files(folder, ""))
            .collect();
        for entry in fs::read_dir(root()).expect("the project") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_file() && !path.ends_with(".git") {
                all.insert(from_root(&path), lossy_text(&path));
            }
        }
        for (path, text) in all {
            // Written apart, so that this file may hold them.
            for folder in [concat!("/wo", "rk/"), concat!("/ro", "ot/")] {
                assert!(!text.contains(folder), "{path} mentions {folder}");
            }
        }
    }

    /// The modules below which each of the others stands; `feed` knows nobody.
    const LAYERS: [&[&str]; 6] = [
        &["feed"],
        &["store", "sender"],
        &["config"],
        &["admin"],
        &["daemon"],
        &["cli"],
    ];

    fn layer(module: &str) -> Option<usize> {
        LAYERS.iter().position(|layer| layer.contains(&module))
    }

    /// Each module that the code names from the crate's root, with the first line that does.
    fn named_modules(text: &str) -> BTreeMap<String, usize> {
        let mut named = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices("crate::") {
                let rest = &code[at + "crate::".len()..];
                let names = match rest.strip_prefix('{') {
                    Some(group) => group.split(',').collect(),
                    None => vec![rest],
                };
                for name in names {
                    let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
                    let module: String = name.trim().chars().take_while(word).collect();
                    named.entry(module).or_insert(index + 1);
                }
            }
        }
        named
    }

    #[test]
    fn arrows_point_one_way() {
        for (path, text) in files("src", ".rs") {
            let module = path
                .trim_start_matches("src/")
                .split(['/', '.'])
                .next()
                .unwrap_or_default();
            let Some(own) = layer(module) else { continue };
            for (named, line) in named_modules(&text) {
                let allowed =
                    named == module || layer(&named).map_or(module != "feed", |layer| layer < own);
                assert!(allowed, "{path}:{line}: {module} must not know {named}");
            }
        }
    }

    #[test]
    fn feed_reaches_for_nobody() {
        for (path, text) in files("src/feed", ".rs") {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for outside in ["super::super", "orderfeed::"] {
                assert!(!code.contains(outside), "{path} has {outside}");
            }
        }
    }

    #[test]
    fn the_scan_sees_what_it_must() {
        let text = "use crate::store::queue;\nlet x = crate::cli::run(); // crate::daemon\nuse crate::{feed::order, sender};";
        let named: Vec<String> = named_modules(text).into_keys().collect();
        assert_eq!(named, ["cli", "feed", "sender", "store"]);
    }
}
