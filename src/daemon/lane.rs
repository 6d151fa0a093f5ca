//! One webhook's course: the only loop there is.
//!
//! It asks [`next_step`] and obeys. Nothing leaves before the ledger holds it; what came of it
//! is recorded before anything else leaves; and where the next payload may follow at once, it is
//! sealed in that same transaction. The world around it is a [`Shell`]: the daemon's, or the
//! simulation's, which stops it between any two steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::clock::WallTime;
use crate::feed::errand::{Errand, Load, NOT_RESENT, Older, Told, judge_errand};
use crate::feed::lane::{Hold, Lane, Seal, Standing, Step, Wait, Waiting, WebhookState, next_step};
use crate::feed::order::{OrderType, Seq};
use crate::feed::outcome::{Outcome, Verdict, judge};
use crate::feed::payload::{ENCODING, Members, Payload, PayloadId, PayloadState, checksum, encode};
use crate::feed::policy::Policy;
use crate::feed::timestamp::Timestamp;
use crate::feed::webhook::WebhookName;
use crate::sender::{Report, Request};
use crate::store;
use crate::store::ledger::errands::{ErrandChange, ErrandEnd, Heard, Instruction, Superseded};
use crate::store::ledger::{
    ANSWER_BYTES_OF_FAILURE, ANSWER_BYTES_OF_SUCCESS, Attempt, AttemptOutcome, Change, Commit,
    WebhookId,
};
use crate::store::queue::{Pick, Scan, SetAside};
use bytes::Bytes;

/// Drives the webhook's lane until it is told to stop, or can't go on.
pub async fn drive(webhook_id: WebhookId, shell: &mut impl Shell) -> Halt {
    match Course::begin(webhook_id, shell).await {
        Ok(mut course) => loop {
            if let Err(halt) = course.turn(shell).await {
                // Where only the queue is lost, what came of an attempt can still be recorded.
                drop(course.flush(shell).await);
                return halt;
            }
        },
        Err(halt) => halt,
    }
}

/// What a lane needs of the world. Each call is a point at which the lane may be cut off.
#[expect(async_fn_in_trait, reason = "all futures run on one thread")]
pub trait Shell {
    /// Now, on the ledger's clock.
    fn now(&self) -> Timestamp;
    /// Now, on the wall clock.
    fn wall(&self) -> WallTime;
    /// Random bytes for a payload id.
    fn dice(&mut self) -> [u8; 10];
    /// The webhook's settings of this moment; `None` while the configuration does not have it.
    fn settings(&mut self) -> Option<Arc<Settings>>;
    /// Whether no further request is to be started.
    fn stopping(&self) -> bool;
    /// The lane as the ledger has it.
    async fn load(&mut self) -> Result<Lane, Halt>;
    /// What waits for the webhook in the queue.
    async fn waiting(&mut self, lane: &Lane, settings: &Arc<Settings>) -> Result<Scan, Halt>;
    /// The orders of the next payload, none beyond `newest`.
    async fn pick(
        &mut self,
        seal: Seal,
        newest: Seq,
        lane: &Lane,
        settings: &Arc<Settings>,
    ) -> Result<Pick, Halt>;
    /// The payload's bytes, made again; or why they can't be.
    async fn body(&mut self, payload: &Payload) -> Result<Result<Bytes, String>, Halt>;
    /// Writes to the ledger; it is durable when this returns.
    async fn record(&mut self, commit: Commit) -> Result<(), Halt>;
    /// Sends one request. Meanwhile what `next` will ask for may be read ahead: the lane that
    /// follows if it is delivered.
    async fn post(&mut self, settings: &Arc<Settings>, request: Request, next: &Lane) -> Report;
    /// Whether operators asked for something since the lane last heard of it.
    fn has_news(&self) -> bool;
    /// What operators ask of the lane.
    async fn hear(&mut self) -> Result<Heard, Halt>;
    /// The bytes of these of the payload's orders; or why they can't be made.
    async fn encode(
        &mut self,
        payload: &Payload,
        members: &Members,
    ) -> Result<Result<Bytes, String>, Halt>;
    /// The payload's orders of which a later version was delivered since (D23).
    async fn superseded(&mut self, lane: &Lane, payload: &Payload)
    -> Result<Vec<Superseded>, Halt>;
    /// Waits until then, or until something changed.
    async fn wait(&mut self, wait: Wait) -> Result<(), Halt>;
}

