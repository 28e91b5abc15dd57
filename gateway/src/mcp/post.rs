//! A POST: messages are read, calls held, all of it forwarded as it came, and the answer relayed.

use std::sync::Arc;

use agentledger_http1::ResponseHead;
use bytes::Bytes;
use http::StatusCode;
use pingora::http::RequestHeader;
use serde_json::{Value, value::RawValue};

use super::Mcp;
use super::arrive::Arrival;
use super::call::{Arguments, Called, OpenCall};
use super::headers::{check, is_stateless};
use super::listen::admit;
use super::message::{Message, MessageFault, Messages, id_key};
use super::outgoing::request;
use super::relay::relay;
use super::traffic::{Edits, Traffic};
use super::view::ToolView;
use super::waiting::WaitKey;
use crate::config::ToolRefusals;
use crate::policy::TOOL_TAG;
use crate::proxy::forward::{Answer, Failed, forward};
use crate::proxy::report;
use crate::proxy::sanitize::{check_length, read_body};
use crate::proxy::session as sessions;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::client::client_gone;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::cors;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::json_rpc;
use crate::proxy::shared::refused::RefusedRequest;
use crate::proxy::shared::reply::Refusal;

/// Serves one. `false`: the connection cannot be used again.
///
/// # Errors
/// Why it is refused.
pub async fn post(
    gateway: &Arc<Gateway>,
    mcp: &Mcp,
    arrival: &Arrival,
    session: &mut ServerSession,
) -> Result<bool, RefusedRequest> {
    let endpoint = &arrival.server.endpoint;
    let refused = |refusal: Refusal| RefusedRequest::new(refusal, Some(endpoint), "");
    let limits = &arrival.rules.config.limits;
    check_length(session, limits.body_bytes_max).map_err(refused)?;
    check_encoding(session).map_err(refused)?;
    let body = read_body(session, limits, &gateway.bodies).await.map_err(refused)?;
    let bytes = body.bytes.clone();
    let messages = Messages::read(&bytes).map_err(|fault| refused(unreadable(&fault)))?;
    let asked_by = messages.single().and_then(|message| message.id);
    let refused = |refusal: Refusal| RefusedRequest::new(refusal, Some(endpoint), "").asked_by(asked_by);
    check(&session.req_header().headers, &messages).map_err(|fault| {
        let refusal = Refusal::new(RefusalCode::HeaderMismatch, fault.to_string());
        refused(refusal.final_answer())
    })?;
    let post = Post {
        gateway,
        mcp,
        arrival,
        messages: &messages,
        body: bytes.clone(),
    };
    if messages.calls().next().is_none() {
        return post.free(session, body).await.map_err(refused);
    }
    match post.begin(session).await {
        Ok(calls) => post.called(session, calls).await.map_err(refused),
        Err((message, refusal)) => Ok(post.answer_refused(session, message, &refusal).await),
    }
}

/// A body in an encoding could say anything.
fn check_encoding(session: &ServerSession) -> Result<(), Refusal> {
    let encoding = session.req_header().headers.get("content-encoding");
    match encoding.is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        true => Ok(()),
        false => Err(Refusal::new(
            RefusalCode::UnknownEncoding,
            "MCP messages are read as they are, without an encoding",
        )
        .final_answer()),
    }
}

fn unreadable(fault: &MessageFault) -> Refusal {
    let code = match fault {
        MessageFault::Json(_) => RefusalCode::InvalidJson,
        MessageFault::Message(_) => RefusalCode::InvalidMessage,
    };
    Refusal::new(code, fault.to_string()).final_answer()
}

struct Post<'a> {
    gateway: &'a Arc<Gateway>,
    mcp: &'a Mcp,
    arrival: &'a Arrival,
    messages: &'a Messages<'a>,
    body: Bytes,
}

impl<'a> Post<'a> {
    /// Without a tool call: it costs nothing.
    async fn free(&self, session: &mut ServerSession, body: Body) -> Result<bool, Refusal> {
        let header = session.req_header().clone();
        let mut exchange = self.arrival.caller(self.gateway).exchange(&header, None, body);
        if let Some(method) = self.messages.single().and_then(|message| message.method.as_deref()) {
            exchange.operation = operation_of(method).into();
        }
        let headers = admit(self.gateway, &mut exchange)?;
        let outgoing = request(&self.arrival.server, &exchange, session.req_header(), self.body.clone())?;
        let at_once = std::future::ready(Ok::<(), Refusal>(()));
        match forward(self.gateway, &exchange, &outgoing, session, at_once).await {
            Ok(answer) => {
                exchange.inspected.release_body();
                self.cancel(answer.header.status.as_u16());
                let edits = self.edits(&header, &exchange);
                let traffic = self.traffic(session, Vec::new(), edits);
                Ok(self.relay(session, &exchange, answer, &headers, traffic).await)
            }
            Err(failed) => failed.refusal().map_or(Ok(false), Err),
        }
    }

    /// What its client cancels, once the server knows.
    fn cancel(&self, status: u16) {
        for id in self.messages.cancelled().filter(|_| status < 400) {
            self.mcp.cancel(self.gateway, &self.arrival.channel, &id_key(id));
        }
    }

