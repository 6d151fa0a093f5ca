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
            ("{ env = \"Bearer 123\" }", false),
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
        let missing = Path::new("/etc/orderfeed/none/config.toml");
        let errors = Config::load(missing).expect_err("no file");
        messages.extend(errors.iter().map(ToString::to_string));
        messages
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

mod source {
    use super::*;

    #[test]
    fn every_file_says_what_it_is() {
        for (path, text) in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
            assert!(text.starts_with("//! "), "{path} does not begin with //!");
        }
    }

    #[test]
    fn no_file_knows_the_machine_it_was_written_on() {
        let folders = ["src", "tests", "docs", "systemd", "benches", "examples"];
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
    const LAYERS: [&[&str]; 5] = [
        &["feed"],
        &["store", "sender"],
        &["config"],
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
