//! The binary. It alone bears the version, so that a new commit compiles these lines and nothing else.

/// As whoever builds it says in `AGENTLEDGER_VERSION`, else as git has it.
const VERSION: &str = match option_env!("AGENTLEDGER_VERSION") {
    Some(version) if !version.is_empty() => version,
    _ => agentledger_stamp::version!(),
};

fn main() -> std::process::ExitCode {
    agentledger::cli::main(Some(VERSION))
}
