//! The `agentledger` binary.

fn main() -> std::process::ExitCode {
    agentledger::cli::main()
}
