//! Internet gateways. There is no internet yet: packets end here, and say so.

use crate::drop::DropReason;
use crate::explain::{Recorder, Step};
use crate::walk::{Next, Verdict, Walk};

pub fn forward<R: Recorder>(walk: &mut Walk<'_, R>, igw: u16) -> Next {
    walk.pass(Step::InternetGateway { igw });
    Next::End(Verdict::Drop(DropReason::InternetGateway))
}
