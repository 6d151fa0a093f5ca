//! What the pure core costs, in instructions: `cargo bench --bench core`. Instructions, counted
//! by valgrind's callgrind, are the same whatever else the machine does; beside them stands the
//! time that one took here, which is not.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use orderfeed::feed::lane::{First, Lane, Waiting, next_step};
use orderfeed::feed::order::{Order, OrderType, Seq};
use orderfeed::feed::outcome::{Outcome, Phase, judge};
use orderfeed::feed::payload::{Batch, Members, Payload, PayloadId, encode};
use orderfeed::feed::policy::Policy;
use orderfeed::feed::timestamp::Timestamp;

#[path = "../delivery/order.rs"]
mod realistic;

/// What is counted: its name, and one turn of it.
type Case = (&'static str, Box<dyn Fn()>);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    if let (Some(name), Some(turns)) = (args.next(), args.next()) {
        // This process is being counted.
        let turns: u32 = turns.parse().expect("a number of turns");
        let case = cases().into_iter().find(|(case, _)| *case == name);
        let (_, turn) = case.expect("a case of those below");
        for _ in 0..turns {
            turn();
        }
        return;
    }
    println!(
        "{:<44} {:>14} {:>12}",
        "one turn of", "instructions", "here, in µs"
    );
    for (name, turn) in cases() {
        let counted = match (count(name, 200), count(name, 100)) {
            (Some(more), Some(less)) => ((more - less) / 100).to_string(),
            _ => "no valgrind".to_owned(),
        };
        println!(
            "{name:<44} {counted:>14} {:>12.2}",
            time(&turn).as_secs_f64() * 1e6
        );
    }
}

fn cases() -> Vec<Case> {
    let policy = Policy {
        payload_max_bytes: 16 << 20,
        payload_max_items: 1_000,
        ..Policy::default()
    };
    let bodies: Vec<String> = (1..=1_000).map(realistic::order).collect();
    let parse = |(number, body): (usize, &String)| {
        let seq = Seq(i64::try_from(number).unwrap_or_default());
        Order::parse(seq, OrderType::PurchaseOrder, b"submit", body.as_bytes()).expect("an order")
    };
    let orders: Vec<Order> = bodies.iter().enumerate().map(parse).collect();
    let one = bodies[0].clone();
    let seal = {
        let orders = orders.clone();
        let policy = policy.clone();
        move |items: usize| {
            let mut batch = Batch::new(OrderType::PurchaseOrder, &policy);
            for order in &orders[..items] {
                batch.offer(order);
            }
            batch.close().expect("orders")
        }
    };
    let picked = seal(100);
    let (payload, _) = seal(100).seal(PayloadId::new(Timestamp::from_ms(1), [7; 10]));
    let members = payload.members.to_bytes();
    let (lane, waiting) = in_flight(payload);
    let head = lane.head.clone().expect("a payload");
    let idle = Lane {
        head: None,
        ..lane.clone()
    };
    let (seal_one, seal_many) = (seal.clone(), seal);
    let policy_of_judge = policy.clone();
    vec![
        (
            "parsing an order of 1.2 KB",
            Box::new(move || {
                black_box(parse((1, black_box(&one))));
            }),
        ),
        (
            "sealing 1 order",
            Box::new(move || {
                black_box(seal_one(1));
            }),
        ),
        (
            "sealing 100 orders",
            Box::new(move || {
                black_box(seal_many(100));
            }),
        ),
        (
            "encoding 100 orders again",
            Box::new(move || {
                let bodies = orders[..100].iter().map(|order| order.body.as_str());
                black_box(encode(picked.order_type, &picked.action, bodies));
            }),
        ),
        (
            "reading 100 members",
            Box::new(move || {
                black_box(Members::from_bytes(black_box(&members)));
            }),
        ),
        (
            "deciding what is next",
            Box::new(move || {
                let now = Timestamp::from_ms(5_000);
                black_box(next_step(&idle, None, black_box(&waiting), &policy, now));
            }),
        ),
        (
            "judging a failed attempt",
            Box::new(move || {
                let outcome = Outcome::Broken {
                    phase: Phase::Waiting,
                };
                let now = Timestamp::from_ms(5_000);
                black_box(judge(
                    black_box(&outcome),
                    &head,
                    &lane,
                    &policy_of_judge,
                    now,
                ));
            }),
        ),
    ]
}

/// A lane whose first payload is in flight, and what waits behind it.
fn in_flight(payload: Payload) -> (Lane, Waiting) {
    let lane = Lane::default();
    let progress = lane.places[OrderType::PurchaseOrder].progress();
    let lane = lane.sealed(payload, progress);
    let mut waiting = Waiting::default();
    for (place, order_type) in OrderType::ALL.into_iter().enumerate() {
        waiting.0[order_type] = Some(First {
            seq: Seq(100 + i64::try_from(place).unwrap_or_default()),
            noticed: Timestamp::from_ms(4_000),
            full: false,
        });
    }
    (lane, waiting)
}

/// Instructions of a process that does so many turns.
fn count(name: &str, turns: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args([name, &turns.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = text.split_once("Collected : ")?;
    collected.split_whitespace().next()?.parse().ok()
}

/// One turn, on average over a tenth of a second.
fn time(turn: &dyn Fn()) -> Duration {
    let (began, mut turns) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(100) {
        turn();
        turns += 1;
    }
    began.elapsed() / turns
}
