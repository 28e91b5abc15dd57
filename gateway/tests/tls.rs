//! TLS on both sides: clients speak HTTP/1.1 or h2 to the gateway, the gateway speaks h2 or HTTP/1.1 to an upstream whose
//! certificate it has checked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use agentledger::testing::meter::websocket::{Message, SocketFramer, encode};
use agentledger::testing::plugin::Sender;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::{Gate, Gateway, Installation, Script, Setup, Upstream, block_on};

const CHAT: &str = "/v1/chat/completions";
const WHOLE: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const STREAM: &str = "data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\ndata: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":10,\"total_tokens\":20}}\n\ndata: [DONE]\n\n";
const SOCKET_BEGUN: &str = r#"{"type":"response.created","response":{"id":"r","model":"gpt-4o"}}"#;
const SOCKET_DONE: &str = r#"{"type":"response.completed","response":{"id":"r","model":"gpt-4o","usage":{"input_tokens":10,"output_tokens":10}}}"#;
const ASK: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;
const ASK_STREAM: &str =
    r#"{"model":"gpt-4o","messages":[],"max_tokens":50,"stream":true,"stream_options":{"include_usage":true}}"#;

/// A certificate for this machine, with its key.
pub struct Identity {
    cert: CertificateDer<'static>,
    key: Vec<u8>,
    pub cert_pem: String,
    key_pem: String,
}

impl Identity {
    pub fn new() -> Identity {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Identity {
            cert: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
            cert_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        }
    }

    /// What a server with this certificate needs.
    pub fn server(&self) -> ServerConfig {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.cert.clone()], key)
            .unwrap()
    }
}

/// What came over the wire, and by which protocol.
#[derive(Clone, Debug)]
struct Answer {
    version: Version,
    status: u16,
    headers: HeaderMap,
    body: String,
}

/// Connects over TLS, offering this protocol alone.
async fn connect(address: SocketAddr, trusted: &Identity, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Asks over TLS, offering this protocol alone, each body in a request of its own on one connection.
fn ask(address: SocketAddr, trusted: &Identity, protocol: &str, bodies: &[&str]) -> std::io::Result<Vec<Answer>> {
    block_on(async {
        let stream = connect(address, trusted, protocol).await?;
        let request = |body: &str| {
            Request::post(format!("https://localhost{CHAT}"))
                .header("authorization", "Bearer sk-test-0123456789abcdef")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body.to_owned())))
                .unwrap()
        };
        let mut answers = Vec::new();
        if protocol == "h2" {
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            // All at once: that is what h2 is for.
            let sent: Vec<_> = bodies
                .iter()
                .map(|body| tokio::spawn(send.send_request(request(body))))
                .collect();
            for answer in sent {
                answers.push(read(answer.await.unwrap().unwrap()).await);
            }
        } else {
            let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .unwrap();
            tokio::spawn(connection);
            for body in bodies {
                send.ready().await.unwrap();
                let mut request = request(body);
                *request.uri_mut() = CHAT.parse().unwrap();
                request.headers_mut().insert("host", "localhost".parse().unwrap());
                answers.push(read(send.send_request(request).await.unwrap()).await);
            }
        }
        Ok(answers)
    })
}

async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        version: parts.version,
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// An upstream that speaks TLS, and tells by which protocol it was asked.
struct TlsUpstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(Version, Bytes)>>>,
}

impl TlsUpstream {
    fn start(identity: &Identity) -> TlsUpstream {
        let mut config = identity.server();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let seen: Arc<Mutex<Vec<(Version, Bytes)>>> = Arc::default();
        let (tell, told) = std::sync::mpsc::channel();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        continue;
                    };
                    let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
                    tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, seen).await;
                        }
                    });
                }
            });
        });
        TlsUpstream {
            address: told.recv().unwrap(),
            seen,
        }
    }

    fn versions(&self) -> Vec<Version> {
        self.seen.lock().unwrap().iter().map(|(version, _)| *version).collect()
    }
}

async fn serve(stream: tokio_rustls::server::TlsStream<TcpStream>, seen: Arc<Mutex<Vec<(Version, Bytes)>>>) {
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let version = request.version();
            if request.headers().contains_key("upgrade") {
                seen.lock().unwrap().push((version, Bytes::new()));
                return Ok(answer_over_a_socket(request));
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let streams = crate::harness::upstream::find(&body, b"\"stream\":true").is_some();
            seen.lock().unwrap().push((version, body));
            let (kind, text) = if streams {
                ("text/event-stream", STREAM)
            } else {
                ("application/json", WHOLE)
            };
            let response = Response::builder()
                .header("content-type", kind)
                .body(Full::new(Bytes::from_static(text.as_bytes())));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    });
    let stream = TokioIo::new(stream);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(stream, service)
            .with_upgrades()
            .await;
    }
}

