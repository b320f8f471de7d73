//! The decision on a token and every check behind it, offline: the verifier's own steps, all of them kept.
