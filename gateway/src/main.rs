//! The binary. It alone bears the version, so that a new commit compiles these lines and nothing else.

/// As the build says it in `AGENTLEDGER_VERSION`: `./task start` puts tag, commit and date there.
const VERSION: Option<&str> = option_env!("AGENTLEDGER_VERSION");

fn main() -> std::process::ExitCode {
    agentledger::cli::main(VERSION)
}
