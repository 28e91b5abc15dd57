//! What happens, for those who follow it: one thread turns the ledger's events and the alerts into news, and each subscription
//! picks its own from them.
//!
//! Nobody waits for a slow reader. News wait for subscriptions in one buffer of [`NEWS_MAX`], which all share; a subscription
//! that falls further behind than that is told how many it missed, `{"lagged": n}`, and is over. Its client subscribes anew
//! and reads what it missed from the ledger, by the last `sequence` that it saw. A subscription that only wants to know that
//! something happened, a page that then requests its figures anew, is notified every so often, and counts what it misses.

pub(in crate::control) mod follow;
mod news;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use agentledger_ledger::{Event, Happened, Name};
use jsonrpsee::core::server::{PendingSubscriptionSink, SubscriptionSink};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{sleep, timeout};

use crate::control::ledger_view::LedgerView;
use crate::control::rows::alert_row;
use crate::control::state::ControlState;
use crate::control::wire;
use crate::telemetry::alerts::NumberedAlert;

/// News that wait for the slowest subscription.
const NEWS_MAX: usize = 4_096;
/// News are given out in groups: a thousand subscriptions are not woken for each.
const GROUP_WAIT: Duration = Duration::from_millis(20);
const GROUP_MAX: usize = 64;
/// How long a connection may take nothing before its subscriptions end.
const TAKE_WAIT: Duration = Duration::from_secs(10);
/// The longest time between two items of a subscription that is notified every so often.
const EVERY_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether anybody follows at all.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Feed {
    Tail,
    Holds,
    Sessions,
    Alerts,
    Rules,
}

impl Feed {
    const COUNT: usize = 5;
}

/// What news can be picked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Facet {
    Provider,
    Model,
    Key,
    Tenant,
    Agent,
    Session,
    User,
    /// An alert's type.
    Kind,
    /// A change's subject, by how it begins.
    Subject,
}

/// Which news of a feed are wanted.
#[derive(Clone, Debug)]
pub(in crate::control) struct Following {
    pub feed: Feed,
    filters: Vec<(Facet, Name)>,
    /// At most one item in this time, which says how many there were; zero: each as it happens.
    every: Duration,
}

impl Following {
    /// An empty filter lets everything pass.
    pub(in crate::control) fn new(feed: Feed, filters: &[(Facet, &str)], every_ms: u32) -> Following {
        let filters = filters.iter().filter(|(_, wanted)| !wanted.is_empty());
        Following {
            feed,
            filters: filters.map(|(facet, wanted)| (*facet, Name::from(*wanted))).collect(),
            every: Duration::from_millis(every_ms.into()).min(EVERY_MAX),
        }
    }

    /// How many items of the feed one makes.
    fn count(&self, one: Result<Arc<News>, TryRecvError>) -> u64 {
        match one {
            Ok(one) => match &one.what {
                What::Missed(missed) => *missed,
                // Its text is made once for all subscriptions.
                _ => u64::from(self.passes(&one) && one.text(self.feed).is_some()),
            },
            Err(TryRecvError::Lagged(missed)) => missed,
            Err(TryRecvError::Empty | TryRecvError::Closed) => 0,
        }
    }

    fn passes(&self, one: &News) -> bool {
        self.filters
            .iter()
            .all(|(facet, wanted)| match (facet, one.facet(*facet)) {
                (Facet::Subject, is) => is.starts_with(&**wanted),
                (_, is) => is == &**wanted,
            })
    }
}

#[derive(Debug)]
enum What {
    Ledger(Arc<Happened>),
    Alert(Arc<NumberedAlert>),
    /// So many events were missed by the thread itself.
    Missed(u64),
}

/// One thing that happened, as each feed tells it: written once, by the first subscription that wants it.
#[derive(Debug)]
struct News {
    what: What,
    texts: [OnceLock<Option<Box<RawValue>>>; Feed::COUNT],
}

impl News {
    fn new(what: What) -> Arc<News> {
        Arc::new(News {
            what,
            texts: Default::default(),
        })
    }

