//! What the foreman promises about the site's code, kept with the real git.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot be set up has failed"
)]

mod bundle;
mod capture;
mod repository;
mod service;
mod smart_http;
mod source;
mod support;
