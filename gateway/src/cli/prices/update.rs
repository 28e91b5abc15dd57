//! `agentledger prices update`: what other lists say against the book; with `--apply` a dated price file of it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::CliError;
use super::super::ask::ConfigArgs;
use super::super::form::FormArgs;
use super::{FOUND, PricesError, book, now_ms};
use crate::config::Config;
use crate::price::PriceBook;
use crate::price::update::{self, Offers, Proposal};

#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// litellm, genai-prices, models.dev, an https address, or a file of their form or ours; may be given several times. Those
    /// of the configuration without it
    #[arg(long, value_name = "SOURCE")]
    from: Vec<String>,
    /// Write what changes to a dated price file, which a running gateway reloads
    #[arg(long)]
    apply: bool,
    /// The file to write, in place of one in the folder of the configuration
    #[arg(long, value_name = "FILE", requires = "apply")]
    to: Option<PathBuf>,
}

/// The text to print.
pub(super) fn run(args: &UpdateArgs) -> Result<String, CliError> {
    let config = args.config.load()?;
    let from = if args.from.is_empty() {
        &config.price_updates.from
    } else {
        &args.from
    };
    if from.is_empty() {
        return Err(PricesError::NoSource.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PricesError::Runtime)?;
    let sources = runtime.block_on(update::load_all(from)).map_err(PricesError::Source)?;
    let book = book(&config)?;
    let to = args.apply.then(|| args.to.clone().unwrap_or_else(|| dated(&config)));
    Ok(update_book(&book, &sources, to, &config, args.format)?)
}

fn dated(config: &Config) -> PathBuf {
    config.price_updates.dir.join(update::file_name(now_ms()))
}

/// Compares, and writes where a file is named.
pub(super) fn update_book(
    book: &PriceBook,
    sources: &[Offers],
    to: Option<PathBuf>,
    config: &Config,
    format: FormArgs,
) -> Result<String, PricesError> {
    let now_ms = now_ms();
    let proposal = update::propose(book, sources, now_ms);
    let written = to.as_ref().filter(|_| !proposal.changes.is_empty());
    if let Some(path) = written {
        update::write_file(book, &proposal, path, now_ms).map_err(|error| PricesError::Write {
            path: path.clone(),
            error,
        })?;
    }
    let of = |kind: &'static str| move |text: String| json!({"kind": kind, "text": text});
    let changes = proposal.changes.iter().map(ToString::to_string).map(of("change"));
    let held_back = proposal.held_back.iter().map(ToString::to_string).map(of("held_back"));
    let result = json!({
        "findings": changes.chain(held_back).collect::<Vec<_>>(),
        "known": proposal.known.len(),
        "compared": proposal.compared,
        "written": written.map(|path| path.display().to_string()),
    });
    Ok(format.list(&result, "findings", &FOUND, || {
        let mut text = told(&proposal);
        match (to.as_ref(), written) {
            (Some(_), None) => text.push_str("Nothing to write.\n"),
            (_, Some(path)) => {
                text.push_str(&format!("Written to {}.\n", path.display()));
                if !config.price_files().contains(path) {
                    text.push_str("It is read once `prices.files` names it.\n");
                }
            }
            (None, None) => {}
        }
        text
    }))
}

fn told(proposal: &Proposal) -> String {
    let mut text: String = proposal.changes.iter().map(|change| format!("{change}\n")).collect();
    for held in &proposal.held_back {
        text.push_str(&format!("held back: {held}\n"));
    }
    text.push_str(&format!(
        "{} prices change, {} are held back, {} differ as the book knows; {} models compared.\n",
        proposal.changes.len(),
        proposal.held_back.len(),
        proposal.known.len(),
        proposal.compared
    ));
    text
}
