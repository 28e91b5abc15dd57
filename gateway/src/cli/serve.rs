//! `agentledger serve`: runs in the foreground; SIGTERM and SIGINT drain, SIGHUP reloads.
