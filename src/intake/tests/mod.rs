//! Every rule of the contract's page on intake, asked through the router.

mod again;
mod bad_reports;
mod batch;
mod disk;
mod report;
mod shop;

pub use disk::MemoryDisk;