    /// Holds all calls, or none.
    async fn begin(&self, session: &mut ServerSession) -> Result<Vec<OpenCall>, (&Message<'a>, Refusal)> {
        let mut calls = Vec::new();
        for message in self.messages.calls() {
            match self.begin_one(session, message).await {
                Ok(mut call) => {
                    call.wanted = Some(self.mcp.wanted.begin(&self.arrival.channel, &call.id));
                    calls.push(call);
                }
                Err(refusal) => {
                    for call in calls {
                        self.put_back(call);
                    }
                    return Err((message, refusal));
                }
            }
        }
        Ok(calls)
    }

    /// A call that goes on with one that asked for input is the same spend: its hold is there.
    async fn begin_one(&self, session: &mut ServerSession, message: &Message<'_>) -> Result<OpenCall, Refusal> {
        let caller = self.arrival.caller(self.gateway);
        let (server, tool) = (&self.arrival.server, message.params.name.as_deref());
        self.mcp
            .pins
            .check(server.config.pin, &server.name, tool.unwrap_or_default())?;
        if message.params.continues
            && let Some(mut call) = self.mcp.waiting.take(&self.round_key(message))
        {
            let admitted = sessions::admit(self.gateway, &call.exchange);
            if let Err(refusal) = admitted {
                self.put_back(call);
                return Err(refusal);
            }
            call.again(message);
            return Ok(call);
        }
        let arguments = message.params.arguments;
        let called = Called {
            id: caller.new_id(),
            key: message.id.map(id_key).unwrap_or_default(),
            tool: message.params.name.as_deref().unwrap_or_default(),
            arguments: Arguments::Json(
                arguments.map_or_else(Bytes::new, |json| self.body.slice_ref(json.get().as_bytes())),
            ),
            bill: None,
        };
        let header = session.req_header().clone();
        caller.begin(&header, client_gone(session), called).await
    }

    fn round_key(&self, message: &Message<'_>) -> WaitKey {
        let params = &message.params;
        let model = format!(
            "{}:{}",
            self.arrival.server.name,
            params.name.as_deref().unwrap_or_default()
        );
        let arguments = params.arguments.map(RawValue::get).unwrap_or_default();
        let state = params.request_state.map(RawValue::get).unwrap_or_default();
        WaitKey::round(
            &self.arrival.channel,
            &model,
            &blake3::hash(arguments.as_bytes()),
            state,
        )
    }

    /// Its request does not leave: it is void, or waits on for its next round.
    fn put_back(&self, call: OpenCall) {
        match call.waits_since {
            None => call.void("not_forwarded"),
            Some(_) => {
                let key = call
                    .waits_for
                    .unwrap_or_else(|| WaitKey::answer(&self.arrival.channel, &call.id));
                self.mcp.waiting.put(self.gateway, key, call);
            }
        }
    }

    /// Forwards held calls, and relays the answer.
    async fn called(&self, session: &mut ServerSession, mut calls: Vec<OpenCall>) -> Result<bool, Refusal> {
        let Some(first) = calls.first_mut() else {
            return Ok(true);
        };
        let headers = std::mem::take(&mut first.headers);
        let header = session.req_header().clone();
        // It stands for the request as a whole: with it the request ends where its session is killed.
        let mut carrier = self
            .arrival
            .caller(self.gateway)
            .exchange(&header, None, Body::own(Bytes::new()));
        carrier.tenant.clone_from(&first.exchange.tenant);
        carrier.zone.clone_from(&first.exchange.zone);
        carrier.identity = first.exchange.identity.clone();
        carrier.identity.tags.remove(TOOL_TAG);
        let outgoing = request(&self.arrival.server, &carrier, &header, self.body.clone());
        let outgoing = match outgoing {
            Ok(outgoing) => outgoing,
            Err(refusal) => {
                calls.into_iter().for_each(|call| self.put_back(call));
                return Err(refusal);
            }
        };
        if self.arrival.is_of_stream {
            self.called_on_stream(&calls).await?;
            // The answer may come on the stream before the request itself is answered: so the calls wait there from now on.
            for call in std::mem::take(&mut calls) {
                let key = WaitKey::answer(&self.arrival.channel, &call.id);
                self.mcp.waiting.put(self.gateway, key, call);
            }
        }
        let on_disk = async {
            for call in &calls {
                call.durable().await?;
            }
            Ok(())
        };
        let forwarded = forward(self.gateway, &carrier, &outgoing, session, on_disk).await;
        match forwarded {
            Ok(answer) => {
                let status = answer.header.status.as_u16();
                calls.extend(self.taken_back(status >= 400));
                self.cancel(status);
                let traffic = self.traffic(session, calls, self.edits(&header, &carrier));
                Ok(self.relay(session, &carrier, answer, &headers, traffic).await)
            }
            Err(failed) => {
                calls.extend(self.taken_back(true));
                for call in calls {
                    match failed {
                        // The server has an earlier round of it, and not this one: it waits on for the next.
                        Failed::Unsent(_) | Failed::NotTaken(_) if call.is_next_round => self.put_back(call),
                        _ => call.failed(self.gateway, &failed),
                    }
                }
                failed.refusal().map_or(Ok(false), Err)
            }
        }
    }