/// What a webhook goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name.
    pub name: WebhookName,
    /// The numbers of its decisions.
    pub policy: Policy,
}

/// Why a lane ended.
#[derive(Debug)]
pub enum Halt {
    /// It was told to stop.
    Stopped,
    /// The queue or the ledger is lastingly out of order.
    Store(store::Error),
}

/// A lane on its way.
struct Course {
    webhook_id: WebhookId,
    /// Where it stands, if what is in `draft` is recorded.
    lane: Lane,
    /// What the ledger is yet to be told.
    draft: Option<Commit>,
    /// Rows of the queue that were passed over since the ledger was last told.
    rows_passed: usize,
    /// The newest order that was noticed.
    newest_noticed: Seq,
    /// The state that was last told to the log.
    told: Option<WebhookState>,
    /// The first of what operators asked to be sent, as of the last hearing.
    errand: Option<Errand>,
    /// Whether the ledger has changed what is asked for since.
    to_hear: bool,
}

impl Course {
    async fn begin(webhook_id: WebhookId, shell: &mut impl Shell) -> Result<Self, Halt> {
        let errand = shell.hear().await?.errand;
        let lane = shell.load().await?;
        let mut course = Self {
            webhook_id,
            lane,
            draft: None,
            rows_passed: 0,
            newest_noticed: Seq::START,
            told: None,
            errand,
            to_hear: true,
        };
        course.settle_interrupted(shell);
        course.settle_interrupted_errand(shell);
        Ok(course)
    }

    /// An attempt that was begun and never settled was cut off (D19).
    fn settle_interrupted(&mut self, shell: &mut impl Shell) {
        let Some(head) = self.lane.head.as_ref().filter(|head| head.in_flight) else {
            return;
        };
        let reason = "cut off by a crash or a stop".to_owned();
        let attempt = Attempt {
            number: head.attempts,
            started_at: None,
            duration: None,
            phase: None,
            outcome: AttemptOutcome::Interrupted,
            status: None,
            error: Some(reason.clone()),
            answer: None,
        };
        let payload_id = head.payload.id;
        let name = shell.settings().map_or_else(
            || "a webhook that was removed".to_owned(),
            |settings| settings.name.to_string(),
        );
        let change = Change::Settled {
            payload_id,
            state: PayloadState::Pending,
            reason: Some(reason),
            attempt,
        };
        self.lane = self.lane.interrupted(shell.now());
        self.draft(shell).changes.push(change);
        warn!(
            webhook = name,
            %payload_id,
            "{name}: payload {payload_id} was in flight when the last run ended: whether it arrived is unknown, it goes again with the same id"
        );
        if let Standing::Held(Hold::Interrupted, trouble) = &self.lane.standing {
            error!(webhook = name, %payload_id, "{name}: payload {payload_id} is held: {}; `orderfeed resume {name}` lets it go on", trouble.reason);
            // It was interrupted too often, whoever asked for it.
            self.drop_errand(payload_id, None, shell);
        }
    }

