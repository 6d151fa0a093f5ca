//! The receivers: what they make of each request is drawn from the seed, and what reached them is
//! remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use orderfeed::feed::outcome::{Outcome, Phase};
use orderfeed::feed::payload::PayloadId;
use orderfeed::store::ledger::WebhookId;

use crate::dice::Dice;

/// How a request will fare.
#[derive(Debug, Clone)]
pub(crate) struct Fare {
    pub(crate) outcome: Outcome,
    /// When all of it is at the receiver; `None` if it never is.
    pub(crate) arrives_after_ms: Option<i64>,
    pub(crate) ends_after_ms: i64,
}

/// What a receiver is like for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Flaky,
    /// Its machine is in trouble.
    Out,
    /// It does not like what it is sent.
    Fussy,
}

/// One webhook's receiver.
#[derive(Debug)]
struct Receiver {
    mood: Mood,
    /// Each payload that reached it: its bytes, and how often they came.
    arrived: BTreeMap<PayloadId, (Bytes, u32)>,
}

#[derive(Debug, Default)]
pub(crate) struct Receivers {
    healed: bool,
    by_webhook: BTreeMap<WebhookId, Receiver>,
}

impl Receivers {
    fn of(&mut self, webhook_id: WebhookId) -> &mut Receiver {
        self.by_webhook.entry(webhook_id).or_insert(Receiver {
            mood: Mood::Well,
            arrived: BTreeMap::new(),
        })
    }

    /// From now on they answer 200.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
    }

    /// Draws how the webhook's next request fares.
    pub(crate) fn fare(&mut self, webhook_id: WebhookId, dice: &mut Dice) -> Fare {
        let healed = self.healed;
        let receiver = self.of(webhook_id);
        if dice.permille(200) {
            receiver.mood =
                dice.one_of(&[Mood::Well, Mood::Flaky, Mood::Flaky, Mood::Out, Mood::Fussy]);
        }
        let trouble_permille = match receiver.mood {
            _ if healed => 0,
            Mood::Well => 20,
            Mood::Flaky => 400,
            Mood::Out | Mood::Fussy => 850,
        };
        if !dice.permille(trouble_permille) {
            return answered(200, dice);
        }
        match receiver.mood {
            Mood::Well | Mood::Flaky => trouble(dice),
            Mood::Out => match dice.below(3) {
                0 => answered(dice.one_of(&[401, 502, 503, 301, 404]), dice),
                _ => trouble(dice),
            },
            Mood::Fussy => answered(dice.one_of(&[400, 413, 422, 500]), dice),
        }
    }

    /// A request is there in full. Returns how often it was there before.
    pub(crate) fn take(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        body: &Bytes,
    ) -> u32 {
        let receiver = self.of(webhook_id);
        let (first, times) = receiver
            .arrived
            .entry(payload_id)
            .or_insert_with(|| (body.clone(), 0));
        assert_eq!(
            first, body,
            "one id is one body: {payload_id} arrived with another"
        );
        *times += 1;
        *times - 1
    }
}

fn answered(status: u16, dice: &mut Dice) -> Fare {
    let ends_after_ms = dice.one_of(&[0, 1, 5, 40, 300, 5_000]);
    Fare {
        outcome: Outcome::Answered {
            status,
            retry_after: None,
        },
        arrives_after_ms: Some(dice.between(0, ends_after_ms)),
        ends_after_ms,
    }
}

fn trouble(dice: &mut Dice) -> Fare {
    let phases = [
        Phase::Dns,
        Phase::Connect,
        Phase::Tls,
        Phase::Sending,
        Phase::Waiting,
    ];
    let phase = dice.one_of(&phases);
    // Broken off while sending: it may have been just the last bytes' receipt that got lost.
    let reaches = phase == Phase::Waiting || (phase == Phase::Sending && dice.permille(300));
    let arrives_after_ms = reaches.then(|| dice.between(0, 20));
    match dice.below(8) {
        0 | 1 => Fare {
            outcome: Outcome::TimedOut { phase },
            arrives_after_ms,
            ends_after_ms: 90_000,
        },
        2 | 3 => Fare {
            outcome: Outcome::Broken { phase },
            arrives_after_ms,
            ends_after_ms: dice.between(20, 3_000),
        },
        4 => {
            let seconds = dice.one_of(&[1, 60, 3_600, 1_000_000]);
            let fare = answered(dice.one_of(&[429, 503]), dice);
            Fare {
                outcome: Outcome::Answered {
                    status: dice.one_of(&[429, 503]),
                    retry_after: Some(Duration::from_secs(seconds)),
                },
                ..fare
            }
        }
        5 if dice.permille(80) => answered(410, dice),
        _ => answered(dice.one_of(&[500, 502, 503, 401, 400]), dice),
    }
}
