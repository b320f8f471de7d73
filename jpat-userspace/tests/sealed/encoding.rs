//! The encodings alone.
