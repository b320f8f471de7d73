//! What was not sealed for this server.
