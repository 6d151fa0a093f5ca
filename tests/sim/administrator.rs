//! The administrator: which webhooks there are, what they select, and by which numbers they go.

use std::collections::BTreeMap;
use std::time::Duration;

use orderfeed::feed::order::OrderType;
use orderfeed::feed::outcome::Outcome;
use orderfeed::feed::policy::{
    HoldOn, OnTimeout, Policy, RetryAttempts, Sequence, StatusPattern, SuccessStatus,
};
use orderfeed::feed::selection::{Filter, Selection};
use orderfeed::store::ledger::configure::{Configured, Start};

use crate::dice::Dice;
use crate::producer::SimOrder;

/// Webhooks in the configuration, at most.
const WEBHOOKS_MAX: usize = 3;

/// One `[webhook.NAME]`, as the administrator wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) name: String,
    pub(crate) start: Option<Start>,
    pub(crate) renamed_from: Option<String>,
    pub(crate) select: Select,
    pub(crate) policy: Policy,
}

impl Hook {
    /// This hook, with what another one selects.
    pub(crate) fn selecting_as(&self, other: Option<&Self>) -> Self {
        Self {
            select: other.unwrap_or(self).select.clone(),
            ..self.clone()
        }
    }

    pub(crate) fn configured(&self) -> Configured {
        let name = |text: &String| text.parse().expect("a name");
        Configured {
            name: name(&self.name),
            selection: self.select.selection(),
            start: self.start,
            renamed_from: self.renamed_from.as_ref().map(name),
        }
    }
}

/// Triggers and filter, in the simulation's own words (D25, D26).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Select {
    triggers: Vec<(Option<OrderType>, Option<&'static str>)>,
    sites: Option<&'static str>,
}

impl Select {
    pub(crate) fn selects(&self, order: &SimOrder) -> bool {
        let triggered = self.triggers.iter().any(|(order_type, action)| {
            order_type.is_none_or(|wanted| wanted == order.order_type)
                && action.is_none_or(|wanted| wanted == order.action)
        });
        triggered && self.sites.is_none_or(|wanted| order.site == Some(wanted))
    }

    /// Whether it has a trigger for the type.
    pub(crate) fn covers(&self, order_type: OrderType) -> bool {
        self.triggers
            .iter()
            .any(|(wanted, _)| wanted.is_none_or(|wanted| wanted == order_type))
    }

    fn selection(&self) -> Selection {
        let trigger = |(order_type, action): &(Option<OrderType>, Option<&str>)| {
            let order_type = order_type.map_or("*", OrderType::as_str);
            match action {
                Some(action) => format!("{order_type}.{action}"),
                None => order_type.to_owned(),
            }
        };
        let mut filter = BTreeMap::new();
        if let Some(site) = self.sites {
            filter.insert("Site".to_owned(), vec![site.to_owned()]);
        }
        Selection {
            triggers: self
                .triggers
                .iter()
                .map(|parts| trigger(parts).parse().expect("a trigger"))
                .collect(),
            filter: Filter(filter),
        }
    }
}

/// Whoever edits the configuration's file.
#[derive(Debug)]
pub(crate) struct Administrator {
    /// What the file says.
    pub(crate) hooks: Vec<Hook>,
    /// Webhooks that were taken out, and may return.
    removed: Vec<Hook>,
    names_given: usize,
}

impl Administrator {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let mut administrator = Self {
            hooks: Vec::new(),
            removed: Vec::new(),
            names_given: 0,
        };
        for _ in 0..=dice.below(WEBHOOKS_MAX) {
            let name = administrator.new_name();
            administrator.hooks.push(Hook {
                name,
                start: None,
                renamed_from: None,
                select: select(dice),
                policy: policy(dice),
            });
        }
        administrator
    }

    fn new_name(&mut self) -> String {
        self.names_given += 1;
        format!("hook_{}", self.names_given)
    }

    /// Edits the file; what was done, in words.
    pub(crate) fn edit(&mut self, dice: &mut Dice) -> String {
        let at = dice.below(self.hooks.len());
        match dice.below(12) {
            0..=3 if !self.hooks.is_empty() => {
                self.hooks[at].select = select(dice);
                format!("{} selects otherwise", self.hooks[at].name)
            }
            4 | 5 if !self.hooks.is_empty() => {
                self.hooks[at].policy = policy(dice);
                format!("{} goes by other numbers", self.hooks[at].name)
            }
            6 if !self.hooks.is_empty() => {
                let hook = &mut self.hooks[at];
                hook.policy.active = !hook.policy.active;
                format!("{} has active = {}", hook.name, hook.policy.active)
            }
            7 | 8 if self.hooks.len() > 1 => {
                let hook = self.hooks.remove(at);
                let said = format!("{} is removed", hook.name);
                self.removed.push(hook);
                said
            }
            9 if self.hooks.len() < WEBHOOKS_MAX && !self.removed.is_empty() => {
                let hook = self.removed.remove(0);
                let said = format!("{} returns", hook.name);
                self.hooks.push(hook);
                said
            }
            10 if !self.hooks.is_empty() => {
                let name = self.new_name();
                let hook = &mut self.hooks[at];
                let former = std::mem::replace(&mut hook.name, name);
                let said = format!("{former} is renamed {}", hook.name);
                hook.renamed_from = Some(former);
                hook.start = None;
                said
            }
            _ if self.hooks.len() < WEBHOOKS_MAX && self.names_given < 6 => {
                let name = self.new_name();
                let said = format!("{name} is new");
                self.hooks.push(Hook {
                    name,
                    start: dice.one_of(&[None, Some(Start::Oldest), Some(Start::Now)]),
                    renamed_from: None,
                    select: select(dice),
                    policy: policy(dice),
                });
                said
            }
            _ => "nothing is changed".to_owned(),
        }
    }

    /// At the end: all webhooks are back, active, and say where they begin.
    pub(crate) fn mend(&mut self) {
        self.hooks.append(&mut self.removed);
        for hook in &mut self.hooks {
            hook.policy.active = true;
            if hook.renamed_from.is_none() {
                hook.start = hook.start.or(Some(Start::Now));
            }
        }
    }
}

