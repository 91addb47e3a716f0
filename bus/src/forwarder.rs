//! Not written yet.

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    Full,
    carrier::{Carrier, Context},
};

pub(crate) struct End;

impl Carrier for End {
    fn send(&self, _to: &str, _payload: &Bytes) -> Result<(), Full> {
        Ok(())
    }
    fn waiting(&self) -> bool {
        false
    }
}

pub(crate) fn start(_context: Context, _tasks: &mut JoinSet<()>) -> Result<End, String> {
    Err("this bus is not written yet".into())
}
