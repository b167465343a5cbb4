//! The node: functions in, answers out. See ARCHITECTURE.md for the way through it.
//!
//! Rooms, from the top down; none uses one above it. [`node`] starts one [`worker`] per core, and
//! [`http`] stands between a worker and its sockets. [`functions`] makes deployed functions ready,
//! [`ledger`] counts what is held for whom, [`cache`] compiles and finds their modules, [`log`]
//! takes what guests say, [`config`] says what to serve. Below: [`trust`] says which objects of
//! others may run, [`disk`] has the directories that nobody else may write to, [`fault`] is for the
//! day when the node itself is broken, [`limits`] bounds everything.
#![forbid(unsafe_code)]

pub mod node;

pub mod http;
pub mod worker;

pub mod functions;
pub mod ledger;

pub mod cache;
pub mod log;

pub mod config;

pub mod disk;
pub mod trust;

pub mod fault;
pub mod limits;
