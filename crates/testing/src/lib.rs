//! What only tests link: instances linked to each other, as the specification's tests want them.

mod store;

pub use store::{Extern, Instance, InstantiateError, InvokeError, Store};
