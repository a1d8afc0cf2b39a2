//! What the whole library does, as stories.

mod bad_input;
mod concurrency;
mod faults;
mod inspect;
mod partner_day;
mod properties;
mod referee;
mod stores;
