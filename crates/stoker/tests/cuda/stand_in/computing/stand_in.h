// CUDA's side of C++ for kernels that run on the host: threads of a block are lanes that take turns. See `lanes.cpp`.
//
// It is put in front of every kernel source that CubeCL writes, and holds what these use of the CUDA C++ Programming Guide and the CUDA Math API.
// A function that is missing stops the kernel's compilation, so nothing is left out in silence. No standard header is included: the sources define
// the integer types of fixed width themselves.
#pragma once

typedef __SIZE_TYPE__ size_t;

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline
#define __restrict__

namespace stand_in {

struct Index {
    unsigned x, y, z;
};

constexpr unsigned WARP = 32;
constexpr unsigned SLOT_BYTES = 16;

/// What a kernel sees of the lane that it runs on.
struct Lane {
    Index thread;
    /// Place in its warp.
    unsigned place;
    /// What it hands to the others of its warp at the next meeting.
    alignas(SLOT_BYTES) unsigned char given[SLOT_BYTES];
    /// What all handed over at the last, by place, and who was there, a bit each.
    const unsigned char (*taken)[SLOT_BYTES];
    unsigned present;
};

extern "C" {
extern Lane *stand_in_lane;
extern Index stand_in_block, stand_in_block_size, stand_in_grid_size;
/// Waits for all lanes of the block.
void stand_in_wait_for_block();
/// Has all others run before this lane goes on.
void stand_in_let_others_run();
/// Waits for all lanes of the warp that can come to this place of the source.
void stand_in_meet_warp(unsigned place_in_source);
/// What the block shares.
extern char stand_in_shared[];
/// Numbers that the lanes of a warp share for a product of matrices.
float *stand_in_scratch();
/// Tells of a kernel that reads what no lane gave it.
void stand_in_complain(const char *what);
}

template <class T> inline void give(unsigned place_in_source, T value) {
    static_assert(sizeof(T) <= SLOT_BYTES);
    __builtin_memcpy(stand_in_lane->given, &value, sizeof(T));
    stand_in_meet_warp(place_in_source);
}

template <class T> inline T take(unsigned from, T own) {
    if (from >= WARP) return own;
    if (!(stand_in_lane->present >> from & 1)) {
        stand_in_complain("takes a value from a lane that did not come");
        return own;
    }
    T value;
    __builtin_memcpy(&value, stand_in_lane->taken[from], sizeof(T));
    return value;
}

template <class T> inline T shuffle(unsigned source, T value, unsigned from) {
    give(source, value);
    return take(from % WARP, value);
}

template <class T> inline T shuffle_xor(unsigned source, T value, unsigned mask) {
    give(source, value);
    return take(stand_in_lane->place ^ mask, value);
}

template <class T> inline T shuffle_up(unsigned source, T value, unsigned delta) {
    give(source, value);
    return delta > stand_in_lane->place ? value : take(stand_in_lane->place - delta, value);
}

template <class T> inline T shuffle_down(unsigned source, T value, unsigned delta) {
    give(source, value);
    return take(stand_in_lane->place + delta, value);
}

inline unsigned ballot(unsigned source, bool value) {
    give(source, value);
    unsigned mask = 0;
    for (unsigned place = 0; place < WARP; place++)
        if (stand_in_lane->present >> place & 1 && stand_in_lane->taken[place][0]) mask |= 1u << place;
    return mask;
}

inline bool all_of(unsigned source, bool value) { return ballot(source, value) == stand_in_lane->present; }

} // namespace stand_in

#define threadIdx (stand_in::stand_in_lane->thread)
#define blockIdx stand_in::stand_in_block
#define blockDim stand_in::stand_in_block_size
#define gridDim stand_in::stand_in_grid_size
#define warpSize 32

#define __syncthreads stand_in::stand_in_wait_for_block
#define __syncwarp() stand_in::give(__LINE__, 0)
#define __activemask() 0xffffffffu
#define __shfl_sync(mask, value, from) stand_in::shuffle(__LINE__, value, from)
#define __shfl_xor_sync(mask, value, other) stand_in::shuffle_xor(__LINE__, value, other)
#define __shfl_up_sync(mask, value, delta) stand_in::shuffle_up(__LINE__, value, delta)
#define __shfl_down_sync(mask, value, delta) stand_in::shuffle_down(__LINE__, value, delta)
#define __ballot_sync(mask, value) stand_in::ballot(__LINE__, value)
#define __any_sync(mask, value) (stand_in::ballot(__LINE__, value) != 0)
#define __all_sync(mask, value) stand_in::all_of(__LINE__, value)