    /// The same for what an operator asked to be sent. A test is not made again: nobody waits for
    /// its answer any more.
    fn settle_interrupted_errand(&mut self, shell: &mut impl Shell) {
        let Some(errand) = self.errand.take().filter(|errand| errand.in_flight) else {
            return;
        };
        let payload_id = errand.payload_id();
        let reason = "cut off by a crash or a stop".to_owned();
        let attempt = Attempt {
            number: errand.attempts(),
            started_at: None,
            duration: None,
            phase: None,
            outcome: AttemptOutcome::Interrupted,
            status: None,
            error: Some(reason.clone()),
            answer: None,
        };
        let now = shell.now();
        let end = match errand.interrupted() {
            Some(again) => {
                self.lane = self.lane.ran_into(again.interruptions, now);
                warn!(
                    %payload_id,
                    "the resend of payload {payload_id} was in flight when the last run ended: whether it arrived is unknown, it goes again with the same id"
                );
                ErrandEnd::Again(again, reason)
            }
            None => {
                self.lane = self.lane.ran(now);
                ErrandEnd::Failed(reason)
            }
        };
        let change = ErrandChange::Settled(attempt, end);
        self.draft(shell)
            .changes
            .push(Change::Errand(payload_id, change));
    }

    /// Hears what operators ask for, and does as it is told: nothing is in flight now. `true` if it
    /// was told something.
    async fn hear(&mut self, shell: &mut impl Shell) -> Result<bool, Halt> {
        // The ledger must know how far everything is before it is asked.
        self.flush(shell).await?;
        let heard = shell.hear().await?;
        self.errand = heard.errand;
        self.to_hear = false;
        if heard.instructions.is_empty() {
            return Ok(false);
        }
        for instruction in heard.instructions {
            self.heed(instruction, shell);
        }
        self.flush(shell).await?;
        // Some of it may concern errands.
        self.to_hear = true;
        Ok(true)
    }

    fn heed(&mut self, instruction: Instruction, shell: &mut impl Shell) {
        let mut discarded = None;
        self.lane = match &instruction.told {
            Told::Pause { by } => self.lane.paused(by.clone(), shell.now()),
            Told::Resume => self.lane.resumed(),
            Told::RetryNow => self.lane.retried(),
            Told::Discard { payload_id, reason } => match self.lane.discarded(*payload_id) {
                Some(lane) => {
                    discarded = Some(Change::Discarded(*payload_id, reason.clone()));
                    lane
                }
                None => self.lane.clone(),
            },
        };
        // Whatever state it is in now is told again.
        self.told = None;
        let draft = self.draft(shell);
        draft.changes.extend(discarded);
        draft.changes.push(Change::Heeded(instruction));
    }

    /// One turn: ask what is next, and obey.
    async fn turn(&mut self, shell: &mut impl Shell) -> Result<(), Halt> {
        if shell.stopping() {
            self.flush(shell).await?;
            return Err(Halt::Stopped);
        }
        if (self.to_hear || shell.has_news()) && self.hear(shell).await? {
            return Ok(());
        }
        let Some(settings) = shell.settings() else {
            self.flush(shell).await?;
            return shell
                .wait(Wait {
                    until: None,
                    state: WebhookState::Inactive,
                })
                .await;
        };
        // Behind a pending payload nothing is looked for (D10), nor behind an errand (D21).
        let nothing = Waiting::default();
        let errand = self.errand.as_ref();
        let runs = || next_step(&self.lane, errand, &nothing, &settings.policy, shell.now());
        let waiting = if self.lane.head.is_some() || errand.is_some() && runs() == Step::Run {
            nothing
        } else {
            let scan = shell.waiting(&self.lane, &settings).await?;
            if let Some(version) = scan.selections_version
                && version != self.lane.selections_version
            {
                // What was parked on the way here must be among what is looked at again.
                self.lane = self.lane.reselected(version);
                self.draft(shell);
                return self.flush(shell).await;
            }
            let (waiting, unread) = (scan.waiting, scan.unread);
            self.pass_over(scan, &settings, shell);
            if unread {
                return self.flush(shell).await;
            }
            waiting
        };
        let errand = self.errand.as_ref();
        match next_step(&self.lane, errand, &waiting, &settings.policy, shell.now()) {
            Step::Run => self.run(&settings, shell).await,
            Step::Seal(seal) => self.seal(seal, &settings, shell).await,
            Step::Send => self.resume(&settings, shell).await,
            Step::Wait(wait) => {
                self.flush(shell).await?;
                self.tell(wait.state, &settings);
                shell.wait(wait).await
            }
        }
    }

