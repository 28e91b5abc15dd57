//! A gateway in this process, a scripted upstream, a client: a test through them reads as a sentence.

pub mod aws;
pub mod client;
pub mod collector;
pub mod json_schema;
pub mod mail;
pub mod mcp;
pub mod original;
pub mod process;
pub mod socket;
pub mod upstream;

use std::path::Path;
use std::sync::Arc;

use agentledger::testing::Alert;
use agentledger::testing::config::{self, Env, Known};
use agentledger::testing::launch::{self, Launched};
use agentledger::testing::plugin::{Dialect, Plugin};
use agentledger_ledger::{BalanceRow, Clock, Dimension, Entry, EntryQuery, SummaryQuery, SystemClock};

pub use client::Client;
pub use process::Installation;
pub use socket::{Peer, SocketUpstream};
pub use upstream::{Gate, Script, Upstream};

/// A running gateway on a port of its own, with a ledger of its own.
pub struct Gateway {
    launched: Option<Launched>,
    pub dir: Arc<tempfile::TempDir>,
    pub client: Client,
}

/// How a gateway is made.
pub struct Setup {
    yaml: String,
    /// Of single policies, `NAME: {…}, `.
    conf: String,
    dir: Arc<tempfile::TempDir>,
    clock: Arc<dyn Clock>,
    replaced: Option<(&'static str, ReplaceDialect)>,
}

/// Makes another dialect of a built-in one.
pub type ReplaceDialect = fn(Arc<dyn Dialect>) -> Arc<dyn Dialect>;

impl Setup {
    /// Both root providers lead to the upstream.
    pub fn new(upstream: &Upstream) -> Setup {
        Setup::to(&upstream.base())
    }

    /// Both root providers lead to this base.
    pub fn to(base: &str) -> Setup {
        Setup {
            yaml: format!("providers:\n  openai: {{upstream: \"{base}\"}}\n  anthropic: {{upstream: \"{base}\"}}\n"),
            conf: String::new(),
            dir: Arc::new(tempfile::tempdir().unwrap()),
            clock: Arc::new(SystemClock::default()),
            replaced: None,
        }
    }

    /// With another plugin in the place of a built-in one.
    pub fn replacing(mut self, dialect: &'static str, with: ReplaceDialect) -> Setup {
        self.replaced = Some((dialect, with));
        self
    }

    /// Further configuration, top level YAML.
    pub fn with(mut self, yaml: &str) -> Setup {
        self.yaml.push_str(yaml);
        self.yaml.push('\n');
        self
    }

    /// The whole configuration but for listen and storage.
    pub fn only(mut self, yaml: &str) -> Setup {
        self.yaml = format!("{yaml}\n");
        self
    }

    /// The conf of one policy, over what the contract's sections say.
    pub fn conf(mut self, policy: &str, yaml: &str) -> Setup {
        self.conf.push_str(&format!("{policy}: {yaml}, "));
        self
    }

    /// A policy file in the folder, there from the start.
    pub fn policy(self, name: &str, text: &str) -> Setup {
        let dir = self.dir.path().join("policies");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.lua")), text).unwrap();
        self
    }

    /// A price file of its own.
    pub fn prices(self, text: &str) -> Setup {
        let file = self.dir.path().join("prices.yaml");
        std::fs::write(&file, text).unwrap();
        self.with(&format!("prices: {{files: [\"{}\"]}}", file.display()))
    }

    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Setup {
        self.clock = clock;
        self
    }

    /// In the folder of another gateway: its ledger is opened again.
    pub fn in_dir(mut self, dir: &Arc<tempfile::TempDir>) -> Setup {
        self.dir = Arc::clone(dir);
        self
    }

