//! Between a worker and its sockets: HTTP/1.1 requests in, answers out.
//!
//! [`server`] accepts connections and watches their pace, [`exchange`] takes one request through
//! its function, [`route`] finds that function. The answers are made in [`answer`] (what a function
//! said), [`wagi`] (what it said in a header block) and [`problem`] (what went wrong instead).
//! [`target`] refuses requests of which it is not clear what they are for, [`request_names`] names
//! each.

pub mod route;
pub mod server;

mod answer;
mod connection;
mod deadline;
mod exchange;
mod problem;
mod request_names;
mod target;
mod text;
mod timing;
mod wagi;