    /// Takes note of what was met on the way to what waits. Rows that lead nowhere are not worth a
    /// commit each; a restart looks at the last of them again.
    fn pass_over(&mut self, scan: Scan, settings: &Settings, shell: &impl Shell) {
        let before = self.lane.places;
        for (order_type, &progress) in scan.progress.iter() {
            self.lane = self.lane.looked(order_type, progress);
        }
        self.newest_noticed = scan.newest_noticed;
        self.rows_passed += scan.rows_passed;
        let unparked =
            |order_type| before[order_type].unpark != self.lane.places[order_type].unpark;
        if self.rows_passed >= ROWS_PASSED_MAX
            || !scan.parked.is_empty()
            || !scan.unparked.is_empty()
            || !scan.set_aside.is_empty()
            || OrderType::ALL.into_iter().any(unparked)
        {
            let draft = self.draft(shell);
            draft.parked.extend(scan.parked);
            draft.unparked.extend(scan.unparked);
            tell_set_aside(&scan.set_aside, settings);
            draft.set_aside.extend(scan.set_aside);
        }
    }

    /// Composes the next payload and sends it; or only gets on in the queue, if what was read
    /// holds nothing for this webhook any more.
    async fn seal(
        &mut self,
        seal: Seal,
        settings: &Arc<Settings>,
        shell: &mut impl Shell,
    ) -> Result<(), Halt> {
        let pick = shell
            .pick(seal, self.newest_noticed, &self.lane, settings)
            .await?;
        if pick.selections_version != Some(self.lane.selections_version) {
            // What the webhook subscribes to changed since it was decided what goes: decide again.
            return Ok(());
        }
        if shell.has_news() {
            // So it is where an operator asked for something meanwhile.
            return Ok(());
        }
        let now = shell.now();
        let of_type = |seqs: Vec<_>| seqs.into_iter().map(move |seq| (seal.order_type, seq));
        tell_set_aside(&pick.set_aside, settings);
        let draft = self.draft(shell);
        draft.parked.extend(of_type(pick.parked));
        draft.unparked.extend(of_type(pick.unparked));
        draft.set_aside.extend(pick.set_aside);
        let Some(picked) = pick.picked else {
            self.lane = self.lane.looked(seal.order_type, pick.progress);
            return self.flush(shell).await;
        };
        let (payload, body) = picked.seal(PayloadId::new(now, shell.dice()));
        let after = self.lane.places[seal.order_type].cursor;
        self.lane = self.lane.sealed(payload.clone(), pick.progress);
        let change = Change::Sealed { payload, after };
        self.draft(shell).changes.push(change);
        self.flush(shell).await?;
        self.attempt(body, settings, shell).await
    }

    /// Sends the pending payload again: the same bytes under the same id (D9), or nothing.
    async fn resume(
        &mut self,
        settings: &Arc<Settings>,
        shell: &mut impl Shell,
    ) -> Result<(), Halt> {
        let Some(head) = &self.lane.head else {
            return Ok(());
        };
        let payload_id = head.payload.id;
        let body = shell.body(&head.payload).await?;
        if shell.has_news() {
            return Ok(());
        }
        match body {
            Ok(body) => {
                self.lane = self.lane.begun();
                let attempts = self.attempts();
                self.draft(shell)
                    .changes
                    .push(Change::Begun(payload_id, attempts));
                self.flush(shell).await?;
                self.attempt(body, settings, shell).await
            }
            Err(what) => {
                error!(webhook = %settings.name, %payload_id, "{what}; the webhook is held, and other bytes are not sent under this id");
                self.lane = self.lane.mismatched(what, shell.now());
                self.draft(shell);
                self.drop_errand(payload_id, None, shell);
                self.flush(shell).await
            }
        }
    }

