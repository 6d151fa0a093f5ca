//! Mutants: the rules broken one at a time, to prove that the simulation would notice.
//!
//! Each of [`MUTANTS`] is applied to a copy of the project, the simulation is built there and
//! must fail; the unchanged copy must pass. A mutant that does not compile, or whose text is no
//! longer found just once, is an error: it proves nothing. All seeds of an ordinary run are
//! tried, and the first that breaks a rule ends the run, so that most mutants die quickly.
//!
//! This builds the project about two dozen times, so it is asked for:
//! `ORDERFEED_MUTANTS=1 cargo test --test mutants`.

#[path = "mutants/table.rs"]
mod table;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use table::{MUTANTS, Mutant};

/// Cheap, and so always run: whoever changes a line that a mutant changes hears of it at once.
#[test]
fn every_mutant_finds_its_text() {
    for mutant in &MUTANTS {
        mutated(Path::new(env!("CARGO_MANIFEST_DIR")), mutant);
    }
}

#[test]
fn every_mutant_is_caught() {
    if std::env::var("ORDERFEED_MUTANTS").as_deref() != Ok("1") {
        say("skipped: set ORDERFEED_MUTANTS=1 to run it (about 15 minutes)");
        return;
    }
    let copy = Copy::make();
    let unchanged = copy.simulate();
    assert!(
        unchanged.status.success(),
        "the simulation fails on the unchanged project:\n{}",
        text_of(&unchanged)
    );
    say("unchanged: passes");
    let mut survivors = Vec::new();
    for mutant in &MUTANTS {
        let Mutant { name, rule, .. } = mutant;
        let original = copy.apply(mutant);
        let built = copy.cargo(&["--no-run"]);
        assert!(
            built.status.success(),
            "{name}: does not compile:\n{}",
            text_of(&built)
        );
        let ran = copy.simulate();
        fs::write(copy.0.join(mutant.file), original).expect("the file is put back");
        match message_of(&text_of(&ran)) {
            Some(message) if !ran.status.success() => say(&format!("{name} ({rule}): {message}")),
            _ => {
                say(&format!("{name} ({rule}): SURVIVES"));
                survivors.push(*name);
            }
        }
    }
    assert!(survivors.is_empty(), "nobody noticed: {survivors:?}");
}

/// A copy of the project, below the target folder.
struct Copy(PathBuf);

impl Copy {
    fn make() -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants/tree");
        if tree.exists() {
            fs::remove_dir_all(&tree).expect("the last run's copy is removed");
        }
        for entry in fs::read_dir(project).expect("the project") {
            let entry = entry.expect("an entry");
            let name = entry.file_name();
            if name != "target" && name != ".git" {
                copy(&entry.path(), &tree.join(name));
            }
        }
        Self(tree)
    }

    /// Breaks the rule; returns the file as it was.
    fn apply(&self, mutant: &Mutant) -> String {
        let (original, mutated) = mutated(&self.0, mutant);
        fs::write(self.0.join(mutant.file), mutated).expect("the file is written");
        original
    }

    fn simulate(&self) -> Output {
        self.cargo(&["every_seed_keeps_the_promises", "--", "--nocapture"])
    }

    /// `cargo test --test sim`; what it compiled is kept for the next mutant.
    fn cargo(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO"))
            .args(["test", "--quiet", "--offline", "--locked", "--test", "sim"])
            .args(arguments)
            .current_dir(&self.0)
            .env("CARGO_TARGET_DIR", self.0.with_file_name("target"))
            // A fifth of the time, whatever is built around it: one line changes.
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("RUST_BACKTRACE", "0")
            .env_remove("SIM_SEED")
            .env_remove("SIM_SEEDS")
            .output()
            .expect("cargo runs")
    }
}

/// The mutant's file, as it is and with the rule broken.
fn mutated(project: &Path, mutant: &Mutant) -> (String, String) {
    let Mutant {
        name, file, find, ..
    } = mutant;
    let original = fs::read_to_string(project.join(file)).expect("a source file");
    let found = original.matches(find).count();
    assert_eq!(
        found, 1,
        "{name}: in {file} this must stand just once:\n{find}"
    );
    let mutated = original.replace(find, mutant.replace);
    (original, mutated)
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            if entry.file_name() != "target" {
                copy(&entry.path(), &to.join(entry.file_name()));
            }
        }
    } else {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::copy(from, to).expect("a copy");
    }
}

/// What the simulation said when it failed: the seed, and the rule that it saw broken.
fn message_of(output: &str) -> Option<String> {
    let mut lines = output
        .lines()
        .skip_while(|line| !line.starts_with("seed ") && !line.starts_with("in "));
    let first = lines.next()?.to_owned();
    let more =
        lines.take_while(|line| line.starts_with("  left: ") || line.starts_with(" right: "));
    let short = |line: &str| line.chars().take(200).collect::<String>();
    Some(more.fold(short(&first), |message, line| {
        format!("{message}{}", short(line))
    }))
}

fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr");
}
