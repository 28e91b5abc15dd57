//! The routes of a plugin as a document, and what is missing in them: no spending passes free without a reason.

use std::fmt::Write as _;

use crate::{Billing, Route};

/// Methods whose requests may make a provider work.
const SPENDING: [&str; 4] = ["POST", "PUT", "PATCH", "WEBSOCKET"];

/// The routes as a table in Markdown: endpoint, vendors, what becomes of it, what is billed and how it is read, source.
/// Rows that differ in their path alone stand together; the order is that of the routes.
pub fn table(routes: &[Route]) -> String {
    let mut groups: Vec<(&Route, Vec<&str>)> = vec![];
    for route in routes {
        match groups.iter_mut().find(|(first, _)| alike(first, route)) {
            Some((_, paths)) => paths.push(&route.path),
            None => groups.push((route, vec![&route.path])),
        }
    }
    let mut text = String::from(
        "| Endpoint | Vendors | Here | What is billed, and how it is read | Source |\n|---|---|---|---|---|\n",
    );
    for (route, paths) in groups {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| format!("`{} {}`", route.method, cell(path)))
            .collect();
        let vendors = match route.vendors.as_slice() {
            [] => "all".to_owned(),
            some => some.join(", "),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            paths.join("<br>"),
            cell(&vendors),
            word(route.billing),
            cell(&route.reason),
            cell(&route.source)
        );
    }
    text
}

/// Set to anything, it makes [`documented`] write the document in place of comparing it.
pub const WRITE: &str = "AGENTLEDGER_WRITE_ENDPOINTS";

/// For a plugin's test: holds its document of endpoints equal to its routes, which follow the `heading`.
///
/// # Errors
/// The document says something else, cannot be read, or cannot be written.
pub fn documented(document: &std::path::Path, heading: &str, routes: &[Route]) -> Result<(), String> {
    let right = format!("{heading}\n\n{}", table(routes));
    let told = |error: std::io::Error| format!("{}: {error}", document.display());
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(document, right).map_err(told);
    }
    let found = std::fs::read_to_string(document).map_err(told)?;
    difference(&found, &right).map_or(Ok(()), |lines| {
        Err(format!("{} (set {WRITE} to write it):\n{lines}", document.display()))
    })
}

fn difference(found: &str, right: &str) -> Option<String> {
    if found == right {
        return None;
    }
    let missing = |text: &str, other: &str, mark: char| -> Vec<String> {
        let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{mark} {line}")).collect()
    };
    let lines = [missing(right, found, '+'), missing(found, right, '-')].concat();
    Some(if lines.is_empty() {
        "the lines stand in another order".to_owned()
    } else {
        lines.join("\n")
    })
}

/// Faults of a table of routes, a sentence each: what may spend is metered; or free or fetched with a reason and its
/// source; or refused with a reason.
pub fn faults(routes: &[Route]) -> Vec<String> {
    let mut faults = vec![];
    for (at, route) in routes.iter().enumerate() {
        let what = format!("{} {}", route.method, route.path);
        let spends = SPENDING.contains(&route.method.as_str());
        let unsourced = route.reason.is_empty() || !route.source.starts_with("https://");
        match route.billing {
            Billing::Free | Billing::Fetched | Billing::FetchedLines if spends && unsourced => {
                faults.push(format!("{what} may spend and passes without a reason and a source"));
            }
            Billing::Refused if route.reason.is_empty() => faults.push(format!("{what} is refused without a reason")),
            _ => {}
        }
        let earlier = routes.iter().take(at).find(|one| hides(one, route));
        if let Some(earlier) = earlier {
            faults.push(format!("{what} never counts: {} stands before it", earlier.path));
        }
    }
    faults
}

/// Rows that do not say what is billed and where their vendor says so, a sentence each.
pub fn unexplained(routes: &[Route]) -> Vec<String> {
    let bare = routes
        .iter()
        .filter(|row| row.reason.is_empty() || row.source.is_empty());
    bare.map(|row| format!("{} {} has no reason or no source", row.method, row.path))
        .collect()
}

/// Endpoints, a method and a plain path each, whose row is neither metered nor refused, or that have none: for what is known to
/// spend.
pub fn unguarded(routes: &[Route], vendor: &str, spending: &[(&str, &str)]) -> Vec<String> {
    let billing = |method: &str, path: &str| first(routes, vendor, method, path).map(|row| row.billing);
    let guarded = |billing: Option<Billing>| matches!(billing, Some(Billing::Metered | Billing::Refused));
    let open = spending
        .iter()
        .map(|(method, path)| (method, path, billing(method, path)));
    open.filter(|(_, _, billing)| !guarded(*billing))
        .map(|(method, path, billing)| format!("{method} {path}: {billing:?}"))
        .collect()
}

/// The row that counts for a path at a vendor's hosts, as the host finds it: the first that fits. For tests, with plain paths.
pub fn first<'r>(routes: &'r [Route], vendor: &str, method: &str, path: &str) -> Option<&'r Route> {
    let at = |row: &&Route| row.vendors.is_empty() || row.vendors.iter().any(|one| one == vendor);
    let mut rows = routes.iter().filter(|row| row.method == method).filter(at);
    rows.find(|row| covers(&row.path, path))
}

/// One row of the table.
fn alike(one: &Route, other: &Route) -> bool {
    one.method == other.method
        && one.billing == other.billing
        && one.vendors == other.vendors
        && one.reason == other.reason
        && one.source == other.source
}

/// Whatever fits the later route fits the earlier one, at every host of the later.
fn hides(earlier: &Route, later: &Route) -> bool {
    let everywhere = earlier.vendors.is_empty()
        || (!later.vendors.is_empty() && later.vendors.iter().all(|vendor| earlier.vendors.contains(vendor)));
    earlier.method == later.method && everywhere && covers(&earlier.path, &later.path)
}

