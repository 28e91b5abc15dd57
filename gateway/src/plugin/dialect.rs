//! The host's side of `sdk/wit/v1`: the same records as plain Rust, and the trait through which the rest of the gateway
//! asks a plugin. Tests may put any other implementation behind it.

use agentledger_ledger::Kind;

/// Answer paths under this name want headers of the answer, not values of its body: see the WIT.
pub const HEADERS: &str = "@headers";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    Metered,
    Free,
    /// Fetches the result of an earlier request.
    Fetched,
    /// Fetches results as JSON lines.
    FetchedLines,
    /// Known, and not served.
    Refused,
}

impl Billing {
    pub const fn name(self) -> &'static str {
        match self {
            Billing::Metered => "metered",
            Billing::Free => "free",
            Billing::Fetched => "fetched",
            Billing::FetchedLines => "fetched_lines",
            Billing::Refused => "refused",
        }
    }
}

/// One endpoint of a dialect; see the WIT for the path's pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: String,
    pub path: String,
    pub operation: String,
    pub billing: Billing,
    /// Known providers for which it holds; empty: every host of the dialect.
    pub vendors: Vec<String>,
    /// Why it is free or refused, or how else it is billed; may be empty.
    pub reason: String,
    /// Where the vendor says so; may be empty.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub path: String,
    pub max_bytes: u32,
    pub max_items: u32,
}

/// An address in the whole answers of an operation that clients follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub operation: String,
    pub path: String,
    pub max_items: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Text,
    Image,
    Audio,
    File,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub path: String,
    pub medium: Medium,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressPart {
    Role,
    Content,
    ToolCall,
    /// The name of the answer that the request goes on from.
    Continued,
}

/// A value of the request that tells what its agent did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub path: String,
    pub part: ProgressPart,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub name: String,
    pub version: String,
    pub routes: Vec<Route>,
    pub request_paths: Vec<Want>,
    pub request_headers: Vec<String>,
    pub request_media: Vec<Media>,
    pub request_markers: Vec<String>,
    pub request_counts: Vec<String>,
    pub progress_paths: Vec<Progress>,
    pub answer_paths: Vec<Want>,
    pub text_paths: Vec<String>,
    pub markers: Vec<String>,
    pub events: Vec<String>,
    /// After these only usage is still to come.
    pub end_markers: Vec<String>,
    pub answer_links: Vec<Link>,
    pub response_id_paths: Vec<String>,
    /// Where answers say which tools the model calls.
    pub answer_calls: Vec<String>,
    pub request_id_headers: Vec<String>,
    pub reading_plans: Vec<ReadingPlan>,
}

/// How frames of some operations are read without a call; see the WIT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadingPlan {
    pub operations: Vec<String>,
    pub streamed: bool,
    /// Where an answer may report its usage.
    pub usage: Vec<String>,
    pub rows: Vec<PlanRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    pub path: String,
    pub role: Role,
}

/// What a value of an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Model {
        prefix: String,
    },
    /// What is said, and the tier's name in the price book.
    ServiceTier(Vec<(String, String)>),
    BillId,
    Words(Vec<Word>),
    UsageAlone,
    Counted(Tally),
    Zero(Vec<CountedKind>),
    Ignored,
    Empty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub meaning: WordMeaning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordMeaning {
    Nothing,
    Final,
    Pending,
}

/// How a count is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub kind: Option<CountedKind>,
    pub inside: Option<String>,
    pub beside: Option<String>,
    pub thoughts: bool,
    pub sum_of: Vec<String>,
}

/// Longest response's id that is looked at, as JSON writes it.
const RESPONSE_ID_BYTES_MAX: u32 = 258;

impl Info {
    /// What is wanted of answers: the plugin's own wants, then where else answers name themselves.
    pub fn answer_wants(&self) -> Vec<Want> {
        let mut wants = self.answer_paths.clone();
        for path in &self.response_id_paths {
            if wants.iter().all(|want| want.path != *path) {
                wants.push(Want {
                    path: path.clone(),
                    max_bytes: RESPONSE_ID_BYTES_MAX,
                    max_items: 0,
                });
            }
        }
        wants
    }
}

/// What a plugin is shown of a request: all that [`Dialect::inspect`] hangs on, by which its answer is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    pub method: String,
    /// Whose API the upstream is; empty where it is not known.
    pub vendor: String,
    pub path: String,
    pub operation: String,
    pub path_model: Option<String>,
    pub headers: Vec<(String, String)>,
    pub outline: String,
    pub markers: Vec<String>,
    pub characters: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditPoint {
    Model(String),
    MaxOutput(String),
    StreamUsage(String),
}

