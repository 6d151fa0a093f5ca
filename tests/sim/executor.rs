//! The executor: polls one lane at a time, by hand, and lets the world change between any two
//! steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use orderfeed::daemon::lane::{Halt, drive};
use orderfeed::store::ledger::WebhookId;

use crate::audit;
use crate::dice::Dice;
use crate::oracle::Stats;
use crate::pruner;
use crate::shell::SimShell;
use crate::world::{Applied, World};

/// Steps in which things go wrong, at most.
const STEPS_OF_TROUBLE: i64 = 900;

/// Steps in which a mended world must come to rest.
const STEPS_OF_REST_MAX: usize = 20_000;

/// The daemon looks at its queue this often, if nobody tells it to.
const POLL_INTERVAL_MS: i64 = 1_000;

/// Runs one seed, from the first order to the audit.
pub(crate) fn run(seed: u64, folder: &Path) -> Stats {
    let mut dice = Dice::new(seed);
    let steps = dice.between(STEPS_OF_TROUBLE / 3, STEPS_OF_TROUBLE);
    let mut executor = Executor {
        world: Rc::new(RefCell::new(World::new(folder, dice))),
        lanes: BTreeMap::new(),
        reload: Reload::None,
        pruning: None,
    };
    for _ in 0..steps {
        executor.step();
    }
    executor.mend();
    executor.come_to_rest();
    executor.prune_what_is_left();
    executor.stop();
    let mut world = executor.world.borrow_mut();
    audit::check(&mut world);
    std::mem::take(world.stats())
}

/// A year in which nothing goes wrong, pruned each night; how large queue and ledger are at the end of
/// each month, in bytes.
pub(crate) fn year(seed: u64, folder: &Path) -> Vec<[u64; 2]> {
    let mut executor = Executor {
        world: Rc::new(RefCell::new(World::new(folder, Dice::new(seed)))),
        lanes: BTreeMap::new(),
        reload: Reload::None,
        pruning: None,
    };
    executor.world.borrow_mut().make_steady();
    let mut sizes = Vec::new();
    for _month in 0..12 {
        executor.start();
        for _day in 0..30 {
            for _ in 0..3 {
                executor.produce();
            }
            executor.come_to_rest();
            let day = pruner::RETENTION / 30;
            let day_ms = i64::try_from(day.as_millis()).expect("short");
            executor.world.borrow_mut().clocks.advance(day_ms);
            executor.prune();
        }
        executor.stop();
        sizes.push(executor.world.borrow().file_sizes());
    }
    sizes
}

type LaneTask = Pin<Box<dyn Future<Output = Halt>>>;

struct Executor {
    world: Rc<RefCell<World>>,
    lanes: BTreeMap<WebhookId, LaneTask>,
    reload: Reload,
    pruning: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// How far a reload has come; lanes go on between its steps.
enum Reload {
    None,
    Asked,
    Held,
    Configured(Applied),
    Subscribed(Applied),
}

impl Executor {
    /// One step: of a lane, or of the world.
    fn step(&mut self) {
        if !self.world.borrow().is_running() {
            return self.step_while_down();
        }
        let throw = self.world.borrow_mut().dice.below(1_000);
        match throw {
            0..30 => self.produce(),
            30..110 => self.let_time_pass(false),
            110..130 => self.world.borrow_mut().look(),
            130..140 => self.edit(),
            140..144 => self.kill(),
            144..147 => self.lose_power(),
            147..149 => self.stop(),
            149..158 => self.set_wall_clock(),
            158..160 => self.suspend(),
            160..165 => self.world.borrow_mut().mark(),
            165..230 => self.go_on_reloading(),
            230..250 => self.world.borrow_mut().operate(),
            250..330 => self.go_on_pruning(),
            _ => {
                if !self.poll_some_lane() {
                    self.let_time_pass(true);
                }
            }
        }
    }