    /// Sends what an operator asked for, or drops it: it must not overwrite what was delivered since
    /// (D23), nor be other bytes than before.
    async fn run(&mut self, settings: &Arc<Settings>, shell: &mut impl Shell) -> Result<(), Halt> {
        let Some(errand) = self.errand.clone() else {
            return Ok(());
        };
        let payload_id = errand.payload_id();
        let body = match &errand.load {
            Load::Resend { payload, older, .. } => {
                let leaves_out = *older == Older::LeftOut && !self.is_head(payload_id);
                let superseded = match older {
                    Older::Sent => Vec::new(),
                    Older::Refused | Older::LeftOut => {
                        // The ledger must know what was delivered just now.
                        self.flush(shell).await?;
                        shell.superseded(&self.lane, payload).await?
                    }
                };
                if superseded.is_empty() && self.is_head(payload_id) {
                    // It is the lane's own payload, and goes now instead of at its due time (D20).
                    return self.resume(settings, shell).await;
                }
                let older: BTreeSet<Seq> = superseded.iter().map(|one| one.seq).collect();
                let others = payload.members.only(|seq| !older.contains(&seq));
                match (superseded.first(), others) {
                    (None, _) => shell.body(payload).await?,
                    (Some(first), Some(others)) if leaves_out => {
                        let why = first.to_string();
                        match self.without_older(&errand, others, why, shell).await? {
                            Ok(()) => return Ok(()),
                            Err(what) => Err(what),
                        }
                    }
                    (Some(first), _) => Err(first.to_string()),
                }
                .map_err(|what| format!("{NOT_RESENT}{what}"))
            }
            Load::Test {
                order_type, action, ..
            } => Ok(encode(*order_type, action, [])),
        };
        if shell.has_news() {
            return Ok(());
        }
        let body = match body {
            Ok(body) => body,
            Err(what) => {
                let name = &settings.name;
                error!(webhook = %name, %payload_id, "{name}: the resend of payload {payload_id} is dropped: {what}");
                // Of the lane's own payload only the resend is.
                let what = Some(what).filter(|_| !self.is_head(payload_id));
                self.drop_errand(payload_id, what, shell);
                return self.flush(shell).await;
            }
        };
        let errand = errand.begun();
        let change = ErrandChange::Begun(errand.attempts());
        self.draft(shell)
            .changes
            .push(Change::Errand(payload_id, change));
        self.to_hear = true;
        self.flush(shell).await?;
        self.attempt_errand(errand, body, settings, shell).await
    }

    /// Goes on with the other orders of what was to be resent, if that was asked for (D23): what was
    /// never sent is made of fewer, and of what was, a part goes under an id of its own. An error
    /// says why that can't be.
    async fn without_older(
        &mut self,
        errand: &Errand,
        others: Members,
        why: String,
        shell: &mut impl Shell,
    ) -> Result<Result<(), String>, Halt> {
        let Load::Resend {
            payload,
            resend_of,
            attempts,
            ..
        } = &errand.load
        else {
            return Ok(Ok(()));
        };
        if payload.encoding != ENCODING {
            return Ok(Err(format!(
                "{why}, and it was made by another version of orderfeed, so it can't be parted"
            )));
        }
        let body = match shell.encode(payload, &others).await? {
            Ok(body) => body,
            Err(what) => return Ok(Err(what)),
        };
        if shell.has_news() {
            return Ok(Ok(()));
        }
        let others = Payload {
            members: others,
            checksum: checksum(&body),
            ..payload.clone()
        };
        let change = if *attempts == 0 && resend_of.is_some() {
            ErrandChange::Reduced(others)
        } else {
            let id = PayloadId::new(shell.now(), shell.dice());
            let why = format!("{NOT_RESENT}{why}; its other orders go as {id}");
            ErrandChange::Parted(Payload { id, ..others }, why)
        };
        info!(payload_id = %payload.id, "the resend of payload {} goes on without older versions: {why}", payload.id);
        self.draft(shell)
            .changes
            .push(Change::Errand(payload.id, change));
        self.to_hear = true;
        self.flush(shell).await?;
        Ok(Ok(()))
    }

