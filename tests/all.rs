//! t
mod common;
mod lab;