    fn facet(&self, facet: Facet) -> &str {
        match &self.what {
            What::Ledger(happened) => ledger_facet(happened, facet),
            What::Alert(numbered) => match facet {
                Facet::Kind => &numbered.alert.kind,
                Facet::Tenant => &numbered.alert.tenant,
                _ => "",
            },
            What::Missed(_) => "",
        }
    }

    /// How a feed tells it; `None`: it is not the feed's.
    fn text(&self, feed: Feed) -> Option<&RawValue> {
        let slot = self.texts.get(feed as usize)?;
        slot.get_or_init(|| self.tell(feed)).as_deref()
    }

    fn tell(&self, feed: Feed) -> Option<Box<RawValue>> {
        match (&self.what, feed) {
            (What::Ledger(happened), Feed::Tail) => raw(&news::of_tail(happened)?),
            (What::Ledger(happened), Feed::Holds) => raw(&news::of_hold(happened)?),
            (What::Ledger(happened), Feed::Sessions) => raw(&news::of_session(happened)?),
            (What::Ledger(happened), Feed::Rules) => raw(&news::of_rule(happened)?),
            (What::Alert(numbered), Feed::Alerts) => raw(&alert_row(numbered)),
            _ => None,
        }
    }
}

fn raw(item: &impl Serialize) -> Option<Box<RawValue>> {
    to_raw_value(item).ok()
}

fn ledger_facet(happened: &Happened, facet: Facet) -> &str {
    match &happened.event {
        Event::Marked(marked) => match facet {
            Facet::Tenant => &marked.tenant,
            Facet::Session => &marked.session,
            _ => "",
        },
        event => match news::change_of(event) {
            Some(change) => match facet {
                Facet::Tenant => &change.tenant,
                Facet::Subject => &change.subject,
                _ => "",
            },
            None => facts_facet(happened, facet),
        },
    }
}

fn facts_facet(happened: &Happened, facet: Facet) -> &str {
    let entry = happened.entry.as_deref();
    let Some(facts) = news::facts_of(happened) else {
        return "";
    };
    match facet {
        Facet::Provider => &facts.provider,
        Facet::Model => entry.map_or(&facts.requested_model, |entry| &entry.settlement.model),
        Facet::Key => &facts.key,
        Facet::Tenant => &facts.tenant,
        Facet::Agent => &facts.agent,
        Facet::Session => &facts.session,
        Facet::User => &facts.user,
        Facet::Kind | Facet::Subject => "",
    }
}

/// What happens in the ledger, and the alerts.
type Sources = (
    broadcast::Receiver<Arc<Happened>>,
    broadcast::Receiver<Arc<NumberedAlert>>,
);

/// See the module.
pub(in crate::control) struct Feeds {
    state: Weak<ControlState>,
    news: broadcast::Sender<Arc<News>>,
    /// Whether the thread runs: it does while anybody follows.
    runs: Mutex<bool>,
}

impl Feeds {
    pub(in crate::control) fn new(state: &Arc<ControlState>) -> Arc<Feeds> {
        Arc::new(Feeds {
            state: Arc::downgrade(state),
            news: broadcast::Sender::new(NEWS_MAX),
            runs: Mutex::new(false),
        })
    }

    fn subscribe(self: &Arc<Self>) -> broadcast::Receiver<Arc<News>> {
        let mut runs = self.runs.lock();
        let news = self.news.subscribe();
        if !*runs {
            *runs = self.start();
        }
        news
    }

    /// On a thread of its own: a thousand subscriptions keep the control plane's busy, and the ledger waits for nobody.
    fn start(self: &Arc<Self>) -> bool {
        // Before anybody is told that they follow, not when the thread gets its turn: what happens between would be missed.
        let Some(sources) = self.sources() else { return false };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let feeds = Arc::clone(self);
        let started = runtime.and_then(|runtime| {
            let thread = std::thread::Builder::new().name("control-feeds".to_owned());
            thread.spawn(move || runtime.block_on(feeds.run(sources)))
        });
        if let Err(error) = &started {
            tracing::error!(%error, "nothing can be followed: no thread for it");
        }
        started.is_ok()
    }