    /// As [`Course::attempt`], for what an operator asked for.
    async fn attempt_errand(
        &mut self,
        errand: Errand,
        body: Bytes,
        settings: &Arc<Settings>,
        shell: &mut impl Shell,
    ) -> Result<(), Halt> {
        let payload_id = errand.payload_id();
        let number = errand.attempts();
        if shell.stopping() {
            let change = ErrandChange::Withheld(errand.withheld().attempts());
            self.draft(shell)
                .changes
                .push(Change::Errand(payload_id, change));
            return Ok(());
        }
        let (event, resend_of) = match &errand.load {
            Load::Resend {
                payload, resend_of, ..
            } => (
                format!("{}.{}", payload.order_type, payload.action),
                *resend_of,
            ),
            Load::Test {
                order_type, action, ..
            } => (format!("{order_type}.{action}"), None),
        };
        let test = matches!(errand.load, Load::Test { .. });
        let request = Request {
            payload_id,
            event,
            attempt: number,
            resend_of,
            test,
            body,
        };
        let report = shell.post(settings, request, &self.lane).await;
        let ended = shell.now();
        let settings = shell.settings().unwrap_or_else(|| Arc::clone(settings));
        let standing = &self.lane.standing;
        let verdict = judge_errand(&report.outcome, &errand, standing, &settings.policy);
        tell_errand(&settings, &errand, &report, &verdict, shell.wall());
        self.lane = self.lane.ran(ended);
        if verdict == Verdict::Delivered && !test {
            self.lane = self.lane.recovered();
        }
        let end = match (errand.settled(&verdict, ended), &verdict) {
            (Some(again), _) => ErrandEnd::Again(again, report.outcome.to_string()),
            (None, Verdict::Failed { reason, .. }) => ErrandEnd::Failed(reason.clone()),
            (None, _) => ErrandEnd::Delivered,
        };
        let change = ErrandChange::Settled(attempt_of(number, report, &verdict), end);
        self.draft(shell)
            .changes
            .push(Change::Errand(payload_id, change));
        Ok(())
    }

    fn is_head(&self, payload_id: PayloadId) -> bool {
        let head = self.lane.head.as_ref();
        head.is_some_and(|head| head.payload.id == payload_id)
    }

    /// What an operator asked for is done with, if it was this; why, unless that is told elsewhere.
    fn drop_errand(&mut self, payload_id: PayloadId, why: Option<String>, shell: &impl Shell) {
        if self
            .errand
            .take_if(|errand| errand.payload_id() == payload_id)
            .is_some()
        {
            let change = Change::Errand(payload_id, ErrandChange::Dropped(why));
            self.draft(shell).changes.push(change);
            self.to_hear = true;
        }
    }

    /// Makes the attempt that was begun. What comes of it is left in the draft: the next turn
    /// may have something to add.
    async fn attempt(
        &mut self,
        body: Bytes,
        settings: &Arc<Settings>,
        shell: &mut impl Shell,
    ) -> Result<(), Halt> {
        let Some(head) = self.lane.head.clone() else {
            return Ok(());
        };
        let payload = &head.payload;
        if shell.stopping() {
            self.lane = self.lane.withheld();
            let attempts = self.attempts();
            self.draft(shell)
                .changes
                .push(Change::Withheld(payload.id, attempts));
            return Ok(());
        }
        let request = Request {
            payload_id: payload.id,
            event: format!("{}.{}", payload.order_type, payload.action),
            attempt: head.attempts,
            resend_of: None,
            test: false,
            body,
        };
        let next = self.lane.settled(&Verdict::Delivered, shell.now());
        let report = shell.post(settings, request, &next).await;
        let ended = shell.now();
        // What changed in the configuration meanwhile counts from this judgement on (D9).
        let settings = shell.settings().unwrap_or_else(|| Arc::clone(settings));
        let verdict = judge(&report.outcome, &head, &self.lane, &settings.policy, ended);
        tell_verdict(&settings, payload, &report, &verdict, shell.wall());
        self.lane = self.lane.settled(&verdict, ended);
        let (state, reason) = match &verdict {
            Verdict::Delivered => (PayloadState::Delivered, None),
            Verdict::Failed { reason, .. } => (PayloadState::Failed, Some(reason.clone())),
            Verdict::Retry { .. } | Verdict::Deactivated(_) => {
                (PayloadState::Pending, Some(report.outcome.to_string()))
            }
        };
        let change = Change::Settled {
            payload_id: payload.id,
            state,
            reason,
            attempt: attempt_of(head.attempts, report, &verdict),
        };
        self.draft(shell).changes.push(change);
        // Somebody asked for it to go now (D20): that is done, and it waits for its retry as before.
        self.drop_errand(head.payload.id, None, shell);
        Ok(())
    }

