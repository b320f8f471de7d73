//! Fetches key sets in the background.
