//! What a command is told of the gateway to ask, and how it asks: this machine's, by its configuration, or one elsewhere,
//! by its address.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use ulid::Ulid;

use super::client::{Address, Client, ClientError, Remote};
use super::style::{Style, Tone};
use super::view::{self, View};
use super::{CliError, config};
use crate::config::{Config, Env, Known};
use crate::files;

/// The token of a gateway elsewhere; never an argument, which every process of the machine can read.
const TOKEN: &str = "AGENTLEDGER_TOKEN";
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// Before or behind any command that asks a gateway.
#[derive(Debug, Default, Args)]
pub struct Elsewhere {
    /// Ask the gateway at this address instead of this machine's, with the token of AGENTLEDGER_TOKEN
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE", global = true, value_parser = path())]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file; without it the first found of ./agentledger.yaml, ./configs/agentledger.yaml,
    /// ~/.config/agentledger/agentledger.yaml, /etc/agentledger/agentledger.yaml
    #[arg(short, long, value_name = "FILE", global = true, value_parser = path())]
    config: Option<PathBuf>,
}

/// Of every command that asks a gateway.
#[derive(Debug, Default, Args)]
pub struct AskArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the method's result as it is, JSON
    #[arg(long, global = true)]
    pub json: bool,
}

fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl ConfigArgs {
    /// An empty path is none, as in the contract.
    pub fn path(&self) -> Option<&Path> {
        self.config.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// For commands that serve nothing: which providers could be served is of no concern to them.
    pub fn load(&self) -> Result<Config, CliError> {
        Ok(config::load(self.path(), &Env::of_process(), &Known::undecided())?.0)
    }
}

/// Which gateway is asked.
#[derive(Clone)]
pub enum Target {
    /// This machine's, or where none runs its ledger.
    Here(Box<Config>),
    Elsewhere(Remote),
}

impl From<Config> for Target {
    fn from(config: Config) -> Target {
        Target::Here(Box::new(config))
    }
}

impl Target {
    /// Reaches the gateway, or opens the store; `None` where there is neither.
    pub fn open(&self) -> Result<Option<Client>, ClientError> {
        match self {
            Target::Here(config) => Client::open(config),
            Target::Elsewhere(remote) => Client::at(Address::Remote(remote.clone())).map(Some),
        }
    }

    /// The running gateway's address.
    ///
    /// # Errors
    /// None runs here.
    pub fn address(&self) -> Result<Address, ClientError> {
        match self {
            Target::Here(config) if Client::gateway(config)?.is_some() => Ok(Address::socket(&config.control.socket)),
            Target::Here(_) => Err(ClientError::NoGateway),
            Target::Elsewhere(remote) => Ok(Address::Remote(remote.clone())),
        }
    }

    /// The configuration of this machine's.
    ///
    /// # Errors
    /// The command reads files of this machine and was sent elsewhere.
    pub fn config(&self) -> Result<&Config, ClientError> {
        match self {
            Target::Here(config) => Ok(config),
            Target::Elsewhere(_) => Err(ClientError::Usage(
                "this command works on this machine's files: --url is not for it".to_owned(),
            )),
        }
    }
}

impl Elsewhere {
    /// For commands that work on this machine alone.
    pub fn refuse(&self) -> Result<(), CliError> {
        if self.is_given() {
            let text = "this command works on this machine alone: --url is not for it".to_owned();
            return Err(ClientError::Usage(text).into());
        }
        Ok(())
    }

    pub fn is_given(&self) -> bool {
        self.url.is_some()
    }

    pub fn target(&self, config: &ConfigArgs) -> Result<Target, CliError> {
        let Some(url) = &self.url else {
            if self.token_file.is_some() {
                let text = "--token-file is for a gateway elsewhere: give --url, too".to_owned();
                return Err(ClientError::Usage(text).into());
            }
            return Ok(config.load()?.into());
        };
        if config.path().is_some() {
            let text = "give either --config, for this machine's gateway, or --url".to_owned();
            return Err(ClientError::Usage(text).into());
        }
        let remote = Remote::new(url, self.token()?)?;
        if remote.exposes_its_token() {
            let warning = Style::of_stderr().paint(Tone::Warning, "warning");
            // A warning that nobody can read is lost.
            let _ = writeln!(
                io::stderr(),
                "{warning}: {url} is not encrypted, and the token goes with each request"
            );
        }
        Ok(Target::Elsewhere(remote))
    }

    fn token(&self) -> Result<Option<String>, ClientError> {
        let text = match &self.token_file {
            Some(file) => files::read_text(file, TOKEN_BYTES_MAX)
                .map_err(|error| ClientError::Usage(format!("--token-file {}: {error}", file.display())))?,
            None => std::env::var(TOKEN).unwrap_or_default(),
        };
        let token = text.trim();
        if token.is_empty() && self.token_file.is_some() {
            return Err(ClientError::Usage("--token-file: it is empty".to_owned()));
        }
        Ok((!token.is_empty()).then(|| token.to_owned()))
    }

    pub fn ask(&self, args: &AskArgs) -> Result<Ask, CliError> {
        Ok(Ask {
            target: self.target(&args.config)?,
            style: Style::of_stdout(),
            json: args.json,
        })
    }
}

/// A command's way to the methods, and how it shows what they say.
pub struct Ask {
    pub target: Target,
    pub style: Style,
    pub json: bool,
}

impl Ask {
    /// A method's result, shown: as it came with `--json`, else by the view. A result in pages is read to its end, or until
    /// there are so many rows as the parameter `limit` says.
    pub fn read(&self, method: &str, params: Map<String, Value>, view: &View) -> Result<String, CliError> {
        let Some(client) = self.target.open()? else {
            return Ok(if self.json {
                format!("{}\n", view.none())
            } else {
                format!("{}\n", view.nothing)
            });
        };
        if view.next.is_empty() {
            let result = client.call_raw(method, &params)?;
            return self.shown(&result, |value| view.table(value, self.style));
        }
        let result = view::pages(&client, method, params, view)?;
        Ok(if self.json {
            format!("{result}\n")
        } else {
            view.table(&result, self.style)
        })
    }

    /// What a method would answer, which was found without it.
    pub fn show<R: Serialize>(&self, result: &R, told: impl Fn(&Value) -> String) -> Result<String, CliError> {
        let failed = |error| ClientError::Local(format!("a result that is no JSON: {error}"));
        let result = to_raw_value(result).map_err(|error| failed(error.to_string()))?;
        self.shown(&result, told)
    }

    /// A method's result that is no list, each field on a line of its own.
    pub fn read_one(&self, method: &str, params: Map<String, Value>) -> Result<String, CliError> {
        self.read_as(method, params, |value| view::fields(value, self.style))
    }

    /// A method's result, shown in a way of its own.
    pub fn read_as(
        &self,
        method: &str,
        params: Map<String, Value>,
        told: impl Fn(&Value) -> String,
    ) -> Result<String, CliError> {
        let client = self.target.open()?.ok_or(ClientError::NoGateway)?;
        let result = client.call_raw(method, &params)?;
        self.shown(&result, told)
    }

    /// Has a running gateway change something. Should the answer be lost on its way, the same request is sent again: by its id
    /// the gateway knows whether it was carried out already.
    pub fn change(
        &self,
        method: &str,
        mut params: Map<String, Value>,
        told: impl Fn(&Value) -> String,
    ) -> Result<String, CliError> {
        params.insert("request_id".to_owned(), Ulid::new().to_string().into());
        let client = Client::at(self.target.address()?)?;
        let result = match client.call_raw(method, &params) {
            Err(ClientError::Transport { .. }) => client.call_raw(method, &params)?,
            result => result?,
        };
        self.shown(&result, told)
    }

    fn shown(&self, result: &RawValue, told: impl Fn(&Value) -> String) -> Result<String, CliError> {
        if self.json {
            return Ok(format!("{}\n", result.get()));
        }
        let value: Value = serde_json::from_str(result.get()).map_err(|error| ClientError::Answer {
            method: "the method".to_owned(),
            error,
        })?;
        Ok(told(&value))
    }
}

/// Parameters: fields that are null, empty or false are left out.
pub fn params<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let given = fields.into_iter().filter(|(_, value)| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
    given.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A number as it was typed, else the text: methods say what fits.
pub fn number(text: &str) -> Value {
    serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number)
}