    /// Requests begun with the head payload's id.
    fn attempts(&self) -> u32 {
        self.lane.head.as_ref().map_or(0, |head| head.attempts)
    }

    /// What the ledger is yet to be told.
    fn draft(&mut self, shell: &impl Shell) -> &mut Commit {
        let lane = &self.lane;
        self.draft
            .get_or_insert_with(|| Commit::new(self.webhook_id, lane.clone(), shell.wall()))
    }

    /// Tells the ledger.
    async fn flush(&mut self, shell: &mut impl Shell) -> Result<(), Halt> {
        if let Some(mut commit) = self.draft.take() {
            commit.lane = self.lane.clone();
            commit.at = shell.wall();
            commit.newest_noticed = self.newest_noticed;
            self.rows_passed = 0;
            shell.record(commit).await?;
        }
        Ok(())
    }

    /// Tells the log of a state in which nothing is sent until somebody does something.
    fn tell(&mut self, state: WebhookState, settings: &Settings) {
        if self.told.replace(state) == Some(state) {
            return;
        }
        let name = &settings.name;
        let reason = self
            .lane
            .standing
            .trouble()
            .map_or("", |trouble| &trouble.reason);
        match state {
            WebhookState::Paused => {
                let by = self
                    .lane
                    .paused
                    .as_ref()
                    .map_or("", |paused| &paused.reason);
                info!(webhook = %name, "{name}: {by}; its orders wait until `orderfeed resume {name}`");
            }
            WebhookState::Inactive => {
                info!(webhook = %name, "{name}: inactive (active = false); its orders wait");
            }
            WebhookState::Deactivated => {
                error!(webhook = %name, "{name}: deactivated: {reason}; its orders wait until `orderfeed resume {name}`");
            }
            WebhookState::Held
                if !matches!(self.lane.standing, Standing::Held(Hold::Endpoint, _)) =>
            {
                error!(webhook = %name, "{name}: held: {reason}; its orders wait until `orderfeed resume {name}`");
            }
            WebhookState::Held
            | WebhookState::Idle
            | WebhookState::Pacing
            | WebhookState::Retrying
            | WebhookState::Down => {}
        }
    }
}

/// A line for each attempt at what an operator asked for.
fn tell_errand(
    settings: &Settings,
    errand: &Errand,
    report: &Report,
    verdict: &Verdict,
    now: WallTime,
) {
    let name = &settings.name;
    let payload_id = errand.payload_id();
    let what = match &errand.load {
        Load::Resend { .. } => format!("the resend of payload {payload_id}"),
        Load::Test {
            order_type, action, ..
        } => format!("the test for {order_type}.{action}"),
    };
    let ms = in_ms(report.duration);
    let outcome = match &report.error {
        Some(error) => format!("{}: {error}", report.outcome),
        None => report.outcome.to_string(),
    };
    match verdict {
        Verdict::Delivered => {
            info!(webhook = %name, %payload_id, duration_ms = ms, "{name}: {what} was taken in {ms} ms ({outcome})");
        }
        Verdict::Retry { wait, .. } => {
            let due = WallTime(now.0 + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2))
                .local(now);
            warn!(webhook = %name, %payload_id, duration_ms = ms, "{name}: {what} was not taken ({outcome}); next attempt at {due}, and others go on meanwhile");
        }
        Verdict::Failed { .. } | Verdict::Deactivated(_) => {
            error!(webhook = %name, %payload_id, duration_ms = ms, "{name}: {what} was not taken ({outcome}), and is not tried again");
        }
    }
}

