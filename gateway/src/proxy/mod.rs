//! The data plane: the way of a request, step by step.
//!
//! ```text
//! sanitize → identify → inspect → decide → reserve → forward → relay ∥ meter → settle → report
//! ```
//!
//! | room | does |
//! |---|---|
//! | `accept` | listens, takes each request through the steps; hands the control plane's requests on |
//! | `sanitize` | framing, sizes, the one spelling of a path, the body; what of a head passes |
//! | `identify` | route → provider; which key counts, and its fingerprint; who sends it; pages that may not |
//! | `inspect` | reads the body once, outlines it, has the plugin read the outline |
//! | `decide` | runs the policies |
//! | `reserve` | `estimate` sizes the hold, `rates` takes the rates, `place` puts it on all bounds or none, `extend` lets a stream go on |
//! | `forward` | the upstream request: edits, `sign`, `pool` and `breaker`, retries |
//! | `relay` | bytes go on as they come, the meter reads a copy; `rewrite_links` |
//! | `settle` | usage × price → the entry; the hold ends; `unread`: what is not read costs what was held; `unanswered`, `learn` |
//! | `alerts` | puts out what policies ask people to be notified of; `facts` shows them what happens, `version_fate` what becomes of versions, `books_watch` what the books say |
//! | `report` | metrics, the log line, alerts: at the end, and as it happens |
//! | `fetch` | in place of reserve, where a request only fetches a result: billed once |
//! | `socket` | WebSockets: each answer on one goes through the steps by itself |
//! | `session` | what a request has to do with its session; `progress` of all sessions' steps, `steps` of one's, `watch` over those that run |
//! | `shared` | the exchange that the steps fill, the gateway and its rules, prices, refusals |
//!
//! Nothing reaches back. A module imports only what stands before it here (or in its own room, never in a circle), which
//! `gateway/tests/tidy.rs` checks:
//!
//! ```text
//! order: shared/codes shared/http_session shared/cors shared/top_up_command shared/refusal_text shared/reply shared/retry_patterns shared/json_rpc shared/drain shared/body shared/client shared/allowance shared/backing_off shared/cached_input
//! order: session/steps session/progress forward/breaker forward/pool identify/clients
//! order: shared/rules shared/inspected shared/identity shared/expected_use shared/known_head shared/exchange shared/pricing shared/deferred_holds shared/live_answers shared/upkeep shared/gateway
//! order: alerts facts version_fate report books_watch shared/shapes shared/refused shared session
//! order: sanitize identify inspect decide reserve forward relay settle
//! order: fetch socket accept
//! ```

pub mod accept;
pub mod alerts;
pub mod books_watch;
pub mod decide;
pub mod facts;
pub mod fetch;
pub mod forward;
pub mod identify;
pub mod inspect;
pub mod relay;
pub mod report;
pub mod reserve;
pub mod sanitize;
pub mod session;
pub mod settle;
pub mod shared;
pub mod socket;
pub mod version_fate;
