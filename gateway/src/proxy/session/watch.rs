//! Shows the sessions that run to the policies now and then, whether or not a call comes: a policy that wants to know of one that
//! has grown old or dear handles it in the phase `alert`. A session that people were alerted to is not shown again.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agentledger_ledger::{Mark, Name, Session, Status};

use crate::policy::Event;
use crate::proxy::report::{self, Origin};
use crate::proxy::shared::gateway::Gateway;

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// A session without a new call is shown again after so long.
const AGAIN_MS: i64 = 10_000;

/// The thread that looks; it ends with this.
pub struct SessionWatch {
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Which sessions were shown: their calls then, and when by the monotonic clock.
type Shown = HashMap<(Name, Name), (u64, i64)>;

impl SessionWatch {
    pub fn start(gateway: &Arc<Gateway>) -> std::io::Result<SessionWatch> {
        let gateway = Arc::downgrade(gateway);
        let (end, ended) = sync_channel(0);
        let thread = thread::Builder::new()
            .name("lookout".into())
            .spawn(move || run(&gateway, &ended))?;
        Ok(SessionWatch {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        self.end = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that looks after sessions panicked");
        }
    }
}

fn run(gateway: &Weak<Gateway>, ended: &Receiver<()>) {
    let mut shown = Shown::new();
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let Some(gateway) = gateway.upgrade() else { return };
        if gateway.rules.load().policies.hears("session") {
            look(&gateway, &mut shown);
        }
    }
}

fn look(gateway: &Gateway, shown: &mut Shown) {
    let (now_ms, monotonic_ms) = (gateway.clock.now_ms(), gateway.clock.monotonic_ms());
    let timeout_ms = gateway.rules.load().config.agent.session_timeout_ms();
    let wanted = |session: &Session| !session.is_alerted && session.status(now_ms, timeout_ms) == Status::Active;
    let active = gateway.ledger.sessions().select(wanted);
    let mut still = Shown::with_capacity(active.len());
    for session in active {
        let key = (Name::clone(&session.tenant), Name::clone(&session.id));
        let is_new =
            |(calls, at_ms): &(u64, i64)| *calls != session.calls || monotonic_ms.saturating_sub(*at_ms) >= AGAIN_MS;
        let seen = match shown.get(&key).filter(|seen| !is_new(seen)) {
            Some(seen) => *seen,
            None => {
                show(gateway, &session, now_ms);
                (session.calls, monotonic_ms)
            }
        };
        still.insert(key, seen);
    }
    *shown = still;
}

/// What policies see of a session. Counts fit a number of Lua's exactly up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn show(gateway: &Gateway, session: &Session, now_ms: i64) {
    let age_ms = now_ms.saturating_sub(session.started_ms).max(0);
    let event = Event::new("session", now_ms)
        .text("session", &*session.id)
        .text("tenant", &*session.tenant)
        .text("agent", &*session.agent)
        .text("user", &*session.user)
        .text("task", &*session.task)
        .text("parent", &*session.parent)
        .text("status", Status::Active.name())
        .number("age_s", (age_ms / 1_000) as f64)
        .number("calls", session.calls as f64)
        .number("running", f64::from(session.running))
        .number("errors", session.errors as f64)
        .number("tokens", session.tokens as f64)
        .usd("cost_usd", session.cost);
    let origin = Origin {
        tenant: &session.tenant,
        folded: 0,
    };
    if report::event(gateway, origin, event) {
        gateway.ledger.mark_session(&session.tenant, &session.id, Mark::Alerted);
    }
}