/// As a field of the log, where a number of 128 bits would be text.
fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// So many rows that lead nowhere are worth a commit.
const ROWS_PASSED_MAX: usize = 256;

/// A line for each order that can't be delivered.
fn tell_set_aside(rows: &[SetAside], settings: &Settings) {
    for row in rows {
        warn!(
            webhook = %settings.name, seq = row.seq.0,
            "order {} can't be delivered and is set aside: {}", row.seq, row.reason
        );
    }
}

/// The attempt, as the ledger keeps it.
fn attempt_of(number: u32, report: Report, verdict: &Verdict) -> Attempt {
    let phase = report.outcome.phase();
    let outcome = match (&report.outcome, verdict) {
        (_, Verdict::Delivered) => AttemptOutcome::Delivered,
        (Outcome::Answered { .. }, _) => AttemptOutcome::Failed,
        (Outcome::TimedOut { .. } | Outcome::Broken { .. }, _) if phase.nothing_sent() => {
            AttemptOutcome::Failed
        }
        (Outcome::TimedOut { .. } | Outcome::Broken { .. }, _) => AttemptOutcome::Unknown,
    };
    let answer_bytes_max = match outcome {
        AttemptOutcome::Delivered => ANSWER_BYTES_OF_SUCCESS,
        AttemptOutcome::Failed | AttemptOutcome::Unknown | AttemptOutcome::Interrupted => {
            ANSWER_BYTES_OF_FAILURE
        }
    };
    Attempt {
        number,
        started_at: Some(report.started_at),
        duration: Some(report.duration),
        phase: Some(phase),
        outcome,
        status: report.outcome.status(),
        error: report.error,
        answer: report.answer.map(|mut answer| {
            answer.truncate(answer.floor_char_boundary(answer_bytes_max));
            answer
        }),
    }
}

/// A line for each attempt, which reads well on its own.
fn tell_verdict(
    settings: &Settings,
    payload: &Payload,
    report: &Report,
    verdict: &Verdict,
    now: WallTime,
) {
    let name = &settings.name;
    let payload_id = payload.id;
    let items = payload.members.seqs().len();
    let what = match items {
        1 => format!("1 {}", payload.order_type),
        _ => format!("{items} {}s", payload.order_type),
    };
    let ms = in_ms(report.duration);
    let outcome = match &report.error {
        Some(error) => format!("{}: {error}", report.outcome),
        None => report.outcome.to_string(),
    };
    match verdict {
        Verdict::Delivered => {
            info!(webhook = %name, %payload_id, items, duration_ms = ms, "{name}: delivered {what} in {ms} ms ({outcome})");
        }
        Verdict::Retry { wait, standing, .. } => {
            let due = WallTime(now.0 + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2))
                .local(now);
            let standing = match standing {
                Standing::Up => "",
                Standing::Down(_) => ", still down",
                Standing::Held(..) | Standing::Deactivated(_) => ", held",
            };
            warn!(webhook = %name, %payload_id, items, duration_ms = ms, "{name}: {what} not delivered ({outcome}){standing}; next attempt at {due}");
        }
        Verdict::Failed { standing, .. } => {
            let down = match standing {
                Standing::Up => "",
                Standing::Down(_) | Standing::Held(..) | Standing::Deactivated(_) => {
                    "; the webhook is down, and goes on trying with its next payload"
                }
            };
            error!(webhook = %name, %payload_id, items, duration_ms = ms, "{name}: {what} failed for good ({outcome}), kept in the ledger{down}");
        }
        Verdict::Deactivated(trouble) => {
            error!(webhook = %name, %payload_id, items, duration_ms = ms, "{name}: {what} not delivered, the webhook is deactivated: {}", trouble.reason);
        }
    }
}
