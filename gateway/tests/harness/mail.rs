//! A mail server: takes mails by SMTP, as RFC 5321 has it, and keeps them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

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

pub struct MailServer {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    /// Refuses recipients with this answer.
    refusal: Arc<Mutex<Option<&'static str>>>,
}

impl MailServer {
    pub fn new() -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = MailServer {
            address: listener.local_addr().unwrap(),
            mails: Arc::default(),
            refusal: Arc::default(),
        };
        let (mails, refusal) = (Arc::clone(&server.mails), Arc::clone(&server.refusal));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mails, refusal) = (Arc::clone(&mails), Arc::clone(&refusal));
                thread::spawn(move || serve(stream, &mails, &refusal));
            }
        });
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn refuse(&self, answer: Option<&'static str>) {
        *self.refusal.lock().unwrap() = answer;
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

/// What stands between angle brackets.
fn path(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap_or_default();
    rest.split_once('>').unwrap_or_default().0.to_owned()
}

fn serve(stream: TcpStream, mails: &Mutex<Vec<Mail>>, refusal: &Mutex<Option<&'static str>>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 mail.test ESMTP")?;
    let mut mail: Option<Mail> = None;
    let mut login = String::new();
    loop {
        let line = lines.next()?.ok()?;
        let verb = line.split([' ', ':']).next()?.to_ascii_uppercase();
        match (verb.as_str(), &mut mail) {
            ("EHLO", _) => say("250-mail.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN")?,
            ("HELO" | "RSET" | "NOOP", _) => say("250 OK")?,
            ("AUTH", _) => {
                line.rsplit(' ').next()?.clone_into(&mut login);
                say("235 2.7.0 accepted")?;
            }
            ("MAIL", _) => {
                mail = Some(Mail {
                    from: path(&line),
                    to: Vec::new(),
                    data: String::new(),
                    login: login.clone(),
                });
                say("250 OK")?;
            }
            ("RCPT", Some(mail)) => match *refusal.lock().unwrap() {
                Some(answer) => say(answer)?,
                None => {
                    mail.to.push(path(&line));
                    say("250 OK")?;
                }
            },
            ("DATA", Some(mail)) => {
                say("354 go on, end with a dot")?;
                loop {
                    let line = lines.next()?.ok()?;
                    match line.strip_prefix('.') {
                        Some("") => break,
                        Some(stuffed) => mail.data.push_str(stuffed),
                        None => mail.data.push_str(&line),
                    }
                    mail.data.push('\n');
                }
                mails.lock().unwrap().push(mail.clone());
                say("250 2.0.0 queued")?;
            }
            ("QUIT", _) => {
                say("221 bye")?;
                return None;
            }
            _ => say("503 bad sequence of commands")?,
        }
    }
}
