//! The mutants: each breaks one rule with a small change.

/// A small change that breaks a rule.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// The rule that it breaks.
    pub(crate) rule: &'static str,
    pub(crate) file: &'static str,
    /// Stands just once in the file.
    pub(crate) find: &'static str,
    pub(crate) replace: &'static str,
}

/// All of them, in the order of the rules.
pub(crate) const MUTANTS: [Mutant; 35] = [
    Mutant {
        name: "a payload larger than payload_max_bytes",
        rule: "D1",
        file: "src/feed/payload.rs",
        find: "|| self.body.len_with(&order.body) > self.bytes_max",
        replace: "|| self.body.len_with(&order.body) == 0",
    },
    Mutant {
        name: "purchase orders last",
        rule: "D2",
        file: "src/feed/lane.rs",
        find: "(u64::from(order_type != OrderType::PurchaseOrder), first.seq)",
        replace: "(u64::from(order_type == OrderType::PurchaseOrder), first.seq)",
    },
    Mutant {
        name: "turns forgotten",
        rule: "D2",
        file: "src/feed/lane.rs",
        find: "lane.places[order_type].sealed_last = lane.seals;",
        replace: "lane.places[order_type].sealed_last = 1;",
    },
    Mutant {
        name: "read ahead, and never again",
        rule: "D2",
        file: "src/daemon/ahead.rs",
        find: "self.noticed == other.noticed && Arc::ptr_eq(&self.settings, &other.settings)",
        replace: "Arc::ptr_eq(&self.settings, &other.settings)",
    },
    Mutant {
        name: "read ahead for a lane that stood elsewhere",
        rule: "D18",
        file: "src/daemon/ahead.rs",
        find: "let turn = self.turns.pop_front().filter(|_| serves)?;",
        replace: "let turn = self.turns.pop_front().filter(|_| serves || true)?;",
    },
    Mutant {
        name: "sealed ahead of the interval",
        rule: "D2, D4",
        file: "src/feed/lane.rs",
        find: "Choice::Ready(_) if paced_until > now =>",
        replace: "Choice::Ready(_) if false =>",
    },
    Mutant {
        name: "the interval forgotten at a restart",
        rule: "D4",
        file: "src/daemon/lane.rs",
        find: "        let lane = shell.load().await?;\n",
        replace: "        let mut lane = shell.load().await?;\n        lane.last_ended = None;\n",
    },
    Mutant {
        name: "linger forgotten",
        rule: "D5",
        file: "src/feed/lane.rs",
        find: "(!first.full && until > now).then_some(until)",
        replace: "(first.full && until > now).then_some(until)",
    },
    Mutant {
        name: "another id at a retry",
        rule: "D9",
        file: "src/daemon/lane.rs",
        find: "            payload_id: payload.id,\n            event:",
        replace: "            payload_id: if head.attempts > 1 { PayloadId::new(shell.now(), shell.dice()) } else { payload.id },\n            event:",
    },
    Mutant {
        name: "Retry-After not honoured",
        rule: "D9",
        file: "src/feed/outcome.rs",
        find: ".max(outcome.retry_after().min(RETRY_AFTER_MAX))",
        replace: ".max(outcome.retry_after().min(Duration::ZERO))",
    },
    Mutant {
        name: "a retry overtaken by a newer payload",
        rule: "D10",
        file: "src/feed/lane.rs",
        find: "                    head.counted = head.counted.saturating_add(u32::from(*counted));\n                }\n",
        replace: "                    head.counted = head.counted.saturating_add(u32::from(*counted));\n                }\n                lane.head = None;\n",
    },
    Mutant {
        name: "attempts counted while down",
        rule: "D12",
        file: "src/feed/outcome.rs",
        find: "    if endpoint && let Standing::Down(down) = &lane.standing {",
        replace: "    if endpoint && let Standing::Down(down) = &lane.standing && down.reason.is_empty() {",
    },
    Mutant {
        name: "deactivated, and goes on",
        rule: "D13",
        file: "src/feed/lane.rs",
        find: "        Standing::Deactivated(_) => return stands_still(WebhookState::Deactivated),\n",
        replace: "        Standing::Deactivated(_) => {}\n",
    },
    Mutant {
        name: "the queue not synced",
        rule: "D18",
        file: "src/store/queue.rs",
        find: "        self.sync(newest)?;\n",
        replace: "",
    },
    Mutant {
        name: "the cursor not moved",
        rule: "D18",
        file: "src/feed/lane.rs",
        find: "        place.cursor = progress.cursor;\n",
        replace: "",
    },
    Mutant {
        name: "delivered before it was sent",
        rule: "D18",
        file: "src/daemon/lane.rs",
        find: "        let report = shell.post(settings, request, &next).await;\n",
        replace: "        let early = Report {
            outcome: Outcome::Answered { status: 200, retry_after: None },
            error: None,
            answer: None,
            started_at: shell.wall(),
            duration: std::time::Duration::ZERO,
        };
        self.lane = self.lane.settled(&Verdict::Delivered, shell.now());
        let change = Change::Settled {
            payload_id: payload.id,
            state: PayloadState::Delivered,
            reason: None,
            attempt: attempt_of(head.attempts, early, &Verdict::Delivered),
        };
        self.draft(shell).changes.push(change);
        self.flush(shell).await?;
        let report = shell.post(settings, request, &next).await;
        if report.outcome.status() != Some(0) {
            return Ok(());
        }
",
    },
    Mutant {
        name: "sent before the ledger knows",
        rule: "D19",
        file: "src/daemon/lane.rs",
        find: "                    .push(Change::Begun(payload_id, attempts));\n                self.flush(shell).await?;\n",
        replace: "                    .push(Change::Begun(payload_id, attempts));\n",
    },
    Mutant {
        name: "interrupted taken for delivered",
        rule: "D19",
        file: "src/daemon/lane.rs",
        find: "            state: PayloadState::Pending,
            reason: Some(reason),
            attempt,
        };
        self.lane = self.lane.interrupted(shell.now());
