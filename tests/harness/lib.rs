//! What the privileged tests share.

pub mod packet;
pub mod vectors;
pub mod world;
