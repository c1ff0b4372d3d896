//! Sending a response: one write for command and data set, so that no peer waits for a delayed ACK.

use pyserver_proto::dimse::CommandResponse;

use crate::error::LinkError;
use crate::link::Link;

/// A response and the presentation context it goes out on.
#[derive(Debug)]
pub struct Answer {
    /// The request's context.
    pub context_id: u8,
    /// The response.
    pub response: CommandResponse,
}

impl Answer {
    /// Queues and writes the response.
    pub fn send(&self, link: &mut Link) -> Result<(), LinkError> {
        self.queue(link);
        Ok(link.flush()?)
    }

    /// Queues the response behind what is already queued.
    pub fn queue(&self, link: &mut Link) {
        link.association
            .send_command(self.context_id, &self.response.to_bytes());
    }

    /// Queues the response and its data set, and writes both.
    pub fn send_with(&self, link: &mut Link, dataset: &[u8]) -> Result<(), LinkError> {
        self.queue(link);
        link.association.send_dataset(self.context_id, dataset);
        Ok(link.flush()?)
    }
}
