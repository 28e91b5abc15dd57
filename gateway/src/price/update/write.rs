//! Rows as price files have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use agentledger_ledger::{Kind, UnitPrice};

use super::offers::Place;
use crate::price::diff::{day, shown};
use crate::price::row::{KindSet, PriceSet, Row, Tier};

/// A row that is going to be written: all that it states.
#[derive(Clone, Debug)]
pub struct Draft {
    pub provider: String,
    pub id: String,
    pub source: String,
    pub max_output: Option<u64>,
    checked: String,
    aliases: Vec<String>,
    retired: Option<String>,
    note: Option<String>,
    minimum: Vec<(Kind, u64)>,
    caches: KindSet,
    /// Names of service tiers that are written as another one.
    also: BTreeMap<String, String>,
    /// By the day from which they hold.
    sets: BTreeMap<String, DraftSet>,
    /// The set that changes are made to.
    today: String,
}

/// Tiers in their order, each with its prices by the tokens of input above which they hold.
type DraftSet = Vec<(String, BTreeMap<u64, BTreeMap<String, String>>)>;

impl Draft {
    pub fn new(provider: &str, id: &str, today: &str) -> Draft {
        Draft {
            provider: provider.to_owned(),
            id: id.to_owned(),
            source: String::new(),
            max_output: None,
            checked: today.to_owned(),
            aliases: Vec::new(),
            retired: None,
            note: None,
            minimum: Vec::new(),
            caches: KindSet::default(),
            also: BTreeMap::new(),
            sets: BTreeMap::from([(today.to_owned(), vec![("standard".to_owned(), BTreeMap::new())])]),
            today: today.to_owned(),
        }
    }

    /// A row, with prices of today that changes are made to.
    pub fn of(row: &Row, today: &str) -> Draft {
        let mut draft = Draft {
            checked: today.to_owned(),
            today: today.to_owned(),
            ..Draft::as_it_is(row)
        };
        let holding = draft.sets.range(..=today.to_owned()).next_back();
        // The first prices also hold before their day.
        let holding = holding.or_else(|| draft.sets.iter().next()).map(|(_, set)| set.clone());
        draft
            .sets
            .entry(today.to_owned())
            .or_insert(holding.unwrap_or_default());
        draft
    }

    pub fn as_it_is(row: &Row) -> Draft {
        let tiers = row.sets().flat_map(PriceSet::tiers);
        let also = tiers.flat_map(|tier| {
            tier.also
                .iter()
                .map(|other| (other.to_string(), tier.name().to_owned()))
        });
        Draft {
            provider: row.provider().to_owned(),
            id: row.id().to_owned(),
            source: row.source().to_owned(),
            max_output: row.max_output(),
            checked: row.checked().unwrap_or_default().to_owned(),
            aliases: row.aliases().map(str::to_owned).collect(),
            retired: row.retired_ms().map(day),
            note: row.note().map(str::to_owned),
            minimum: row.minimum().to_vec(),
            caches: row.caches,
            also: also.collect(),
            sets: row.sets().map(|set| (set.from().to_owned(), draft_set(set))).collect(),
            today: String::new(),
        }
    }

    /// States a price, from today on.
    pub fn set(&mut self, (tier, over, kind): &Place, price: UnitPrice) {
        let set = self.sets.entry(self.today.clone()).or_default();
        let at = set.iter().position(|(name, _)| name == tier).unwrap_or(set.len());
        if at == set.len() {
            set.push((tier.clone(), BTreeMap::new()));
        }
        if let Some((_, levels)) = set.get_mut(at) {
            levels.entry(0).or_default();
            let prices = levels.entry(*over).or_default();
            prices.insert(kind.name().to_owned(), shown(*kind, price));
        }
    }

