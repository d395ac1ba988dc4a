//! Every way a child can end, and what the tree makes of it.

mod probe;

use std::{
    fmt::Debug,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::Semaphore;

use self::probe::{Do, InTurn, Probe, Script, WhereAreYou};
use super::*;
use crate::{
    fault::{Fault, FaultKind, Faults, InjectedFault},
    handles::{AskError, ChildRef, State},
};

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Setup {
    script: Arc<Script>,
    faults: Faults,
    gate: Option<Arc<Semaphore>>,
}

impl Setup {
    fn probe(&self, name: &str, place: Place) -> (ChildSpec, ChildRef<Probe>) {
        let (script, gate) = (self.script.clone(), self.gate());
        ChildSpec::worker(name, place, &self.faults, move |me, _| {
            assert!(!Script::take(&script.panic_factory), "in the factory");
            if Script::take(&script.fail_factory) {
                return Err("no such luck".into());
            }
            let alive = script.alive.fetch_add(1, Ordering::SeqCst) + 1;
            script.most_alive.fetch_max(alive, Ordering::SeqCst);
            Ok(Probe { me: me.clone(), script: script.clone(), sum: 0, gate: gate.clone() })
        })
    }

    fn gate(&self) -> Arc<Semaphore> {
        self.gate.clone().unwrap_or_else(|| Arc::new(Semaphore::new(0)))
    }

    fn log(&self) -> Vec<String> {
        self.script.log.lock().unwrap().clone()
    }

    /// A root over one probe.
    fn one(&self, place: Place) -> (Root, ChildRef<Probe>) {
        let (spec, probe) = self.probe("probe", place);
        (Root::start("root", quick(5), vec![spec]), probe)
    }
}

fn quick(max_restarts: usize) -> Policy {
    let ms = Duration::from_millis;
    Policy { max_restarts, within: Duration::from_secs(60), backoff_min: ms(1), backoff_max: ms(5) }
}

fn here() -> Place {
    Place::On(Arbiter::current())
}

async fn until<T: Debug>(what: &str, mut look: impl FnMut() -> (bool, T)) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (there, seen) = look();
        if there {
            return;
        }
        assert!(Instant::now() < deadline, "{what} did not come, last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn comes_back(root: &Root, probe: &ChildRef<Probe>, generation: u64, last_error: &str) {
    assert!(probe.ready_since(generation, LIMIT).await, "{:?}", root.tree().snapshot());
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Ok(Ok(1)), "an incarnation begins afresh");
    let node = probe.stats().snapshot();
    assert_eq!((node.state, node.last_error.as_deref()), (State::Running, Some(last_error)));
    assert_eq!((node.mailbox, probe.stats().in_flight()), (0, 0));
    assert!(root.tree().down().is_empty());
}

#[actix::test]
async fn panics_and_clean_stops_in_handlers_are_survived() {
    for place in [here(), Place::OwnThread] {
        let (root, probe) = Setup::default().one(place);
        assert!(probe.ready(LIMIT).await);
        assert_eq!(probe.ask(Do::Panic, LIMIT).await, Err(AskError::Lost));
        comes_back(&root, &probe, 2, "panicked: in a handler").await;
        assert_eq!(probe.ask(Do::PanicLater, LIMIT).await, Err(AskError::Lost));
        comes_back(&root, &probe, 3, "panicked: in a future").await;
        assert_eq!(probe.ask(InTurn(Do::PanicLater), LIMIT).await, Err(AskError::Lost));
        comes_back(&root, &probe, 4, "panicked: in a future").await;
        probe.try_tell(Do::Stop).unwrap();
        comes_back(&root, &probe, 5, "stopped unasked").await;
        assert_eq!(probe.stats().snapshot().restarts, 4);
        root.stop(LIMIT).await;
        assert_eq!(root.tree().snapshot().state, State::Stopped);
    }
}

