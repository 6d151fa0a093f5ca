//! Which orders are a webhook's: triggers, filters, and what was in force when (D25, D26).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::order::{Action, Order, OrderType, Seq};

/// What a webhook subscribes to: its triggers and its filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The order types and actions; one of them must match.
    pub triggers: Vec<Trigger>,
    /// The filter; all of it must match.
    pub filter: Filter,
}

impl Default for Selection {
    /// All three order types, unfiltered.
    fn default() -> Self {
        Self {
            triggers: OrderType::ALL.map(Trigger::all_actions_of).to_vec(),
            filter: Filter::default(),
        }
    }
}

impl Selection {
    /// Whether the order is selected.
    pub fn selects(&self, order: &Order) -> bool {
        self.triggers_on(order) && self.filter.matches(order)
    }

    /// Whether a trigger names the order's type and action.
    pub fn triggers_on(&self, order: &Order) -> bool {
        let triggered = |trigger: &Trigger| trigger.fires(order.order_type, &order.action);
        self.triggers.iter().any(triggered)
    }

    /// Whether every order of this type is selected, whatever it holds.
    pub fn takes_all(&self, order_type: OrderType) -> bool {
        let all = Trigger::all_actions_of(order_type);
        self.filter.0.is_empty() && self.triggers.contains(&all)
    }

    /// Whether any order of this type could be selected.
    pub fn covers(&self, order_type: OrderType) -> bool {
        self.triggers
            .iter()
            .any(|trigger| trigger.order_type.is_none_or(|wanted| wanted == order_type))
    }
}

/// An order type and an action that a webhook subscribes to; written `purchase_order`,
/// `work_order.update` or `*.destroy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trigger {
    /// `None` means any (`*`).
    order_type: Option<OrderType>,
    /// `None` means all actions (a bare order type).
    action: Option<Action>,
}

impl Trigger {
    /// The trigger that is written as the bare order type.
    pub const fn all_actions_of(order_type: OrderType) -> Self {
        Self {
            order_type: Some(order_type),
            action: None,
        }
    }

    /// An order type and an action that it fires at; of any, the first.
    pub fn example(&self) -> (OrderType, Action) {
        (
            self.order_type.unwrap_or(OrderType::ALL[0]),
            self.action.clone().unwrap_or_default(),
        )
    }

    /// Whether an order of this type and action is subscribed to.
    pub fn fires(&self, order_type: OrderType, action: &Action) -> bool {
        self.order_type.is_none_or(|wanted| wanted == order_type)
            && self.action.as_ref().is_none_or(|wanted| wanted == action)
    }
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (order_type, action) = match text.split_once('.') {
            Some((order_type, action)) => (order_type, Some(action)),
            None => (text, None),
        };
        let order_type = match (order_type, action) {
            ("*", Some(_)) => None,
            (word, _) => Some(word.parse::<OrderType>().map_err(|_unknown| {
                "an order type (purchase_order, transfer_order, work_order), \"order_type.action\" or \"*.action\""
                    .to_owned()
            })?),
        };
        let action = action
            .map(|word| word.parse::<Action>().map_err(|error| error.0))
            .transpose()?;
        Ok(Self { order_type, action })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.order_type.map_or("*", OrderType::as_str))?;
        match &self.action {
            Some(action) => write!(f, ".{action}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Trigger {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Trigger> for String {
    fn from(trigger: Trigger) -> Self {
        trigger.to_string()
    }
}

/// Only orders whose named top-level field, as text, has one of the listed values; several
/// fields must all match, and a missing one matches nothing (D26). The empty filter passes all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Filter(pub BTreeMap<String, Vec<String>>);

impl Filter {
    /// Whether the order passes.
    pub fn matches(&self, order: &Order) -> bool {
        self.first_miss(order).is_none()
    }

    /// The first field by which the order does not pass, with its value if it has the field.
    pub fn first_miss(&self, order: &Order) -> Option<(&str, Option<String>)> {
        if self.0.is_empty() {
            return None;
        }
        // The last of a repeated member counts, as with most receivers' parsers.
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(&order.body).unwrap_or_default();
        self.0.iter().find_map(|(name, values)| {
            let value = fields.get(name).map(|raw| as_text(raw));
            let passes = value.as_ref().is_some_and(|value| values.contains(value));
            (!passes).then_some((name.as_str(), value))
        })
    }
}

/// A JSON value as text: a string's characters, and anything else as it is written.
fn as_text(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_not_a_string| raw.get().to_owned())
}

/// A webhook's selections over time: which was in force when an order was queued.
///
/// "Does this order belong to that webhook" so has one answer for ever (D25).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selections {
    /// Counts the changes, from 1.
    version: u64,
    /// Each selection with the first seq for which it is in force, oldest first.
    epochs: Vec<(Seq, Selection)>,
}

impl Selections {
    /// From the ledger's rows, oldest first.
    pub fn new(version: u64, epochs: Vec<(Seq, Selection)>) -> Self {
        debug_assert!(epochs.is_sorted_by_key(|epoch| epoch.0));
        Self { version, epochs }
    }

    /// Which change made them what they are; a lane that went by an earlier one looks at its
    /// parked orders again.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Each selection with the first seq for which it is in force, oldest first.
    pub fn epochs(&self) -> &[(Seq, Selection)] {
        &self.epochs
    }

