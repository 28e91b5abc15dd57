//! What of the sources is believed: the changes that are proposed, and what is held back and why.

use std::collections::{BTreeMap, BTreeSet};

use agentledger_ledger::{Kind, UnitPrice};

use super::offers::{Offer, Offers, Place};
use super::write::{self, Draft};
use crate::price::check::check;
use crate::price::diff::{Difference, day, shown};
use crate::price::row::Row;
use crate::price::{PriceBook, built_in, id};

/// A price that moved by more than this factor is a slip of units more often than news.
const FACTOR_MAX: i64 = 10;
/// Where so many models are compared, more than half of them do not move at once.
const MANY: usize = 8;

/// Something that is not believed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldBack {
    pub provider: String,
    pub id: String,
    /// `standard input: 2 -> 0`; empty where it is the whole model.
    pub what: String,
    pub reason: String,
}

impl std::fmt::Display for HeldBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: ", self.provider, self.id)?;
        if !self.what.is_empty() {
            write!(f, "{}: ", self.what)?;
        }
        f.write_str(&self.reason)
    }
}

/// What would change, and what would not.
#[derive(Debug, Default)]
pub struct Proposal {
    pub changes: Vec<Difference>,
    pub held_back: Vec<HeldBack>,
    /// Differences that the book knows of: its row has a note, or the price of one of two sources that differ.
    pub known: Vec<HeldBack>,
    /// Models of both the book and a source.
    pub compared: usize,
    /// The rows that change, whole.
    pub(super) drafts: Vec<Draft>,
}

/// What the sources say of one model.
#[derive(Default)]
struct Stated<'o> {
    /// By source: how closely the name fits, and the offer.
    offers: BTreeMap<usize, Vec<(u8, &'o Offer)>>,
}

/// One price, where all sources that state it agree.
enum Agreed {
    Price(UnitPrice),
    /// What each has.
    Differ(BTreeMap<UnitPrice, String>),
}

/// Compares the sources with the book.
pub fn propose(book: &PriceBook, sources: &[Offers], now_ms: i64) -> Proposal {
    let mut judge = Judge {
        book,
        sources,
        now_ms,
        today: day(now_ms),
        proposal: Proposal::default(),
    };
    for source in sources {
        let unbelieved = source.unbelieved.iter().map(|said| HeldBack {
            provider: said.provider.clone(),
            id: said.id.clone(),
            what: String::new(),
            reason: format!("{}: {}", source.source, said.reason),
        });
        judge.proposal.held_back.extend(unbelieved);
    }
    let (known, new) = judge.gather();
    judge.proposal.compared = known.len();
    let compared = known.keys().map(|(provider, _)| provider.clone());
    let compared = compared.fold(BTreeMap::<String, usize>::new(), |mut counts, provider| {
        *counts.entry(provider).or_default() += 1;
        counts
    });
    for ((provider, row_id), stated) in &known {
        if let Some(row) = book.row(provider, row_id) {
            judge.known_model(row, stated);
        }
    }
    judge.hold_back_where_most_moved(&compared);
    for ((provider, _), stated) in &new {
        judge.new_model(provider, stated);
    }
    judge.hold_back_what_contradicts_itself();
    let mut proposal = judge.proposal;
    proposal.held_back.sort_unstable();
    proposal.held_back.dedup();
    proposal
}

type Models<'o> = BTreeMap<(String, String), Stated<'o>>;

struct Judge<'a> {
    book: &'a PriceBook,
    sources: &'a [Offers],
    now_ms: i64,
    today: String,
    proposal: Proposal,
}