#[actix::test]
async fn a_handle_to_the_dead_says_so_and_nothing_stays_counted() {
    let setup = Setup::default();
    let (spec, probe) = setup.probe("probe", here());
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Err(AskError::Restarting), "not yet started");
    let slow = Policy { backoff_min: LIMIT * 6, backoff_max: LIMIT * 6, ..quick(5) };
    let root = Root::start("root", slow, vec![spec]);
    assert!(probe.ready(LIMIT).await);
    // All of these wait in the mailbox when the first one kills the actor.
    probe.try_tell(Do::Panic).unwrap();
    for _ in 0..5 {
        probe.try_tell(Do::Add(1)).unwrap();
    }
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Err(AskError::Lost));
    assert!(!probe.is_up());
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Err(AskError::Restarting));
    assert_eq!(probe.try_tell(Do::Add(1)), Err(AskError::Restarting));
    assert!(!probe.ready(Duration::from_millis(5)).await);
    until("the count's end", || (probe.stats().snapshot().mailbox == 0, probe.stats().snapshot())).await;
    until("the mourning", || (probe.stats().state() == State::Restarting, probe.stats().state())).await;
    assert_eq!(root.tree().down(), ["probe"]);
    // The back-off is an hour's fraction; a stop does not wait for it, and nothing comes back afterwards.
    root.stop(LIMIT).await;
    assert_eq!((probe.stats().state(), probe.generation()), (State::Stopped, 1));
}

#[actix::test]
async fn panics_outside_of_handlers_are_survived() {
    let setup = Setup::default();
    setup.script.fail_factory.store(1, Ordering::SeqCst);
    setup.script.panic_factory.store(1, Ordering::SeqCst);
    setup.script.panic_started.store(1, Ordering::SeqCst);
    let (root, probe) = setup.one(Place::OwnThread);
    comes_back(&root, &probe, 2, "panicked: in started").await;
    setup.script.panic_drop.store(1, Ordering::SeqCst);
    probe.try_tell(Do::Stop).unwrap();
    comes_back(&root, &probe, 3, "panicked: in drop").await;
    // Three panics at one death: in the handler, in stopped, in Drop. A plain actor's process would abort.
    setup.script.panic_stopped.store(1, Ordering::SeqCst);
    setup.script.panic_drop.store(1, Ordering::SeqCst);
    probe.try_tell(Do::Panic).unwrap();
    comes_back(&root, &probe, 4, "panicked: in a handler").await;
    assert_eq!(probe.stats().snapshot().restarts, 5);
    root.stop(LIMIT).await;
}

#[actix::test]
async fn a_supervisor_that_gives_up_is_restarted_with_its_children() {
    let setup = Setup::default();
    let (a, first) = setup.probe("a", here());
    let (b, second) = setup.probe("b", Place::OwnThread);
    let group = ChildSpec::supervisor("group", here(), quick(1), vec![a, b]);
    let root = Root::start("root", quick(5), vec![group]);
    for generation in 1..=2 {
        assert!(first.ready_since(generation, LIMIT).await && second.ready(LIMIT).await);
        first.try_tell(Do::Panic).unwrap();
    }
    assert!(first.ready_since(3, LIMIT).await && second.ready_since(2, LIMIT).await);
    assert_eq!(second.ask(Do::Add(1), LIMIT).await, Ok(Ok(1)));
    until("all up", || (root.tree().down().is_empty(), root.tree().snapshot())).await;
    let tree = root.tree().snapshot();
    let group = &tree.children[0];
    assert_eq!((tree.restarts, group.restarts), (0, 1));
    assert!(
        group.last_error.as_deref().unwrap().ends_with("the last of a: panicked: in a handler"),
        "{group:?}"
    );
    assert!(root.tree().contains("b") && !root.tree().contains("c"));
    assert_eq!(setup.script.most_alive.load(Ordering::SeqCst), 2, "never two incarnations of one child");
    root.stop(LIMIT).await;
    assert_eq!(setup.script.alive.load(Ordering::SeqCst), 0);
}

#[actix::test]
async fn an_escalation_to_the_root_is_told() {
    let setup = Setup::default();
    setup.script.panic_factory.store(u32::MAX, Ordering::SeqCst);
    let (spec, probe) = setup.probe("probe", here());
    let group = ChildSpec::supervisor("group", here(), quick(1), vec![spec]);
    let root = Root::start("root", quick(1), vec![group]);
    let reason = tokio::time::timeout(LIMIT, root.failed()).await.unwrap();
    assert!(
        reason.contains("the last of group: gave up") && reason.ends_with("panicked: in the factory"),
        "{reason}"
    );
    let tree = root.tree().snapshot();
    assert_eq!((tree.state, tree.children[0].state), (State::Failed, State::Stopped));
    assert_eq!((probe.generation(), probe.ask(Do::Add(1), LIMIT).await), (0, Err(AskError::Restarting)));
    root.stop(LIMIT).await;
}

