//! The addresses that streams of the older transport (2024-11-05) tell their clients to post to. They lead here instead, else what
//! is called there would pass the gateway by.
//!
//! Only what a server told is an address: a path is looked up, never taken as it is, so a client reaches nothing else of the
//! server's host.

use std::collections::{HashMap, VecDeque};

use http::Uri;
use parking_lot::Mutex;

use super::arrive::{below, prefix_of, serves};
use crate::addresses::is_own_machine;
use crate::config::Upstream;
use crate::proxy::shared::rules::ToolServer;

/// Addresses of one server that are known at one time; the oldest go.
const TOLD_MAX: usize = 256;
/// Under which an address stands that is not below the server's own.
pub const ELSEWHERE: &str = "/_origin";

/// What servers told of themselves.
#[derive(Default)]
pub struct Endpoints {
    /// By server, paths to post to: as clients call them here, and as it did.
    posts: Mutex<HashMap<String, VecDeque<(String, String)>>>,
    /// By server, where its document of the resource stands.
    documents: Mutex<HashMap<String, String>>,
}

/// An address that was told.
#[derive(Debug, PartialEq, Eq)]
pub struct ToldAddress {
    /// What the client posts to: a path of the gateway's, with its query.
    pub address: String,
    /// The same at the upstream.
    pub path: String,
    pub query: String,
}

/// It leads to another host than the stream's.
#[derive(Debug, PartialEq, Eq)]
pub struct ForeignAddress;

impl Endpoints {
    /// The path at the upstream of what stands at a path here. `None`: no stream told of it.
    pub fn told(&self, server: &str, here: &str) -> Option<String> {
        let told = self.posts.lock();
        let (_, path) = told.get(server)?.iter().find(|(known, _)| known == here)?;
        Some(path.clone())
    }

    /// Notes an address, and leads it here.
    ///
    /// # Errors
    /// It is at another host, where the client's credential must not go.
    pub fn tell(&self, server: &ToolServer, address: &str) -> Result<ToldAddress, ForeignAddress> {
        let upstream = &server.config.upstream;
        let (path, query) = path_at(upstream, address.trim()).ok_or(ForeignAddress)?;
        let rest = match below(&path, &upstream.base_path) {
            Some(rest) if !server.config.keeps_path || serves(rest) => rest.to_owned(),
            _ => format!("{ELSEWHERE}{path}"),
        };
        let prefix = if serves(&rest) && server.config.keeps_path {
            String::new()
        } else {
            prefix_of(server)
        };
        let here = format!("{prefix}{}", rest.trim_end_matches('/'));
        let mut told = self.posts.lock();
        let own = told.entry(server.name.to_string()).or_default();
        own.retain(|(known, _)| *known != here);
        if own.len() >= TOLD_MAX {
            own.pop_front();
        }
        own.push_back((here.clone(), path.clone()));
        let mark = if query.is_empty() { "" } else { "?" };
        Ok(ToldAddress {
            address: format!("{here}{mark}{query}"),
            path,
            query,
        })
    }
}

impl Endpoints {
    /// Notes where a server has its document of the resource. `false`: at another host.
    pub fn note_document(&self, server: &ToolServer, url: &str) -> bool {
        let Some((path, query)) = path_at(&server.config.upstream, url) else {
            return false;
        };
        let mark = if query.is_empty() { "" } else { "?" };
        self.documents
            .lock()
            .insert(server.name.to_string(), format!("{path}{mark}{query}"));
        true
    }

    /// Where it is, path and query at the upstream, if the server told of it.
    pub fn document(&self, server: &str) -> Option<String> {
        self.documents.lock().get(server).cloned()
    }
}

/// The path and query of an address at this host: relative to its root, or whole.
fn path_at(upstream: &Upstream, address: &str) -> Option<(String, String)> {
    let uri: Uri = address.parse().ok()?;
    let path = uri.path();
    (is_at(upstream, &uri) && path.starts_with('/'))
        .then(|| (path.to_owned(), uri.query().unwrap_or_default().to_owned()))
}

/// Whether an address is at this host. Servers on this machine call it by its other name, too; only the path is taken of what they
/// say.
pub fn is_at(upstream: &Upstream, uri: &Uri) -> bool {
    let Some(host) = uri.host() else { return true };
    let is_tls = uri.scheme_str() == Some("https");
    let host = host.trim_matches(['[', ']']);
    let is_same = host.eq_ignore_ascii_case(&upstream.host) || (is_own_machine(host) && is_own_machine(&upstream.host));
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    is_same && port == upstream.port && is_tls == upstream.tls
}
