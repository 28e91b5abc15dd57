//! `refusals.*`: with which status a refusal is sent where clients would otherwise try again without end, hide its reason, or ask
//! their user to log in.

use super::cursor::Cursor;
use super::{Refusals, nearest};
use crate::clients::Client;

/// What stands in the way, as far as its status can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A budget or rate that no waiting of the client's helps over, or no model that fits one.
    Budget,
    Loop,
    Kill,
    /// Other requests that a rule refuses.
    Denial,
}

/// The status of each; `None`: as the refusal itself says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalStatuses {
    pub budget: Option<u16>,
    pub looping: Option<u16>,
    pub kill: Option<u16>,
    pub denial: Option<u16>,
}

impl RefusalStatuses {
    pub const fn of(&self, refused: Refused) -> Option<u16> {
        match refused {
            Refused::Budget => self.budget,
            Refused::Loop => self.looping,
            Refused::Kill => self.kill,
            Refused::Denial => self.denial,
        }
    }

    /// With which each client stops at once and shows why, as tried with the versions that `clients` names. A 429 of a budget
    /// ends Claude Code, Codex and Gemini CLI in the shapes that they are sent; opencode and aider take every 429 for
    /// one to wait for. A 403 reads as a login that failed. LiteLLM is no agent but what many programs call models with: it gets
    /// what any SDK gets, and ends where it backs off.
    const fn of_client(client: Client) -> RefusalStatuses {
        let (budget, looping) = match client {
            Client::ClaudeCode => (429, 429),
            Client::Codex | Client::GeminiCli => (429, 400),
            Client::Opencode | Client::Aider => (400, 400),
            Client::Litellm => {
                return RefusalStatuses {
                    budget: None,
                    looping: None,
                    kill: None,
                    denial: None,
                };
            }
        };
        RefusalStatuses {
            budget: Some(budget),
            looping: Some(looping),
            kill: Some(400),
            denial: Some(400),
        }
    }
}

/// Refusals in a row on one connection before it is closed.
const CLOSE_AFTER: u32 = 20;
const CLOSE_AFTER_MAX: u32 = 1_000_000;
/// The status that the refusal itself has.
const OWN: &str = "own";

pub fn resolve(at: &Cursor<'_>) -> Refusals {
    let by_client = at.at("by_client");
    for (name, given) in by_client.names() {
        if Client::from_name(&name.to_ascii_lowercase()).is_none() {
            let known = Client::ALL.map(Client::name);
            let meant = match nearest(known, name) {
                Some(meant) => format!("; did you mean {meant}?"),
                None => format!(": {}", known.join(", ")),
            };
            given.refuse(format_args!("is no client that is known by name{meant}"));
        }
    }
    Refusals {
        all: statuses(at, RefusalStatuses::default()),
        by_client: Client::ALL.map(|client| {
            let own = by_client.at(client.name());
            (client, statuses(&own, RefusalStatuses::of_client(client)))
        }),
        backing_off: at
            .at("backing_off")
            .word(Some(400), &[(OWN, None), ("400", Some(400)), ("402", Some(402))]),
        close_after: at.at("close_after").count_u32(CLOSE_AFTER, 0, CLOSE_AFTER_MAX),
    }
}

fn statuses(at: &Cursor<'_>, default: RefusalStatuses) -> RefusalStatuses {
    let status = |name: &str, default: Option<u16>, others: &[(&str, Option<u16>)]| {
        let words = [&[(OWN, None), ("400", Some(400))], others].concat();
        at.at(name).word(default, &words)
    };
    let (paid, forbidden, later) = (("402", Some(402)), ("403", Some(403)), ("429", Some(429)));
    RefusalStatuses {
        budget: status("budget", default.budget, &[paid, later]),
        looping: status("loop", default.looping, &[paid, later]),
        kill: status("kill", default.kill, &[forbidden]),
        denial: status("denial", default.denial, &[forbidden]),
    }
}

impl Refusals {
    /// The status for a client, where another one than the refusal's own is to be sent.
    pub fn status(&self, client: Option<Client>, refused: Refused) -> Option<u16> {
        let own = |client| self.by_client.iter().find(|(known, _)| *known == client);
        let of_client = client.and_then(own).and_then(|(_, statuses)| statuses.of(refused));
        of_client.or_else(|| self.all.of(refused))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Config, Env, Known, load_text};

    fn read(yaml: &str) -> Result<Config, String> {
        let none: [(&str, &str); 0] = [];
        load_text(None, yaml, &Env::of(none), &Known::undecided()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_is_said_of_a_client_counts_before_what_is_said_of_all() {
        let refusals =
            read("refusals: {budget: 402, close_after: 3, by_client: {codex: {budget: 400}, aider: {loop: own}}}")
                .unwrap()
                .refusals;
        let of = |client, refused| refusals.status(client, refused);
        assert_eq!(of(None, Refused::Budget), Some(402));
        assert_eq!(of(Some(Client::Codex), Refused::Budget), Some(400));
        assert_eq!(of(Some(Client::Codex), Refused::Denial), Some(400), "its default");
        assert_eq!(of(Some(Client::Opencode), Refused::Budget), Some(400), "its default");
        assert_eq!(
            (of(Some(Client::Aider), Refused::Loop), of(None, Refused::Kill)),
            (None, None)
        );
        assert_eq!(refusals.close_after, 3);
        assert_eq!(read("").unwrap().refusals.status(None, Refused::Budget), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let wrong = |yaml: &str| read(yaml).err().unwrap();
        let error = wrong("refusals: {by_client: {opncode: {budget: 400}}}");
        assert!(
            error.contains("refusals.by_client.opncode") && error.contains("did you mean opencode?"),
            "{error}"
        );
        let error = wrong("refusals: {by_client: {cursor: {budget: 400}}}");
        assert!(error.contains("claude-code, codex"), "{error}");
        let error = wrong("refusals: {budget: 500}");
        assert!(
            error.contains("refusals.budget") && error.contains("is none of own, 400, 402, 429"),
            "{error}"
        );
        let error = wrong("refusals: {by_client: {codex: {kill: 429}}}");
        assert!(error.contains("refusals.by_client.codex.kill"), "{error}");
    }

    #[test]
    fn the_configuration_shows_what_counts() {
        let config = read("refusals: {by_client: {codex: {budget: 402}}}").unwrap();
        let shown = |path: &str| {
            let value = config.given.values.iter().find(|value| value.path == path);
            value.map(|value| value.text.clone())
        };
        assert_eq!(shown("refusals.by_client.opencode.budget").as_deref(), Some("400"));
        assert_eq!(shown("refusals.by_client.codex.budget").as_deref(), Some("402"));
        assert_eq!(shown("refusals.budget").as_deref(), Some("own"));
        assert_eq!(shown("refusals.close_after").as_deref(), Some("20"));
    }
}