    pub fn start(self) -> Gateway {
        let dir = self.dir.path();
        // Clients of these tests call it `gateway`.
        let text = format!(
            "listen: \"127.0.0.1:0\"\nhosts: [gateway]\nstorage: {{driver: sled, dsn: \"{}\"}}\npolicies: {{dir: \"{}\", conf: {{{}}}}}\n{}",
            dir.join("ledger").display(),
            dir.join("policies").display(),
            self.conf,
            without_policies(&self.yaml),
        );
        let known = Known::built_in();
        let none: [(&str, &str); 0] = [];
        let config = config::load_text(None, &text, &Env::of(none), &known).unwrap_or_else(|errors| panic!("{errors}"));
        let mut loaded = launch::of_config(config).unwrap_or_else(|error| panic!("{error}"));
        if let Some((name, replace)) = self.replaced {
            let dialect = replace(Arc::clone(&loaded.plugins.get(name).unwrap().dialect));
            loaded.plugins.add(Plugin::new(dialect, "a test").unwrap());
        }
        let launched = launch::launch(loaded, self.clock).unwrap_or_else(|error| panic!("{error}"));
        let client = Client::to(launched.address());
        Gateway {
            launched: Some(launched),
            dir: self.dir,
            client,
        }
    }
}

fn without_policies(yaml: &str) -> String {
    assert!(!yaml.contains("\npolicies:"), "the harness sets the policies folder");
    yaml.to_owned()
}

impl Gateway {
    pub fn to(upstream: &Upstream) -> Gateway {
        Setup::new(upstream).start()
    }

    pub fn launched(&self) -> &Launched {
        self.launched.as_ref().unwrap()
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.launched().address()
    }

    /// The latest alerts, oldest first.
    pub fn alerts(&self) -> Vec<Alert> {
        let recent = self.launched().gateway().alerts.recent();
        recent.iter().map(|numbered| numbered.alert.clone()).collect()
    }

    /// The books of one account, by window instance.
    pub fn balances(&self, prefix: &str) -> Vec<BalanceRow> {
        // They are those of the events that are applied.
        block_on(self.launched().gateway().ledger.flushed());
        let mut rows = self.launched().gateway().ledger.balances();
        rows.retain(|row| row.account.starts_with(prefix));
        rows
    }

    /// Settled requests by the values of a tag.
    pub fn requests_by_tag(&self, tag: &str) -> Vec<(String, u64)> {
        let query = SummaryQuery {
            from_ms: 0,
            to_ms: i64::MAX,
            by: Dimension::Tag(tag.into()),
            tenant: None,
        };
        let rows = self.launched().gateway().ledger.summary(&query);
        rows.iter().map(|row| (row.tag.to_string(), row.requests)).collect()
    }

    /// Waits, boundedly, until nothing runs; holds may wait for their results.
    pub fn wait_in_flight(&self) {
        let gateway = self.launched().gateway();
        for _ in 0..1500 {
            if gateway.drain.in_flight() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{} in flight", gateway.drain.in_flight());
    }

    /// Waits, boundedly, until nothing runs and nothing is held.
    pub fn wait_idle(&self) {
        let gateway = self.launched().gateway();
        for _ in 0..1500 {
            if gateway.drain.in_flight() == 0 && gateway.ledger.open_holds().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!(
            "{} in flight, {} holds open",
            gateway.drain.in_flight(),
            gateway.ledger.open_holds().len()
        );
    }

    /// All entries, once everything decided is on disk.
    pub fn entries(&self) -> Vec<Entry> {
        let ledger = &self.launched().gateway().ledger;
        block_on(ledger.flushed());
        let query = EntryQuery {
            from_ms: 0,
            to_ms: i64::MAX,
            limit: 100_000,
            after: None,
        };
        ledger.entries(&query).unwrap().entries
    }

    /// The one entry there is.
    pub fn entry(&self) -> Entry {
        let mut entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:#?}");
        entries.remove(0)
    }

    /// Waits, boundedly, until there are so many entries.
    pub fn entries_of(&self, count: usize) -> Vec<Entry> {
        for _ in 0..500 {
            let entries = self.entries();
            if entries.len() >= count {
                return entries;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("expected {count} entries, there are {:#?}", self.entries());
    }

    /// Goes down in order.
    pub fn stop(mut self) -> Arc<tempfile::TempDir> {
        self.launched.take().unwrap().stop(std::future::pending());
        Arc::clone(&self.dir)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(launched) = self.launched.take() {
            launched.stop(std::future::ready(()));
        }
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A port that nobody listens on.
pub fn dead_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The workspace's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
