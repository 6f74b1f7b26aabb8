// Products of matrices by a warp ("Warp Matrix Functions" in the CUDA C++ Programming Guide). Each lane holds every 32nd number of a fragment.
#pragma once

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
} // namespace precision

template <class T> struct Stored { typedef T type; };
template <> struct Stored<precision::tf32> { typedef float type; };
template <class Use, int M, int N, int K> struct Shape;
template <int M, int N, int K> struct Shape<matrix_a, M, N, K> { static constexpr int rows = M, columns = K; };
template <int M, int N, int K> struct Shape<matrix_b, M, N, K> { static constexpr int rows = K, columns = N; };
template <int M, int N, int K> struct Shape<accumulator, M, N, K> { static constexpr int rows = M, columns = N; };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment : Shape<Use, M, N, K> {
    typedef Shape<Use, M, N, K> Of;
    static constexpr int num_elements = Of::rows * Of::columns / stand_in::WARP;
    typename Stored<T>::type x[num_elements];
};

/// Number of the fragment that a lane's `index`th is, row by row.
inline int number(int index) { return index * stand_in::WARP + stand_in::stand_in_lane->place; }

// All lanes have come before anything is loaded or stored, and all have done it when one goes on. `source` is the line of the source.

template <class Fragment, class T>
inline void load(unsigned source, Fragment &to, const T *from, unsigned stride, bool by_row) {
    stand_in::give(source, 0);
    for (int index = 0; index < Fragment::num_elements; index++) {
        int row = number(index) / Fragment::columns, column = number(index) % Fragment::columns;
        to.x[index] = from[by_row ? row * stride + column : column * stride + row];
    }
    stand_in::give(source, 0);
}

template <class Use, int M, int N, int K, class T, class U>
inline void load_matrix_at(unsigned source, fragment<Use, M, N, K, T, row_major> &to, const U *from, unsigned stride) {
    load(source, to, from, stride, true);
}
template <class Use, int M, int N, int K, class T, class U>
inline void load_matrix_at(unsigned source, fragment<Use, M, N, K, T, col_major> &to, const U *from, unsigned stride) {
    load(source, to, from, stride, false);
}
template <int M, int N, int K, class T, class U>
inline void load_matrix_at(unsigned source, fragment<accumulator, M, N, K, T> &to, const U *from, unsigned stride,
                           layout_t layout) {
    load(source, to, from, stride, layout == mem_row_major);
}

template <int M, int N, int K, class T, class U>
inline void store_matrix_at(unsigned source, U *to, const fragment<accumulator, M, N, K, T> &from, unsigned stride,
                            layout_t layout) {
    stand_in::give(source, 0);
    for (int index = 0; index < from.num_elements; index++) {
        int row = number(index) / N, column = number(index) % N;
        to[layout == mem_row_major ? row * stride + column : column * stride + row] = from.x[index];
    }
    stand_in::give(source, 0);
}

template <class Fragment, class T> inline void fill_fragment(Fragment &fragment, T value) {
    for (auto &number : fragment.x) number = value;
}

inline float __float_to_tf32(float x) {
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    if (x == x) bits = (bits + 0x1000) & 0xffffe000u;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

template <int M, int N, int K, class A, class LayoutA, class B, class LayoutB, class C, class D>
inline void multiply_at(unsigned source, fragment<accumulator, M, N, K, D> &d,
                        const fragment<matrix_a, M, N, K, A, LayoutA> &a, const fragment<matrix_b, M, N, K, B, LayoutB> &b,
                        const fragment<accumulator, M, N, K, C> &c) {
    float *left = stand_in::stand_in_scratch(), *right = left + M * K;
    for (int index = 0; index < a.num_elements; index++) left[number(index)] = a.x[index];
    for (int index = 0; index < b.num_elements; index++) right[number(index)] = b.x[index];
    stand_in::give(source, 0);
    for (int index = 0; index < d.num_elements; index++) {
        int row = number(index) / N, column = number(index) % N;
        float sum = c.x[index];
        for (int depth = 0; depth < K; depth++) sum += left[row * K + depth] * right[depth * N + column];
        d.x[index] = sum;
    }
    stand_in::give(source, 0);
}

} // namespace nvcuda::wmma

#define load_matrix_sync(...) load_matrix_at(__LINE__, __VA_ARGS__)
#define store_matrix_sync(...) store_matrix_at(__LINE__, __VA_ARGS__)
#define mma_sync(...) multiply_at(__LINE__, __VA_ARGS__)
