fn main() -> std::process::ExitCode {
    agentledger::cli::main()
}