#[actix::test]
async fn a_dead_arbiter_is_a_death_and_an_own_thread_is_replaced() {
    let (root, probe) = Setup::default().one(Place::OwnThread);
    assert!(probe.ready(LIMIT).await);
    let arbiter = probe.ask(WhereAreYou, LIMIT).await.unwrap();
    arbiter.stop();
    comes_back(&root, &probe, 2, "its arbiter is gone").await;
    root.stop(LIMIT).await;

    let lost = Arbiter::new();
    let (root, probe) = Setup::default().one(Place::On(lost.handle()));
    assert!(probe.ready(LIMIT).await);
    lost.stop();
    let reason = tokio::time::timeout(LIMIT, root.failed()).await.unwrap();
    assert!(reason.ends_with("its arbiter is gone"), "{reason}");
}

#[actix::test]
async fn a_stop_drains_in_reverse_order_and_finishes_what_is_in_flight() {
    let setup = Setup { gate: Some(Arc::new(Semaphore::new(0))), ..Setup::default() };
    let (a, first) = setup.probe("a", here());
    let (b, second) = setup.probe("b", Place::OwnThread);
    let (c, third) = setup.probe("c", Place::OwnThread);
    let group = ChildSpec::supervisor("group", here(), quick(5), vec![b, c]);
    let root = Arc::new(Root::start("root", quick(5), vec![a, group]));
    assert!(first.ready(LIMIT).await && second.ready(LIMIT).await && third.ready(LIMIT).await);
    second.try_tell(Do::WaitForGate).unwrap();
    let last = {
        let stop = async { root.stop(LIMIT).await };
        let work = async {
            until("the drain of b", || (setup.log().contains(&"b drains".to_owned()), setup.log())).await;
            assert!(!setup.log().contains(&"b gone".to_owned()));
            assert_eq!(
                second.try_tell(Do::Add(1)),
                Err(AskError::Restarting),
                "a draining actor takes nothing new"
            );
            setup.gate().add_permits(1);
        };
        futures_util::join!(stop, work);
        setup.log()
    };
    let order = ["c drains", "c gone", "b drains", "passed the gate", "b gone", "a drains", "a gone"];
    assert_eq!(last, order);
    assert!(root.failed().now_or_never().is_none(), "a stop is no failure");
    assert_eq!(second.stats().snapshot().handled, 1);
}

#[actix::test]
async fn a_stop_is_bounded_by_the_childs_limit() {
    let setup = Setup::default();
    let (stuck, probe) = setup.probe("stuck", Place::OwnThread);
    let (good, other) = setup.probe("good", here());
    let root = Root::start("root", quick(5), vec![good, stuck.stop_limit(Duration::from_millis(20))]);
    assert!(probe.ready(LIMIT).await && other.ready(LIMIT).await);
    probe.try_tell(InTurn(Do::WaitForGate)).unwrap();
    until("the work", || (probe.stats().in_flight() == 1, ())).await;
    let begun = Instant::now();
    root.stop(LIMIT).await;
    assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
    assert_eq!(setup.log(), ["stuck gone", "good drains", "good gone"]);
}

#[actix::test]
async fn a_full_mailbox_and_a_late_answer_are_told_apart() {
    let setup = Setup { gate: Some(Arc::new(Semaphore::new(0))), ..Setup::default() };
    let (spec, probe) = setup.probe("probe", here());
    let root = Root::start("root", quick(5), vec![spec.mailbox(2)]);
    assert!(probe.ready(LIMIT).await);
    let late = Duration::from_millis(5);
    assert_eq!(probe.ask(InTurn(Do::WaitForGate), late).await, Err(AskError::Timeout));
    let sent = (0..10).map_while(|_| probe.try_tell(Do::Add(1)).ok()).count();
    assert!((2..=3).contains(&sent), "{sent} went into a mailbox of 2");
    assert_eq!(probe.ask(Do::Add(1), late).await, Err(AskError::Full));
    assert_eq!((probe.stats().snapshot().mailbox, probe.stats().in_flight()), (sent, 1));
    setup.gate().add_permits(1);
    until("room", || (probe.stats().snapshot().mailbox == 0, probe.stats().snapshot())).await;
    // The work of the asker that gave up was done nevertheless.
    assert_eq!(setup.log(), ["passed the gate"]);
    assert_eq!(probe.ask(Do::TellMyself, LIMIT).await, Ok(Ok(sent as u64)));
    until("the own message", || {
        (probe.stats().snapshot().handled == sent as u64 + 3, probe.stats().snapshot())
    })
    .await;
    root.stop(LIMIT).await;
}

