// Instructions that sources hold as inline assembly, as functions of their operands: results first. Layouts of fragments are those of "Matrix
// multiply-accumulate operation using mma instruction" in NVIDIA's Parallel Thread Execution ISA.
#pragma once

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace stand_in {

/// Lanes of a warp hold fragments by groups of four.
inline unsigned group() { return stand_in_lane->place / 4; }
inline unsigned in_group() { return stand_in_lane->place % 4; }

/// A number of a register that holds two.
template <class Kind> inline float unpacked(unsigned bits, unsigned which) {
    return Kind::widened(static_cast<unsigned short>(bits >> 16 * which));
}

/// Numbers of 16 bits, two a register: `DEPTH` is 8 or 16.
template <class Kind, int DEPTH> struct Packed {
    static constexpr int depth = DEPTH, left_registers = DEPTH / 4, right_registers = DEPTH / 8;
    static void publish(float *left, float *right, const unsigned *a, const unsigned *b) {
        for (int number = 0; number < 2 * left_registers; number++) {
            int row = group() + 8 * (number / 2 % 2), column = 2 * in_group() + number % 2 + 8 * (number / 4);
            left[row * depth + column] = unpacked<Kind>(a[number / 2], number % 2);
        }
        for (int number = 0; number < 2 * right_registers; number++) {
            int row = 2 * in_group() + number % 2 + 8 * (number / 2);
            right[row * 8 + group()] = unpacked<Kind>(b[number / 2], number % 2);
        }
    }
};

/// Numbers of 19 bits, one a register.
template <int DEPTH> struct Tensor32 {
    static constexpr int depth = DEPTH, left_registers = DEPTH / 2, right_registers = DEPTH / 4;
    static float number(unsigned bits) {
        float value;
        bits &= 0xffffe000u;
        __builtin_memcpy(&value, &bits, 4);
        return value;
    }
    static void publish(float *left, float *right, const unsigned *a, const unsigned *b) {
        for (int place = 0; place < left_registers; place++)
            left[(group() + 8 * (place % 2)) * depth + in_group() + 4 * (place / 2)] = number(a[place]);
        for (int place = 0; place < right_registers; place++)
            right[(in_group() + 4 * place) * 8 + group()] = number(b[place]);
    }
};

/// `d = a b + c` of 16 rows and 8 columns, four of its numbers a lane.
template <class Operands>
inline void multiply(unsigned source, float *d, const unsigned *a, const unsigned *b, const float *c) {
    float *left = stand_in_scratch(), *right = left + 16 * Operands::depth;
    Operands::publish(left, right, a, b);
    give(source, 0);
    float sums[4];
    for (int number = 0; number < 4; number++) {
        int row = group() + 8 * (number / 2), column = 2 * in_group() + number % 2;
        sums[number] = c[number];
        for (int depth = 0; depth < Operands::depth; depth++)
            sums[number] += left[row * Operands::depth + depth] * right[depth * 8 + column];
    }
    give(source, 0);
    for (int number = 0; number < 4; number++) d[number] = sums[number];
}

template <class T> inline unsigned as_register(T value) {
    unsigned bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}

/// Loads 8x8 matrices of 16 bits from shared memory: each lane tells the address of a row, and gets two numbers of a row of each, or of a column.
template <class... Registers> inline void load_matrices(unsigned source, bool turned, unsigned address, Registers &...registers) {
    give(source, address);
    unsigned matrix = 0;
    auto loaded = [&] {
        unsigned short numbers[2];
        for (unsigned which = 0; which < 2; which++) {
            unsigned row = turned ? 2 * in_group() + which : group(), column = turned ? group() : 2 * in_group() + which;
            unsigned from = take(8 * matrix + row, address);
            __builtin_memcpy(&numbers[which], stand_in_shared + from + 2 * column, 2);
        }
        matrix++;
        return numbers[0] | static_cast<unsigned>(numbers[1]) << 16;
    };
    auto store = [&](auto &to) {
        unsigned bits = loaded();
        static_assert(sizeof(to) == 4);
        __builtin_memcpy(&to, &bits, 4);
    };
    (store(registers), ...);
}

template <class Operands, class A0, class A1, class A2, class A3, class B0, class B1>
inline void multiply_4_2(unsigned source, float &d0, float &d1, float &d2, float &d3, A0 a0, A1 a1, A2 a2, A3 a3, B0 b0, B1 b1, float c0, float c1,
                         float c2, float c3) {
    unsigned a[] = {as_register(a0), as_register(a1), as_register(a2), as_register(a3)};
    unsigned b[] = {as_register(b0), as_register(b1)};
    float c[] = {c0, c1, c2, c3}, d[4];
    multiply<Operands>(source, d, a, b, c);
    d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
}

template <class Operands, class A0, class A1, class B0>
inline void multiply_2_1(unsigned source, float &d0, float &d1, float &d2, float &d3, A0 a0, A1 a1, B0 b0, float c0, float c1, float c2,
                         float c3) {
    unsigned a[] = {as_register(a0), as_register(a1)}, b[] = {as_register(b0)};
    float c[] = {c0, c1, c2, c3}, d[4];
    multiply<Operands>(source, d, a, b, c);
    d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
}

} // namespace stand_in

