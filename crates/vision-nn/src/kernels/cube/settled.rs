//! A place in the queue across which Burn's fusion does not look: what comes behind it is fused as if nothing had been queued before.

use burn_cubecl::CubeRuntime;

use super::Queued;

/// The tensor, once all operations that are queued have been handed to the device, which may still be busy with them. Takes a round trip to the thread that
/// hands them over.
pub(crate) fn settled<R: CubeRuntime>(tensor: Queued<R>) -> Queued<R> {
    tensor.client.sync(|| ());
    tensor
}