impl<'a> Judge<'a> {
    /// The offers by the row they are of, and those of models without a row.
    fn gather(&self) -> (Models<'a>, Models<'a>) {
        let (mut known, mut new) = (Models::new(), Models::new());
        for (at, source) in self.sources.iter().enumerate() {
            for offer in source
                .models
                .iter()
                .filter(|offer| self.book.has_provider(&offer.provider))
            {
                let provider = offer.provider.clone();
                let (models, key, fit) = match self.book.row(&provider, &offer.id) {
                    Some(row) if self.is_left_alone(row) => continue,
                    Some(row) => (&mut known, row.id().to_owned(), fit(row, &offer.id)),
                    None => (&mut new, String::from_utf8_lossy(&id::key(&offer.id)).into_owned(), 0),
                };
                let stated = models.entry((provider, key)).or_default();
                stated.offers.entry(at).or_default().push((fit, offer));
            }
        }
        (known, new)
    }

    /// The operator's own rows are his word; of what is served no more prices do not matter.
    fn is_left_alone(&self, row: &Row) -> bool {
        !row.is_model() || row.is_retired(self.now_ms) || !(built_in::is_built_in(&row.file) || row.is_update)
    }

    fn known_model(&mut self, row: &Row, stated: &Stated<'a>) {
        let mut draft = Draft::of(row, &self.today);
        let mut changes = Vec::new();
        for (place, agreed) in self.places(stated) {
            let (tier, over, kind) = &place;
            let ours = current(row, self.now_ms, &place);
            let what = |after: &str| {
                let before = ours.map_or("-".to_owned(), |price| shown(*kind, price));
                format!("{}: {before} -> {after}", write::place_name(tier, *over, *kind))
            };
            let theirs = match agreed {
                Agreed::Price(price) => price,
                Agreed::Differ(prices) => {
                    let all: Vec<String> = prices.values().cloned().collect();
                    let told = held(
                        row,
                        &what("?"),
                        &format!("the sources contradict each other: {}", all.join(", ")),
                    );
                    let is_known = ours.is_some_and(|ours| prices.contains_key(&ours)) || row.note().is_some();
                    self.tell(told, is_known);
                    continue;
                }
            };
            if ours == Some(theirs) || (ours.is_none() && self.changes_nothing(row, &place, theirs)) {
                continue;
            }
            let what = what(&shown(*kind, theirs));
            if let Some(reason) = implausible(ours, theirs) {
                self.tell(held(row, &what, reason), row.note().is_some());
            } else if row.note().is_some() && !row.is_update {
                self.tell(held(row, &what, "the book's row has a note on its price"), true);
            } else {
                draft.set(&place, theirs);
                changes.push(Difference {
                    provider: row.provider().to_owned(),
                    id: row.id().to_owned(),
                    what: write::place_name(tier, *over, *kind),
                    before: ours.map(|price| shown(*kind, price)),
                    after: Some(shown(*kind, theirs)),
                });
            }
        }
        if !changes.is_empty() {
            draft.source = self.names(stated);
            self.proposal.drafts.push(draft);
            self.proposal.changes.append(&mut changes);
        }
    }

    fn tell(&mut self, told: HeldBack, is_known: bool) {
        if is_known {
            self.proposal.known.push(told);
        } else {
            self.proposal.held_back.push(told);
        }
    }

    /// A price that the row does not state and that costs nothing, or the same as what stands in for it. Of units no new kind
    /// is taken: it may be another way to say what tokens cost.
    fn changes_nothing(&self, row: &Row, (tier, over, kind): &Place, theirs: UnitPrice) -> bool {
        if !kind.is_tokens() {
            return true;
        }
        let set = row.set(self.now_ms);
        let found = set.tiers().find(|known| known.name() == tier);
        let same = found.is_some_and(|known| known.level(over.saturating_add(1)).price(*kind) == theirs);
        theirs.picos() == 0 || same
    }

