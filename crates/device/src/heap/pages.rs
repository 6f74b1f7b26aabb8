/// Lets the system's allocator keep the pages that large blocks leave, where it is glibc's: without, each tensor that is freed goes back to the system,
/// and each one that is made is faulted in and zeroed anew, page by page, which takes a fifth of a forward pass. What is kept is below the
/// peak that was reached before.
pub fn keep_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // From glibc's malloc.h.
        const TRIM_THRESHOLD: i32 = -1;
        const MOST_MAPPED_BLOCKS: i32 = -4;
        // SAFETY: both settings are the allocator's own and may be made at any time.
        unsafe {
            mallopt(MOST_MAPPED_BLOCKS, 0);
            mallopt(TRIM_THRESHOLD, i32::MAX);
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    fn mallopt(parameter: i32, value: i32) -> i32;
}
