//! What the whole library does, as stories.

mod bad_input;
mod changes;
mod concurrency;
mod examples;
mod facade;
mod faults;
mod inspect;
mod partner_day;
mod properties;
mod quickstart;
mod referee;
mod secrets;
mod session_builder;
mod stores;
mod structure;
