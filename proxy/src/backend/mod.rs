//! Where the broker is: in this process ([`embedded`]), or behind a connection.
//!
//! A backend implements the traits of [`crate::service`] and imports nothing from the processor or a front end.

pub mod embedded;