#define stand_in_ptx_mma_sync_aligned_m16n8k8_row_col_f32_f16_f16_f32(...)                                             \
    stand_in::multiply_2_1<stand_in::Packed<stand_in::Half, 8>>(__LINE__, __VA_ARGS__)
#define stand_in_ptx_mma_sync_aligned_m16n8k8_row_col_f32_bf16_bf16_f32(...)                                           \
    stand_in::multiply_2_1<stand_in::Packed<stand_in::Brain, 8>>(__LINE__, __VA_ARGS__)
#define stand_in_ptx_mma_sync_aligned_m16n8k8_row_col_f32_tf32_tf32_f32(...)                                           \
    stand_in::multiply_4_2<stand_in::Tensor32<8>>(__LINE__, __VA_ARGS__)
#define stand_in_ptx_mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32(...)                                            \
    stand_in::multiply_4_2<stand_in::Packed<stand_in::Half, 16>>(__LINE__, __VA_ARGS__)
#define stand_in_ptx_mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32(...)                                          \
    stand_in::multiply_4_2<stand_in::Packed<stand_in::Brain, 16>>(__LINE__, __VA_ARGS__)

// The address comes last.
#define STAND_IN_LOAD(name, turned)                                                                                    \
    template <class A> inline void name##_x1_##turned(unsigned source, A &a, unsigned address) {                       \
        stand_in::load_matrices(source, turned, address, a);                                                           \
    }                                                                                                                  \
    template <class A, class B> inline void name##_x2_##turned(unsigned source, A &a, B &b, unsigned address) {        \
        stand_in::load_matrices(source, turned, address, a, b);                                                        \
    }                                                                                                                  \
    template <class A, class B, class C, class D>                                                                      \
    inline void name##_x4_##turned(unsigned source, A &a, B &b, C &c, D &d, unsigned address) {                        \
        stand_in::load_matrices(source, turned, address, a, b, c, d);                                                  \
    }
STAND_IN_LOAD(stand_in_load, true)
STAND_IN_LOAD(stand_in_load, false)
#undef STAND_IN_LOAD
#define stand_in_ptx_ldmatrix_sync_aligned_m8n8_x1_shared__cta_b16(...) stand_in_load_x1_false(__LINE__, __VA_ARGS__)
#define stand_in_ptx_ldmatrix_sync_aligned_m8n8_x2_shared__cta_b16(...) stand_in_load_x2_false(__LINE__, __VA_ARGS__)
#define stand_in_ptx_ldmatrix_sync_aligned_m8n8_x4_shared__cta_b16(...) stand_in_load_x4_false(__LINE__, __VA_ARGS__)
#define stand_in_ptx_ldmatrix_sync_aligned_m8n8_x1_trans_shared__cta_b16(...) stand_in_load_x1_true(__LINE__, __VA_ARGS__)
#define stand_in_ptx_ldmatrix_sync_aligned_m8n8_x2_trans_shared__cta_b16(...) stand_in_load_x2_true(__LINE__, __VA_ARGS__)
#define stand_in_ptx_ldmatrix_sync_aligned_m8n8_x4_trans_shared__cta_b16(...) stand_in_load_x4_true(__LINE__, __VA_ARGS__)

/// A copy of `bytes` from global to shared memory, of which the first `there` come from there and the others are zero. It is done at once, so that a
/// barrier that counts on it has nothing to wait for.
template <class From> inline void stand_in_copy(unsigned to, const From *from, unsigned there, unsigned bytes) {
    __builtin_memcpy(stand_in::stand_in_shared + to, from, there);
    __builtin_memset(stand_in::stand_in_shared + to + there, 0, bytes - there);
}
#define stand_in_ptx_cp_async_cg_shared__cta_global stand_in_copy
#define stand_in_ptx_cp_async_ca_shared__cta_global stand_in_copy
inline void stand_in_ptx_cp_async_mbarrier_arrive_shared__cta_b64(unsigned) {}