    fn new_model(&mut self, provider: &str, stated: &Stated<'a>) {
        let Some((_, first)) = stated.offers.values().flatten().next() else {
            return;
        };
        if !stated.offers.values().flatten().all(|(_, offer)| offer.is_chat) {
            return;
        }
        let mut hold = |reason: String| {
            self.proposal.held_back.push(HeldBack {
                provider: provider.to_owned(),
                id: first.id.clone(),
                what: "a new model".to_owned(),
                reason,
            });
        };
        if id::Folded::new(&first.id).is_none() || first.id.contains(char::is_whitespace) || first.id.contains('*') {
            return hold("its name is none that is looked up".to_owned());
        }
        let mut draft = Draft::new(provider, &first.id, &self.today);
        let places = places(self.sources, stated);
        for (place, agreed) in &places {
            match agreed {
                Agreed::Price(price) => draft.set(place, *price),
                Agreed::Differ(prices) => {
                    let all: Vec<String> = prices.values().cloned().collect();
                    let (tier, over, kind) = place;
                    let name = write::place_name(tier, *over, *kind);
                    return hold(format!("{name}: the sources contradict each other: {}", all.join(", ")));
                }
            }
        }
        let base = |kind| match places.get(&("standard".to_owned(), 0, kind)) {
            Some(Agreed::Price(price)) => Some(*price),
            _ => None,
        };
        let Some(input) = base(Kind::Input) else {
            return hold("it has no price of input".to_owned());
        };
        let output = base(Kind::Output).unwrap_or(input);
        if input.picos() == 0 || output.picos() == 0 {
            return hold("it would be free".to_owned());
        }
        let dearest = self.book.dearest(provider, self.now_ms);
        let most = dearest.map_or(i64::MAX, |quote| quote.output_price(0, None).picos());
        if output.max(input).picos() / FACTOR_MAX > most {
            return hold("it would cost more than ten times the provider's dearest model".to_owned());
        }
        draft.max_output = stated
            .offers
            .values()
            .flatten()
            .filter_map(|(_, offer)| offer.max_output)
            .max();
        draft.source = self.names(stated);
        self.proposal.changes.push(Difference {
            provider: provider.to_owned(),
            id: first.id.clone(),
            what: "standard input, output".to_owned(),
            before: None,
            after: Some(format!("{}, {}", input.per_million(), output.per_million())),
        });
        self.proposal.drafts.push(draft);
    }

    fn places(&self, stated: &Stated<'a>) -> BTreeMap<Place, Agreed> {
        places(self.sources, stated)
    }

    fn names(&self, stated: &Stated<'_>) -> String {
        let names = stated.offers.keys().filter_map(|at| self.sources.get(*at));
        names
            .map(|source| source.source.as_str())
            .collect::<Vec<_>>()
            .join(" and ")
    }

    /// Another currency, or another unit, moves everything at once.
    fn hold_back_where_most_moved(&mut self, compared: &BTreeMap<String, usize>) {
        let mut moved = BTreeMap::<String, usize>::new();
        for draft in &self.proposal.drafts {
            *moved.entry(draft.provider.clone()).or_default() += 1;
        }
        let most = |moved: usize, of: usize| of >= MANY && moved * 2 > of;
        let all = most(self.proposal.drafts.len(), self.proposal.compared);
        let doubted: BTreeMap<String, String> = moved
            .into_iter()
            .filter_map(|(provider, count)| {
                let of = compared.get(&provider).copied().unwrap_or_default();
                (all || most(count, of)).then(|| (provider, format!("{count} of {of} models moved at once")))
            })
            .collect();
        self.drop_drafts(|draft| doubted.get(&draft.provider).cloned());
    }

    /// A row that is at fault with the change and was not without it.
    fn hold_back_what_contradicts_itself(&mut self) {
        let (book, now_ms, today) = (self.book, self.now_ms, self.today.clone());
        let faults = |draft: &Draft| -> BTreeSet<String> {
            let text = write::document(&draft.provider, std::slice::from_ref(draft), &today);
            match PriceBook::empty().with_texts(&[("update", &text)]) {
                Ok(alone) => check(&alone, now_ms, None)
                    .iter()
                    .map(|finding| finding.fault.to_string().replace(&today, ""))
                    .collect(),
                Err(errors) => errors.iter().map(ToString::to_string).collect(),
            }
        };
        self.drop_drafts(|draft| {
            let before = book.row(&draft.provider, &draft.id);
            let had = before.map(|row| faults(&Draft::as_it_is(row))).unwrap_or_default();
            // Told of the prices before, it says another day; what it says of the kinds is the same.
            let kinds = |fault: &String| {
                fault
                    .split_once(' ')
                    .map(|(_, rest)| rest.to_owned())
                    .unwrap_or_default()
            };
            let had: BTreeSet<String> = had.iter().map(kinds).collect();
            faults(draft).into_iter().find(|fault| !had.contains(&kinds(fault)))
        });
    }

