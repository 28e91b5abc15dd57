//! Why a usage or a price is an estimate: short stable codes, as entries and metrics bear them.

/// The answer ended well and said nothing of its usage.
pub const NO_USAGE: &str = "no_usage";
/// The client left before the answer's end.
pub const CLIENT_GONE: &str = "client_gone";
/// The gateway cut the answer.
pub const CUT: &str = "cut";
/// The upstream broke off.
pub const UPSTREAM_FAILED: &str = "upstream_failed";
/// The stream ended within an event, or by an error, or after something that its last usage does not cover.
pub const INCOMPLETE: &str = "incomplete_answer";
/// Not JSON and not a stream of it, or JSON that is cut or broken within what is wanted.
pub const UNREADABLE: &str = "unreadable_answer";
/// In a content-encoding that cannot be decoded.
pub const ENCODED: &str = "encoded_answer";
/// The plugin trapped, or ran out of time or memory, on a frame that may have borne usage.
pub const PLUGIN_FAILED: &str = "plugin_failed";
/// The result of a background request was never fetched: its hold was entered as spent.
pub const NOT_FETCHED: &str = "not_fetched";
/// The answer to a tool call did not come within `mcp.answer_wait`: its hold was entered as spent.
pub const NOT_ANSWERED: &str = "not_answered";
/// The lines of a batch's results were cut off, or not all of them can be read: the rest is billed with the next fetch.
pub const BROKEN_RESULTS: &str = "broken_results";
/// The usage told cannot be believed: it contradicts itself or another in the same answer, or is negative, fractional or above
/// 10^9.
pub const CONTRADICTORY_USAGE: &str = "contradictory_usage";
/// Something was used that is billed beside what the answer counts, and its amount cannot be read.
pub const UNREAD_FEE: &str = "unread_fee";
/// No row of the price book fits the model: it was priced at the dearest row of its family.
pub const FAMILY_PRICE: &str = "family_price";
/// No row of the price book fits the model or its family: it was priced at the provider's dearest row.
pub const UNPRICED_MODEL: &str = "unpriced_model";
/// Units were used that nothing has a price for, not even a stand-in: they are counted, and cost 0.
pub const UNPRICED_UNIT: &str = "unpriced_unit";
/// The request named a service tier and the answer none: the dearer of that tier and the standard one was taken.
pub const UNCONFIRMED_TIER: &str = "unconfirmed_tier";
/// The row states no price for a kind that was used: the documented stand-in was taken.
pub const PRICE_FALLBACK: &str = "price_fallback";
/// Said by the program that the entry was imported from.
pub const ELSEWHERE: &str = "estimated_elsewhere";
/// The framing of an AWS event stream is at fault: the checksum of a message's prelude, or of all of it; its lengths; its
/// headers; or the stream ends within a message.
pub const FRAME_PRELUDE_CRC: &str = "event_stream_prelude_crc";
pub const FRAME_MESSAGE_CRC: &str = "event_stream_message_crc";
pub const FRAME_LENGTH: &str = "event_stream_length";
pub const FRAME_HEADERS: &str = "event_stream_headers";
pub const FRAME_TRUNCATED: &str = "event_stream_truncated";
