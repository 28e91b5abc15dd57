//! What a method is: who calls, what it takes, and the table that all are entered in.

pub(in crate::control) mod call;
pub(in crate::control) mod params;
pub(in crate::control) mod table;
