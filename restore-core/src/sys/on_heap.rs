//! Long calls whose state is no burden to the stack of whoever waits for them.

use std::pin::Pin;

/// Makes a future in a frame of its own and on the heap. What awaits it inline would have room for all of its state in its
/// own frame, and calls nest deeply: without optimisation a run came to the two MiB that a thread has.
#[inline(never)]
pub(crate) fn on_heap<'a, T, F>(
    make: impl FnOnce() -> F,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>>
where
    F: Future<Output = T> + Send + 'a,
{
    Box::pin(make())
}
