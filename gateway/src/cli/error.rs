//! Why a command failed, and what it leaves behind with: 0 all is well, 1 it failed or was refused, 2 it was called wrongly.

use std::io;
use std::process::ExitCode;

use super::client::ClientError;
use super::costs::CostsError;
use super::export::ExportError;
use super::serve::ServeCommandError;
use super::verify::VerifyError;
use super::{backup, demo, healthcheck, import, keys, mcp_wrap, policy, prices, setup};
use crate::config::ConfigErrors;
use crate::control::LastError;
use crate::launch::LaunchError;

/// The exit code of a command that was called wrongly.
pub const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Launch(LaunchError),
    #[error("{0}")]
    Serve(ServeCommandError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Costs(#[from] CostsError),
    #[error("{0}")]
    Export(ExportError),
    #[error("{0}")]
    Verify(#[from] VerifyError),
    #[error("{0}")]
    Import(#[from] import::ImportError),
    #[error("{0}")]
    Backup(#[from] backup::BackupError),
    #[error("{0}")]
    Prices(#[from] prices::PricesError),
    #[error("{0}")]
    Authoring(#[from] policy::AuthoringError),
    #[error("{0}")]
    Unwell(#[from] healthcheck::Unwell),
    #[error("{0}")]
    Demo(#[from] demo::DemoError),
    #[error("{0}")]
    Setup(#[from] setup::SetupError),
    #[error("{0}")]
    Fingerprint(#[from] keys::FingerprintError),
    #[error("writing: {0}")]
    Write(#[from] io::Error),
    #[error("{0}")]
    Wrap(mcp_wrap::WrapError),
    /// A wrapped server ended with this code of its own.
    #[error("")]
    OfServer(u8),
    /// What is wrong was printed already.
    #[error("")]
    Told,
}

impl CliError {
    /// The reader of a pipe went away: it has what it wanted.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, CliError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub fn exit_code(&self) -> ExitCode {
        if self.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        if let CliError::OfServer(code) = self {
            return ExitCode::from(*code);
        }
        let is_usage = match self {
            CliError::Client(error) => error.is_usage(),
            CliError::Costs(error) => error.is_usage(),
            CliError::Export(error) => error.is_usage(),
            CliError::Verify(error) => matches!(error, VerifyError::Expect(_)),
            CliError::Prices(error) => error.is_usage(),
            _ => false,
        };
        if is_usage {
            ExitCode::from(USAGE)
        } else {
            ExitCode::FAILURE
        }
    }
}

impl From<LastError> for CliError {
    fn from(error: LastError) -> CliError {
        CliError::Costs(error.into())
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> CliError {
        match error {
            LaunchError::Config(errors) => CliError::Config(errors),
            other => CliError::Launch(other),
        }
    }
}

impl From<ServeCommandError> for CliError {
    fn from(error: ServeCommandError) -> CliError {
        match error {
            ServeCommandError::Launch(launch) => launch.into(),
            other => CliError::Serve(other),
        }
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> CliError {
        match error {
            ExportError::Write(write) => CliError::Write(write),
            other => CliError::Export(other),
        }
    }
}
