//! Random histories over few ids, so that events meet in every way: some tills that sell, edit and hear of each
//! other, each with counters and a clock of its own.

use crate::story::{self, Told};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// Most events of one history, other forms not counted.
const MOST_EVENTS: usize = 22;
/// 2100-01-01.
const YEARS_AHEAD: i64 = 4_102_444_800_000;

/// One store's events, as lines of a story.
#[derive(Clone)]
pub(crate) struct History(pub(crate) Vec<String>);

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\n")?;
        self.0.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl History {
    pub(crate) fn told(&self, store_id: Uuid) -> Vec<Told> {
        story::events(store_id, &self.0.join("\n"))
    }
}

/// What a till sends of its counters. Its own clock counter and its seq are two different ones.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    SeqAndClock,
    Seq,
    Clock,
    Neither,
}

struct Till {
    device: &'static str,
    habit: Habit,
    seq: i64,
    counter: i64,
    now: i64,
    /// What it has heard of others.
    heard: BTreeMap<&'static str, i64>,
}

/// Tells histories from a seed.
pub(crate) struct Teller {
    rng: StdRng,
    words: TestRunner,
    linked: BoxedStrategy<String>,
    fields: BoxedStrategy<String>,
    prices: BoxedStrategy<String>,
    unread: BoxedStrategy<String>,
}

impl Teller {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let linked = prop_oneof![
            7 => r"sale S[1-3]( fiao=C1)?( usd=[48])?( bs=[48])?( req=r[1-3])?( env=r[1-3])?( at=W1)?( P[12](:V1)?x[1-3]){0,3}",
            2 => r"void S[1-3]( by=u[12])?( reason=[ab])?",
            4 => r"debt D[12]( sale=S[1-3])? (usd|bs|amount)=[1-8]( left=[1-4])?",
            4 => r"pay M[1-3] (D[12]|debt\(S[1-3]\)) (usd|bs|amount)=[1-5]( usd=[1-5])?( req=r[12])?( env=r[12])?",
            4 => r"entry (L[12]|S[1-3]) (sale|income)( sale=S[1-3])?( req=r[1-3])?( sreq=r[1-3])?",
            2 => r"receive (K[12]|-)( at=W1)? P[12]x[1-3]( P[12]x[1-3]){0,2}",
            1 => r"receive K1 P[12]x[1-3]( P[12]x[1-3]){1,2}",
            1 => r"(adjust|delta) (K[12]|-) P[12]x-?[1-3]",
            1 => r"declare - home_node=(north|south)( at=W1)?",
            2 => r"series F[12] next_number=[1-3]( prefix=[AB])?( owner_node=south)?",
        ];
        let fields = prop_oneof![
            5 => r"(ProductCreated|ProductUpdated) P[12]( name=(a|b|null))?( price_usd=[1-3])?( colour=(red|null))?( patch\.name=[cd])?( is_active=(true|false))?",
            1 => r"ProductDeactivated P[12]",
            2 => r"(CustomerCreated|CustomerUpdated) C[12]( name=(a|b|null))?( credit_limit=[1-3])?( notes=[ab])?",
            2 => r"open X[12]( opening_amount=[1-3])?( note=[ab])?( by=u[12])?( opened_at=1970-01-0[1-3]T00:00:00Z)?",
            2 => r"close X[12]( closing_amount=[1-3])?( note=[ab])?( by=u[12])?",
        ];
        Teller {
            rng: StdRng::seed_from_u64(seed),
            words: TestRunner::new_with_rng(
                Config::default(),
                TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            ),
            linked: linked.boxed(),
            fields: fields.boxed(),
            prices: r"PriceChanged P[12] price_usd=([1-3]|null)( price_bs=[1-3])?".boxed(),
            unread: "(sale !none|sale S1 Pxmany|declare -|debt D1|Unheard P1|ProductUpdated P1 version=2)"
                .boxed(),
        }
    }

    /// A history; `forms`: in which other contents of known events occur.
    pub(crate) fn history(&mut self, forms: bool) -> History {
        let mut tills = self.tills();
        let mut lines = Vec::new();
        for n in 0..self.rng.random_range(1..=MOST_EVENTS) {
            let place = self.rng.random_range(0..tills.len());
            self.listen(&mut tills, place);
            let name = format!("e{n}");
            let (verb, known) = self.verb();
            if known {
                listen_to_all(&mut tills, place);
            }
            lines.push(self.line(&name, &verb, &mut tills[place]));
            if forms && self.rng.random_bool(0.1) {
                lines.push(self.other_form(&name, &verb, &mut tills));
            }
        }
        if self.rng.random_bool(0.1) {
            // Each says that it has heard of the other: neither has.
            let (one, other) = (self.word_of(|t| &t.prices), self.word_of(|t| &t.prices));
            lines.push(format!("x@2/x {one} seq=1 clock=y:1"));
            lines.push(format!("y@2/y {other} seq=1 clock=x:1"));
        }
        History(lines)
    }

    fn tills(&mut self) -> Vec<Till> {
        let rng = &mut self.rng;
        let count = rng.random_range(2..=6);
        let till = |device| Till {
            device,
            habit: *[Habit::SeqAndClock, Habit::SeqAndClock, Habit::Seq, Habit::Clock, Habit::Neither]
                .choose(rng)
                .expect("a habit"),
            seq: *[0, 0, 3].choose(rng).expect("a seq"),
            counter: *[0, 0, 3, 9].choose(rng).expect("a counter"),
            // Many at once, some ten or sixteen minutes later, one that is years ahead.
            now: *[1, 1, 1, 1, 1, 600_000, 1_000_000, YEARS_AHEAD].choose(rng).expect("a time"),
            heard: BTreeMap::new(),
        };
        ["node", "till", "a", "b", "c", "d"][..count].iter().copied().map(till).collect()
    }

    /// Words of an event after its place, and whether its till has heard of all that happened.
    fn verb(&mut self) -> (String, bool) {
        match self.rng.random_range(0..32) {
            0..17 => (self.word_of(|t| &t.linked), false),
            17..23 => (self.word_of(|t| &t.fields), false),
            23..27 => (self.word_of(|t| &t.prices), false),
            27..31 => (format!("{} metadata.resolves=x", self.word_of(|t| &t.prices)), true),
            _ => (self.word_of(|t| &t.unread), false),
        }
    }

    fn word_of(&mut self, strategy: impl Fn(&Self) -> &BoxedStrategy<String>) -> String {
        let strategy = strategy(self).clone();
        strategy.new_tree(&mut self.words).expect("words").current()
    }

    /// Now and then a till hears of another one: either of what its events carry, or of its clock counter.
    fn listen(&mut self, tills: &mut [Till], place: usize) {
        if self.rng.random_bool(0.35) {
            let other = &tills[self.rng.random_range(0..tills.len())];
            let by_seq = self.rng.random_bool(0.7);
            hear(tills, place, other.device, by_seq);
        }
    }

    fn line(&mut self, name: &str, verb: &str, till: &mut Till) -> String {
        let step = *[0, 0, 0, 1, 1, 2].choose(&mut self.rng).expect("a step");
        till.now += step;
        till.counter += 1;
        // Installed anew, it counts from the beginning.
        till.seq = if self.rng.random_bool(0.03) { 1 } else { till.seq + 1 };
        till.written(name, verb)
    }

    /// Other content under a known name: another event altogether, or the same one a little different.
    fn other_form(&mut self, name: &str, verb: &str, tills: &mut [Till]) -> String {
        let place = self.rng.random_range(0..tills.len());
        let till = &mut tills[place];
        match self.rng.random_range(0..4) {
            0 => {
                let (verb, _) = self.verb();
                self.line(name, &verb, till)
            }
            1 => {
                let verb = self.word_of(|t| &t.unread);
                self.line(name, &verb, till)
            }
            2 => {
                let more = self.rng.random_range(0..3);
                self.line(name, &format!("{verb} more={more}"), till)
            }
            _ => till.written(name, verb),
        }
    }
}