/// Switches, and answers the first message with a response.
fn answer_over_a_socket(request: Request<Incoming>) -> Response<Full<Bytes>> {
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        hear(&mut stream, Sender::Client).await;
        for answer in [SOCKET_BEGUN, SOCKET_DONE] {
            let frame = encode(&Message::Text(answer.into()), None);
            stream.write_all(&frame).await.unwrap();
        }
        stream.flush().await.unwrap();
        hear(&mut stream, Sender::Client).await;
    });
    let response = Response::builder().status(101);
    let response = response.header("upgrade", "websocket").header("connection", "upgrade");
    response
        .header("sec-websocket-accept", "x")
        .body(Full::default())
        .unwrap()
}

async fn hear(stream: &mut (impl AsyncRead + Unpin), sender: Sender) -> Message {
    let mut framer = SocketFramer::new(sender, 1 << 20);
    loop {
        if let Some(message) = framer.message().unwrap() {
            return message;
        }
        let byte = stream.read_u8().await.unwrap();
        framer.push(&[byte]);
    }
}

/// A gateway with TLS of its own, in front of anything; and the files of its certificate.
fn over_tls(identity: &Identity, providers: &str) -> (Gateway, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, &identity.cert_pem).unwrap();
    std::fs::write(&key, &identity.key_pem).unwrap();
    let yaml = format!(
        "tls: {{cert_file: \"{}\", key_file: \"{}\"}}\n{providers}",
        cert.display(),
        key.display()
    );
    (
        Setup::new(&Upstream::always(Script::default())).only(&yaml).start(),
        files,
    )
}

#[test]
fn clients_speak_http11_and_h2_to_the_gateway() {
    let upstream = Upstream::playing(|seen| {
        if seen.json()["stream"] == true {
            Script::sse(&[STREAM])
        } else {
            Script::json(200, WHOLE)
        }
    });
    let identity = Identity::new();
    let (gateway, _files) = over_tls(
        &identity,
        &format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()),
    );
    let bodies = [ASK, ASK_STREAM, ASK, ASK_STREAM, "{", ASK];
    for (protocol, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let answers = ask(gateway.address(), &identity, protocol, &bodies).unwrap();
        for (asked, answer) in bodies.iter().zip(&answers) {
            assert_eq!(answer.version, version);
            let (status, body) = match *asked {
                ASK => (200, WHOLE),
                ASK_STREAM => (200, STREAM),
                _ => (400, ""),
            };
            assert_eq!(answer.status, status, "{protocol}: {answer:?}");
            if status == 200 {
                assert_eq!(answer.body, body, "{protocol}");
            } else {
                assert!(answer.body.starts_with("{\"error\":"), "{answer:?}");
            }
            assert!(
                !answer.headers.contains_key("transfer-encoding") || version == Version::HTTP_11,
                "{answer:?}"
            );
        }
    }
    let entries = gateway.entries();
    assert_eq!(entries.len(), 10);
    assert!(
        entries
            .iter()
            .all(|entry| entry.settlement.cost.to_string() == "0.000125"),
        "{entries:?}"
    );

    // The client that trusts another certificate is the one that refuses; plain HTTP gets no answer in the clear.
    assert!(ask(gateway.address(), &Identity::new(), "h2", &[ASK]).is_err());
    let mut plain = gateway.client.send("GET", "/health", &[], b"");
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut bytes);
    assert!(
        !bytes.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
}

