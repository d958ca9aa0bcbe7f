//! Promises of the decisions, tested from outside.

#[cfg(test)]
mod plan;
#[cfg(test)]
mod simulation;
