//! Shows the sessions that run to the policies now and then, whether or not a call comes: a policy that wants to know of one that
//! has grown old or dear handles it in the phase `alert`. A session that people were alerted to is not shown again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Mark, Name, Session, Status};

use crate::policy::Event;
use crate::proxy::report::{self, Origin};
use crate::proxy::shared::gateway::Gateway;
use crate::tasks::Watch;

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// A session without a new call is shown again after so long.
const AGAIN_MS: i64 = 10_000;

/// Which sessions were shown: their calls then, and when by the monotonic clock.
type Shown = HashMap<(Name, Name), (u64, i64)>;

/// Starts the thread that looks.
///
/// # Errors
/// It cannot be started.
pub fn start(gateway: &Arc<Gateway>) -> std::io::Result<Watch> {
    let mut shown = Shown::new();
    Watch::start("lookout", TICK, gateway, move |gateway| {
        if gateway.rules.load().policies.hears("session") {
            look(gateway, &mut shown);
        }
    })
}

fn look(gateway: &Gateway, shown: &mut Shown) {
    let (now_ms, monotonic_ms) = (gateway.clock.now_ms(), gateway.clock.monotonic_ms());
    let timeout_ms = gateway.rules.load().config.agent.session_timeout_ms();
    let is_again = |(calls, at_ms): &(u64, i64), session: &Session| {
        *calls != session.calls || monotonic_ms.saturating_sub(*at_ms) >= AGAIN_MS
    };
    let mut still = Shown::with_capacity(shown.len());
    // Only those that are to be shown are copied: there may be very many, and nothing new of most.
    let due = gateway.ledger.sessions().select(|session| {
        if session.is_alerted || session.status(now_ms, timeout_ms) != Status::Active {
            return false;
        }
        let key = key_of(session);
        match shown.get(&key).filter(|seen| !is_again(seen, session)) {
            Some(seen) => {
                still.insert(key, *seen);
                false
            }
            None => true,
        }
    });
    for session in due {
        show(gateway, &session, now_ms);
        still.insert(key_of(&session), (session.calls, monotonic_ms));
    }
    *shown = still;
}

fn key_of(session: &Session) -> (Name, Name) {
    (Name::clone(&session.who.tenant), Name::clone(&session.id))
}

/// What policies see of a session. Counts fit a number of Lua's exactly up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn show(gateway: &Gateway, session: &Session, now_ms: i64) {
    let age_ms = now_ms.saturating_sub(session.started_ms).max(0);
    let event = Event::new("session", now_ms)
        .text("session", &*session.id)
        .text("tenant", &*session.who.tenant)
        .text("agent", &*session.who.agent)
        .text("user", &*session.who.user)
        .text("task", &*session.who.task)
        .text("parent", &*session.who.parent)
        .text("status", Status::Active.name())
        .number("age_s", (age_ms / 1_000) as f64)
        .number("calls", session.calls as f64)
        .number("running", f64::from(session.running))
        .number("errors", session.errors as f64)
        .number("tokens", session.tokens as f64)
        .usd("cost_usd", session.cost);
    let origin = Origin::new(&session.who.tenant).standing();
    if report::event(gateway, origin, event).is_alarming {
        gateway
            .ledger
            .mark_session(&session.who.tenant, &session.id, Mark::Alerted);
    }
}