#[test]
fn the_gateway_speaks_h2_to_an_upstream_whose_ca_it_was_given() {
    let (front, back) = (Identity::new(), Identity::new());
    let upstream = TlsUpstream::start(&back);
    let files = tempfile::tempdir().unwrap();
    let (right, wrong) = (files.path().join("right.pem"), files.path().join("wrong.pem"));
    std::fs::write(&right, &back.cert_pem).unwrap();
    std::fs::write(&wrong, &front.cert_pem).unwrap();
    let provider = |ca: &std::path::Path, more: &str| {
        format!(
            "providers: {{openai: {{upstream: \"https://{}\", ca_file: \"{}\"{more}}}}}",
            upstream.address,
            ca.display()
        )
    };

    let (gateway, _files) = over_tls(&front, &provider(&right, ""));
    for answer in ask(
        gateway.address(),
        &front,
        "h2",
        &[ASK, ASK_STREAM, ASK, ASK_STREAM, ASK],
    )
    .unwrap()
    {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!([WHOLE, STREAM].contains(&answer.body.as_str()));
    }
    assert_eq!(upstream.versions(), [Version::HTTP_2; 5]);
    let entries = gateway.entries();
    assert!(
        entries.len() == 5
            && entries
                .iter()
                .all(|entry| entry.settlement.cost.to_string() == "0.000125"),
        "{entries:?}"
    );

    let (gateway, _files) = over_tls(&front, &provider(&right, ", h2: false"));
    assert_eq!(
        ask(gateway.address(), &front, "http/1.1", &[ASK_STREAM]).unwrap()[0].body,
        STREAM
    );
    assert_eq!(upstream.versions()[5..], [Version::HTTP_11]);

    // Another's certificate: nothing is sent, nothing is spent.
    let (gateway, _files) = over_tls(&front, &provider(&wrong, ", retries: {connect: 0}"));
    let answer = ask(gateway.address(), &front, "h2", &[ASK]).unwrap().remove(0);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(upstream.versions().len(), 6);
    assert!(gateway.entries().is_empty() && gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn a_websocket_runs_over_tls_on_both_sides() {
    let (front, back) = (Identity::new(), Identity::new());
    let upstream = TlsUpstream::start(&back);
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &back.cert_pem).unwrap();
    // The upstream prefers h2, in which nothing can be switched: the gateway does not offer it here.
    let providers = format!(
        "providers: {{openai: {{upstream: \"https://{}\", ca_file: \"{}\"}}}}",
        upstream.address,
        ca.display()
    );
    let (gateway, _files) = over_tls(&front, &providers);
    let address = gateway.address();
    block_on(async {
        let mut stream = connect(address, &front, "http/1.1").await.unwrap();
        let head = "GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let asked = Message::Text(r#"{"type":"response.create","model":"gpt-4o","max_output_tokens":50}"#.into());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        stream.write_all(&encode(&asked, Some([5; 4]))).await.unwrap();
        for expected in [SOCKET_BEGUN, SOCKET_DONE] {
            assert_eq!(hear(&mut stream, Sender::Server).await, Message::Text(expected.into()));
        }
    });
    assert_eq!(upstream.versions(), [Version::HTTP_11]);
    assert_eq!(gateway.entry().settlement.cost.to_string(), "0.000125");
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_at_the_start() {
    let (one, other) = (Identity::new(), Identity::new());
    let (cert, key) = (one.cert_pem.as_str(), one.key_pem.as_str());
    for (cert, key, says) in [
        (cert, other.key_pem.as_str(), "cert.pem"),
        (cert, "", "no certificate or no private key"),
        ("nonsense", key, "cert.pem"),
    ] {
        let home = Installation::new("");
        std::fs::write(home.path("cert.pem"), cert).unwrap();
        std::fs::write(home.path("key.pem"), key).unwrap();
        home.configure(&format!(
            "tls: {{cert_file: \"{}\", key_file: \"{}\"}}",
            home.path("cert.pem").display(),
            home.path("key.pem").display()
        ));
        let output = home.run(&["serve"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains("tls: ") && text.contains(says),
            "{text}"
        );
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// A gateway that closes a connection after three refusals in a row.
fn closing_after_three(upstream: &Upstream, identity: &Identity) -> (Gateway, tempfile::TempDir) {
    let yaml = format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nrefusals: {{close_after: 3}}",
        upstream.base()
    );
    over_tls(identity, &yaml)
}

#[test]
fn a_client_that_ignores_every_refusal_over_h2_loses_its_connection_and_nothing_that_runs_on_it() {
    let gate = Gate::default();
    let upstream = Upstream::playing({
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Script::json(200, WHOLE)
        }
    });
    let identity = Identity::new();
    let (gateway, _files) = closing_after_three(&upstream, &identity);
    let request = |body: &'static str| {
        Request::post(format!("https://localhost{CHAT}"))
            .header("authorization", "Bearer sk-test-0123456789abcdef")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    block_on(async {
        let stream = connect(gateway.address(), &identity, "h2").await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut send, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let runs = tokio::spawn(send.send_request(request(ASK)));
        for _ in 0..3 {
            let refused = read(send.send_request(request("{")).await.unwrap()).await;
            assert_eq!(refused.status, 400, "{refused:?}");
        }
        gate.open();
        let answer = read(runs.await.unwrap().unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, WHOLE));
        // The gateway has said that it takes no more.
        connection.await.unwrap().unwrap();
        assert!(send.send_request(request(ASK)).await.is_err());
    });
    let others = ask(gateway.address(), &identity, "h2", &[ASK]).unwrap();
    assert_eq!(others[0].status, 200, "another connection is served");
}

/// The frames of one request over h2: its head, without Huffman's code, and its body.
fn h2_request(stream: u8, body: &[u8]) -> Vec<u8> {
    const HEAD: &[&[u8]] = &[
        b"\x83\x87",                                    // POST, https
        b"\x01\x09localhost",                           // the authority
        b"\x04\x14/v1/chat/completions",                // the path
        b"\x0f\x08\x1fBearer sk-test-0123456789abcdef", // the key
    ];
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    const HEADERS: (u8, u8) = (1, 4);
    const DATA: (u8, u8) = (0, 1);
    let head = frame(HEADERS.0, HEADERS.1, &HEAD.concat());
    [head, frame(DATA.0, DATA.1, body)].concat()
}

#[test]
fn a_client_that_ignores_the_close_of_its_h2_connection_loses_it_all_the_same() {
    let upstream = Upstream::always(Script::json(200, WHOLE));
    let identity = Identity::new();
    let (gateway, _files) = closing_after_three(&upstream, &identity);
    let heard = block_on(async {
        let mut stream = connect(gateway.address(), &identity, "h2").await.unwrap();
        let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&empty_settings).await.unwrap();
        for number in [1, 3, 5] {
            stream.write_all(&h2_request(number, b"{")).await.unwrap();
        }
        // It answers no PING and no GOAWAY, and waits for ever.
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    let text = String::from_utf8_lossy(&heard);
    assert_eq!(text.matches("{\"error\":").count(), 3, "{text}");
}
