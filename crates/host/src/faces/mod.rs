//! The interfaces by which guests reach the host, a room for each. A face decodes what a guest
//! passes, asks the host's one implementation, and encodes the answer; it decides nothing else.

pub(crate) mod preview1;
