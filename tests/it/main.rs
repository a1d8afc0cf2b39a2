//! What the whole library does, as stories.

mod faults;
