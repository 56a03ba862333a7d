//! barrier: nobody leaves before everybody has come. No data.

use super::{Contract, InPlace, Request};
use crate::error::Result;

pub(super) fn contract(request: &Request) -> Result<Contract> {
    Ok(Contract {
        collective: request.collective,
        input: None,
        output: None,
        in_place: InPlace::Same,
    })
}
