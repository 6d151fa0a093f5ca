//! The operator: resends, discards, pauses, resumes and retries, as `daemon::operator` does it.

use orderfeed::feed::errand::{Older, Told};
use orderfeed::feed::payload::{Members, Payload, PayloadId, PayloadState, checksum};
use orderfeed::store::ledger::WebhookId;
use orderfeed::store::ledger::errands::{Accepted, Record};

use crate::world::World;

impl World {
    /// Somebody asks for something, and wakes the lanes.
    pub(crate) fn operate(&mut self) {
        let webhooks: Vec<WebhookId> = self.oracle.webhooks().collect();
        if webhooks.is_empty() {
            return;
        }
        let webhook_id = self.dice.one_of(&webhooks);
        match self.dice.below(12) {
            0 => self.instruct(
                webhook_id,
                Told::Pause {
                    by: "paused by the operator".to_owned(),
                },
            ),
            1..=3 => self.instruct(webhook_id, Told::Resume),
            4 => self.instruct(webhook_id, Told::RetryNow),
            5 => self.discard(webhook_id),
            _ => self.resend(webhook_id),
        }
        self.life_mut().asked += 1;
    }

    pub(crate) fn instruct(&mut self, webhook_id: WebhookId, told: Told) {
        self.tell(Some(webhook_id), &format!("is told {told:?}"));
        let wall = self.clocks.wall();
        let ledger = &mut self.life_mut().ledger;
        ledger.tell(webhook_id, &told, wall).expect("it is kept");
        self.oracle.told(webhook_id, told);
    }

    fn some_record(&mut self, webhook_id: WebhookId) -> Option<Record> {
        let payloads = self.oracle.payloads.iter();
        let ids: Vec<PayloadId> = payloads
            .filter(|(_, sent)| sent.webhook_id == webhook_id)
            .map(|(id, _)| *id)
            .collect();
        if ids.is_empty() {
            return None;
        }
        // The latest are the most alive.
        let newest = ids.len().saturating_sub(4);
        let id = if self.dice.permille(500) {
            self.dice.one_of(&ids[newest..])
        } else {
            self.dice.one_of(&ids)
        };
        let record = self
            .life()
            .ledger
            .record_of(id)
            .expect("the ledger answers");
        let sent = &self.oracle.payloads[&id];
        let pruned_up_to = self.life().ledger.pruned_up_to();
        assert!(
            record.is_some() || sent.is_pruned(pruned_up_to.expect("the ledger answers")),
            "{id} was sealed, and not pruned"
        );
        record
    }

    fn discard(&mut self, webhook_id: WebhookId) {
        let Some(record) = self.some_record(webhook_id) else {
            return;
        };
        let payload_id = record.payload.id;
        if record.is_in_flight()
            || matches!(
                record.state,
                PayloadState::Delivered | PayloadState::Discarded
            )
        {
            return self.stats().count("not to be discarded");
        }
        let reason = "in the way".to_owned();
        if record.is_head {
            return self.instruct(webhook_id, Told::Discard { payload_id, reason });
        }
        self.tell(Some(webhook_id), &format!("{payload_id} is discarded"));
        let wall = self.clocks.wall();
        let ledger = &mut self.life_mut().ledger;
        let discarded = ledger.discard(webhook_id, payload_id, &reason, wall);
        discarded.expect("it is discarded");
        self.oracle.discarded(webhook_id, payload_id);
    }

    fn resend(&mut self, webhook_id: WebhookId) {
        let Some(record) = self.some_record(webhook_id) else {
            return;
        };
        let pruned_up_to = self.life().ledger.pruned_up_to();
        if record.payload.members.first() <= pruned_up_to.expect("the ledger answers") {
            return self.stats().count("resend refused: pruned");
        }
        if record.is_in_flight() {
            return self.stats().count("resend refused: in flight");
        }
        let older = match self.dice.below(10) {
            0..=2 => Older::Sent,
            3..=5 => Older::LeftOut,
            _ => Older::Refused,
        };
        let all = record.payload.members.seqs().to_vec();
        let (as_new, members) = match self.dice.below(10) {
            0..=5 => (false, all),
            6 => (true, all),
            _ => (true, vec![self.dice.one_of(&all)]),
        };
        let members = Members::new(members).expect("some orders");
        let ledger = &self.life().ledger;
        let origin = ledger.origin_of(&record).expect("the ledger answers");
        let family = ledger.family_of(webhook_id, origin);
        let others_wait = family
            .expect("the ledger answers")
            .iter()
            .any(|one| one.waits && one.id != record.payload.id);
        if as_new && (record.is_head || record.resend.is_some()) || others_wait {
            return self.stats().count("resend refused: it would go twice");
        }
        let payload = Payload {
            members,
            ..record.payload.clone()
        };
        let lane = ledger.lane(webhook_id).expect("a lane");
        let newest = lane.places[payload.order_type].cursor;
        let found = self.superseded(webhook_id, &payload, newest);
        let superseded = !found.expect("the stores answer").is_empty();
        let seqs: Vec<i64> = payload.members.seqs().iter().map(|seq| seq.0).collect();
        assert_eq!(
            superseded,
            self.oracle
                .is_superseded(webhook_id, &seqs, &self.producers),
            "D23: {:?} of {}",
            payload.members,
            record.payload.id
        );
        if superseded && older != Older::Sent {
            return self.stats().count("resend refused: superseded");
        }
        let (id, accepted) = if as_new {
            let (order_type, action) = (payload.order_type, &payload.action);
            let queue = &self.life().queue;
            let body = queue.encode(order_type, action, &payload.members);
            let body = body.expect("the queue answers").expect("its orders");
            let payload = Payload {
                id: PayloadId::new(self.now(), self.dice.ten_bytes()),
                checksum: checksum(&body),
                ..payload
            };
            let resend_of = record.payload.id;
            let id = payload.id;
            let accepted = Accepted::New {
                webhook_id,
                payload,
                resend_of,
                older,
            };
            self.oracle
                .copied(webhook_id, id, resend_of, &seqs, &self.producers);
            (id, accepted)
        } else {
            let payload_id = payload.id;
            let accepted = Accepted::Whole {
                webhook_id,
                payload_id,
                older,
            };
            (payload_id, accepted)
        };
        self.tell(
            Some(webhook_id),
            &format!("{id} is to be resent ({seqs:?}), older: {older:?}"),
        );
        let wall = self.clocks.wall();
        let ledger = &mut self.life_mut().ledger;
        ledger.accept(&[accepted], wall).expect("it is kept");
        self.oracle
            .accepts_resend(webhook_id, id, older, record.is_head);
    }
}
