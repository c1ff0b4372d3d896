//! The codec workers of one server, and the objects that wait for them.

use std::sync::Arc;

use pyserver_store::codec_held::HeldBudget;
use pyserver_store::codec_pool::CodecPool;

/// What every association may use.
#[derive(Clone, Debug)]
pub struct Codecs {
    /// The workers.
    pub pool: Arc<CodecPool>,
    /// Memory for objects that arrive.
    pub held: Arc<HeldBudget>,
}

impl Codecs {
    /// Workers with room for `held_bytes_max` bytes of objects that arrive.
    pub fn new(pool: Arc<CodecPool>, held_bytes_max: u64) -> Self {
        Self {
            pool,
            held: Arc::new(HeldBudget::new(held_bytes_max)),
        }
    }
}
