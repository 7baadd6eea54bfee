//! How each tier is asked whether it is well. Every question has a limit of its own.

pub mod haproxy;
pub mod http;
pub mod mongo;
pub mod report;
pub mod vrrp;
