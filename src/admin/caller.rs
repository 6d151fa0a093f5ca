//! Who calls, and what they may do (contract, section 6).
//!
//! The kernel says which user, group and process connected. The user's further groups are asked of
//! the user database: no safe binding offers `SO_PEERGROUPS`, and `/proc/PID/status` would be that of
//! whoever has the number by now, and is hidden from a confined service. So a group counts when the
//! database says so, whether or not the calling process has given it up; one that was added counts
//! from the next connection on. This asks files or a directory service, which may take a while: never
//! on a thread that serves others.

use std::collections::BTreeSet;
use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

use crate::config::{Grant, Grantee, Role};
use crate::feed::order::{OrderType, PerType};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name, or the number of one that has none.
    pub user: String,
    /// The user's number.
    pub uid: u32,
    /// The process, if the kernel said so.
    pub pid: Option<i32>,
    /// The groups' names and numbers.
    groups: BTreeSet<String>,
    /// Root, or the daemon's own user.
    is_own: bool,
}

/// What somebody may do: the roles of all grants that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    view: bool,
    produce: PerType<bool>,
    operate: bool,
    administer: bool,
}

impl Rights {
    /// Whether a call that needs the role may be made.
    pub fn allow(self, role: Role) -> bool {
        match role {
            Role::Viewer => self.view,
            Role::Producer => OrderType::ALL.into_iter().any(|one| self.produce[one]),
            Role::Operator => self.operate,
            Role::Admin => self.administer,
        }
    }

    /// Of which orders they may queue and withdraw any.
    pub const fn produces(self) -> PerType<bool> {
        self.produce
    }

    fn add(&mut self, role: Role, order_types: PerType<bool>) {
        let all = matches!(role, Role::Admin);
        self.view |= all || matches!(role, Role::Viewer | Role::Operator);
        if all || matches!(role, Role::Producer | Role::Operator) {
            for order_type in OrderType::ALL {
                self.produce[order_type] |= order_types[order_type];
            }
        }
        self.operate |= all || matches!(role, Role::Operator);
        self.administer |= all;
    }
}

impl Caller {
    /// Asks the user database about who connected.
    pub fn look_up(credentials: &UCred) -> Self {
        let uid = credentials.uid();
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let mut gids = BTreeSet::from([credentials.gid()]);
        if let Some(user) = &user
            && let Ok(name) = CString::new(user.name.as_str())
            && let Ok(groups) = getgrouplist(&name, user.gid)
        {
            gids.extend(groups.into_iter().map(Gid::as_raw));
        }
        let mut groups = BTreeSet::new();
        for gid in gids {
            let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            groups.extend(group.map(|group| group.name));
            groups.insert(gid.to_string());
        }
        Self {
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            uid,
            pid: credentials.pid(),
            groups,
            is_own: uid == 0 || uid == rustix::process::geteuid().as_raw(),
        }
    }

    /// What they may do by these grants.
    pub fn rights(&self, grants: &[Grant]) -> Rights {
        let mut rights = Rights::default();
        if self.is_own {
            rights.add(Role::Admin, PerType::from_fn(|_| true));
        }
        for grant in grants {
            let fits = match &grant.who {
                Grantee::User(name) => *name == self.user || *name == self.uid.to_string(),
                Grantee::Group(name) => self.groups.contains(name),
            };
            if fits {
                rights.add(grant.role, grant.order_types);
            }
        }
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> Caller {
        Caller {
            user: "anna".to_owned(),
            uid: 1000,
            pid: Some(4242),
            groups: ["warehouse", "20"].map(str::to_owned).into(),
            is_own: false,
        }
    }

    #[track_caller]
    fn check(grants: &[(Grantee, Role)], expected: &[Role]) {
        let grant = |(who, role): &(Grantee, Role)| Grant {
            who: who.clone(),
            role: *role,
            order_types: PerType::from_fn(|_| true),
        };
        let grants: Vec<Grant> = grants.iter().map(grant).collect();
        let rights = anna().rights(&grants);
        let all = [Role::Viewer, Role::Producer, Role::Operator, Role::Admin];
        let allowed: Vec<Role> = all.into_iter().filter(|role| rights.allow(*role)).collect();
        assert_eq!(allowed, expected);
    }

    fn user(name: &str) -> Grantee {
        Grantee::User(name.to_owned())
    }

    fn group(name: &str) -> Grantee {
        Grantee::Group(name.to_owned())
    }

    #[test]
    fn nobody_may_do_anything_without_a_grant() {
        check(&[], &[]);
        check(
            &[(user("bob"), Role::Admin), (group("anna"), Role::Admin)],
            &[],
        );
    }

    #[test]
    fn each_role_includes_what_the_contract_says() {
        check(&[(user("anna"), Role::Viewer)], &[Role::Viewer]);
        check(&[(user("1000"), Role::Producer)], &[Role::Producer]);
        check(
            &[(group("warehouse"), Role::Operator)],
            &[Role::Viewer, Role::Producer, Role::Operator],
        );
        check(
            &[(group("20"), Role::Admin)],
            &[Role::Viewer, Role::Producer, Role::Operator, Role::Admin],
        );
    }

    /// A type that one role is granted for is none for another.
    #[test]
    fn order_types_add_up_for_each_role() {
        let grant = |role, types: &[OrderType]| Grant {
            who: user("anna"),
            role,
            order_types: PerType::from_fn(|order_type| types.contains(&order_type)),
        };
        let rights = anna().rights(&[
            grant(Role::Viewer, &OrderType::ALL),
            grant(Role::Producer, &[OrderType::PurchaseOrder]),
            grant(Role::Operator, &[OrderType::WorkOrder]),
        ]);
        let produced = OrderType::ALL.map(|order_type| rights.produces()[order_type]);
        assert_eq!(produced, [true, false, true]);
        assert!(rights.allow(Role::Producer));
    }

    #[test]
    fn grants_add_up() {
        check(
            &[
                (user("anna"), Role::Viewer),
                (group("warehouse"), Role::Producer),
            ],
            &[Role::Viewer, Role::Producer],
        );
    }
}
