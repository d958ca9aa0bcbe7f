//! Promises of the decisions, tested from outside.

#[cfg(test)]
mod simulation;