fn covers(earlier: &str, later: &str) -> bool {
    let (mut wide, mut narrow) = (earlier.split('/'), later.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("*"), Some(_)) | (None, None) => return true,
            (Some(_), Some("*")) | (Some(_), None) | (None, Some(_)) => return false,
            (Some(one), Some(other)) => {
                let verb = one.strip_prefix("{model}:");
                let takes = match one {
                    // A model's segment may bear an ARN, which no other takes.
                    "{any}" | "{id}" => other != "{model}" && !other.is_empty(),
                    "{model}" => !other.is_empty(),
                    _ => verb.is_some_and(|verb| other.ends_with(&format!(":{verb}"))),
                };
                if one != other && !takes {
                    return false;
                }
            }
        }
    }
}

fn word(billing: Billing) -> &'static str {
    match billing {
        Billing::Metered => "metered",
        Billing::Free => "free",
        Billing::Fetched => "billed when fetched",
        Billing::FetchedLines => "billed line by line when fetched",
        Billing::Refused => "refused",
    }
}

/// A cell of a table: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::{because, only_at, route};

    const SOURCE: &str = "https://acme.example/docs";

    fn plain(method: &str, path: &str, billing: Billing) -> Route {
        route(method, path, "o", billing)
    }

    #[test]
    fn a_table_groups_paths_and_is_compared_line_by_line() {
        let told = |path: &str| because(plain("POST", path, Billing::Free), "costs a|nothing", SOURCE);
        let routes = [
            told("/v1/count"),
            only_at(&["acme"], plain("POST", "/v1/chat", Billing::Metered)),
            told("/v2/count"),
        ];
        let text = table(&routes);
        assert_eq!(text.lines().count(), 4, "{text}");
        let row =
            "| `POST /v1/count`<br>`POST /v2/count` | all | free | costs a\\|nothing | https://acme.example/docs |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| `POST /v1/chat` | acme | metered |  |  |"), "{text}");
        let (right, less) = (format!("# Title\n\n{text}"), table(&routes[..2]));
        assert_eq!(difference(&right, &right), None);
        let told = difference(&right, &less).unwrap();
        assert!(
            told.contains("+ | `POST /v1/count` |") && told.contains("- | `POST /v1/count`<br>"),
            "{told}"
        );
        let turned: String = right.lines().rev().map(|line| format!("{line}\n")).collect();
        assert!(difference(&turned, &right).unwrap().contains("another order"));
    }

    #[test]
    fn what_may_spend_is_explained_or_a_fault() {
        let count = |routes: &[Route]| faults(routes).len();
        let (post, get) = (
            |billing| plain("POST", "/v1/x", billing),
            |billing| plain("GET", "/v1/x", billing),
        );
        assert_eq!(count(&[post(Billing::Metered)]), 0);
        assert_eq!(count(&[get(Billing::Free)]), 0);
        for billing in [Billing::Free, Billing::Fetched, Billing::FetchedLines] {
            assert_eq!(count(&[post(billing)]), 1);
            assert_eq!(count(&[because(post(billing), "why", "")]), 1);
            assert_eq!(count(&[because(post(billing), "why", SOURCE)]), 0);
        }
        assert_eq!(count(&[get(Billing::Refused)]), 1);
        assert_eq!(count(&[because(get(Billing::Refused), "why", "")]), 0);
        assert_eq!(count(&[plain("WEBSOCKET", "/v1/live", Billing::Free)]), 1);
    }

    #[test]
    fn what_spends_is_guarded_and_each_row_explained() {
        let routes = [
            because(plain("POST", "/v1/{any}/runs", Billing::Refused), "why", SOURCE),
            plain("POST", "/v1/chat", Billing::Metered),
            only_at(&["acme"], plain("POST", "/v1/store", Billing::Free)),
        ];
        assert_eq!(unexplained(&routes).len(), 2);
        let open = |path: &str| unguarded(&routes, "acme", &[("POST", path)]).len();
        assert_eq!((open("/v1/chat"), open("/v1/t/runs")), (0, 0));
        assert_eq!((open("/v1/store"), open("/v1/unknown")), (1, 1));
    }

    #[test]
    fn a_row_behind_one_that_takes_all_of_it_is_a_fault() {
        let hidden = |first: &str, second: &str| {
            let routes = [plain("GET", first, Billing::Free), plain("GET", second, Billing::Free)];
            !faults(&routes).is_empty()
        };
        for (first, second, expected) in [
            ("/v1/*", "/v1/files/{any}", true),
            ("/v1/files/{any}", "/v1/files/{id}", true),
            ("/v1/files/{any}", "/v1/files/*", false),
            ("/v1/{any}/x", "/v1/files/{any}", false),
            ("/v1/m/{model}:go", "/v1/m/{model}:go", true),
            ("/v1/m/{model}:go", "/v1/m/x:go", true),
            ("/v1/m/{model}:go", "/v1/m/{model}:stop", false),
            ("/v1/m/{any}", "/v1/m/{model}", false),
            ("/v1/m", "/v1/m/x", false),
        ] {
            assert_eq!(hidden(first, second), expected, "{first} {second}");
        }
        let at = |vendors: &[&str]| only_at(vendors, plain("GET", "/v1/x", Billing::Free));
        assert_eq!(faults(&[at(&["a"]), plain("GET", "/v1/x", Billing::Free)]).len(), 0);
        assert_eq!(faults(&[at(&["a", "b"]), at(&["b"])]).len(), 1);
        assert_eq!(faults(&[plain("GET", "/v1/x", Billing::Free), at(&["a"])]).len(), 1);
    }
}