#[actix::test]
async fn injected_faults_strike_messages() {
    let setup = Setup { faults: Faults::enabled(1), ..Setup::default() };
    let (spec, probe) = setup.probe("probe", Place::OwnThread);
    let root = Root::start("root", quick(5), vec![spec.hang_limit(Duration::from_millis(500))]);
    assert!(probe.ready(LIMIT).await);
    let inject = |kind| {
        let fault =
            Fault { actor: "probe".into(), kind, times: Some(1), probability: None, delay_ms: Some(30) };
        setup.faults.set(fault).unwrap();
    };
    inject(FaultKind::Error);
    let fault = InjectedFault { actor: "probe".into(), dropped: false };
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Ok(Err(fault)));
    inject(FaultKind::Drop);
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Err(AskError::Lost));
    inject(FaultKind::Delay);
    let begun = Instant::now();
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Ok(Ok(1)), "error and drop leave the message undone");
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(probe.generation(), 1);
    inject(FaultKind::Panic);
    assert_eq!(probe.ask(Do::Add(1), LIMIT).await, Err(AskError::Lost));
    comes_back(&root, &probe, 2, "panicked: injected panic in probe").await;
    inject(FaultKind::Hang);
    assert_eq!(probe.ask(InTurn(Do::Add(1)), LIMIT).await, Err(AskError::Lost));
    comes_back(&root, &probe, 3, "made no progress and was cut off").await;
    root.stop(LIMIT).await;
}

#[actix::test]
async fn a_blocked_thread_is_left_behind_and_never_doubled() {
    let setup = Setup::default();
    let (spec, probe) = setup.probe("probe", Place::OwnThread);
    let root = Root::start("root", quick(5), vec![spec.hang_limit(Duration::from_millis(50))]);
    assert!(probe.ready(LIMIT).await);
    assert_eq!(probe.ask(Do::BlockThread, Duration::from_millis(5)).await, Err(AskError::Timeout));
    until("the verdict", || (probe.stats().snapshot().last_error.is_some(), probe.stats().snapshot())).await;
    comes_back(&root, &probe, 2, "made no progress and was cut off").await;
    assert_eq!(setup.script.most_alive.load(Ordering::SeqCst), 1);
    root.stop(LIMIT).await;
    assert_eq!(probe.stats().snapshot().restarts, 1, "the late report of the one left behind counts no more");
}

#[test]
fn the_back_off_doubles_with_jitter_up_to_its_maximum() {
    let policy = Policy::default();
    for _ in 0..100 {
        for (streak, interval) in [(1, 100), (2, 200), (3, 400), (4, 800)] {
            let ms = policy.restart_delay(streak).as_millis();
            assert!((interval / 2..=interval * 3 / 2).contains(&ms), "{ms} ms after {streak} deaths");
        }
        let longest = policy.restart_delay(u32::MAX);
        assert!((policy.backoff_max / 2..=policy.backoff_max).contains(&longest), "{longest:?}");
    }
}

#[test]
fn a_node_of_the_tree_reads_as_specified() {
    let (spec, _) = Setup::default().probe("probe", Place::OwnThread);
    let stats = ChildSpec::supervisor("root", Place::OwnThread, quick(5), vec![spec]).stats;
    let leaf = r#"{"name":"probe","kind":"worker","state":"starting","mailbox":0,"handled":0,"restarts":0,"last_error":null,"children":[]}"#;
    let tree = r#"{"name":"root","kind":"supervisor","state":"starting","mailbox":0,"handled":0,"restarts":0,"last_error":null,"children":[LEAF]}"#;
    assert_eq!(serde_json::to_string(&stats.snapshot()).unwrap(), tree.replace("LEAF", leaf));
}