/// An address in shared memory is told from its beginning.
inline unsigned __cvta_generic_to_shared(const void *address) {
    return static_cast<const char *>(address) - stand_in::stand_in_shared;
}

// Functions of one number.

#define STAND_IN_FUNCTION(name)                                                                                        \
    inline float name(float x) { return __builtin_##name##f(x); }                                                      \
    inline double name(double x) { return __builtin_##name(x); }
STAND_IN_FUNCTION(log)
STAND_IN_FUNCTION(sin)
STAND_IN_FUNCTION(cos)
STAND_IN_FUNCTION(tan)
STAND_IN_FUNCTION(tanh)
STAND_IN_FUNCTION(sinh)
STAND_IN_FUNCTION(cosh)
STAND_IN_FUNCTION(acos)
STAND_IN_FUNCTION(asin)
STAND_IN_FUNCTION(atan)
STAND_IN_FUNCTION(asinh)
STAND_IN_FUNCTION(acosh)
STAND_IN_FUNCTION(atanh)
STAND_IN_FUNCTION(sqrt)
STAND_IN_FUNCTION(exp)
STAND_IN_FUNCTION(expm1)
STAND_IN_FUNCTION(log1p)
STAND_IN_FUNCTION(ceil)
STAND_IN_FUNCTION(trunc)
STAND_IN_FUNCTION(floor)
STAND_IN_FUNCTION(rint)
STAND_IN_FUNCTION(erf)
STAND_IN_FUNCTION(fabs)
#undef STAND_IN_FUNCTION

#define STAND_IN_FUNCTION(name)                                                                                        \
    inline float name(float x, float y) { return __builtin_##name##f(x, y); }                                          \
    inline double name(double x, double y) { return __builtin_##name(x, y); }
STAND_IN_FUNCTION(pow)
STAND_IN_FUNCTION(fmod)
STAND_IN_FUNCTION(atan2)
STAND_IN_FUNCTION(hypot)
STAND_IN_FUNCTION(fmax)
STAND_IN_FUNCTION(fmin)
STAND_IN_FUNCTION(copysign)
#undef STAND_IN_FUNCTION

inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return x < 0 ? -x : x; }

template <class T> inline T max(T x, T y) { return x > y ? x : y; }
template <class T> inline T min(T x, T y) { return x < y ? x : y; }
inline float max(float x, float y) { return fmax(x, y); }
inline float min(float x, float y) { return fmin(x, y); }
inline double max(double x, double y) { return fmax(x, y); }
inline double min(double x, double y) { return fmin(x, y); }

#define __logf log
#define __expf exp
#define __sinf sin
#define __cosf cos
#define __tanhf tanh
#define __powf pow
#define __fsqrt_rn sqrt
#define __frsqrt_rn rsqrt
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdividef(float x, float y) { return x / y; }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    unsigned turned = 0;
    for (int bit = 0; bit < 32; bit++) turned |= (x >> bit & 1) << (31 - bit);
    return turned;
}
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned long long>(x) * y >> 32; }
inline int __mulhi(int x, int y) { return static_cast<long long>(x) * y >> 32; }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned __int128>(x) * y >> 64;
}

// One lane runs at a time, so that any reading and writing is atomic.

template <class T> inline T atomicAdd(T *place, T value) {
    T old = *place;
    *place = old + value;
    return old;
}

/// Calls a kernel with arguments as `cuLaunchKernel` is given them: addresses of the values.
namespace stand_in {
template <class T> struct Plain { typedef T type; };
template <class T> struct Plain<T const> { typedef T type; };
template <class T> struct Plain<T &> { typedef T type; };
template <class T> struct Plain<T const &> { typedef T type; };
template <unsigned... PLACES> struct Places {};
template <unsigned COUNT, unsigned... PLACES> struct Counted : Counted<COUNT - 1, COUNT - 1, PLACES...> {};
template <unsigned... PLACES> struct Counted<0, PLACES...> { typedef Places<PLACES...> type; };
template <class... Arguments, unsigned... PLACES>
inline void call(void (*kernel)(Arguments...), void **values, Places<PLACES...>) {
    kernel(*static_cast<typename Plain<Arguments>::type *>(values[PLACES])...);
}
template <class... Arguments> inline void call(void (*kernel)(Arguments...), void **values) {
    call(kernel, values, typename Counted<sizeof...(Arguments)>::type());
}
} // namespace stand_in
