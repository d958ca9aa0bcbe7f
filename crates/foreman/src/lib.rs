//! The foreman: keeps the repository, the history and the fleet's document, and drives deploys.
//!
//! It decides nothing about deploys itself (that is `flotilla_core::plan`), serves no visitor, and
//! may be down without any of them noticing.

pub mod api;
pub mod audit;
pub mod auth;
pub mod bundle;
pub mod capture;
pub mod clock;
pub mod cron;
pub mod database;
pub mod deploys;
pub mod effects;
pub mod engine;
pub mod history;
pub mod imported;
pub mod maintenance;
pub mod place;
pub mod plugins;
pub mod provision;
pub mod pushes;
pub mod repository;
pub mod secrets;
pub mod service;
pub mod settings;
pub mod smart_http;
pub mod smoke;
pub mod source;
pub mod status;
pub mod store;
pub mod tidy;
mod upgrade;
pub mod workshop;
