//! `[[admin.grant]]`: who may do what over the admin socket.
//!
//! Whether there is such a user or group is asked when somebody calls, not here: they come and go
//! without the configuration being read again.

use super::sources::Given;
use super::values::{Read, one_of};
use super::{Grant, Grantee, Role};
use crate::feed::order::{OrderType, PerType};

const GRANTS: &str = "a list of tables, each [[admin.grant]] with a user or a group, and a role";

/// All grants.
pub(super) fn grants(given: &Given<'_>) -> Read<Vec<Grant>> {
    let Some(items) = given.items() else {
        return Err(given.refuse_collection(GRANTS));
    };
    let mut grants = Vec::new();
    let mut problems = Vec::new();
    for item in items {
        match grant(&item) {
            Ok(grant) => grants.push(grant),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok(grants)
    } else {
        Err(problems)
    }
}

fn grant(given: &Given<'_>) -> Read<Grant> {
    let Some(entries) = given.entries() else {
        return Err(given.refuse(GRANTS));
    };
    let (mut who, mut role) = (Vec::new(), None);
    let mut order_types = PerType::from_fn(|_| true);
    let mut problems = Vec::new();
    for (name, value) in entries {
        let read = match name {
            "user" => somebody(&value).map(|name| who.push(Grantee::User(name))),
            "group" => somebody(&value).map(|name| who.push(Grantee::Group(name))),
            "role" => one_of(&[
                ("viewer", Role::Viewer),
                ("producer", Role::Producer),
                ("operator", Role::Operator),
                ("admin", Role::Admin),
            ])(&value)
            .map(|found| role = Some(found)),
            "order_types" => types(&value).map(|found| order_types = found),
            _ => Err(value.complain("unknown key; known here: group, order_types, role, user")),
        };
        problems.extend(read.err().into_iter().flatten());
    }
    if problems.is_empty() {
        match (who.pop(), role) {
            (Some(one), Some(role)) if who.is_empty() => {
                return Ok(Grant {
                    who: one,
                    role,
                    order_types,
                });
            }
            (Some(_), Some(_)) => {
                problems.extend(given.complain("has a user and a group; write two grants"));
            }
            (None, _) => problems.extend(given.complain("needs a user or a group")),
            (Some(_), None) => problems.extend(
                given.complain("needs a role: \"viewer\", \"producer\", \"operator\" or \"admin\""),
            ),
        }
    }
    Err(problems)
}

/// Some order types, at least one.
fn types(given: &Given<'_>) -> Read<PerType<bool>> {
    const TYPES: &str = "a list of order types, such as [\"purchase_order\", \"work_order\"]";
    let items = given.items().filter(|items| !items.is_empty());
    let Some(items) = items else {
        return Err(given.refuse(TYPES));
    };
    let mut found = PerType::default();
    for item in items {
        let order_type: Option<OrderType> = item.text().and_then(|text| text.parse().ok());
        let Some(order_type) = order_type else {
            let words = "purchase_order, transfer_order or work_order";
            return Err(item.refuse(words));
        };
        found[order_type] = true;
    }
    Ok(found)
}

/// A name or a number.
fn somebody(given: &Given<'_>) -> Read<String> {
    let number = given.whole().and_then(|number| u32::try_from(number).ok());
    let name = given.text().filter(|name| {
        !name.is_empty() && !name.contains(|c: char| c.is_control() || c.is_whitespace())
    });
    number
        .map(|number| number.to_string())
        .or_else(|| name.map(str::to_owned))
        .ok_or_else(|| given.refuse("a name without blanks, or a number"))
}