    fn step_while_down(&mut self) {
        let throw = self.world.borrow_mut().dice.below(1_000);
        match throw {
            0..300 => self.produce(),
            300..500 => {
                let mut world = self.world.borrow_mut();
                let ms = world.dice.one_of(&[1, 100, 5_000, 100_000]);
                world.clocks.advance(ms);
            }
            500..530 => self.lose_power(),
            530..550 => self.set_wall_clock(),
            550..600 => {
                let mut world = self.world.borrow_mut();
                let World {
                    administrator,
                    dice,
                    ..
                } = &mut *world;
                let said = administrator.edit(dice);
                world.tell(None, &said);
            }
            600..750 => self.world.borrow_mut().resume(),
            _ => self.start(),
        }
    }

    fn produce(&mut self) {
        let mut world = self.world.borrow_mut();
        let World {
            producers, dice, ..
        } = &mut *world;
        if dice.permille(150) {
            if let Some(seq) = producers.withdraw(dice) {
                world.tell(None, &format!("order {seq} is withdrawn"));
            }
            return;
        }
        let count = producers.queue_orders(dice);
        let orders = producers.orders();
        let newest = orders.len();
        let what: Vec<String> = orders[newest - count..]
            .iter()
            .map(|order| format!("{}.{} {:?}", order.order_type, order.action, order.site))
            .collect();
        world.tell(None, &format!("orders up to {newest} are queued: {what:?}"));
    }

    /// Some time passes; or as much as it takes until a lane wakes, if nothing else can happen.
    fn let_time_pass(&mut self, nothing_else: bool) {
        let mut world = self.world.borrow_mut();
        let mut ms = world.dice.one_of(&[1, 3, 20, 100, 700]);
        if nothing_else && let Some(sleep_ms) = world.sleep_ms() {
            ms = sleep_ms.max(0);
        }
        // What was not noticed yet is, when the daemon looks by itself.
        if world.has_unnoticed() && ms >= POLL_INTERVAL_MS {
            world.clocks.advance(POLL_INTERVAL_MS);
            world.look();
        } else {
            world.clocks.advance(ms);
        }
    }

    fn set_wall_clock(&mut self) {
        let mut world = self.world.borrow_mut();
        let by_ms = world
            .dice
            .one_of(&[-86_400_000, -60_000, -1, 60_000, 86_400_000]);
        world.clocks.set_wall(by_ms);
        world.tell(None, &format!("the wall clock is set by {by_ms} ms"));
    }

    fn suspend(&mut self) {
        let mut world = self.world.borrow_mut();
        let ms = world.dice.one_of(&[10_000, 3_600_000]);
        world.clocks.advance(ms);
        world.tell(None, &format!("the machine was suspended for {ms} ms"));
    }

    // The daemon's life.

    fn start(&mut self) {
        let new = {
            let mut world = self.world.borrow_mut();
            world.open();
            world.hold();
            let applied = world.configure();
            world.subscribe(&applied);
            world.publish(applied)
        };
        self.spawn(new);
    }

    fn spawn(&mut self, webhooks: Vec<WebhookId>) {
        for webhook_id in webhooks {
            let mut shell = SimShell::new(webhook_id, Rc::clone(&self.world));
            let task = async move { drive(webhook_id, &mut shell).await };
            self.lanes.insert(webhook_id, Box::pin(task));
        }
    }

    fn kill(&mut self) {
        self.cut_off_pruning();
        self.lanes.clear();
        self.reload = Reload::None;
        let mut world = self.world.borrow_mut();
        world.tell(None, "the daemon is killed");
        world.stats().count("killed");
        world.cut_off();
    }

    fn lose_power(&mut self) {
        self.cut_off_pruning();
        self.lanes.clear();
        self.reload = Reload::None;
        let mut world = self.world.borrow_mut();
        world.stats().count("power cut");
        world.lose_power();
    }

    /// SIGTERM: what is in flight may finish; unless a kill comes first.
    fn stop(&mut self) {
        self.cut_off_pruning();
        self.reload = Reload::None;
        {
            let mut world = self.world.borrow_mut();
            world.tell(None, "the daemon is told to stop");
            world.life_mut().stopping = true;
        }
        while !self.lanes.is_empty() {
            if !self.poll_some_lane() {
                self.let_time_pass(true);
            }
        }
        self.world.borrow_mut().close();
    }

