//! Which operation a request is, by method and path.

use super::dialect::{Billing, Route};

/// The method of routes that are an upgrade to a WebSocket.
pub const WEBSOCKET: &str = "WEBSOCKET";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {path:?}: {reason}")]
pub struct RouteError {
    pub path: String,
    pub reason: &'static str,
}

/// The routes of a dialect, taken apart once. The first that matches wins.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    method: String,
    segments: Vec<Segment>,
    /// The last segment was `*`: one or more further segments may follow.
    rest: bool,
    operation: String,
    billing: Billing,
    vendors: Vec<String>,
    reason: String,
}

#[derive(Clone, Debug)]
enum Segment {
    Exact(String),
    Any,
    /// The id of what the answer is.
    Id,
    Model,
    /// `{model}:verb`, as Google names what is done with a model.
    ModelVerb(String),
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched<'t> {
    pub operation: &'t str,
    pub billing: Billing,
    /// Why it is free or refused.
    pub reason: &'t str,
    /// The model that the path names, percent-encoding taken off.
    pub path_model: Option<String>,
    /// The id of the answer that the path names, percent-encoding taken off.
    pub path_id: Option<String>,
}

impl RouteTable {
    pub fn compile(routes: &[Route]) -> Result<RouteTable, RouteError> {
        routes
            .iter()
            .map(compile)
            .collect::<Result<_, _>>()
            .map(|routes| RouteTable { routes })
    }

    /// `path` starts with `/` and follows the provider's prefix; without the query. `vendor` is whose API the host has.
    pub fn find(&self, vendor: &str, method: &str, path: &str) -> Option<Matched<'_>> {
        let inside = path.strip_prefix('/')?;
        // To compare counts is cheaper than to take each path apart: most routes of a dialect are longer or shorter.
        let segments = memchr::memchr_iter(b'/', inside.as_bytes()).count() + 1;
        self.routes
            .iter()
            .filter(|route| route.may_have(segments) && route.method == method && route.is_at(vendor))
            .find_map(|route| route.matches(inside, Spelling::Exact))
    }

    /// The same, spelled as some servers read it. What is found so and not by `find` is no route of its own: it is for
    /// telling what must not pass as something else.
    pub fn find_alike(&self, vendor: &str, method: &str, path: &str) -> Option<Matched<'_>> {
        let inside = path.strip_prefix('/')?;
        self.routes
            .iter()
            .filter(|route| route.method.eq_ignore_ascii_case(method) && route.is_at(vendor))
            .find_map(|route| route.matches(inside, Spelling::Alike))
    }

    /// The methods under which the path is served by a route of its own, not by one that takes all that is left.
    pub fn methods_of<'t>(&'t self, vendor: &'t str, path: &'t str) -> impl Iterator<Item = (&'t str, Billing)> {
        let inside = path.strip_prefix('/');
        self.routes
            .iter()
            .filter(move |route| {
                route.is_at(vendor)
                    && !route.rest
                    && inside.is_some_and(|inside| route.matches(inside, Spelling::Exact).is_some())
            })
            .map(|route| (route.method.as_str(), route.billing))
    }

    /// Whether the path is known under any method: tells a wrong method from an unknown path.
    pub fn knows(&self, vendor: &str, path: &str) -> bool {
        path.strip_prefix('/').is_some_and(|inside| {
            self.routes
                .iter()
                .any(|route| route.is_at(vendor) && route.matches(inside, Spelling::Exact).is_some())
        })
    }
}

/// How the words of a path are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Exact,
    /// Whatever the case of their letters, dots at their ends left out.
    Alike,
}

impl Spelling {
    fn same(self, word: &str, given: &str) -> bool {
        match self {
            Spelling::Exact => word == given,
            Spelling::Alike => given.trim_end_matches('.').eq_ignore_ascii_case(word),
        }
    }
}

impl Compiled {
    /// Whether a path of so many segments can match.
    fn may_have(&self, segments: usize) -> bool {
        match self.rest {
            true => segments > self.segments.len(),
            false => segments == self.segments.len(),
        }
    }

    fn is_at(&self, vendor: &str) -> bool {
        self.vendors.is_empty() || self.vendors.iter().any(|one| one == vendor)
    }

    fn matches(&self, path: &str, spelling: Spelling) -> Option<Matched<'_>> {
        let mut given = path.split('/');
        let (mut path_model, mut path_id) = (None, None);
        for segment in &self.segments {
            let text = given.next()?;
            match segment {
                Segment::Exact(name) if spelling.same(name, text) => {}
                Segment::Exact(_) => return None,
                // A dot segment would be resolved by whoever reads the path next, into another path than this one.
                Segment::Model if is_arn(text) => path_model = Some(decoded(text)?),
                Segment::Any | Segment::Id | Segment::Model if text.is_empty() || dots(text) => return None,
                Segment::Any => {}
                Segment::Id => path_id = Some(decoded(text)?),
                Segment::Model => path_model = Some(decoded(text)?),
                Segment::ModelVerb(verb) => {
                    let (name, given) = text.rsplit_once(':')?;
                    if !spelling.same(verb, given) || name.is_empty() || dots(name) {
                        return None;
                    }
                    path_model = Some(decoded(name)?);
                }
            }
        }
        let mut left = given.peekable();
        let fits = if self.rest {
            left.peek().is_some_and(|first| !first.is_empty()) && left.all(|segment| !dots(segment))
        } else {
            left.peek().is_none()
        };
        fits.then_some(Matched {
            operation: &self.operation,
            billing: self.billing,
            reason: &self.reason,
            path_model,
            path_id,
        })
    }
}

