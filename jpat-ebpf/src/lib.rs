//! The firewall's parser and decision, free of the kernel: the XDP program and the tests on the host run this very
//! code. One packet goes through [`parse`], [`decide`], for a knock
//! [`filter`], and [`verdict`], in this order.
#![no_std]

mod admit;
pub mod decide;
pub mod filter;
pub mod frame;
pub mod parse;
mod siphash;
pub mod verdict;
