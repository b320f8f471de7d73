//! What happened, as JSON lines.