    /// What was in force when the order was queued; `None`: the webhook began after it.
    pub fn in_force_at(&self, seq: Seq) -> Option<&Selection> {
        let before_or_at = |epoch: &&(Seq, Selection)| epoch.0 <= seq;
        let epoch = self.epochs.iter().rev().find(before_or_at);
        epoch.map(|(_, selection)| selection)
    }

    /// What is selected now.
    pub fn current(&self) -> Option<&Selection> {
        self.epochs.last().map(|(_, selection)| selection)
    }

    /// Whether any order of this type could be sent now.
    pub fn covers(&self, order_type: OrderType) -> bool {
        self.current()
            .is_some_and(|selection| selection.covers(order_type))
    }

    /// What becomes of an order that the lane's cursor meets.
    pub fn fate(&self, order: &Order) -> Fate {
        match (self.in_force_at(order.seq), self.current()) {
            (Some(then), Some(now)) if then.selects(order) => {
                if now.selects(order) {
                    Fate::Send
                } else {
                    Fate::Park
                }
            }
            _ => Fate::Pass,
        }
    }
}

/// What becomes of an order that a lane's cursor meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It belongs to the webhook and is selected.
    Send,
    /// It belongs to the webhook, and is no longer selected: kept until the selection returns.
    Park,
    /// It does not belong to the webhook.
    Pass,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seq: i64, order_type: OrderType, action: &str, body: &str) -> Order {
        Order::parse(Seq(seq), order_type, action.as_bytes(), body.as_bytes()).expect("an order")
    }

    fn selection(triggers: &[&str], filter: &[(&str, &[&str])]) -> Selection {
        Selection {
            triggers: triggers
                .iter()
                .map(|text| text.parse().expect("a trigger"))
                .collect(),
            filter: Filter(
                filter
                    .iter()
                    .map(|(name, values)| {
                        let values = values.iter().map(|&value| value.to_owned()).collect();
                        ((*name).to_owned(), values)
                    })
                    .collect(),
            ),
        }
    }

    #[test]
    fn triggers_name_a_type_an_action_or_both() {
        let body = r#"{"TrackingNumber":1}"#;
        let created = order(1, OrderType::WorkOrder, "create", body);
        let submitted = order(2, OrderType::PurchaseOrder, "submit", body);
        for (triggers, expected) in [
            (&["work_order"][..], (true, false)),
            (&["work_order.create"], (true, false)),
            (&["work_order.update"], (false, false)),
            (&["*.create"], (true, false)),
            (&["*.create", "purchase_order"], (true, true)),
        ] {
            let selection = selection(triggers, &[]);
            let found = (selection.selects(&created), selection.selects(&submitted));
            assert_eq!(found, expected, "{triggers:?}");
        }
        assert!("*".parse::<Trigger>().is_err());
        assert!("order".parse::<Trigger>().is_err());
        assert!("work_order.".parse::<Trigger>().is_err());
    }

    /// D26: fields are compared as text, several must all match, a missing one matches nothing.
    #[test]
    fn d26_a_filter_compares_top_level_fields_as_text() {
        let body = r#"{"TrackingNumber":1,"Site":"N\u00fcrnberg","Plant":10,"Rush":true,"Nested":{"Site":"X"}}"#;
        let order = order(1, OrderType::PurchaseOrder, "submit", body);
        for (filter, expected) in [
            (&[("Site", &["Nürnberg", "Ulm"][..])][..], true),
            (&[("Plant", &["10"])], true),
            (&[("Plant", &["10.0"])], false),
            (&[("Rush", &["true"])], true),
            (&[("Site", &["Nürnberg"]), ("Plant", &["11"])], false),
            (&[("Missing", &["", "null"])], false),
            (&[("Site", &["X"])], false),
        ] {
            let selection = selection(&["purchase_order"], filter);
            assert_eq!(selection.selects(&order), expected, "{filter:?}");
        }
    }

    /// D25: what was in force when an order was queued decides whose it is; what is in force now
    /// decides whether it goes or waits.
    #[test]
    fn d25_an_order_belongs_by_the_selection_of_its_time() {
        let selections = Selections::new(
            2,
            vec![
                (Seq(1), selection(&["purchase_order", "work_order"], &[])),
                (Seq(10), selection(&["purchase_order"], &[("Site", &["A"])])),
            ],
        );
        let body = r#"{"TrackingNumber":1,"Site":"A"}"#;
        let other = r#"{"TrackingNumber":2,"Site":"B"}"#;
        for (seq, order_type, body, expected) in [
            (9, OrderType::PurchaseOrder, body, Fate::Send),
            (9, OrderType::PurchaseOrder, other, Fate::Park),
            (9, OrderType::WorkOrder, body, Fate::Park),
            (9, OrderType::TransferOrder, body, Fate::Pass),
            (10, OrderType::PurchaseOrder, body, Fate::Send),
            (10, OrderType::PurchaseOrder, other, Fate::Pass),
            (10, OrderType::WorkOrder, body, Fate::Pass),
        ] {
            let order = order(seq, order_type, "submit", body);
            assert_eq!(selections.fate(&order), expected, "{order:?}");
        }
    }
}
