//! The refusals of the gateway's own, each with its stable code: one table. The documentation
//! (`gateway/assets/guide/refusals.md`) has the same rows, and a test holds them together. Policies and plugins refuse with codes of theirs beside these.

/// Whether the same request may succeed when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not as it is.
    Never,
    /// After a while.
    Later,
}

macro_rules! refusal_codes {
    ($($name:ident = $status:literal, $text:literal, $retry:ident, $meaning:literal;)+) => {
        /// Why the gateway itself refuses a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RefusalCode {
            $(#[doc = $meaning] $name,)+
        }

        impl RefusalCode {
            pub const ALL: &[RefusalCode] = &[$(RefusalCode::$name,)+];

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self {
                    $(RefusalCode::$name => $status,)+
                }
            }

            /// The stable word, `error.code` in bodies. Two refusals share one word where only the status says who is at fault.
            pub const fn text(self) -> &'static str {
                match self {
                    $(RefusalCode::$name => $text,)+
                }
            }

            /// Whether a retry helps. Clients learn it from `x-should-retry` and `Retry-After`.
            pub const fn retry(self) -> Retry {
                match self {
                    $(RefusalCode::$name => Retry::$retry,)+
                }
            }

            pub const fn meaning(self) -> &'static str {
                match self {
                    $(RefusalCode::$name => $meaning,)+
                }
            }
        }
    };
}

refusal_codes! {
    BadRequest = 400, "bad_request", Never, "the request head cannot be read";
    BadFraming = 400, "bad_framing", Never, "two lengths, or a length beside a transfer encoding";
    BadPath = 400, "bad_path", Never, "a path that an upstream could read as another one";
    AmbiguousHead = 400, "ambiguous_head", Never, "a header that stands alone is missing, is there twice, or names too much";
    UnreadableBody = 400, "unreadable_body", Later, "the body broke off, or is not framed as its head says";
    EmptyBody = 400, "empty_body", Never, "the operation needs a body";
    InvalidJson = 400, "invalid_json", Never, "the body or message is not JSON, or nested too deep";
    InvalidMessage = 400, "invalid_message", Never, "the body is no message of JSON-RPC as MCP has it, or two readers could disagree about it";
    HeaderMismatch = 400, "header_mismatch", Never, "the headers of an MCP request contradict its body, or one is missing";
    MissingBoundary = 400, "missing_boundary", Never, "the form names no boundary";
    InvalidMultipart = 400, "invalid_multipart", Never, "the body is no valid form";
    BadEncoding = 400, "bad_encoding", Never, "the body is not in the content encoding that its head names";
    IdentityTooLong = 400, "identity_too_long", Never, "a header that names an agent, session, user, task or tag is too long";
    BadIdentity = 400, "bad_identity", Never, "such a header cannot be read";
    AmbiguousKey = 400, "ambiguous_key", Never, "one place names more than one API key";
    UnpricedModel = 400, "unpriced_model", Never, "the model has no price, and such are refused";
    CannotEdit = 400, "cannot_edit", Never, "the body cannot be changed as the rules ask";
    BadHandshake = 400, "bad_handshake", Never, "the WebSocket handshake is not valid";
    SessionKilled = 400, "session_killed", Never, "an operator killed the session";
    UnknownKey = 401, "unknown_key", Never, "the gateway's own credentials are for other keys";
    SignatureForGateway = 403, "signature_for_gateway", Never, "an AWS signature that covers the gateway's host";
    ForeignHost = 403, "foreign_host", Never, "the request calls the gateway by a name that is none of its own (`hosts`)";
    ForeignOrigin = 403, "foreign_origin", Never, "a web page of another origin may not use what is the gateway's own";
    CannotClamp = 403, "cannot_clamp", Never, "a policy limits the output, and the operation has no such limit";
    ToolChanged = 403, "tool_changed", Never, "the definition of a tool is not the one that is pinned";
    RouteRefused = 403, "route_refused", Never, "an operation that would spend what the gateway cannot hold or read; the message says why";
    NoRoute = 404, "no_route", Never, "no provider serves the path";
    MethodNotAllowed = 405, "method_not_allowed", Never, "the path is served, for other methods";
    UnmeteredFormat = 406, "unmetered_format", Never, "an answer in a format that cannot be metered";
    BodyTimeout = 408, "body_timeout", Later, "the body did not arrive in time";
    BodyTooLarge = 413, "body_too_large", Never, "the body is longer than `limits.body_bytes_max`, or a file than `limits.upload_bytes_max`";
    UnknownEncoding = 415, "unknown_encoding", Never, "the body is in a content encoding that is not read here";
    WebsocketNotServed = 426, "websocket_not_served", Never, "no WebSocket here: use plain requests";
    WebsocketVersion = 426, "websocket_version", Never, "another version of WebSocket than 13";
    BudgetExceeded = 429, "budget_exceeded", Never, "a limit would be exceeded";
    BudgetHeld = 429, "budget_held", Later, "what is left of a limit is held by running requests";
    RateLimited = 429, "rate_limited", Later, "a rate or a number of parallel requests is exceeded";
    NoRouteFits = 429, "no_route_fits", Never, "no model that the rules route to is priced, allowed and within its budgets";
    TooManyAnswers = 429, "too_many_answers", Later, "too many open answers on one WebSocket";
    HeadersTooLarge = 431, "headers_too_large", Never, "the request head is longer than `limits.header_bytes_max`";
    ClientGone = 499, "client_gone", Never, "the client went away; nobody reads this";
    Internal = 500, "internal", Later, "a fault of the gateway";
    PluginFailed = 502, "plugin_failed", Later, "the provider's plugin could not read the request or message";
    UpstreamFailed = 502, "upstream_failed", Later, "the provider cannot be reached, or broke off before any of its answer went on";
    UpstreamHandshake = 502, "bad_handshake", Later, "the provider's WebSocket handshake is not valid";
    ControlFailed = 502, "control_failed", Later, "the control plane gave no answer";
    ControlUnavailable = 503, "control_unavailable", Later, "the control plane cannot be reached";
    Overloaded = 503, "overloaded", Later, "request bodies take more than `limits.bodies_in_flight_bytes_max`";
    LedgerUnavailable = 503, "ledger_unavailable", Later, "the ledger cannot write";
    NoGateway = 503, "no_gateway", Later, "of `mcp-wrap`: no gateway runs that could hold a tool call, or it takes none";
    LedgerFull = 503, "ledger_full", Later, "the ledger has no room for the request";
    LedgerBusy = 503, "ledger_busy", Later, "the ledger has no permit for the request within `limits.admission_wait_ms`";
    ClockAhead = 503, "clock_ahead", Later, "the machine's clock is ahead of what can have passed: nothing is held by it";
    PolicyFailed = 503, "policy_failed", Never, "a policy failed";
    BreakerOpen = 503, "breaker_open", Later, "the provider has failed repeatedly and is not called for now";
    ProviderDisabled = 503, "provider_disabled", Never, "an operator has switched the provider off";
    ShuttingDown = 503, "shutting_down", Later, "the gateway is going down";
    ControlTimeout = 504, "control_timeout", Later, "the control plane did not answer in time";
    UpstreamTimeout = 504, "upstream_timeout", Later, "the provider did not answer in time";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_and_a_code_name_one_refusal() {
        let mut seen = std::collections::HashSet::new();
        for code in RefusalCode::ALL {
            assert!(seen.insert((code.status(), code.text())), "{code:?}");
            assert!((400..600).contains(&code.status()), "{code:?}");
        }
    }
}
