//! A mail server: takes mails by SMTP, as RFC 5321 has it, and keeps them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A mail as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and text, dots unstuffed.
    pub data: String,
    /// `user\0password` of AUTH PLAIN, as base64; empty without.
    pub login: String,
}

/// How a connection is encrypted.
#[derive(Clone)]
pub enum MailSecurity {
    Plain,
    /// From the first byte on.
    Tls(Arc<ServerConfig>),
    /// When the client says so; nothing else is taken before.
    StartTls(Arc<ServerConfig>),
}

pub struct MailServer {
    address: SocketAddr,
    desk: Arc<Desk>,
}

/// What all connections share.
struct Desk {
    mails: Mutex<Vec<Mail>>,
    /// Refuses recipients with this answer.
    refusal: Mutex<Option<&'static str>>,
    security: MailSecurity,
}

trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

impl MailServer {
    pub fn new() -> MailServer {
        MailServer::with(MailSecurity::Plain)
    }

    pub fn with(security: MailSecurity) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let desk = Arc::new(Desk {
            mails: Mutex::default(),
            refusal: Mutex::default(),
            security,
        });
        let server = MailServer {
            address,
            desk: Arc::clone(&desk),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = Arc::clone(&desk);
                thread::spawn(move || serve(stream, &desk));
            }
        });
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn refuse(&self, answer: Option<&'static str>) {
        *self.desk.refusal.lock().unwrap() = answer;
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.desk.mails.lock().unwrap().clone()
    }
}

/// What stands between angle brackets.
fn path(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap_or_default();
    rest.split_once('>').unwrap_or_default().0.to_owned()
}

fn encrypted(stream: TcpStream, config: &Arc<ServerConfig>) -> Option<Box<dyn Connection>> {
    let session = ServerConnection::new(Arc::clone(config)).ok()?;
    Some(Box::new(StreamOwned::new(session, stream)))
}

fn line(from: &mut BufReader<Box<dyn Connection>>) -> Option<String> {
    let mut line = String::new();
    let read = from.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

fn say(to: &mut BufReader<Box<dyn Connection>>, text: &str) -> Option<()> {
    let out = to.get_mut();
    out.write_all(format!("{text}\r\n").as_bytes()).ok()?;
    out.flush().ok()
}

fn serve(stream: TcpStream, desk: &Desk) -> Option<()> {
    let again = stream.try_clone().ok()?;
    let plain: Box<dyn Connection> = match &desk.security {
        MailSecurity::Tls(config) => encrypted(stream, config)?,
        _ => Box::new(stream),
    };
    let mut lines = BufReader::new(plain);
    let mut must_encrypt = match &desk.security {
        MailSecurity::StartTls(config) => Some(Arc::clone(config)),
        _ => None,
    };
    say(&mut lines, "220 mail.test ESMTP")?;
    let mut mail: Option<Mail> = None;
    let mut login = String::new();
    loop {
        let said = line(&mut lines)?;
        let verb = said.split([' ', ':']).next()?.to_ascii_uppercase();
        match (verb.as_str(), &mut mail) {
            ("EHLO", _) if must_encrypt.is_some() => say(&mut lines, "250-mail.test\r\n250 STARTTLS")?,
            ("EHLO", _) => say(
                &mut lines,
                "250-mail.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN",
            )?,
            ("STARTTLS", _) => {
                let config = must_encrypt.take()?;
                say(&mut lines, "220 go ahead")?;
                lines = BufReader::new(encrypted(again.try_clone().ok()?, &config)?);
            }
            ("QUIT", _) => {
                say(&mut lines, "221 bye")?;
                return None;
            }
            _ if must_encrypt.is_some() => say(&mut lines, "530 5.7.0 STARTTLS first")?,
            ("HELO" | "RSET" | "NOOP", _) => say(&mut lines, "250 OK")?,
            ("AUTH", _) => {
                said.rsplit(' ').next()?.clone_into(&mut login);
                say(&mut lines, "235 2.7.0 accepted")?;
            }
            ("MAIL", _) => {
                mail = Some(Mail {
                    from: path(&said),
                    to: Vec::new(),
                    data: String::new(),
                    login: login.clone(),
                });
                say(&mut lines, "250 OK")?;
            }
            ("RCPT", Some(mail)) => {
                let refusal = *desk.refusal.lock().unwrap();
                if refusal.is_none() {
                    mail.to.push(path(&said));
                }
                say(&mut lines, refusal.unwrap_or("250 OK"))?;
            }
            ("DATA", Some(mail)) => {
                say(&mut lines, "354 go on, end with a dot")?;
                mail.data = text(&mut lines)?;
                desk.mails.lock().unwrap().push(mail.clone());
                say(&mut lines, "250 2.0.0 queued")?;
            }
            _ => say(&mut lines, "503 bad sequence of commands")?,
        }
    }
}

/// A mail's headers and text, up to the line with a dot alone.
fn text(lines: &mut BufReader<Box<dyn Connection>>) -> Option<String> {
    let mut data = String::new();
    loop {
        let said = line(lines)?;
        match said.strip_prefix('.') {
            Some("") => return Some(data),
            Some(stuffed) => data.push_str(stuffed),
            None => data.push_str(&said),
        }
        data.push('\n');
    }
}
