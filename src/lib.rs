//! The node: functions in, answers out. See ARCHITECTURE.md for the way through it.
//!
//! The `awsm` program is a thin shell around [`commands`]. [`config`] says what to serve, [`cache`]
//! compiles and finds modules, [`trust`] says which objects of others may run, [`function`] makes them ready, [`node`] starts one [`worker`] per
//! core, and [`http`] stands between a worker and its sockets. [`fault`] and [`watchdog`] are for the day
//! when the node itself is broken.
#![forbid(unsafe_code)]

pub mod commands;
pub mod config;
pub mod fault;
pub mod limits;

pub mod node;

pub mod cache;
pub mod disk;
pub mod endpoint;
pub mod function;
pub mod perf;
pub mod profiles;
pub mod scheduling;
pub mod trust;
pub mod watch;

pub mod guest;
pub mod http;
pub mod watchdog;
pub mod worker;