    fn write(&self, to: &mut String, caches: KindSet) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let _ = writeln!(to, "- id: {}", quoted(&self.id));
        let mut line = |key: &str, value: String| {
            let _ = writeln!(to, "  {key}: {value}");
        };
        if !self.aliases.is_empty() {
            let aliases: Vec<String> = self.aliases.iter().map(|alias| quoted(alias)).collect();
            line("aliases", format!("[{}]", aliases.join(", ")));
        }
        if let Some(most) = self.max_output {
            line("max_output", most.to_string());
        }
        if let Some(day) = &self.retired {
            line("retired", day.clone());
        }
        line("source", quoted(&self.source));
        if !self.checked.is_empty() {
            line("checked", self.checked.clone());
        }
        if let Some(note) = &self.note {
            line("note", quoted(note));
        }
        if self.caches != caches {
            line("cache", "part".to_owned());
        }
        if !self.minimum.is_empty() {
            let units = self
                .minimum
                .iter()
                .map(|(kind, units)| format!("{}: {units}", kind.name()));
            line("minimum", format!("{{{}}}", units.collect::<Vec<_>>().join(", ")));
        }
        line("prices", String::new());
        for (from, set) in &self.sets {
            let from = if from == "1970-01-01" { "always" } else { from };
            let _ = writeln!(to, "    {from}:");
            for (tier, levels) in set {
                for (over, prices) in levels {
                    let _ = writeln!(to, "      {}: {{{}}}", tier_name(tier, *over), in_order(prices));
                }
            }
        }
    }
}

/// The tiers of a set, with what they state.
fn draft_set(set: &PriceSet) -> DraftSet {
    let tier = |tier: &Tier| {
        let levels = tier.levels().filter_map(|level| {
            let stated = |kind: Kind| Some((kind.name().to_owned(), shown(kind, level.stated(kind)?)));
            let mut prices: BTreeMap<String, String> = Kind::ALL.into_iter().filter_map(stated).collect();
            // What was put there for another tier's threshold states nothing.
            if prices.is_empty() && level.over() > 0 {
                return None;
            }
            prices.extend(
                level
                    .reasoning()
                    .map(|price| ("reasoning".to_owned(), price.per_million())),
            );
            Some((level.over(), prices))
        });
        (tier.name().to_owned(), levels.collect())
    };
    set.tiers().map(tier).collect()
}

fn in_order(prices: &BTreeMap<String, String>) -> String {
    let place = |name: &str| Kind::from_name(name).map_or(usize::MAX, |kind| kind as usize);
    let mut sorted: Vec<_> = prices.iter().collect();
    sorted.sort_by_key(|(name, _)| place(name));
    let shown: Vec<String> = sorted.iter().map(|(name, price)| format!("{name}: {price}")).collect();
    shown.join(", ")
}

fn tier_name(tier: &str, over: u64) -> String {
    match over {
        0 => tier.to_owned(),
        over => format!("{tier} >{over}"),
    }
}

/// `standard >272000 input`
pub fn place_name(tier: &str, over: u64, kind: Kind) -> String {
    format!("{} {}", tier_name(tier, over), kind.name())
}

/// One provider's list.
pub fn document(provider: &str, rows: &[Draft], today: &str) -> String {
    let mut text = format!("provider: {provider}\nupdate: {today}\n");
    let also: BTreeSet<(&String, &String)> = rows.iter().flat_map(|row| &row.also).collect();
    if !also.is_empty() {
        let tiers: Vec<String> = also.iter().map(|(other, tier)| format!("{other}: {tier}")).collect();
        let _ = writeln!(text, "tiers: {{{}}}", tiers.join(", "));
    }
    let kinds = rows.iter().flat_map(|row| row.caches.iter());
    let caches = kinds.fold(KindSet::default(), KindSet::with);
    if !caches.is_empty() {
        let names: Vec<&str> = caches.iter().map(Kind::name).collect();
        let _ = writeln!(text, "caches: [{}]", names.join(", "));
    }
    text.push_str("models:\n");
    for row in rows {
        row.write(&mut text, caches);
    }
    text
}