    /// Pruning begins, or takes its next step.
    fn go_on_pruning(&mut self) {
        let begin = || -> Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(pruner::run(Rc::clone(&self.world)))
        };
        let mut pruning = self.pruning.take().unwrap_or_else(begin);
        let polled = pruning
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        self.pruning = polled.is_pending().then_some(pruning);
    }

    /// At the end: what is done with has grown old, and goes.
    fn prune_what_is_left(&mut self) {
        self.cut_off_pruning();
        for _ in 0..3 {
            let retention_ms = i64::try_from(pruner::RETENTION.as_millis()).expect("short");
            self.world.borrow_mut().clocks.advance(retention_ms + 1);
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.go_on_pruning();
        while self.pruning.is_some() {
            self.go_on_pruning();
        }
    }

    fn cut_off_pruning(&mut self) {
        if self.pruning.take().is_some() {
            self.world.borrow_mut().stats().count("pruning cut off");
        }
    }

    // The configuration.

    fn edit(&mut self) {
        let mut world = self.world.borrow_mut();
        let World {
            administrator,
            dice,
            ..
        } = &mut *world;
        let said = administrator.edit(dice);
        world.tell(None, &format!("{said}; reload"));
        world.stats().count("reloads");
        self.reload = Reload::Asked;
    }

    fn go_on_reloading(&mut self) {
        let mut world = self.world.borrow_mut();
        self.reload = match std::mem::replace(&mut self.reload, Reload::None) {
            Reload::None => Reload::None,
            Reload::Asked => {
                world.hold();
                Reload::Held
            }
            Reload::Held => Reload::Configured(world.configure()),
            Reload::Configured(applied) => {
                world.subscribe(&applied);
                Reload::Subscribed(applied)
            }
            Reload::Subscribed(applied) => {
                let new = world.publish(applied);
                world.tell(None, "reloaded");
                drop(world);
                self.spawn(new);
                return;
            }
        };
    }

    // Lanes.

    /// Polls a lane that has something to do, if there is one.
    fn poll_some_lane(&mut self) -> bool {
        let awake: Vec<WebhookId> = {
            let world = self.world.borrow();
            let webhooks = self.lanes.keys().copied();
            webhooks
                .filter(|&webhook_id| world.is_awake(webhook_id))
                .collect()
        };
        if awake.is_empty() {
            return false;
        }
        let webhook_id = self.world.borrow_mut().dice.one_of(&awake);
        let lane = self.lanes.get_mut(&webhook_id).expect("a lane");
        match lane.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(Halt::Stopped) => {
                assert!(
                    self.world.borrow().life().stopping,
                    "a lane ended by itself"
                );
                self.lanes.remove(&webhook_id);
            }
            Poll::Ready(Halt::Store(error)) => panic!("a store is out of order: {error}"),
        }
        true
    }

    // The end.

    /// Nothing goes wrong any more: receivers are well, webhooks are all there and active, and
    /// what stands still is resumed.
    fn mend(&mut self) {
        let mut world = self.world.borrow_mut();
        world.tell(None, "all is mended");
        world.receivers.heal();
        world.administrator.mend();
        drop(world);
        self.restart_resumed();
    }

    fn restart_resumed(&mut self) {
        if self.world.borrow().is_running() {
            self.stop();
        }
        self.world.borrow_mut().resume();
        self.start();
    }

    fn come_to_rest(&mut self) {
        for _ in 0..STEPS_OF_REST_MAX {
            if self.poll_some_lane() {
                continue;
            }
            if self.world.borrow().has_unnoticed() {
                self.world.borrow_mut().look();
            } else if self.world.borrow().sleep_ms().is_some() {
                self.let_time_pass(true);
            } else if self.world.borrow().oracle.needs_resuming() {
                self.restart_resumed();
            } else {
                return;
            }
        }
        panic!("D18: no rest after {STEPS_OF_REST_MAX} steps in which nothing went wrong");
    }
}
