//! Streams that clients listen on (GET), also to resume one that broke off, and the end of a session (DELETE). They cost nothing; what
//! a stream brings may answer a call that waits.

use std::sync::Arc;

use agentledger_http1::ResponseHead;
use bytes::Bytes;

use super::Mcp;
use super::arrive::Arrival;
use super::call::Caller;
use super::discovery::lead_challenge_here;
use super::outgoing::{head_of, request};
use super::relay::relay;
use super::traffic::Traffic;
use crate::proxy::forward::forward;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::refused::RefusedRequest;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::{decide, report, session as sessions};

/// Serves one. `false`: the connection cannot be used again.
///
/// # Errors
/// Why it is refused.
pub async fn listen(
    gateway: &Arc<Gateway>,
    mcp: &Mcp,
    arrival: &Arrival,
    session: &mut ServerSession,
) -> Result<bool, RefusedRequest> {
    let refused = |refusal: Refusal| RefusedRequest::new(refusal, Some(&arrival.server.endpoint), "");
    let mut exchange = arrival
        .caller(gateway)
        .exchange(&session.req_header().clone(), None, Body::own(Bytes::new()));
    let headers = admit(gateway, &mut exchange).map_err(refused)?;
    let outgoing = request(&arrival.server, &exchange, session.req_header(), Bytes::new()).map_err(refused)?;
    let at_once = std::future::ready(Ok::<(), Refusal>(()));
    let answer = match forward(gateway, &exchange, &outgoing, session, at_once).await {
        Ok(answer) => answer,
        Err(failed) => return failed.refusal().map(refused).map_or(Ok(false), Err),
    };
    if exchange.method == "DELETE" && answer.header.status.is_success() {
        mcp.end(gateway, &arrival.channel);
    }
    let head = arrival.head_of(mcp, &answer.header, &headers);
    let traffic = Traffic::of_stream((gateway, mcp, arrival));
    Ok(relay(gateway, &exchange, answer, head, traffic, session).await)
}

/// What costs nothing goes through the policies too. Headers for the answer.
///
/// # Errors
/// Why it may not pass.
pub fn admit(gateway: &Gateway, exchange: &mut Exchange) -> Result<Vec<(String, String)>, Refusal> {
    let _running = report::begun(gateway);
    decide::bind(gateway, exchange)?;
    sessions::admit(gateway, exchange)?;
    decide::admit_free(gateway, exchange)
}

impl Arrival {
    /// The head of an answer, with the server's addresses led here, and `extra`.
    pub fn head_of(&self, mcp: &Mcp, from: &ResponseHead, extra: &[(String, String)]) -> ResponseHead {
        let mut head = head_of(&self.server, from, extra);
        if let Some(here) = self
            .called
            .as_ref()
            .filter(|_| head.status == 401 || head.status == 403)
        {
            lead_challenge_here(mcp, &self.server, here, &mut head);
        }
        head
    }

    pub fn caller<'a>(&'a self, gateway: &'a Arc<Gateway>) -> Caller<'a> {
        Caller {
            gateway,
            rules: &self.rules,
            server: &self.server.name,
            target: &self.target,
            identity: &self.identity,
            forward_path: &self.forward_path,
        }
    }
}