/// Whether the prompt may be written to a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestedCacheWrites {
    #[default]
    None,
    FiveMinutes,
    OneHour,
    /// Unasked, from so many tokens on.
    Unasked(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Empty only with `any_model`.
    pub model: String,
    /// Further models that may serve the call or be billed with it.
    pub models: Vec<String>,
    /// Which model serves is chosen elsewhere.
    pub any_model: bool,
    pub stream: bool,
    pub max_output: Option<u64>,
    pub choices: u32,
    pub service_tier: Option<String>,
    /// The tier of the price book that the request alone decides.
    pub variant: Option<String>,
    pub edits: Vec<EditPoint>,
    pub cache_writes: RequestedCacheWrites,
    pub input_kinds: Vec<Kind>,
    pub output_kinds: Vec<Kind>,
    pub media_bytes_per_token: Option<u32>,
    pub continues: bool,
    pub units: Vec<(Kind, u64)>,
    /// What hosted tools that the request names may bill beside the answer's own tokens.
    pub beside: Vec<ReadingPart>,
    /// The model does not think before it answers.
    pub thoughtless: bool,
    pub background: bool,
}

/// Why a request cannot be read: status 400 to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: String,
    pub message: String,
    pub param: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerFrame<'a> {
    pub operation: &'a str,
    pub event: Option<&'a str>,
    pub streamed: bool,
    pub status: u16,
    pub outline: &'a str,
}

/// The kinds of the WIT: those of the ledger, and cache writes of unsaid length, which folding resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedKind {
    Kind(Kind),
    CacheWrite,
}

impl CountedKind {
    /// The ledger's kind; a cache write of unsaid length is of the short one.
    pub fn in_ledger(self) -> Kind {
        match self {
            CountedKind::Kind(kind) => kind,
            CountedKind::CacheWrite => Kind::CacheWrite5m,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadingPart {
    pub model: Option<String>,
    pub usage: Vec<(CountedKind, u64)>,
    pub reasoning: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub model: Option<String>,
    pub bill_id: Option<String>,
    pub pending: bool,
    pub service_tier: Option<String>,
    pub parts: Vec<ReadingPart>,
    pub contradictory: bool,
    /// Something was used that is billed beside what is counted, and its amount cannot be read.
    pub unread_fee: bool,
    pub reported_cost: Option<String>,
    pub usage_only: bool,
    pub is_final: bool,
    pub failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    BudgetExceeded,
    Denied,
    UpstreamFailed,
    ShuttingDown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectRefusal {
    pub status: u16,
    pub code: String,
    /// JSON text of the `error` object.
    pub object: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// One message of a WebSocket connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketMessage<'a> {
    pub operation: &'a str,
    pub sender: Sender,
    pub outline: &'a str,
}

/// What a message means for the answers on its connection; see the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Ask,
    Begin,
    Part,
    Sound,
    End,
    Refuse,
    Aside,
    Setting,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub step: Step,
    pub lane: Option<String>,
    pub answer: Option<String>,
    pub asked_by: Option<String>,
    pub model: Option<String>,
    pub max_output: Option<u64>,
    pub aside_model: Option<String>,
    pub cancel: Option<String>,
    pub status: Option<u16>,
    pub echo: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// The request itself is at fault.
    #[error("{}", .0.message)]
    Problem(Problem),
    /// The plugin trapped, ran out of time or memory, or answered outside its contract. Costs one reading.
    #[error("plugin {plugin} failed: {reason}")]
    Failed { plugin: String, reason: String },
}

/// One provider's dialect. Calls are short, blocking and bounded in time and memory.
pub trait Dialect: Send + Sync {
    fn info(&self) -> &Info;
    fn inspect(&self, request: &Request) -> Result<Call, DialectError>;
    /// `Ok(None)`: the frame says nothing of use.
    fn read(&self, frame: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError>;
    /// Bytes that end a stream with an error the dialect's clients understand. `response_id` is the answer's own, where it
    /// told it.
    fn terminal(
        &self,
        operation: &str,
        ending: Ending,
        message: &str,
        response_id: Option<&str>,
    ) -> Result<Vec<u8>, DialectError>;
    /// The body of a refusal in this dialect.
    fn error_body(&self, operation: &str, refusal: &DialectRefusal) -> Result<Vec<u8>, DialectError>;
    /// `Ok(None)`: the message concerns no answer.
    fn meaning_of(&self, _message: &SocketMessage<'_>) -> Result<Option<Meaning>, DialectError> {
        Ok(None)
    }
}
