//! Every limit of the gateway: its name, unit and default. Config key `limits.NAME`.

/// Units are last in the names. All can be set; none can be turned off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request body, as sent and as decoded for inspection.
    pub body_bytes_max: u64,
    /// Longest file that is uploaded; it passes as it comes, and is never held in memory.
    pub upload_bytes_max: u64,
    /// Request bodies held in memory at one time, all requests together.
    pub bodies_in_flight_bytes_max: u64,
    /// Deepest nesting of a request's JSON. What nests deeper in an answer is passed over.
    pub json_depth_max: u32,
    /// Keys of one object of a request's JSON, where they must be unambiguous: at its top, on the way to what is read, and in
    /// that. With more of them the request is refused, because each is compared with the others.
    pub json_keys_max: u32,
    /// Longest single header value of those that name an agent, session, user, task or tag.
    pub identity_bytes_max: usize,
    /// Longest `X-Agent-Tags`, all its pairs together.
    pub tags_bytes_max: usize,
    /// Tags of one request, its parent session included.
    pub tags_max: usize,
    /// Sessions in memory; older ones rest in the ledger's state and come back when they are called again.
    pub sessions_in_memory_max: usize,
    /// Distinct names of a kind that clients make up and that are told apart: keys and models that no budget names, names in a
    /// day's cost sums, new sessions a day. The rest is counted on `other` of that kind.
    pub names_per_kind_max: usize,
    /// Accounts that budgets name, some 700 bytes of memory each; a request that needs one more is refused with `ledger_full`.
    pub bound_accounts_max: usize,
    /// All request header bytes.
    pub header_bytes_max: usize,
    /// Longest frame of a stream, and longest whole answer, that is held in memory to be read. A longer one is read as it
    /// passes.
    pub frame_bytes_max: usize,
    /// Longest message of a WebSocket from upstream, longest answer whose links are rewritten, and a quarter of what an encoded
    /// answer may become. A whole answer may be longer, and is read as it passes.
    pub answer_bytes_max: usize,
    /// Time a client has to send its request head.
    pub header_read_timeout_ms: u64,
    /// Longest silence while a client sends its body.
    pub body_read_timeout_ms: u64,
    /// How long an exchange goes on for the books once its client is gone: a whole answer that is being made, the end of a stream,
    /// and an upstream that is silent towards a client that closed its side.
    pub read_on_ms: u64,
    /// How long running answers may go on after SIGTERM.
    pub drain_ms: u64,
    /// Text that tiktoken reads at most for one estimate; the rest is extrapolated.
    pub estimate_bytes_max: usize,
    /// Time one plugin call may take.
    pub plugin_deadline_ms: u64,
    /// Memory one plugin instance may take.
    pub plugin_memory_bytes_max: usize,
    /// Distinct values of one metric label before the rest is named `other`.
    pub metric_label_values_max: usize,
    /// Events waiting for the journal's writer.
    pub journal_queue_events_max: usize,
    /// How long a request waits for a permit of the journal's queue before it is refused.
    pub admission_wait_ms: u64,
    /// How long a WebSocket may be silent, both ways, while no answer runs on it.
    pub socket_idle_ms: u64,
    /// How long the hold of a background request waits for its result to be fetched; then it is entered as spent.
    pub background_wait_ms: u64,
    /// Background requests that wait so.
    pub background_holds_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 32 << 20,
            upload_bytes_max: 512 << 20,
            bodies_in_flight_bytes_max: 1 << 30,
            json_depth_max: 128,
            json_keys_max: 4_096,
            identity_bytes_max: 256,
            tags_bytes_max: 2_048,
            tags_max: 16,
            sessions_in_memory_max: 100_000,
            names_per_kind_max: 100_000,
            bound_accounts_max: 2_000_000,
            header_bytes_max: 64 << 10,
            frame_bytes_max: 128 << 10,
            answer_bytes_max: 64 << 20,
            header_read_timeout_ms: 10_000,
            body_read_timeout_ms: 60_000,
            read_on_ms: 5_000,
            drain_ms: 60_000,
            estimate_bytes_max: 256 << 10,
            plugin_deadline_ms: 1_000,
            plugin_memory_bytes_max: 16 << 20,
            metric_label_values_max: 1_000,
            journal_queue_events_max: 65_536,
            admission_wait_ms: 5_000,
            socket_idle_ms: 15 * 60_000,
            background_wait_ms: 3_600_000,
            background_holds_max: 10_000,
        }
    }
}