impl Till {
    fn written(&self, name: &str, verb: &str) -> String {
        let mut line = format!("{name}@{}/{} {verb}", self.now, self.device);
        if matches!(self.habit, Habit::SeqAndClock | Habit::Seq) {
            line += &format!(" seq={}", self.seq);
        }
        if matches!(self.habit, Habit::SeqAndClock | Habit::Clock) {
            let own = [(self.device, self.counter)];
            let others = self.heard.iter().map(|(device, count)| (*device, *count));
            let entries: Vec<String> = own
                .into_iter()
                .chain(others)
                .map(|(device, count)| format!("{}:{count}", id_of(device)))
                .collect();
            line += &format!(" clock={}", entries.join(","));
        }
        line
    }

    /// Its own entry in the clocks of its events.
    fn carried(&self) -> i64 {
        match self.habit {
            Habit::SeqAndClock | Habit::Seq => self.seq,
            Habit::Clock => self.counter,
            Habit::Neither => self.now,
        }
    }
}

/// The story's `node` is a short name.
fn id_of(device: &str) -> &str {
    if device == "node" { velox_protocol::V1_NODE_DEVICE } else { device }
}

fn hear(tills: &mut [Till], place: usize, device: &'static str, by_seq: bool) {
    let Some(other) = tills.iter().find(|till| till.device == device) else { return };
    let mut news = other.heard.clone();
    news.insert(device, if by_seq { other.carried() } else { other.counter });
    let till = &mut tills[place];
    for (of, count) in news {
        if of != till.device {
            let mine = till.heard.entry(of).or_default();
            *mine = (*mine).max(count);
        }
    }
}

fn listen_to_all(tills: &mut [Till], place: usize) {
    let devices: Vec<&'static str> = tills.iter().map(|till| till.device).collect();
    for device in devices {
        hear(tills, place, device, true);
    }
    // Who knows all says so.
    tills[place].habit = Habit::SeqAndClock;
}
