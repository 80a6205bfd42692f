//! What tests stand on: the real program in a directory of its own, a plain HTTP client, and the books.

#![allow(dead_code)] // Each test program uses a part of it.

pub mod books;
pub mod client;
pub mod http2;
pub mod server;
pub mod tls;

#[allow(unused_imports)] // As above.
pub use client::{Client, Response};
pub use server::Server;