    fn drop_drafts(&mut self, doubt: impl Fn(&Draft) -> Option<String>) {
        let drafts = std::mem::take(&mut self.proposal.drafts);
        for draft in drafts {
            let Some(reason) = doubt(&draft) else {
                self.proposal.drafts.push(draft);
                continue;
            };
            let is_its = |change: &Difference| change.provider == draft.provider && change.id == draft.id;
            let (dropped, kept) = std::mem::take(&mut self.proposal.changes).into_iter().partition(is_its);
            self.proposal.changes = kept;
            let dropped: Vec<Difference> = dropped;
            let told = dropped.into_iter().map(|change| {
                let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
                HeldBack {
                    provider: change.provider,
                    id: change.id,
                    what: format!("{}: {} -> {}", change.what, show(change.before), show(change.after)),
                    reason: reason.clone(),
                }
            });
            self.proposal.held_back.extend(told);
        }
    }
}

/// How closely a name fits a row: its id, an alias, a snapshot of it.
fn fit(row: &Row, name: &str) -> u8 {
    let folded = id::key(name);
    if folded == id::key(row.id()) {
        0
    } else if row.aliases().any(|alias| id::key(alias) == folded) {
        1
    } else {
        2
    }
}

/// Each price that sources state of a model, by those of their names that fit best.
fn places(sources: &[Offers], stated: &Stated<'_>) -> BTreeMap<Place, Agreed> {
    let mut values = BTreeMap::<Place, BTreeMap<UnitPrice, String>>::new();
    for (at, offers) in &stated.offers {
        let source = sources.get(*at).map_or("", |source| source.source.as_str());
        let best = offers.iter().map(|(fit, _)| *fit).min().unwrap_or_default();
        for (_, offer) in offers.iter().filter(|(fit, _)| *fit == best) {
            for (place, price) in &offer.prices {
                let said = format!("{source} has {}", shown(place.2, *price));
                values.entry(place.clone()).or_default().entry(*price).or_insert(said);
            }
        }
    }
    let agreed = values.into_iter().map(|(place, prices)| {
        let only = prices.keys().next().copied().filter(|_| prices.len() == 1);
        (place, only.map_or(Agreed::Differ(prices), Agreed::Price))
    });
    agreed.collect()
}

/// What a row states today.
fn current(row: &Row, now_ms: i64, (tier, over, kind): &Place) -> Option<UnitPrice> {
    let tier = row.set(now_ms).tiers().find(|known| known.name() == tier)?;
    tier.levels().find(|level| level.over() == *over)?.stated(*kind)
}

fn implausible(ours: Option<UnitPrice>, theirs: UnitPrice) -> Option<&'static str> {
    let (ours, theirs) = (ours?.picos(), theirs.picos());
    match (ours, theirs) {
        (1.., 0) => Some("it would be free"),
        (1.., _) if theirs / FACTOR_MAX >= ours => Some("it would cost ten times as much or more"),
        (1.., _) if ours / FACTOR_MAX >= theirs => Some("it would cost a tenth or less"),
        _ => None,
    }
}

fn held(row: &Row, what: &str, reason: &str) -> HeldBack {
    HeldBack {
        provider: row.provider().to_owned(),
        id: row.id().to_owned(),
        what: what.to_owned(),
        reason: reason.to_owned(),
    }
}