fn select(dice: &mut Dice) -> Select {
    let all = OrderType::ALL.map(|order_type| (Some(order_type), None));
    let triggers = match dice.below(6) {
        0..=2 => all.to_vec(),
        3 => all[dice.below(3)..].to_vec(),
        4 => vec![(None, Some("update")), all[dice.below(3)]],
        _ => vec![(Some(dice.one_of(&OrderType::ALL)), Some("submit")), all[0]],
    };
    Select {
        triggers,
        sites: dice.one_of(&[None, None, None, Some("Ulm")]),
    }
}

fn policy(dice: &mut Dice) -> Policy {
    let ms = |dice: &mut Dice, choices: &[u64]| Duration::from_millis(dice.one_of(choices));
    let hold_on = dice.one_of(&[
        vec![],
        vec![],
        vec![],
        vec![HoldOn::Dns, HoldOn::Connect, HoldOn::Tls],
        vec![HoldOn::Timeout, HoldOn::Status(StatusPattern::Class(5))],
        vec![HoldOn::Status(StatusPattern::Exactly(401))],
    ]);
    let deactivate_after = dice.one_of(&[None, None, None, None, Some(60), Some(3_600)]);
    Policy {
        active: dice.permille(950),
        sequence: dice.one_of(&[Sequence::PoFirst, Sequence::Rotate, Sequence::Fifo]),
        payload_max_items: dice.one_of(&[1, 2, 3, 4, 5]),
        payload_max_bytes: dice.one_of(&[1 << 20, 1 << 20, 150, 250]),
        payload_interval: ms(dice, &[0, 0, 50, 2_000, 30_000]),
        payload_linger: ms(dice, &[0, 0, 0, 200, 5_000]),
        retry_attempts: dice.one_of(&[
            RetryAttempts::Times(0),
            RetryAttempts::Times(1),
            RetryAttempts::Times(2),
            RetryAttempts::Times(3),
            RetryAttempts::Unlimited,
        ]),
        retry_gap: ms(dice, &[1, 500, 500, 15_000, 900_000]),
        hold_on,
        deactivate_after: deactivate_after.map(Duration::from_secs),
        on_timeout: dice.one_of(&[OnTimeout::Retry, OnTimeout::Retry, OnTimeout::Delivered]),
        success_status: dice.one_of(&[
            SuccessStatus::default(),
            SuccessStatus::default(),
            SuccessStatus::default(),
            SuccessStatus::Of(vec![StatusPattern::Class(2), StatusPattern::Exactly(404)]),
            SuccessStatus::Any,
        ]),
    }
}

/// What an outcome means by the contract's words (D7, D12, D13), read off anew.
pub(crate) mod rules {
    use orderfeed::feed::outcome::Phase;

    use super::{HoldOn, OnTimeout, Outcome, Policy, StatusPattern, SuccessStatus};

    fn is(pattern: StatusPattern, status: u16) -> bool {
        match pattern {
            StatusPattern::Class(hundreds) => {
                (hundreds * 100..hundreds * 100 + 100).contains(&status)
            }
            StatusPattern::Exactly(wanted) => wanted == status,
        }
    }

    /// D7: a status in `success_status`; or, if so configured, a request that was sent in full
    /// and not answered in time.
    pub(crate) fn is_success(outcome: &Outcome, policy: &Policy) -> bool {
        match (outcome, &policy.success_status) {
            (Outcome::Answered { .. }, SuccessStatus::Any) => true,
            (Outcome::Answered { status, .. }, SuccessStatus::Of(patterns)) => {
                patterns.iter().any(|&pattern| is(pattern, *status))
            }
            (Outcome::TimedOut { phase }, _) => {
                policy.on_timeout == OnTimeout::Delivered && *phase == Phase::Waiting
            }
            (Outcome::Broken { .. }, _) => false,
        }
    }

    /// D12: the endpoint's trouble and not the content's.
    pub(crate) fn is_endpoints_trouble(outcome: &Outcome) -> bool {
        let listed = [401, 403, 404, 407, 408, 429, 502, 503, 504];
        match outcome.status() {
            Some(status) => (300..400).contains(&status) || listed.contains(&status),
            None => true,
        }
    }

    /// D13: what `hold_on` names.
    pub(crate) fn is_held_for(outcome: &Outcome, policy: &Policy) -> bool {
        policy.hold_on.iter().any(|held| match held {
            HoldOn::Dns => *outcome == Outcome::Broken { phase: Phase::Dns },
            HoldOn::Connect => {
                *outcome
                    == Outcome::Broken {
                        phase: Phase::Connect,
                    }
            }
            HoldOn::Tls => *outcome == Outcome::Broken { phase: Phase::Tls },
            HoldOn::Timeout => matches!(outcome, Outcome::TimedOut { .. }),
            HoldOn::Status(pattern) => outcome.status().is_some_and(|status| is(*pattern, status)),
        })
    }
}
