// Groups of threads, of which a block is all that is asked for.
#pragma once

namespace cooperative_groups {
struct thread_block {};
inline thread_block this_thread_block() { return {}; }
} // namespace cooperative_groups
