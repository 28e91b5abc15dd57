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
use super::form::{self, Form, FormArgs};
use super::style::{Style, Tone};
use super::view::{self, View};
use super::{CliError, aliases, config, running};
use crate::config::{Config, Env, KeyAliases, Known};
use crate::files;
use crate::launch;

/// The token of a gateway elsewhere; never an argument, which every process of the machine can read.
const TOKEN: &str = "AGENTLEDGER_TOKEN";
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// Whoever says where the ledger or its socket is, says which gateway is meant.
const OWN_PLACES: [&str; 2] = ["AGENTLEDGER_STORAGE_DSN", "AGENTLEDGER_CONTROL_SOCKET"];

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
    /// Configuration file; without it that of AGENTLEDGER_CONFIG, or the first found of ./agentledger.yaml,
    /// ./configs/agentledger.yaml, ~/.config/agentledger/agentledger.yaml, /etc/agentledger/agentledger.yaml
    #[arg(short, long, value_name = "FILE", global = true, value_parser = path())]
    config: Option<PathBuf>,
}

/// Of every command that asks a gateway.
#[derive(Debug, Default, Args)]
pub struct AskArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub format: FormArgs,
}

impl AskArgs {
    /// The form that was asked for, if any.
    pub fn form(&self) -> Option<Form> {
        self.format.form()
    }
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

    /// The configuration of the gateway that is meant: of the file where there is one, else of the one gateway of this user
    /// that runs. One that runs has its ledger and its socket where it was started, whatever folder this is.
    pub fn of_gateway(&self) -> Result<Config, CliError> {
        let env = Env::of_process();
        let (own, file) = config::load(self.path(), &env, &Known::undecided())?;
        if OWN_PLACES.iter().any(|variable| env.get(variable).is_some()) {
            return Ok(own);
        }
        let mut running = running::find();
        if own.storage.dir.exists() {
            // The ledger of this folder is meant, whichever file its gateway was started with.
            let ledger = std::path::absolute(&own.storage.dir).unwrap_or_default();
            running.retain(|one| one.ledger == ledger);
        }
        if let Some(file) = &file {
            let file = std::path::absolute(file).unwrap_or_default();
            running.retain(|one| one.config.as_ref() == Some(&file));
            // Of several that it configures, in folders of their own, that of this folder is meant.
            if running.len() > 1 {
                return Ok(own);
            }
        }
        if running.len() > 1 {
            return Err(ClientError::Several(running.iter().map(|one| one.named()).collect()).into());
        }
        let Some(running) = running.pop() else { return Ok(own) };
        let mut config = match &running.config {
            Some(other) if file.is_none() => config::load(Some(other), &env, &Known::undecided())?.0,
            _ => own,
        };
        // As the gateway itself reads them: relative ones are by the folder that it was started in.
        (config.storage.dir, config.control.socket) = (running.ledger, running.socket);
        Ok(config)
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
    /// Reaches the gateway, or opens the store.
    ///
    /// # Errors
    /// There is neither, or it cannot be reached or opened.
    pub fn open(&self) -> Result<Client, ClientError> {
        match self {
            Target::Here(config) => {
                Client::open(config)?.ok_or_else(|| ClientError::NoLedger(config.storage.dir.clone()))
            }
            Target::Elsewhere(remote) => Client::at(Address::Remote(remote.clone())),
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

    /// Its token comes from the environment.
    pub fn takes_variable(&self) -> bool {
        self.is_given() && self.token_file.is_none()
    }

    /// The options that lead there from any folder; none for this machine's.
    ///
    /// # Errors
    /// The folder at hand is gone.
    pub fn options(&self) -> io::Result<Vec<String>> {
        let mut options = Vec::new();
        if let Some(url) = &self.url {
            options.extend(["--url".to_owned(), url.clone()]);
        }
        if let Some(file) = &self.token_file {
            let file = std::path::absolute(file)?;
            options.extend(["--token-file".to_owned(), file.display().to_string()]);
        }
        Ok(options)
    }

    pub fn target(&self, config: &ConfigArgs) -> Result<Target, CliError> {
        let Some(url) = &self.url else {
            if self.token_file.is_some() {
                let text = "--token-file is for a gateway elsewhere: give --url, too".to_owned();
                return Err(ClientError::Usage(text).into());
            }
            return Ok(config.of_gateway()?.into());
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
            form: args.form(),
        })
    }
}

/// A command's way to the methods, and how it shows what they say.
pub struct Ask {
    pub target: Target,
    pub style: Style,
    /// The form that was asked for; without it tables, in the contract's form where no terminal shows them.
    pub form: Option<Form>,
}

impl Ask {
    pub fn form(&self) -> Form {
        self.form.unwrap_or(Form::Table)
    }

    /// A method's result, shown: as it came with `--json`, else by the view. A result in pages is read to its end, or until
    /// there are so many rows as the parameter `limit` says.
    pub fn read(&self, method: &str, params: Map<String, Value>, view: &View) -> Result<String, CliError> {
        let client = self.target.open()?;
        if !view.next.is_empty() {
            let result = view::pages(&client, method, params, view)?;
            return Ok(self.list(result, view));
        }
        let result = client.call_raw(method, &params)?;
        match self.form() {
            Form::Json => Ok(format!("{}\n", result.get())),
            _ => Ok(self.list(parsed(&result)?, view)),
        }
    }

    /// A list, in the form that was asked for.
    pub fn list(&self, mut result: Value, view: &View) -> String {
        match self.form() {
            Form::Json => format!("{result}\n"),
            Form::Csv => form::csv(&result, view.rows, view.columns),
            Form::Jsonl => form::jsonl(&result, view.rows),
            Form::Table => {
                aliases::put_in(&self.aliases(), &mut result);
                view.table(&result, self.style)
            }
        }
    }

    /// The names by which people know keys.
    pub fn aliases(&self) -> KeyAliases {
        aliases::of(&self.target)
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
        let client = self.target.open()?;
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

    /// The same of policies, which can be changed where no gateway runs, too: in its store.
    pub fn change_policy(
        &self,
        method: &str,
        params: Map<String, Value>,
        told: impl Fn(&Value) -> String,
    ) -> Result<String, CliError> {
        let config = match &self.target {
            Target::Here(config) if Client::gateway(config)?.is_none() => config,
            _ => return self.change(method, params, told),
        };
        let (state, ledger) = launch::open_policies(config)?;
        let result = Client::of_state(state).and_then(|client| client.call_raw(method, &params));
        ledger.close();
        self.shown(&result?, told)
    }

    fn shown(&self, result: &RawValue, told: impl Fn(&Value) -> String) -> Result<String, CliError> {
        Ok(match self.form() {
            Form::Json | Form::Jsonl => format!("{}\n", result.get()),
            Form::Csv => form::fields_csv(&parsed(result)?),
            Form::Table => {
                let mut value = parsed(result)?;
                aliases::put_in(&self.aliases(), &mut value);
                told(&value)
            }
        })
    }
}

fn parsed(result: &RawValue) -> Result<Value, ClientError> {
    serde_json::from_str(result.get()).map_err(|error| ClientError::Answer {
        method: "the method".to_owned(),
        error,
    })
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
