//! A service of the subnet's is asked, before groups, lists and routes (SG-25, NACL-9).

use crate::explain::{Recorder, Step};
use crate::services::Service;
use crate::walk::{Answer, At, Next, Verdict, Walk};

pub fn ask<R: Recorder>(walk: &mut Walk<'_, R>, eni: u16, service: Service) -> Next {
    walk.pass(Step::SubnetService { eni, service });
    Next::End(Verdict::Answer { answer: Answer::Service(service), from: At::Deliver { eni } })
}
