//! Every rule of the contract's page on intake, asked through the router.

mod access;
mod again;
mod arbitrary;
mod bad_reports;
mod batch;
mod disk;
mod edges;
mod http;
mod openapi;
mod postback;
mod refunds;
mod report;
mod shop;

pub use disk::MemoryDisk;
