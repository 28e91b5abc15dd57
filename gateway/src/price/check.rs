//! What is wrong with a book although each of its files can be read: prices that contradict each other, names that two files
//! price, cache prices that are missing where the provider has them, rows that nobody has looked at for long.

use std::fmt;

use agentledger_ledger::Kind;

use super::row::{Level, PriceSet, Row, Serves, Tier};
use super::{Overlap, PriceBook};

const DAY_MS: i64 = 86_400_000;

/// Something wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub line: u64,
    pub provider: String,
    pub id: String,
    pub fault: Fault,
}

/// What is wrong. Displays as a sentence about its row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("no price at all")]
    NoPrice,
    #[error("{from} {tier}: no `{kind}`, which this provider bills apart (or say `cache: none`)", kind = .kind.name())]
    MissingCache { from: String, tier: String, kind: Kind },
    #[error("{from} {tier}: `{dear}` costs more than `{cheap}`", dear = .dear.name(), cheap = .cheap.name())]
    Dearer {
        from: String,
        tier: String,
        dear: Kind,
        cheap: Kind,
    },
    #[error("{from} {tier}: `{kind}` costs more than in the standard tier", kind = .kind.name())]
    DearDiscount { from: String, tier: String, kind: Kind },
    #[error("{from} {tier}: `{kind}` costs less than in the standard tier", kind = .kind.name())]
    CheapPriority { from: String, tier: String, kind: Kind },
    #[error("`max_output: 0`, and a price of output")]
    NoOutput,
    #[error("it ends before its first price begins, on {0}")]
    EndsFirst(String),
    #[error("`{name}` is also in {file}:{line}")]
    Overlap { name: String, file: String, line: u64 },
    #[error("it serves `{0}`, which this book does not have")]
    ServesUnknown(String),
    #[error("`checked` is in the future: {0}")]
    FromTheFuture(String),
    #[error("nobody says when it was `checked`")]
    Undated,
    #[error("checked {days} days ago, on {day}: more than {max}")]
    Old { day: String, days: i64, max: u32 },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            file,
            line,
            provider,
            id,
            fault,
        } = self;
        write!(f, "{file}:{line}: {provider} {id}: {fault}")
    }
}

/// All findings, by provider, in the order of the rows. `max_age_days`: rows that were compared with their source longer ago
/// than this, or never, are findings too.
pub fn check(book: &PriceBook, now_ms: i64, max_age_days: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for provider in book.providers() {
        for row in book.rows(provider) {
            let mut checker = Checker {
                row,
                faults: Vec::new(),
            };
            checker.all(now_ms, max_age_days);
            checker.serves(|model| book.row(provider, model).is_some());
            let (file, line) = row.origin();
            findings.extend(checker.faults.into_iter().map(|fault| Finding {
                file: file.to_owned(),
                line,
                provider: provider.to_owned(),
                id: row.id().to_owned(),
                fault,
            }));
        }
        findings.extend(
            book.overlaps(provider)
                .iter()
                .map(|overlap| overlapping(provider, overlap)),
        );
    }
    findings
}

fn overlapping(provider: &str, overlap: &Overlap) -> Finding {
    Finding {
        file: overlap.wins.0.to_string(),
        line: overlap.wins.1,
        provider: provider.to_owned(),
        id: overlap.name.to_string(),
        fault: Fault::Overlap {
            name: overlap.name.to_string(),
            file: overlap.lost.0.to_string(),
            line: overlap.lost.1,
        },
    }
}