/// `.` and `..`, percent-encoded or not.
fn dots(segment: &str) -> bool {
    decoded(segment).is_none_or(|plain| plain == "." || plain == ".." || plain.contains(['/', '\\']))
}

/// An ARN as AWS's clients send it in one segment of a path, percent-encoded: the one name whose encoded slash is no
/// trick, as long as nothing behind it climbs.
pub fn is_arn(segment: &str) -> bool {
    decoded(segment).is_some_and(|plain| {
        plain.starts_with("arn:")
            && !plain.contains('\\')
            && !plain.chars().any(char::is_control)
            && plain.split('/').all(|part| !matches!(part, "" | "." | ".."))
    })
}

fn decoded(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        out.push(encoded_byte(&mut bytes)?);
    }
    String::from_utf8(out).ok()
}

/// The byte of the two hexadecimal digits that come next.
pub fn encoded_byte(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

fn compile(route: &Route) -> Result<Compiled, RouteError> {
    let error = |reason| RouteError {
        path: route.path.clone(),
        reason,
    };
    let path = route.path.strip_prefix('/').ok_or_else(|| error("must start with /"))?;
    if route.operation.is_empty() {
        return Err(error("has no operation"));
    }
    if route.method.is_empty() || !route.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(error("its method must be in capitals"));
    }
    let (path, rest) = match path.strip_suffix('*') {
        Some("") => ("", true),
        Some(path) => (
            path.strip_suffix('/')
                .ok_or_else(|| error("* must be a segment of its own"))?,
            true,
        ),
        None => (path, false),
    };
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|_| !(rest && path.is_empty())) {
        segments.push(match segment {
            "{any}" => Segment::Any,
            "{id}" => Segment::Id,
            "{model}" => Segment::Model,
            "" => return Err(error("has an empty segment")),
            verb if verb
                .strip_prefix("{model}:")
                .is_some_and(|verb| !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_alphanumeric())) =>
            {
                Segment::ModelVerb(verb.trim_start_matches("{model}:").to_owned())
            }
            exact if exact.contains(['{', '}', '*', '?', '%']) => {
                return Err(error("has a segment that means nothing"));
            }
            exact => Segment::Exact(exact.to_owned()),
        });
    }
    Ok(Compiled {
        method: route.method.clone(),
        segments,
        rest,
        operation: route.operation.clone(),
        billing: route.billing,
        vendors: route.vendors.clone(),
        reason: route.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(routes: &[(&str, &str, &str)]) -> RouteTable {
        let route = |(method, path, operation): &(&str, &str, &str)| Route {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            operation: (*operation).to_owned(),
            billing: Billing::Metered,
            vendors: vec![],
            reason: String::new(),
            source: String::new(),
        };
        RouteTable::compile(&routes.iter().map(route).collect::<Vec<_>>()).unwrap()
    }

    fn found(table: &RouteTable, method: &str, path: &str) -> Option<(String, Option<String>)> {
        table
            .find("", method, path)
            .map(|matched| (matched.operation.to_owned(), matched.path_model))
    }

    #[test]
    fn finds_the_first_route_that_matches() {
        let table = table(&[
            ("POST", "/v1/chat/completions", "chat"),
            ("POST", "/v1/responses/{any}/cancel", "cancel"),
            ("POST", "/deployments/{model}/chat", "deployed"),
            ("GET", "/v1/models", "models"),
            ("GET", "/v1/*", "read"),
        ]);
        let is = |operation: &str| Some((operation.to_owned(), None));
        assert_eq!(found(&table, "POST", "/v1/chat/completions"), is("chat"));
        assert_eq!(found(&table, "POST", "/v1/responses/resp_1/cancel"), is("cancel"));
        assert_eq!(found(&table, "GET", "/v1/models"), is("models"));
        assert_eq!(found(&table, "GET", "/v1/files/f/content"), is("read"));
        assert_eq!(
            found(&table, "POST", "/deployments/a%20b/chat"),
            Some(("deployed".to_owned(), Some("a b".to_owned())))
        );
        for path in [
            "/v1/chat/completions/",
            "/v1/chat",
            "v1/chat/completions",
            "/v1/responses//cancel",
            "",
            "/",
        ] {
            assert_eq!(found(&table, "POST", path), None, "{path}");
        }
        assert_eq!(found(&table, "DELETE", "/v1/models"), None);
        assert_eq!(found(&table, "GET", "/v1"), None);
        assert!(table.knows("", "/v1/chat/completions") && !table.knows("", "/v2"));
    }

    #[test]
    fn an_id_is_captured_from_its_segment() {
        let table = table(&[
            ("GET", "/v1/batches/{id}/results", "results"),
            ("GET", "/v1/{any}", "read"),
        ]);
        let id_of = |path: &str| table.find("", "GET", path).map(|matched| matched.path_id);
        assert_eq!(id_of("/v1/batches/b%5F1/results"), Some(Some("b_1".to_owned())));
        assert_eq!(id_of("/v1/batches"), Some(None));
        for path in [
            "/v1/batches//results",
            "/v1/batches/%2e%2e/results",
            "/v1/batches/a%2Fb/results",
        ] {
            assert_eq!(id_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_verb_follows_its_model() {
        let table = table(&[
            ("POST", "/v1/models/{model}:generateContent", "generate"),
            ("POST", "/v1/models/{model}:streamGenerateContent", "stream"),
        ]);
        let with = |operation: &str, model: &str| Some((operation.to_owned(), Some(model.to_owned())));
        assert_eq!(
            found(&table, "POST", "/v1/models/gemini-2.5-pro:generateContent"),
            with("generate", "gemini-2.5-pro")
        );
        assert_eq!(
            found(&table, "POST", "/v1/models/a%3Ab:c:streamGenerateContent"),
            with("stream", "a:b:c")
        );
        for path in [
            "/v1/models/m:countTokens",
            "/v1/models/:generateContent",
            "/v1/models/generateContent",
            "/v1/models/..:generateContent",
            "/v1/models/m:generateContent/x",
            "/v1/models/m%3AgenerateContent",
        ] {
            assert_eq!(found(&table, "POST", path), None, "{path}");
        }
    }

    #[test]
    fn what_is_spelled_alike_is_told_from_what_is_found() {
        let table = table(&[
            ("POST", "/v1/chat/completions", "chat"),
            ("POST", "/v1/models/{model}:generateContent", "generate"),
            ("GET", "/v1/*", "read"),
        ]);
        for path in [
            "/v1/Chat/Completions",
            "/V1/chat/completions.",
            "/v1/models/m:GENERATECONTENT",
        ] {
            assert_eq!(found(&table, "POST", path), None, "{path}");
            assert!(table.find_alike("", "post", path).is_some(), "{path}");
        }
        assert!(table.find_alike("", "POST", "/v1/chats/completions").is_none());
        let methods: Vec<_> = table.methods_of("", "/v1/chat/completions").collect();
        assert_eq!(methods, [("POST", Billing::Metered)]);
    }

    #[test]
    fn dot_segments_match_nothing() {
        let table = table(&[("GET", "/v1/*", "read"), ("POST", "/m/{model}", "m")]);
        for path in ["/v1/..", "/v1/x/../../admin", "/v1/%2e%2E/x", "/v1/a%2fb", "/v1/%zz"] {
            assert_eq!(found(&table, "GET", path), None, "{path}");
        }
        assert_eq!(found(&table, "POST", "/m/.."), None);
        assert_eq!(found(&table, "POST", "/m/%ff"), None);
    }

    #[test]
    fn an_arn_is_a_model_with_its_slash() {
        let table = table(&[
            ("POST", "/model/{model}/converse", "converse"),
            ("GET", "/v1/*", "read"),
        ]);
        let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-pro-v1%3A0";
        assert_eq!(
            found(&table, "POST", &format!("/model/{arn}/converse")).and_then(|(_, model)| model),
            Some("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0".to_owned())
        );
        for path in [
            "/model/arn%3Aaws%2F..%2Fx/converse",
            "/model/arn%3Aaws%2F%2Fx/converse",
            "/model/arn%3Aaws%2F/converse",
            "/model/arn%3Aaws%5Cx/converse",
            "/model/a%2Fb/converse",
        ] {
            assert_eq!(found(&table, "POST", path), None, "{path}");
        }
        assert_eq!(found(&table, "GET", &format!("/v1/{arn}")), None);
    }

    #[test]
    fn bad_routes_do_not_compile() {
        for (method, path) in [
            ("POST", "v1"),
            ("POST", "/v1//x"),
            ("POST", "/v1*"),
            ("POST", "/{x}"),
            ("post", "/v1"),
            ("", "/v1"),
            ("GET", "/a/*/b"),
            ("POST", "/v1/{model}:"),
            ("POST", "/v1/{model}:a{b}"),
            ("POST", "/v1/{any}:verb"),
        ] {
            let route = Route {
                method: method.to_owned(),
                path: path.to_owned(),
                operation: "o".to_owned(),
                billing: Billing::Free,
                vendors: vec![],
                reason: String::new(),
                source: String::new(),
            };
            assert!(RouteTable::compile(&[route]).is_err(), "{method} {path}");
        }
    }
}