    async fn run(self: Arc<Self>, (mut events, mut alerts): Sources) {
        loop {
            let what = tokio::select! {
                event = events.recv() => match event {
                    Ok(happened) => Some(What::Ledger(happened)),
                    Err(RecvError::Lagged(missed)) => Some(What::Missed(missed)),
                    // The ledger is closed.
                    Err(RecvError::Closed) => return *self.runs.lock() = false,
                },
                alert = alerts.recv() => match alert {
                    Ok(alert) => Some(What::Alert(alert)),
                    Err(RecvError::Lagged(missed)) => Some(What::Missed(missed)),
                    Err(RecvError::Closed) => return *self.runs.lock() = false,
                },
                () = sleep(IDLE_CHECK) => None,
            };
            if let Some(what) = what
                && self.news.send(News::new(what)).is_ok()
            {
                continue;
            }
            let mut runs = self.runs.lock();
            if self.news.receiver_count() == 0 {
                return *runs = false;
            }
        }
    }

    fn sources(&self) -> Option<Sources> {
        let state = self.state.upgrade()?;
        let LedgerView::Live(ledger) = &state.ledger else {
            return None;
        };
        Some((ledger.follow(), state.data_plane.alerts().follow()))
    }

    /// Serves a subscription to its end.
    pub(in crate::control) async fn serve(self: Arc<Self>, pending: PendingSubscriptionSink, following: Following) {
        // Before the client knows that it follows: from then on it misses nothing.
        let mut news = self.subscribe();
        let Ok(sink) = pending.accept().await else { return };
        if !following.every.is_zero() {
            return notify(&sink, &following, news).await;
        }
        loop {
            let one = tokio::select! {
                one = news.recv() => one,
                () = sink.closed() => return,
            };
            let mut one = one.map_err(|error| match error {
                RecvError::Lagged(missed) => TryRecvError::Lagged(missed),
                RecvError::Closed => TryRecvError::Closed,
            });
            let mut left = GROUP_MAX;
            loop {
                let missed = match &one {
                    Ok(one) => match &one.what {
                        What::Missed(missed) => *missed,
                        _ if give(&sink, &following, one).await => 0,
                        _ => return,
                    },
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Lagged(missed)) => *missed,
                    Err(TryRecvError::Closed) => return,
                };
                if missed > 0 {
                    let last = raw(&wire::Lagged { lagged: missed });
                    if let Some(last) = last {
                        let _ = sink.send_timeout(last, TAKE_WAIT).await;
                    }
                    return;
                }
                left -= 1;
                if left == 0 {
                    break;
                }
                one = news.try_recv();
            }
            let _ = timeout(GROUP_WAIT, sink.closed()).await;
        }
    }
}

/// Serves a subscription that wants to know that something happened: at once, then not before its time is over.
async fn notify(sink: &SubscriptionSink, following: &Following, mut news: broadcast::Receiver<Arc<News>>) {
    let mut happened = 0;
    loop {
        let one = tokio::select! {
            one = news.recv() => one,
            () = sink.closed() => return,
        };
        happened += following.count(match one {
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(missed)) => Err(TryRecvError::Lagged(missed)),
            Ok(one) => Ok(one),
        });
        // What came while the subscription rested.
        while !news.is_empty() {
            happened += following.count(news.try_recv());
        }
        if happened == 0 {
            continue;
        }
        let Some(item) = raw(&wire::Notified { happened }) else {
            return;
        };
        if sink.send_timeout(item, TAKE_WAIT).await.is_err() {
            return;
        }
        happened = 0;
        if timeout(following.every, sink.closed()).await.is_ok() {
            return;
        }
    }
}

/// `false`: nobody takes it.
async fn give(sink: &SubscriptionSink, following: &Following, one: &News) -> bool {
    if !following.passes(one) {
        return true;
    }
    match one.text(following.feed) {
        Some(text) => sink.send_timeout(text.to_owned(), TAKE_WAIT).await.is_ok(),
        None => true,
    }
}
