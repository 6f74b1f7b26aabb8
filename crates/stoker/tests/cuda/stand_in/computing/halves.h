// Numbers of 16 bits. Every operation widens to f32, computes there and rounds once, to the nearest and ties to even, as the card's own do.
#pragma once

namespace stand_in {

struct Half {
    static float widened(unsigned short bits) {
        _Float16 value;
        __builtin_memcpy(&value, &bits, 2);
        return static_cast<float>(value);
    }
    static unsigned short rounded(float value) {
        _Float16 half = static_cast<_Float16>(value);
        unsigned short bits;
        __builtin_memcpy(&bits, &half, 2);
        return bits;
    }
};

struct Brain {
    static float widened(unsigned short bits) {
        unsigned wide = static_cast<unsigned>(bits) << 16;
        float value;
        __builtin_memcpy(&value, &wide, 4);
        return value;
    }
    static unsigned short rounded(float value) {
        unsigned wide;
        __builtin_memcpy(&wide, &value, 4);
        if (value != value) return wide >> 16 | 0x40;
        return (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    }
};

template <class Kind> struct Small {
    unsigned short bits;
    Small() = default;
    Small(float value) : bits(Kind::rounded(value)) {}
    Small(double value) : bits(Kind::rounded(static_cast<float>(value))) {}
    template <class Other> explicit Small(Small<Other> value) : bits(Kind::rounded(static_cast<float>(value))) {}
    Small(int value) : Small(static_cast<float>(value)) {}
    Small(unsigned value) : Small(static_cast<float>(value)) {}
    Small(short value) : Small(static_cast<float>(value)) {}
    Small(unsigned short value) : Small(static_cast<float>(value)) {}
    explicit Small(signed char value) : Small(static_cast<float>(value)) {}
    explicit Small(unsigned char value) : Small(static_cast<float>(value)) {}
    explicit Small(bool value) : Small(value ? 1.0f : 0.0f) {}
    Small(long long value) : Small(static_cast<float>(value)) {}
    Small(unsigned long long value) : Small(static_cast<float>(value)) {}
    operator float() const { return Kind::widened(bits); }
};

#define STAND_IN_OPERATOR(sign)                                                                                        \
    template <class Kind> inline Small<Kind> operator sign(Small<Kind> x, Small<Kind> y) {                             \
        return Small<Kind>(static_cast<float>(x) sign static_cast<float>(y));                                          \
    }
STAND_IN_OPERATOR(+)
STAND_IN_OPERATOR(-)
STAND_IN_OPERATOR(*)
STAND_IN_OPERATOR(/)
#undef STAND_IN_OPERATOR
#define STAND_IN_OPERATOR(sign)                                                                                        \
    template <class Kind> inline bool operator sign(Small<Kind> x, Small<Kind> y) {                                    \
        return static_cast<float>(x) sign static_cast<float>(y);                                                       \
    }
STAND_IN_OPERATOR(==)
STAND_IN_OPERATOR(!=)
STAND_IN_OPERATOR(<)
STAND_IN_OPERATOR(<=)
STAND_IN_OPERATOR(>)
STAND_IN_OPERATOR(>=)
#undef STAND_IN_OPERATOR
template <class Kind> inline Small<Kind> operator-(Small<Kind> x) { return Small<Kind>(-static_cast<float>(x)); }

/// Two of them in a register.
template <class Kind> struct alignas(4) Pair {
    Small<Kind> x, y;
};
#define STAND_IN_OPERATOR(sign)                                                                                        \
    template <class Kind> inline Pair<Kind> operator sign(Pair<Kind> a, Pair<Kind> b) {                                \
        return {a.x sign b.x, a.y sign b.y};                                                                           \
    }
STAND_IN_OPERATOR(+)
STAND_IN_OPERATOR(-)
STAND_IN_OPERATOR(*)
STAND_IN_OPERATOR(/)
#undef STAND_IN_OPERATOR
template <class Kind> inline Pair<Kind> operator-(Pair<Kind> a) { return {-a.x, -a.y}; }

} // namespace stand_in

#define STAND_IN_FUNCTION(name, value)                                                                                 \
    template <class Kind> inline stand_in::Small<Kind> h##name(stand_in::Small<Kind> number) {                         \
        float x = number;                                                                                              \
        return stand_in::Small<Kind>(value);                                                                           \
    }                                                                                                                  \
    template <class Kind> inline stand_in::Pair<Kind> h2##name(stand_in::Pair<Kind> pair) {                            \
        return {h##name(pair.x), h##name(pair.y)};                                                                     \
    }
STAND_IN_FUNCTION(log, log(x))
STAND_IN_FUNCTION(sin, sin(x))
STAND_IN_FUNCTION(cos, cos(x))
STAND_IN_FUNCTION(tanh, tanh(x))
STAND_IN_FUNCTION(sqrt, sqrt(x))
STAND_IN_FUNCTION(rsqrt, rsqrt(x))
STAND_IN_FUNCTION(exp, exp(x))
STAND_IN_FUNCTION(ceil, ceil(x))
STAND_IN_FUNCTION(floor, floor(x))
STAND_IN_FUNCTION(trunc, trunc(x))
STAND_IN_FUNCTION(rint, rint(x))
STAND_IN_FUNCTION(rcp, 1.0f / x)
#undef STAND_IN_FUNCTION

template <class Kind> inline stand_in::Small<Kind> __habs(stand_in::Small<Kind> x) { return fabs(float(x)); }
template <class Kind> inline stand_in::Small<Kind> __hmax(stand_in::Small<Kind> x, stand_in::Small<Kind> y) {
    return fmax(float(x), float(y));
}
template <class Kind> inline stand_in::Small<Kind> __hmin(stand_in::Small<Kind> x, stand_in::Small<Kind> y) {
    return fmin(float(x), float(y));
}
template <class Kind>
inline stand_in::Small<Kind> __hfma(stand_in::Small<Kind> x, stand_in::Small<Kind> y, stand_in::Small<Kind> z) {
    return stand_in::Small<Kind>(static_cast<float>(double(float(x)) * float(y) + float(z)));
}
template <class Kind> inline bool __hisnan(stand_in::Small<Kind> x) { return isnan(float(x)); }
template <class Kind> inline bool __hisinf(stand_in::Small<Kind> x) { return isinf(float(x)); }
template <class Kind> inline stand_in::Pair<Kind> __habs2(stand_in::Pair<Kind> a) { return {__habs(a.x), __habs(a.y)}; }
template <class Kind> inline stand_in::Pair<Kind> __hmax2(stand_in::Pair<Kind> a, stand_in::Pair<Kind> b) {
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
template <class Kind> inline stand_in::Pair<Kind> __hmin2(stand_in::Pair<Kind> a, stand_in::Pair<Kind> b) {
    return {__hmin(a.x, b.x), __hmin(a.y, b.y)};
}
template <class Kind>
inline stand_in::Pair<Kind> __hfma2(stand_in::Pair<Kind> a, stand_in::Pair<Kind> b, stand_in::Pair<Kind> c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
