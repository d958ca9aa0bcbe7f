//! memcached's ASCII protocol, as clients speak it to the gateway.

pub(crate) mod command;
pub(crate) mod reply;
pub(crate) mod words;

#[cfg(test)]
mod tests;