    async fn called_on_stream(&self, calls: &[OpenCall]) -> Result<(), Refusal> {
        for call in calls {
            call.durable().await?;
        }
        Ok(())
    }

    /// The calls that wait on a stream, where the server did not take their request.
    fn taken_back(&self, failed: bool) -> Vec<OpenCall> {
        if !(failed && self.arrival.is_of_stream) {
            return Vec::new();
        }
        let keys = self.messages.calls().filter_map(|message| message.id);
        keys.filter_map(|id| {
            let key = WaitKey::answer(&self.arrival.channel, &id_key(id));
            self.mcp.waiting.take(&key)
        })
        .collect()
    }

    /// Lists of tools are shown as their caller may see them.
    fn edits<'e>(&'e self, header: &RequestHeader, listing: &'e Exchange) -> Edits<'e> {
        let ids: Vec<String> = self.messages.lists().map(id_key).collect();
        if ids.is_empty() {
            return Edits::Nothing;
        }
        let view = ToolView {
            caller: self.arrival.caller(self.gateway),
            pins: &self.mcp.pins,
            pin: self.arrival.server.config.pin,
            header: header.clone(),
            listing,
        };
        Edits::Lists(ids, Box::new(view))
    }

    fn traffic<'e>(&'e self, session: &ServerSession, calls: Vec<OpenCall>, edits: Edits<'e>) -> Traffic<'e> {
        let is_stateless = is_stateless(&session.req_header().headers, Some(self.messages));
        let parts = (self.gateway, self.mcp, self.arrival);
        Traffic::new(parts, calls, Some((self.messages, is_stateless)), edits)
    }

    async fn relay(
        &self,
        session: &mut ServerSession,
        exchange: &Exchange,
        answer: Answer,
        headers: &[(String, String)],
        traffic: Traffic<'_>,
    ) -> bool {
        let head = self.arrival.head_of(self.mcp, &answer.header, headers);
        relay(self.gateway, exchange, answer, head, traffic, session).await
    }

    /// A call may not be made: it is answered so that its model, or its client, can read why. Of a batch nothing was sent then.
    async fn answer_refused(&self, session: &mut ServerSession, message: &Message<'_>, refusal: &Refusal) -> bool {
        report::refused(self.gateway, &self.arrival.server.endpoint.name, refusal);
        let refusals = self.arrival.rules.config.mcp.refusals;
        let mut said = in_words(refusals, refusal, message.id);
        if self.messages.is_batch {
            said = answers_to_batch(refusals, self.messages, message, said);
        }
        write(session, refusal, json_rpc::body(&said)).await && !refusal.close
    }
}

/// A refusal as the answer to a call.
pub fn in_words(refusals: ToolRefusals, refusal: &Refusal, id: Option<&RawValue>) -> Value {
    match refusals {
        ToolRefusals::Result => json_rpc::refused_result(refusal, id),
        ToolRefusals::Error => json_rpc::error(refusal, id),
    }
}

/// The answers to a batch of which one call is refused, with this answer: nothing of it is sent.
pub fn answers_to_batch(
    refusals: ToolRefusals,
    messages: &Messages<'_>,
    refused: &Message<'_>,
    answer: Value,
) -> Value {
    let beside = Refusal::new(
        RefusalCode::RouteRefused,
        "not sent: another call of its batch was refused",
    );
    let requests = messages
        .all
        .iter()
        .filter(|other| other.id.is_some() && other.method.is_some());
    let answers = requests.map(|other| match other {
        this if std::ptr::eq(this, refused) => answer.clone(),
        call if call.is_call() => in_words(refusals, &beside, call.id),
        other => json_rpc::error(&beside, other.id),
    });
    Value::Array(answers.collect())
}

/// Answers of JSON-RPC are HTTP's 200: a client reads them only then.
async fn write(session: &mut ServerSession, refusal: &Refusal, body: Bytes) -> bool {
    let mut head = ResponseHead::new(StatusCode::OK);
    let mut put = |name: &str, value: &str| {
        // A value that is no header value is left out rather than the whole answer lost.
        let _ = head.insert(name, value);
    };
    put("content-type", "application/json");
    put("content-length", &body.len().to_string());
    put("x-agentledger-refused", refusal.code.as_str());
    if let Some(seconds) = refusal.retry_after_s {
        put("retry-after", &seconds.to_string());
    }
    for (name, value) in &refusal.headers {
        put(name, value);
    }
    cors::put(session, &mut head);
    if refusal.close {
        session.close_after_answer();
    }
    session.write_response_header(&head).await.is_ok() && session.write_response_body(body, true).await.is_ok()
}

/// A method as policies and metrics name it. Others are the client's to make up.
fn operation_of(method: &str) -> &'static str {
    const KNOWN: [&str; 22] = [
        "completion/complete",
        "elicitation/create",
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tools/list",
    ];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("mcp")
}
