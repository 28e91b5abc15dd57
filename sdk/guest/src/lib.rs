//! What a plugin of AgentLedger is written with: one that reads a provider's dialect, or one that prices tool calls, for which
//! see [`pricer`].
//!
//! The former implements [`Provider`] and ends with `agentledger_guest::export!(ItsType);`. It is built for
//! `wasm32-unknown-unknown` as a `cdylib`; the gateway makes a component of it. It imports nothing, keeps no state, and
//! sees outlines only: small JSON documents with the values that its [`Info`] asked for. The helpers here read those
//! strictly and write the endings and refusals that most dialects share.

pub mod answer;
pub mod aws_event;
pub mod endpoints;
pub mod fields;
pub mod openai_error;
pub mod plan;
pub mod pricer;
pub mod sse;
pub mod usage;

/// The generated bindings of `sdk/wit/v1`.
///
/// The only place in the workspace with unsafe code, all of it generated: the canonical ABI passes lists and strings
/// through linear memory by address. Nothing here is written by hand.
#[allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/v1",
        world: "provider",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "agentledger_guest::bindings",
        additional_derives: [PartialEq],
    });
}

pub use bindings::agentledger::plugin::types::{
    AnswerFrame, Billing, CacheWrites, Call, Count, EditPoint, Ending, Info, Kind, Link, Meaning, Media, Medium, Part,
    Problem, Progress, ProgressPart, Reading, ReadingPlan, Refusal, Request, Route, Sender, SocketMessage, Step, Want,
};
pub use serde;
pub use serde_json;

/// One provider's dialect. Every function is pure: the same arguments give the same answer.
pub trait Provider {
    /// Asked once, at load.
    fn info() -> Info;
    /// What the request asks for, or why it cannot be read.
    fn inspect(request: Request) -> Result<Call, Problem>;
    /// `None`: the frame says nothing of use. It is not asked for what one of the info's [`plan`]s answers.
    fn read(frame: AnswerFrame) -> Option<Reading>;
    /// Bytes that end a stream of this operation with an error the dialect's clients understand. `response_id` is the
    /// answer's own, where it told it at one of the info's `response_id_paths`.
    fn terminal(operation: &str, ending: Ending, message: &str, response_id: Option<&str>) -> Vec<u8>;
    /// The body of a refusal, ending with a newline.
    fn error_body(operation: &str, refusal: &Refusal) -> Vec<u8>;
    /// What a message of a WebSocket connection means. Only dialects with a `WEBSOCKET` route need it.
    fn meaning_of(_message: &SocketMessage) -> Option<Meaning> {
        None
    }
}

/// Joins a [`Provider`] to the generated bindings. Used by [`export!`].
pub struct Exported<P>(std::marker::PhantomData<P>);

impl<P: Provider> bindings::Guest for Exported<P> {
    fn info() -> Info {
        P::info()
    }
    fn inspect(request: Request) -> Result<Call, Problem> {
        P::inspect(request)
    }
    fn read(frame: AnswerFrame) -> Option<Reading> {
        P::read(frame)
    }
    fn terminal(operation: String, ending: Ending, message: String, response_id: Option<String>) -> Vec<u8> {
        P::terminal(&operation, ending, &message, response_id.as_deref())
    }
    fn error_body(operation: String, refusal: Refusal) -> Vec<u8> {
        P::error_body(&operation, &refusal)
    }
    fn meaning_of(message: SocketMessage) -> Option<Meaning> {
        P::meaning_of(&message)
    }
}

/// Makes a type that implements [`Provider`] the plugin of its crate. Only for WebAssembly: on the host the exports
/// would be plain symbols named `read` and `info`, the first of which is the C library's.
#[macro_export]
macro_rules! export {
    ($provider:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Plugin = $crate::Exported<$provider>;
    $crate::bindings::export_bindings!(Plugin with_types_in $crate::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn provides<P: $crate::Provider>() {}
            provides::<$provider>();
        };
    };
}

/// Paths, markers, names of events and headers: the lists of an `info`.
pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// A route.
pub fn route(method: &str, path: &str, operation: &str, billing: Billing) -> Route {
    Route {
        method: method.to_owned(),
        path: path.to_owned(),
        operation: operation.to_owned(),
        billing,
        vendors: vec![],
        reason: String::new(),
        source: String::new(),
    }
}

/// The route with the reason why it is free, refused or billed otherwise, and where its vendor says so.
pub fn because(route: Route, reason: &str, source: &str) -> Route {
    Route {
        reason: reason.to_owned(),
        source: source.to_owned(),
        ..route
    }
}

/// The route at the hosts of these vendors alone.
pub fn only_at(vendors: &[&str], route: Route) -> Route {
    Route {
        vendors: strings(vendors),
        ..route
    }
}

/// A wanted value of at most `max_bytes`; at most `max_items` elements of each array on its way.
pub fn want(path: &str, max_bytes: u32, max_items: u32) -> Want {
    Want {
        path: path.to_owned(),
        max_bytes,
        max_items,
    }
}

/// An address that an answer bears and clients follow; at most `max_items` elements of each array on its way.
pub fn link(operation: &str, path: &str, max_items: u32) -> Link {
    Link {
        operation: operation.to_owned(),
        path: path.to_owned(),
        max_items,
    }
}

/// Content of a request that is not text.
pub fn media(path: &str, medium: Medium) -> Media {
    Media {
        path: path.to_owned(),
        medium,
    }
}

/// A call that asks for a whole answer and says no more than its model. The rest is set with `..call(model)`.
pub fn call(model: String) -> Call {
    Call {
        model,
        models: vec![],
        any_model: false,
        stream: false,
        max_output: None,
        choices: 1,
        service_tier: None,
        variant: None,
        edits: vec![],
        cache_writes: CacheWrites::None,
        input_kinds: vec![],
        output_kinds: vec![],
        media_bytes_per_token: None,
        continues: false,
        units: vec![],
        beside: vec![],
        thoughtless: false,
        background: false,
    }
}

/// A reading that says nothing yet.
pub fn reading() -> Reading {
    Reading {
        model: None,
        bill_id: None,
        pending: false,
        service_tier: None,
        parts: vec![],
        contradictory: false,
        unread_fee: false,
        reported_cost: None,
        usage_only: false,
        final_: false,
        failed: false,
    }
}

/// An `info` with nothing but a name: what is there is set with `..info(name, version)`.
pub fn info(name: &str, version: &str) -> Info {
    Info {
        name: name.to_owned(),
        version: version.to_owned(),
        routes: vec![],
        request_paths: vec![],
        request_headers: vec![],
        request_media: vec![],
        request_markers: vec![],
        request_counts: vec![],
        answer_paths: vec![],
        text_paths: vec![],
        markers: vec![],
        events: vec![],
        end_markers: vec![],
        answer_links: vec![],
        response_id_paths: vec![],
        answer_calls: vec![],
        request_id_headers: vec![],
        progress_paths: vec![],
        reading_plans: vec![],
    }
}

/// A value that tells what the agent did last.
pub fn progress(path: &str, part: ProgressPart) -> Progress {
    Progress {
        path: path.to_owned(),
        part,
    }
}

/// A problem with one parameter of a request.
pub fn problem(code: &str, message: impl Into<String>, param: &str) -> Problem {
    Problem {
        code: code.to_owned(),
        message: message.into(),
        param: Some(param.to_owned()),
    }
}
