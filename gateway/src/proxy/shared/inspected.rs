//! What was read of a request's body.

use bytes::Bytes;

use crate::meter::Text;
use crate::plugin::outline::Outline;
use crate::plugin::{Call, EditPoint};
use crate::proxy::shared::body::Body;

/// A request as read, and its body as it came.
pub struct Inspected {
    pub call: Call,
    pub body: Body,
    /// The body decoded, where it came encoded; else empty.
    pub decoded: Bytes,
    pub outline: Option<Outline>,
    /// The request's text, for the estimate of its input.
    pub text: Text,
    /// The request has content other than text.
    pub has_media: bool,
    /// Tokens of what a WebSocket connection keeps of its earlier answers, as far as they were seen.
    pub kept_tokens: u64,
    /// Came over a WebSocket: it may be heard and answered in sound, where the model does that.
    pub over_socket: bool,
}

impl Inspected {
    /// The JSON that the outline's spans refer to.
    pub fn json(&self) -> &[u8] {
        if self.decoded.is_empty() {
            &self.body.bytes
        } else {
            &self.decoded
        }
    }

    pub fn is_encoded(&self) -> bool {
        !self.decoded.is_empty()
    }

    pub fn edit_point(&self, pick: impl Fn(&EditPoint) -> Option<&String>) -> Option<&String> {
        self.call.edits.iter().find_map(pick)
    }

    /// The request has a place for a limit of its output, where a limit can be put.
    pub fn can_clamp(&self) -> bool {
        let editable = self.edit_point(|point| match point {
            EditPoint::MaxOutput(path) => Some(path),
            _ => None,
        });
        editable.is_some()
    }

    /// Lets go of the body, once it is sent: what later steps need of it was read.
    pub fn release_body(&mut self) {
        self.body = Body::own(Bytes::new());
        self.decoded = Bytes::new();
        self.outline = None;
    }

    /// A request without a body: free, or one that no client sent.
    pub fn plain(body: Body, model: Option<String>) -> Inspected {
        Inspected {
            call: Call {
                model: model.unwrap_or_default(),
                choices: 1,
                ..Call::default()
            },
            body,
            decoded: Bytes::new(),
            outline: None,
            text: Text::default(),
            has_media: false,
            kept_tokens: 0,
            over_socket: false,
        }
    }
}
