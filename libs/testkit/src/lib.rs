//! What tests need and programs do not: a real PostgreSQL server, and places to keep data in.
//!
//! A store is tested on both of its backends by the same bodies ([`each_backend!`]). The server is found on
//! this machine or fetched ([`Server`]); where neither works, tests fail and say what to do. What always
//! holds: the server syncs to disk as in production, listens on this machine only, and ends with the
//! process that started it, however that process ends.
//!
//! Left out: mocks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod find;
mod rows;
mod server;
mod site;

pub use server::Server;
pub use site::{Backend, Site};

/// Makes two tests of each function, one for each [`Backend`], which it is given.
///
/// `each_backend!(one, two)` for tests on one thread, `each_backend!(threads = 4: one, two)` on several.
#[macro_export]
macro_rules! each_backend {
    (threads = $threads:literal: $($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = $threads)]
            async fn on_sqlite() {
                super::$name($crate::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = $threads)]
            async fn on_postgres() {
                super::$name($crate::Backend::Postgres).await;
            }
        })+
    };
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test]
            async fn on_sqlite() {
                super::$name($crate::Backend::Sqlite).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                super::$name($crate::Backend::Postgres).await;
            }
        })+
    };
}