",
        replace: "            state: PayloadState::Delivered,
            reason: Some(reason),
            attempt,
        };
        self.lane = self.lane.settled(&Verdict::Delivered, shell.now());
",
    },
    Mutant {
        name: "interruptions counted as attempts",
        rule: "D19",
        file: "src/feed/lane.rs",
        find: "            head.interruptions = head.interruptions.saturating_add(1);\n",
        replace: "            head.interruptions = head.interruptions.saturating_add(1);\n            head.counted = head.counted.saturating_add(1);\n",
    },
    Mutant {
        name: "interrupted for ever",
        rule: "D19",
        file: "src/feed/lane.rs",
        find: "pub const INTERRUPTIONS_MAX: u32 = 3;",
        replace: "pub const INTERRUPTIONS_MAX: u32 = 300;",
    },
    Mutant {
        name: "the resend of what is pending, and then once more",
        rule: "D20",
        file: "src/daemon/lane.rs",
        find: "        self.drop_errand(head.payload.id, None, shell);\n",
        replace: "",
    },
    Mutant {
        name: "asked for meanwhile, and not heard",
        rule: "D20, D21",
        file: "src/daemon/lane.rs",
        find: "        if shell.has_news() {\n            // So it is",
        replace: "        if shell.has_news() && shell.stopping() {\n            // So it is",
    },
    Mutant {
        name: "new payloads before a resend",
        rule: "D21",
        file: "src/feed/lane.rs",
        find: "    if errand_due.is_some_and(|due| due <= now) {\n",
        replace: "    if errand_due.is_some_and(|due| due <= now && waiting == &Waiting::default()) {\n",
    },
    Mutant {
        name: "a resend that is not paced",
        rule: "D4, D21",
        file: "src/feed/lane.rs",
        find: "due.max(if unpaced { now } else { paced_until })",
        replace: "due.max(if unpaced { paced_until } else { now })",
    },
    Mutant {
        name: "a retry put off by a resend",
        rule: "D21",
        file: "src/feed/lane.rs",
        find: "                head.retry_wait = (before + head.retry_wait) - ended;\n",
        replace: "                head.retry_wait = head.retry_wait.max(before - ended);\n",
    },
    Mutant {
        name: "an old version over a newer one",
        rule: "D23",
        file: "src/daemon/lane.rs",
        find: "                        shell.superseded(&self.lane, payload).await?\n",
        replace: "                        Vec::<Superseded>::new()\n",
    },
    Mutant {
        name: "delivered, and failed because a resend did",
        rule: "D20",
        file: "src/store/ledger/errands.rs",
        find: "state = CASE state WHEN 'delivered' THEN state ELSE 'failed' END,",
        replace: "state = 'failed',",
    },
    Mutant {
        name: "paused, and sends",
        rule: "D24",
        file: "src/feed/lane.rs",
        find: "    if lane.paused.is_some() {\n",
        replace: "    if lane.paused.is_some() && lane.seals > 1_000_000 {\n",
    },
    Mutant {
        name: "inactive, and sends",
        rule: "D24",
        file: "src/feed/lane.rs",
        find: "    if !policy.active {\n",
        replace: "    if !policy.active && lane.seals > 1_000_000 {\n",
    },
    Mutant {
        name: "the selection of its time ignored",
        rule: "D25",
        file: "src/feed/selection.rs",
        find: ".find(before_or_at);",
        replace: ".next();",
    },
    Mutant {
        name: "parked orders forgotten",
        rule: "D25",
        file: "src/daemon/lane.rs",
        find: "draft.parked.extend(scan.parked);",
        replace: "drop(scan.parked);",
    },
    Mutant {
        name: "decided by one selection, picked by another",
        rule: "D2, D25",
        file: "src/daemon/lane.rs",
        find: "        if pick.selections_version != Some(self.lane.selections_version) {\n",
        replace: "        if pick.selections_version.is_none() {\n",
    },
    Mutant {
        name: "orders noticed while webhooks are registered",
        rule: "D25",
        file: "src/store/queue.rs",
        find: "        if self.held {\n            return Ok(false);\n        }\n",
        replace: "",
    },
    Mutant {
        name: "pruned while it waits",
        rule: "D18",
        file: "src/daemon/prune.rs",
        find: "            if let Some(waiting) = waiting {\n",
        replace: "            if let Some(waiting) = waiting.filter(|waiting| waiting.0 < 0) {\n",
    },
    // Both guards: for what had failed when the horizon was looked for, and for what failed meanwhile.
    Mutant {
        name: "pruned although it failed",
        rule: "D11",
        file: "src/store/ledger/prune.rs",
        find: r#"payloads WHERE state = 'failed'";

/// Whether a payload of the row is settled and will not be sent again, by all that one knows here;
/// how old it is, is told by its id besides. As SQL.
const DONE: &str = "(state IN ('delivered', 'discarded')
"#,
        replace: r#"payloads WHERE state = 'none'";

/// Whether a payload of the row is settled and will not be sent again, by all that one knows here;
/// how old it is, is told by its id besides. As SQL.
const DONE: &str = "(state IN ('delivered', 'discarded', 'failed')
"#,
    },
];