struct Checker<'a> {
    row: &'a Row,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    fn all(&mut self, now_ms: i64, max_age_days: Option<u32>) {
        let row = self.row;
        for set in row.sets() {
            self.set(set);
        }
        // What was asked of a model before is history: cache prices are missed in what holds today and later.
        let today = row.set(now_ms).from_ms;
        for set in row.sets().filter(|set| set.from_ms >= today) {
            self.caches(set);
        }
        if row.max_output == Some(0) && self.states_output() {
            self.faults.push(Fault::NoOutput);
        }
        if row.retired_ms.is_some_and(|end| end <= row.first.from_ms) {
            self.faults.push(Fault::EndsFirst(row.first.from().to_owned()));
        }
        self.age(now_ms, max_age_days);
    }

    /// A router is held at the dearest that it may have serve: a name without a row would be left out.
    fn serves(&mut self, has_row: impl Fn(&str) -> bool) {
        if let Some(Serves::Models(models)) = &self.row.serves {
            let unknown = models.iter().filter(|model| !has_row(model));
            self.faults
                .extend(unknown.map(|model| Fault::ServesUnknown(model.to_string())));
        }
    }

    fn states_output(&self) -> bool {
        let mut levels = self.row.sets().flat_map(|set| set.standard.levels());
        levels.any(|level| level.stated(Kind::Output).is_some_and(|price| price.picos() > 0))
    }

    fn set(&mut self, set: &PriceSet) {
        let priced = |level: &Level| Kind::ALL.into_iter().any(|kind| level.stated(kind).is_some());
        if !set.tiers().flat_map(Tier::levels).any(priced) {
            self.faults.push(Fault::NoPrice);
        }
        for tier in set.tiers() {
            for level in tier.levels() {
                self.order(set, tier, level);
                if tier.name() != "standard" {
                    self.against_standard(set, tier, level);
                }
            }
        }
    }

    /// Reading a cache never costs more than reading afresh, nor keeping it for five minutes more than for an hour.
    fn order(&mut self, set: &PriceSet, tier: &Tier, level: &Level) {
        for (dear, cheap) in [
            (Kind::CacheRead, Kind::Input),
            (Kind::CacheReadAudio, Kind::AudioInput),
            (Kind::CacheReadImage, Kind::ImageInput),
            (Kind::CacheWrite5m, Kind::CacheWrite1h),
        ] {
            let pair = level.stated(dear).zip(level.stated(cheap));
            if pair.is_some_and(|(dear, cheap)| dear > cheap) {
                self.faults.push(Fault::Dearer {
                    from: set.from().to_owned(),
                    tier: named(tier, level),
                    dear,
                    cheap,
                });
            }
        }
    }

    fn against_standard(&mut self, set: &PriceSet, tier: &Tier, level: &Level) {
        let Some(standard) = set.standard.levels().find(|other| other.over == level.over) else {
            return;
        };
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_tokens()) {
            let Some((here, there)) = level.stated(kind).zip(standard.stated(kind)) else {
                continue;
            };
            let (from, tier_name) = (set.from().to_owned(), named(tier, level));
            match tier.name() {
                "flex" | "batch" if here > there => self.faults.push(Fault::DearDiscount {
                    from,
                    tier: tier_name,
                    kind,
                }),
                "priority" | "fast" | "ultrafast" if here < there => self.faults.push(Fault::CheapPriority {
                    from,
                    tier: tier_name,
                    kind,
                }),
                _ => {}
            }
        }
    }

    fn caches(&mut self, set: &PriceSet) {
        for level in set.standard.levels() {
            if level.stated(Kind::Output).is_none() {
                continue;
            }
            for kind in self.row.caches.iter().filter(|kind| level.stated(*kind).is_none()) {
                self.faults.push(Fault::MissingCache {
                    from: set.from().to_owned(),
                    tier: named(&set.standard, level),
                    kind,
                });
            }
        }
    }

    fn age(&mut self, now_ms: i64, max_age_days: Option<u32>) {
        let Some(day) = self.row.checked() else {
            if max_age_days.is_some() {
                self.faults.push(Fault::Undated);
            }
            return;
        };
        let Some(checked_ms) = super::day_ms(day) else {
            return;
        };
        let days = (now_ms - checked_ms).div_euclid(DAY_MS);
        // A day ahead is still today somewhere on earth.
        if days < -1 {
            self.faults.push(Fault::FromTheFuture(day.to_owned()));
        }
        if let Some(max) = max_age_days.filter(|max| days > i64::from(*max)) {
            self.faults.push(Fault::Old {
                day: day.to_owned(),
                days,
                max,
            });
        }
    }
}

/// A tier at a level, as price files name it.
pub fn named(tier: &Tier, level: &Level) -> String {
    match level.over() {
        0 => tier.name().to_owned(),
        over => format!("{} >{over}", tier.name()),
    }
}
