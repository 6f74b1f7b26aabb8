// Runs a kernel's blocks one after the other, and the threads of a block as lanes that take turns: a lane runs until it waits for others.
//
// A lane is a stack of its own. The lanes of a warp meet at its shuffles: a meeting is over once no lane of the warp can run, and is of those that wait
// at the earliest place of the source, so that branches come together again. That is what `__activemask` and convergence give on a card, and no more
// than a kernel may rely on. Lanes that look again and again whether a barrier is done may be on their way to a meeting: the others wait for them there
// as long as any lane of the block gets on. Which lane runs first is another one each time: a kernel that relies on an order finds in shared memory what was there
// before.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>

#include "stand_in.h"

using stand_in::Index;
using stand_in::Lane;
using stand_in::SLOT_BYTES;
using stand_in::WARP;

namespace {

constexpr unsigned MOST_LANES = 1024;
constexpr size_t STACK_BYTES = 256 << 10;
/// More than a block may share on any card.
constexpr size_t SHARED_BYTES = 256 << 10;
constexpr size_t SCRATCH_NUMBERS = 2 * 32 * 32;

enum class State { Running, InWarp, InBlock, LetsOthersRun, Done };

struct Thread {
    Lane lane;
    State state;
    unsigned place_in_source;
    bool started;
    jmp_buf here;
    ucontext_t first;
};

struct Warp {
    unsigned char taken[2][WARP][SLOT_BYTES];
    unsigned turn;
    float scratch[SCRATCH_NUMBERS];
};

Thread threads[MOST_LANES];
Warp warps[MOST_LANES / WARP];
Thread *running;
/// Whether the last lane has the first turn.
bool last_first;
/// Whether a lane got on since the last turn of all, and whether lanes that still look at barriers are waited for.
bool got_on, waits_for_lookers;
jmp_buf scheduler;
void (*kernel)(void **);
void **arguments;
const char *kernel_name;
std::mutex one_kernel;

/// Goes back to the scheduler until it goes on with this lane.
void pause() {
    if (_setjmp(running->here) == 0) _longjmp(scheduler, 1);
}

/// The life of a lane: a kernel, and then the next.
void live() {
    while (true) {
        kernel(arguments);
        running->state = State::Done;
        pause();
    }
}

void begin(Thread &thread, unsigned number) {
    if (thread.started) return;
    void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        std::fprintf(stderr, "no memory for the stack of thread %u\n", number);
        std::abort();
    }
    getcontext(&thread.first);
    thread.first.uc_stack.ss_sp = stack;
    thread.first.uc_stack.ss_size = STACK_BYTES;
    thread.first.uc_link = nullptr;
    makecontext(&thread.first, live, 0);
}

void run(Thread &thread) {
    running = &thread;
    stand_in::stand_in_lane = &thread.lane;
    if (_setjmp(scheduler) != 0) return;
    if (!thread.started) {
        thread.started = true;
        setcontext(&thread.first);
    }
    _longjmp(thread.here, 1);
}

/// Ends the meeting of the lanes that wait at the earliest place; false where none waits.
bool meet(Thread *lanes, unsigned count, Warp &warp) {
    unsigned earliest = ~0u;
    for (unsigned place = 0; place < count; place++)
        if (lanes[place].state == State::InWarp && lanes[place].place_in_source < earliest)
            earliest = lanes[place].place_in_source;
    if (earliest == ~0u) return false;
    got_on = true;
    warp.turn ^= 1;
    unsigned present = 0;
    for (unsigned place = 0; place < count; place++) {
        Thread &thread = lanes[place];
        if (thread.state != State::InWarp || thread.place_in_source != earliest) continue;
        present |= 1u << place;
        std::memcpy(warp.taken[warp.turn][place], thread.lane.given, SLOT_BYTES);
        thread.lane.taken = warp.taken[warp.turn];
        thread.state = State::Running;
    }
    for (unsigned place = 0; place < count; place++)
        if (present >> place & 1) lanes[place].lane.present = present;
    return true;
}

/// Whether a lane is to be waited for before a meeting.
bool may_come(const Thread *lanes, unsigned count) {
    if (!waits_for_lookers) return false;
    for (unsigned place = 0; place < count; place++)
        if (lanes[place].state == State::LetsOthersRun) return true;
    return false;
}

/// Runs a warp until all its lanes are done or wait for the block or for a barrier.
void run_warp(Thread *lanes, unsigned count, Warp &warp) {
    do {
        for (unsigned turn = 0; turn < count; turn++) {
            Thread &thread = lanes[last_first ? count - 1 - turn : turn];
            if (thread.state != State::Running) continue;
            run(thread);
            got_on |= thread.state != State::LetsOthersRun;
        }
    } while (!may_come(lanes, count) && meet(lanes, count, warp));
}

/// Has the lanes that are in a state go on; false where none is.
bool let_go(unsigned count, State state) {
    bool any = false;
    for (unsigned number = 0; number < count; number++)
        if (threads[number].state == state) {
            threads[number].state = State::Running;
            any = true;
        }
    return any;
}

void run_block(unsigned count) {
    Index size = stand_in::stand_in_block_size;
    for (unsigned number = 0; number < count; number++) {
        Thread &thread = threads[number];
        begin(thread, number);
        thread.state = State::Running;
        thread.lane.thread = {number % size.x, number / size.x % size.y, number / size.x / size.y};
        thread.lane.place = number % WARP;
    }
    unsigned of_block = (count + WARP - 1) / WARP;
    waits_for_lookers = true;
    do {
        got_on = false;
        for (unsigned turn = 0; turn < of_block; turn++) {
            unsigned warp = last_first ? of_block - 1 - turn : turn, first = warp * WARP;
            run_warp(threads + first, count - first < WARP ? count - first : WARP, warps[warp]);
        }
        waits_for_lookers = got_on;
        // All lanes are at the block's barrier only when none has work of its own before it.
    } while (let_go(count, State::LetsOthersRun) || let_go(count, State::InBlock));
}

} // namespace

extern "C" {

namespace stand_in {
Lane *stand_in_lane;
Index stand_in_block, stand_in_block_size, stand_in_grid_size;
alignas(1024) char stand_in_shared[SHARED_BYTES];

void stand_in_wait_for_block() {
    running->state = State::InBlock;
    pause();
}

void stand_in_let_others_run() {
    running->state = State::LetsOthersRun;
    pause();
}

void stand_in_meet_warp(unsigned place_in_source) {
    running->state = State::InWarp;
    running->place_in_source = place_in_source;
    pause();
}

float *stand_in_scratch() { return warps[(running - threads) / WARP].scratch; }

void stand_in_complain(const char *what) {
    static unsigned long complaints;
    if (complaints++ < 20) std::fprintf(stderr, "stand-in card: kernel %s %s\n", kernel_name, what);
}
} // namespace stand_in

/// Runs a kernel on a grid. What blocks find in shared memory is what others left: numbers that are none.
void stand_in_run(void (*function)(void **), const char *name, void **values, Index grid, Index block, unsigned shared_bytes) {
    std::lock_guard<std::mutex> guard(one_kernel);
    kernel = function;
    kernel_name = name;
    arguments = values;
    stand_in::stand_in_grid_size = grid;
    stand_in::stand_in_block_size = block;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                stand_in::stand_in_block = {x, y, z};
                std::memset(stand_in::stand_in_shared, 0xff, shared_bytes);
                last_first = !last_first;
                run_block(block.x * block.y * block.z);
            }
}
}
